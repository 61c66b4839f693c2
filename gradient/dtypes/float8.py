"""8-bit floats, for storage only: e4m3fn for weights and activations, e5m2 for gradients.

    e4m3fn   sign, 4 bits of exponent, 3 of mantissa: up to 448, no infinity, one NaN
    e5m2     sign, 5 bits of exponent, 2 of mantissa: up to 57344; the upper half of a float16

(Micikevicius et al. 2022, "FP8 formats for deep learning".) Casting rounds to the nearest, ties to
even. Larger numbers become the largest one (e4m3fn) or infinity (e5m2).

No array library computes with them. So ops treat them as packed dtypes with blocks of one element.
They support only views, casts, ops that move elements, tests for equality, and products with scales
(`torch._scaled_mm`).
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, NoReturn

import ml_dtypes
import numpy as np

from gradient.dtypes.dtype import DType, float32, int32, int64, register, uint8
from gradient.dtypes.packed.base import PackedDType, Part
from gradient.errors import TypeMismatch

__all__ = ["float8_e4m3fn", "float8_e5m2"]

_INFINITY = 0x7F800000
"""The bits of float32's infinity; larger numbers are NaNs."""


class Float8(PackedDType):
    """An 8-bit float dtype. Its part is `codes` uint8 (...), the bits of each element.

    Attributes:
        element: ml_dtypes' dtype for it.
    """

    elementwise = True
    block_size = 1
    part_names = ("codes",)
    bits = 8
    itemsize = 1

    def __init__(self, element: Any, mantissa: int, bias: int, overflow: int):
        """Args:
        mantissa: the number of its bits.
        bias: that of the exponent.
        overflow: the code for numbers that are too large.
        """
        self.element = np.dtype(element)
        self.name = self.element.name
        self._mantissa, self._bias, self._overflow = mantissa, bias, overflow

    @cached_property
    def _table(self) -> Any:
        return np.arange(256, dtype=np.uint8).view(self.element).astype(np.float32)

    @property
    def numpy(self) -> NoReturn:  # type: ignore[override]
        raise TypeMismatch(
            f"{self!r} is for storage and has no arrays of its own: compute in another dtype and "
            f"cast the result by .to({self!r})"
        )

    def to_complex(self) -> DType:
        raise TypeMismatch(f"{self!r} has no complex dtype")

    def parts_of(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        return ((tuple(shape), uint8.numpy),)

    def fits(self, shape: tuple[int, ...]) -> bool:
        return True

    def encode(self, be: Any, x: Any) -> Any:
        """Return the codes of float32 numbers; both are arrays of the backend `be`."""
        bits = be.bitcast(x, int32.numpy)
        size = bits & 0x7FFFFFFF
        shift = 23 - self._mantissa
        # Normal numbers: round to the remaining bits, with a carry, and change the exponent's bias.
        # (The carry of a NaN would reach the sign.)
        finite = be.minimum(size, be.full((), _INFINITY, int32.numpy))
        odd = (finite >> shift) & 1
        codes = ((finite + odd + ((1 << shift - 1) - 1)) >> shift) - (
            127 - self._bias << self._mantissa
        )
        # Subnormal: round by adding a number whose last bit is that of the smallest subnormal.
        smallest = 1 - self._bias - self._mantissa
        anchor = np.float32(2.0 ** (smallest + 23))
        low = be.bitcast(be.bitcast(finite, float32.numpy) + float(anchor), int32.numpy)
        codes = be.where(codes < 1 << self._mantissa, low - int(anchor.view(np.int32)), codes)
        codes = be.minimum(codes, be.full((), self._overflow, int32.numpy))
        codes = be.where(size > _INFINITY, be.full((), 0x7F, int32.numpy), codes)
        return be.astype(codes | ((bits >> 24) & 0x80), uint8.numpy)

    def code_of(self, number: float) -> int:
        """Return the code of one number, rounded like in `encode`."""
        with np.errstate(over="ignore"):
            code = int(np.array(number, np.float32).astype(self.element).view(np.uint8))
        # ml_dtypes converts numbers too large for e4m3fn to NaN.
        too_large = code & 0x7F > self._overflow and number == number
        return code & 0x80 | self._overflow if too_large else code

    def are_equal(self, a: Any, b: Any) -> Any:
        """Whether the numbers of codes are equal, elementwise: for arrays of any library, or an int
        as one of them. NaN equals nothing, and -0 equals 0."""
        return ((a & 0x7F) <= self._overflow) & ((a == b) | (((a | b) & 0x7F) == 0))

    def are_finite(self, codes: Any) -> Any:
        """Whether the numbers of codes are neither NaN nor infinite, elementwise."""
        last = self._overflow - math.isinf(self._table[self._overflow])
        return (codes & 0x7F) <= last

    def unpack(self, be: Any, parts: tuple[Any, ...]) -> Any:
        (codes,) = parts
        return be.getitem(be.asarray(self._table), (be.astype(codes, int64.numpy),))


float8_e4m3fn = Float8(ml_dtypes.float8_e4m3fn, mantissa=3, bias=7, overflow=0x7E)
float8_e5m2 = Float8(ml_dtypes.float8_e5m2, mantissa=2, bias=15, overflow=0x7C)
for _dtype in (float8_e4m3fn, float8_e5m2):
    register(_dtype)
