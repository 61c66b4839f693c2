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


@pytest.mark.parametrize("name", ["sum", "add_", "relu", "matmul", "backward", "apply_"])
def test_a_method_comes_back_as_itself(name: str) -> None:
    method = getattr(gradient.Tensor, name)
    assert pickle.loads(pickle.dumps(method)) is method  # noqa: S301
