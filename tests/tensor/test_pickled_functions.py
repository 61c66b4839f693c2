"""Functions are pickled by name: modules keep them, as `self.act = gradient.relu`."""

from __future__ import annotations

import pickle
from types import FunctionType

import pytest

import gradient
from gradient import fft, linalg, special
from gradient.nn import functional


@pytest.mark.parametrize("module", [gradient, functional, linalg, special, fft])
def test_each_public_function_comes_back_as_itself(module) -> None:
    public = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    functions = {name: each for name, each in public.items() if isinstance(each, FunctionType)}
    assert len(functions) > 10
    for name, function in functions.items():
        assert pickle.loads(pickle.dumps(function)) is function, name  # noqa: S301


def test_each_method_comes_back_as_itself() -> None:
    methods = {name: getattr(gradient.Tensor, name) for name in dir(gradient.Tensor)}
    functions = {name: each for name, each in methods.items() if isinstance(each, FunctionType)}
    assert len(functions) > 400
    for name, method in functions.items():
        if name.startswith("__") or not name.startswith("_"):
            assert pickle.loads(pickle.dumps(method)) is method, name  # noqa: S301
