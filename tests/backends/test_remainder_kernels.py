"""Kernels of remainders and rounded quotients have NumPy's bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.backends.numpy import kernels, threads

pytestmark = pytest.mark.skipif(not kernels.available(), reason="there is no numba")


def divided(name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = np.empty(max(a.size, b.size), a.dtype)
    getattr(kernels.load("remainders"), name)(0, out.size, a, b, out)
    return out


def expected_of(name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        if name == "fmod":
            return np.fmod(a, b)
        if name.endswith("floor_divide"):
            return a // b
        rest = a % b
        return np.where(rest == 0, np.copysign(rest, a), rest) if a.dtype.kind == "f" else rest


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["fmod", "remainder", "floor_divide"])
def test_remainders_have_numpys_bits(name: str, dtype: str) -> None:
    draws = np.random.default_rng(2)
    bits = np.dtype(dtype.replace("float", "uint"))
    n = 20_000
    normal = draws.standard_normal(2 * n).astype(dtype)
    whole = draws.integers(-60, 60, 2 * n).astype(dtype)
    random = draws.integers(0, np.iinfo(bits).max, 2 * n, bits).view(dtype)
    limits = np.finfo(dtype)
    edges = [0, -0.0, 1, -1, 3, 0.1, math.inf, -math.inf, math.nan, limits.max]
    edges = np.array([*edges, limits.smallest_subnormal], dtype)
    across, down = (x.ravel() for x in np.meshgrid(edges, edges))
    far = (normal[:n].astype(np.float64) * 2.0 ** draws.integers(10, 60, n)).astype(dtype)
    multiples = whole[:n] * whole[n:]
    for a, b in [
        (normal[:n], normal[n:]), (whole[:n], whole[n:]), (random[:n], random[n:]),
        (across, down), (far, normal[n:]), (multiples, whole[n:]),
        (np.nextafter(multiples, normal[:n]), whole[n:]), (normal, np.full(1, 0.1, dtype)),
        (np.full(1, 7.3, dtype), normal), (whole * normal.dtype.type(0.1), np.full(1, 0.1, dtype)),
    ]:  # fmt: skip
        y, expected = divided(name, a, b), expected_of(name, a, b)
        assert ((y.view(bits) == expected.view(bits)) | np.isnan(y) & np.isnan(expected)).all()


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("name", ["integer_remainder", "integer_floor_divide"])
def test_integers_have_numpys_remainders(name: str, dtype: str) -> None:
    draws = np.random.default_rng(3)
    limits = np.iinfo(dtype)
    n = 20_000
    full = draws.integers(limits.min, limits.max, 2 * n, dtype, endpoint=True)
    small = draws.integers(-50, 50, n, dtype)
    few = np.array([limits.min, limits.min + 1, -2, -1, 0, 1, 2, limits.max, 1 << 30], dtype)
    across, down = (x.ravel() for x in np.meshgrid(few, few))
    for a, b in [
        (full[:n], full[n:]), (full[:n], small), (small, full[:n]), (across, down),
        (full >> 12, np.full(1, -7, dtype)), (full[:n] >> 12, small), (np.full(1, 9, dtype), small),
    ]:  # fmt: skip
        assert (divided(name, a, b) == expected_of(name, a, b)).all()


def launched(call: Any) -> list[str]:
    names: list[str] = []
    with threads.listening(lambda kernel, *_: names.append(kernel.__name__)):
        call()
    return names


def test_large_arrays_go_to_kernels() -> None:
    x = gradient.rand(70, 90) + 0.1
    assert launched(lambda: x % 0.3) == ["remainder"]
    assert launched(lambda: gradient.fmod(x, x[0])) == ["fmod"]
    assert launched(lambda: (x * 9).int() // 4) == ["integer_floor_divide"]
    assert launched(lambda: gradient.fmod(x[0], 0.3)) == []


def test_remainders_of_broadcast_and_mixed_operands() -> None:
    x, row = gradient.randn(60, 90), gradient.rand(90) + 0.1
    by_row = [gradient.fmod(each, row) for each in x]
    assert gradient.equal(gradient.fmod(x, row), gradient.stack(by_row))
    assert gradient.equal(gradient.fmod(x.T, row[:, None]), gradient.stack(by_row).T)
    assert gradient.fmod(x, gradient.ones(1, 1, 1)).shape == (1, 60, 90)
    assert gradient.equal(3.0 % (x.abs() + 1), gradient.stack([3.0 % (r.abs() + 1) for r in x]))
    with pytest.raises(RuntimeError):
        gradient.fmod(x, gradient.ones(7))
    integers = (x * 9).int()
    assert (integers % 4).dtype == gradient.int32 and (integers.bool() | (integers % 4 == 0)).all()
    assert gradient.remainder(integers, 0.5).dtype == gradient.float32
    in_place = x.clone()
    in_place.remainder_(row)
    assert gradient.equal(in_place, gradient.remainder(x, row))
    assert gradient.fmod(x[:0], row).shape == (0, 90)


@pytest.mark.parametrize("dtype", [gradient.float32, gradient.int64])
def test_broadcast_with_an_empty_array(dtype: gradient.dtype) -> None:
    many, none = gradient.ones(5000, 1, dtype=dtype), gradient.ones(1, 0, dtype=dtype)
    for a, b in ((many, none), (none, many)):
        for result in (a % b, a // b, gradient.fmod(a, b)):
            assert tuple(result.shape) == (5000, 0)
