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
from gradient.nn import functional as F
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


# Attention: heads split and joined ----------------------------------------------------------------


def attention_of(
    device: str, parts: str, heads: int = 3, width: int = 16, time: int = 24
) -> list[np.ndarray]:
    """Attention by thirds of one product, as models write it, and the gradients for that."""
    draws, channels = np.random.default_rng(0), heads * width
    x = gradient.tensor(draws.standard_normal((2, time, 3 * channels)).astype(np.float32))
    x = (x.to(gradient.bfloat16).to(device) * 1).requires_grad_()
    whole = x * 1
    split = {
        "chunk": lambda: whole.chunk(3, -1),
        "split": lambda: whole.split(channels, 2),
        "slices": lambda: [whole[..., i * channels : (i + 1) * channels] for i in range(3)],
        "one key": lambda: (*whole.chunk(3, -1)[:2], whole[..., channels : 2 * channels]),
    }[parts]()
    q, k, v = (part.view(2, time, heads, width).transpose(1, 2) for part in split)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    (y.transpose(1, 2).reshape(2, time, channels) * 2).sum().backward()
    return [t.detach().float().cpu().numpy() for t in (y, x.grad)]


@pytest.mark.parametrize("parts", ["chunk", "split", "slices", "one key"])
def test_attention_of_parts_of_one_array(parts: str) -> None:
    agree(attention_of(DEVICE, parts), attention_of("cpu", parts), "bfloat16", "attention")


def test_heads_are_split_and_joined_without_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    backend: Any = backends.get(DEVICE)
    copies: list[str] = []
    for name in ("concatenate", "copy", "contiguous", "reshape"):
        plain = getattr(type(backend), name)

        def noted(self: Any, x: Any, *rest: Any, name: str = name, plain: Any = plain) -> Any:
            out = plain(self, x, *rest)
            given = [each for each in (x if isinstance(x, list) else [x]) if each.ndim > 2]
            if given and not any(np.may_share_memory(each._host, out._host) for each in given):
                copies.append(name)
            return out

        monkeypatch.setattr(type(backend), name, noted)
    attention_of(DEVICE, "chunk")
    assert copies == []


def test_joined_parts_that_are_not_neighbours_are_copied() -> None:
    backend = backends.get(DEVICE)
    x = backend.asarray(np.arange(24.0).reshape(4, 6))
    for parts, axis in (
        ([x[:, :2], x[:, 2:5], x[:, 5:]], 1),
        ([x[:2], x[2:]], 0),
        ([x[:, 2:4], x[:, :2]], 1),
        ([x[:, :2], x[:, 3:5]], -1),
        ([x[:1, :2], backend.copy(x)[:1, 2:]], 1),
        ([x[:2, :3], x[:2, 3:]], 0),
        ([x[::-1], x[::-1]], 0),
        ([x[:0], x[:2], x[2:2], x[2:]], 0),
        ([x, x], 0),
    ):
        got, expected = (be(parts, axis) for be in (backend.joined, backend.concatenate))
        np.testing.assert_array_equal(backend.to_numpy(got), backend.to_numpy(expected))
