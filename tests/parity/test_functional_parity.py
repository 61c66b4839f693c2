"""gradient.functional against torch.nn.functional: values, shapes, dtypes and gradients in float64.

The rows are those of functional_cases.py; gradients are compared along a random direction.
"""

from __future__ import annotations

import inspect
import zlib
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
from support.functional_cases import CASES, Case
from support.public import public

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:Using padding='same'")]


def run(case: Case, package: Any, functional: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """The results, the inputs' gradients, and the constants after the call."""
    constants: list[Any] = []

    def constant(array: np.ndarray) -> Any:
        constants.append(package.from_numpy(np.array(array)))
        return constants[-1]

    inputs = [package.from_numpy(np.array(a)).requires_grad_() for a in case.arrays()]
    results = case.call(functional, inputs, constant)
    results = list(results) if isinstance(results, tuple) else [results]
    seed = zlib.crc32(str(case).encode())
    direction = np.random.default_rng(seed).standard_normal(tuple(results[0].shape))
    if results[0].requires_grad:
        results[0].backward(package.from_numpy(np.asarray(direction)))
    return results, [tensor.grad for tensor in inputs], constants


@pytest.mark.parametrize("case", CASES, ids=str)
def test_functional(case: Case) -> None:
    import torch

    ours = run(case, gradient, F)
    theirs = run(case, torch, torch.nn.functional)
    for kind, mine, wanted in zip(("result", "gradient", "constant"), ours, theirs, strict=True):
        assert len(mine) == len(wanted)
        for place, (a, b) in enumerate(zip(mine, wanted, strict=True)):
            label = f"{kind} {place}"
            assert (a is None) == (b is None), label
            if a is None:
                continue
            assert str(a.dtype).split(".")[-1] == str(b.dtype).split(".")[-1], label
            assert tuple(a.shape) == tuple(b.shape), label
            np.testing.assert_allclose(
                a.detach().numpy(), b.detach().numpy(), rtol=1e-7, atol=1e-10, err_msg=label
            )


def test_signatures_are_pytorchs() -> None:
    """Same argument names, in the same order, with the same defaults, where PyTorch tells them."""
    import torch

    # Deprecated, without effect, or not available here; what came after them is keyword-only here.
    retired = {"size_average", "reduce", "_stacklevel", "out"}
    wrong = []
    for name in public(F):
        theirs = getattr(torch.nn.functional, name, None)
        try:
            wanted = inspect.signature(theirs).parameters
        except (TypeError, ValueError):
            continue  # written in C
        mine = inspect.signature(getattr(F, name)).parameters
        if set(wanted) == {"args", "kwargs"}:
            continue
        expected = {
            n: p.default
            for n, p in wanted.items()
            if n not in retired and f"{n} of {name}" not in retired
        }
        given = {n: p.default for n, p in mine.items() if n != "generator"}
        if list(expected.items()) != list(given.items()):
            wrong.append((name, expected, given))
    assert not wrong


BIASES = [
    *(
        ((2, 3), (1, 3), (2,)),
        ((2, 3), (4, 3), (2, 4)),
        ((2, 3), (4, 3), (1,)),
        ((2, 3), (4, 3), ()),
    ),
    *(
        ((2, 3), (4, 3), (5, 2, 4)),
        ((1, 3), (4, 3), (5, 4)),
        ((3,), (4, 3), (2,)),
        ((3,), (3,), ()),
    ),
    *(((2, 2, 3), (4, 3), (1, 4)), ((2, 3), (4, 3), (2, 1)), ((0, 3), (1, 3), (2,))),
    *(((3,), (3,), (1,)), ((2, 3), (3,), (2,)), ((4,), (3,), ()), ((), (3,), ()), ((2, 3), (), ())),
]
"""Shapes of an input, a weight and a bias."""


@pytest.mark.parametrize("lower", [False, True], ids=["", "autocast"])
@pytest.mark.parametrize("shapes", BIASES, ids=str)
def test_biases_of_linear(shapes: tuple[tuple[int, ...], ...], lower: bool) -> None:
    """What broadcasts to the result is taken; what would broadcast the result is refused."""
    import torch

    def call(package: Any) -> tuple[tuple[int, ...], str] | None:
        x, weight, bias = (package.ones(size) for size in shapes)
        try:
            with package.autocast("cpu", dtype=package.bfloat16, enabled=lower):
                y = package.nn.functional.linear(x, weight, bias)
        except RuntimeError:
            return None
        return tuple(y.shape), str(y.dtype).split(".")[-1]

    assert call(gradient) == call(torch)
