"""Numbers that a dtype cannot hold, written to tensors: an error, or infinite, as in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient

WRITES: dict[str, Callable[[Any, Any], Any]] = {
    "setitem": lambda x, v: x.__setitem__(0, v),
    "setitem of all": lambda x, v: x.__setitem__(..., v),
    "setitem at an index": lambda x, v: x.__setitem__([0], v),
    "fill_": lambda x, v: x.fill_(v),
    "full_like": lambda x, v: x.copy_(gradient.full_like(x, v)),
    "new_full": lambda x, v: x.copy_(x.new_full((2,), v)),
    "masked_fill_": lambda x, v: x.masked_fill_(x == 0, v),
    "put_": lambda x, v: x.put_(gradient.tensor([0], device=x.device), x.new_full((1,), v)),
}
BEYOND = {
    "float32": (
        1j,
        1e300,
        -1e39,
        np.float64(1e300),
        np.complex64(1j),
        10**400,
        2**64,
        -(2**63) - 1,
    ),
    "float64": (1j, 10**400, -(10**400), 2**64),
    "complex64": (1e300, complex(0, -1e39), 10**400),
    "bfloat16": (1j, 10**400, 2**64),
    "int8": (1j, 300, -129, np.int64(300), 1e300, math.inf, math.nan, 10**400),
    "int64": (1j, 2**63, 10**400, 1e19),
    "bool": (10**400, -(2**63) - 1),
}
HELD = {
    "float32": {1 + 0j: 1, 3e38: float(np.float32(3e38)), math.inf: math.inf, -(2**63): -(2**63)},
    "float64": {1e300: 1e300, 2.5 + 0j: 2.5},
    "complex64": {1j: 1j, 3: 3, complex(math.inf, 0): complex(math.inf, 0)},
    "uint8": {-1: 255, 7 + 0j: 7, 2.7: 2},
    "bool": {1j: True, 0j: False, 0.5: True, 1e300: True, -7: True},
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("dtype", BEYOND)
def test_what_no_element_can_hold_is_refused(dtype: str, name: str, device: Any) -> None:
    x = gradient.zeros(2, dtype=getattr(gradient, dtype), device=device)
    for value in BEYOND[dtype]:
        with pytest.raises((RuntimeError, OverflowError), match="expected as"):
            WRITES[name](x, value)
        assert not x.any()


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("dtype", HELD)
def test_the_others_are_written(dtype: str, name: str, device: Any) -> None:
    for value, expected in HELD[dtype].items():
        x = gradient.zeros(2, dtype=getattr(gradient, dtype), device=device)
        WRITES[name](x, value)
        assert x[0].item() == expected


@pytest.mark.parametrize("name", ["setitem", "setitem of all", "setitem at an index"])
def test_a_number_beyond_16_bits_is_infinite_where_it_is_set(name: str, device: Any) -> None:
    for dtype in (gradient.float16, gradient.bfloat16):
        x = gradient.zeros(2, dtype=dtype, device=device)
        WRITES[name](x, -1e300)
        assert x[0].item() == -math.inf
        last = float(gradient.finfo(dtype).max)
        WRITES[name](x, last * (1 + 2**-13))  # rounds down
        assert x[0].item() == last
        with pytest.raises(RuntimeError):
            x.fill_(1e300)


@pytest.mark.parametrize("value", [2**63, 10**400])
def test_an_int_beyond_64_bits_is_an_overflow(value: int, device: Any) -> None:
    x = gradient.zeros(2, device=device)
    with pytest.raises(OverflowError if value > 2**64 else ValueError):
        x[0] = value
    with pytest.raises(ValueError, match="64 bits"):
        x[[0]] = value
    if value < 2**64:
        assert x.fill_(value).tolist() == [2.0**63] * 2
        assert gradient.full((1,), value, dtype=gradient.bfloat16).item() == 2.0**63


@pytest.mark.parametrize("dtype", [gradient.int64, gradient.uint8, gradient.bool])
@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_integers_wrap_no_operand_beyond_64_bits(
    dtype: gradient.dtype, value: int, device: Any
) -> None:
    x = gradient.ones(2, dtype=dtype, device=device)
    with pytest.raises(OverflowError, match=r"^add: .*64 bits, got"):
        x.add_(value)
    for call in (lambda: x + value, lambda: value * x, lambda: x > value, lambda: x == value):
        with pytest.raises(OverflowError, match="64 bits"):
            call()
    assert (gradient.ones(1, dtype=gradient.int64) + (2**63)).item() == 1 - 2**63


def test_arrays_of_complex_numbers_are_no_real_ones() -> None:
    x = gradient.zeros(2)
    with pytest.raises(RuntimeError, match="real"):
        x[:] = np.array([1j, 2.0])
    x[:] = np.array([1.0, 2.0])
    assert x.tolist() == [1, 2]
