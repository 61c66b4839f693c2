"""A training step on the CUDA backend makes no passes over memory that it can spare."""

from __future__ import annotations

import operator
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import backends
from support.agreement import agree
from support.fake_device import DEVICE

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]


@pytest.fixture
def casts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The casts of arrays of one number or more that are made from now on: from which dtype, and to
    which."""
    backend, made = backends.get(DEVICE), []
    plain = type(backend).astype

    def astype(self: Any, x: Any, dtype: np.dtype) -> Any:
        if x.dtype != dtype:
            made.append((x.dtype.name, dtype.name))
        return plain(self, x, dtype)

    monkeypatch.setattr(type(backend), "astype", astype)
    return made


# Operators of float32 and 16-bit floats -----------------------------------------------------------


def derivatives(
    function: Callable[[Any, Any], Any], device: str, dtype: str, shapes: tuple[Any, Any]
) -> list[np.ndarray]:
    """The result for a float32 and a 16-bit operand, and the gradients for both."""
    draws = np.random.default_rng(0)
    x, y = (gradient.tensor(draws.standard_normal(s).astype(np.float32)) for s in shapes)
    x = x.to(device).requires_grad_()
    y = y.to(getattr(gradient, dtype)).to(device).requires_grad_()
    out = function(x, y)
    assert out.dtype is gradient.float32
    (out * out).sum().backward()
    assert (x.grad.dtype, y.grad.dtype) == (gradient.float32, y.dtype)
    return [t.detach().float().cpu().numpy() for t in (out, x.grad, y.grad)]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["add", "sub", "mul"])
@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((3, 1), (4,)), ((4,), (0, 4)), ((2,), (2,))])
def test_operands_of_two_float_types_are_not_cast(
    shapes: tuple[Any, Any], name: str, dtype: str, casts: list[tuple[str, str]]
) -> None:
    function = getattr(operator, name)

    def without_casts(x: Any, y: Any) -> Any:
        casts.clear()
        out = function(x, y)
        assert not casts
        return out

    for both in (without_casts, lambda x, y: without_casts(y, x)):
        got = derivatives(both, DEVICE, dtype, shapes)
        # (On the CPU one is cast.)
        agree(got, derivatives(both, "cpu", dtype, shapes), "float32", name)


@pytest.mark.parametrize("dtype", [gradient.float16, gradient.bfloat16])
def test_a_number_on_the_device_decides_no_dtype(dtype: gradient.DType) -> None:
    x, half = gradient.tensor(1.5, device=DEVICE), gradient.ones(3, dtype=dtype, device=DEVICE)
    for out in (x * half, half + x, x - half):
        assert out.dtype is dtype
    assert (x * half[0]).dtype is (half[0] * x).dtype is gradient.float32
    assert (gradient.ones(3, device=DEVICE) * half[0]).dtype is gradient.float32
