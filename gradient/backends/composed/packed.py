"""Products with packed weights, and embedding look-ups in them.

A few rows at a time are unpacked, into memory that fits in the cache, and multiplied as usual. So
every backend can compute with every packed dtype. Kernels that multiply the codes directly override
`quantized_matmul`; the tests compare them with this definition.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from gradient.backends.composed.elementwise import ElementwiseDefaults
from gradient.backends.composed.precision import in_float32
from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.packed import PackedArray
from gradient.backends.required import Array
from gradient.dtypes import float32
from gradient.errors import DTypeError, ShapeError

if TYPE_CHECKING:
    from gradient.backends.operators import ArrayOperators
    from gradient.dtypes import PackedDType

CHUNK = 1 << 18
"""Weights unpacked at a time: one MiB of float32."""
MIN_ROWS = 32
"""Rows of a weight below which a matrix product is slow, however long they are."""
INT8_STEP = 32
"""Numbers of x that are rounded together."""
INT8_TINY = 2.0**-119
"""The largest of them below which they are zeros: 127 / it is a float32."""


class PackedDefaults(ElementwiseDefaults[Array], ShapeDefaults[Array]):
    """Methods of `Backend` for `PackedArray`s, here called packed weights."""

    def pack(self, values: Array, dtype: PackedDType) -> tuple[Array, ...]:
        """Quantise finite float32 numbers (..., K) to the parts of `dtype`."""
        return tuple(self.asarray(part) for part in dtype.pack(self.to_numpy(values)))

    def unpack(self, x: PackedArray, dtype: np.dtype = float32.numpy) -> Array:
        """The values of a packed array, of its shape; computed in float32, then cast to `dtype`."""
        return self.astype(x.dtype.unpack(self, x.as_stored(self).parts), dtype)

    @in_float32
    def quantized_matmul(self, x: Array, weight: PackedArray) -> Array:
        """x (..., K) @ W.T -> (..., N), where W has the values of the packed `weight` (N, K).

        It computes in x's dtype, or in float32 if that has 16 bits.
        """
        n, k = matrix_sizes("linear", x, weight, -1)
        rows = self.reshape(x, (math.prod(x.shape[:-1]), k))
        parts = [
            self.matmul(
                rows, self.permute(self.unpack(weight.rows(self, (some,)), x.dtype), (1, 0))
            )
            for some in row_chunks(n, k)
        ]
        y = self.concatenate(parts, 1) if len(parts) > 1 else parts[0]
        return self.reshape(y, (*x.shape[:-1], n))

    @in_float32
    def int8_matmul(self, x: Array, weight: PackedArray) -> Array:
        """`quantized_matmul` of x rounded to int8: each block of 32 numbers of a row is rounded to
        multiples of max |x| / 127.

        Kernels multiply these int8 numbers with the weight's codes. A block that is not finite
        becomes NaN; one whose numbers are all below 2^-119 becomes 0.
        """
        matrix_sizes("linear", x, weight, -1)
        return self.quantized_matmul(_rounded(self, x), weight)

    @in_float32
    def quantized_matmul_grad(self, g: Array, weight: PackedArray) -> Array:
        """The gradient of `quantized_matmul` for x: g (..., N) @ W -> (..., K)."""
        n, k = matrix_sizes("linear_input_grad", g, weight, -2)
        rows = self.reshape(g, (math.prod(g.shape[:-1]), n))
        parts = (
            self.matmul(
                self.getitem(rows, (slice(None), some)),
                self.unpack(weight.rows(self, (some,)), g.dtype),
            )
            for some in row_chunks(n, k)
        )
        return self.reshape(functools.reduce(self.accumulate, parts), (*g.shape[:-1], k))

    def scaled_matmul(
        self,
        a: PackedArray,
        b: PackedArray,
        scale_a: Array,
        scale_b: Array,
        bias: Array | None,
        dtype: np.dtype,
        fast: bool = False,
    ) -> Array:
        """(scale_a a) @ (scale_b b) + bias in `dtype`, for 8-bit floats a (M, K) and b (K, N).

        The scales are float32: one number (), or one per row of a (M, 1) and per column of b
        (1, N). `fast` lets a kernel accumulate in fewer bits than float32's.
        """
        y = self.matmul(self.unpack(a), self.unpack(b)) * scale_a * scale_b
        if bias is not None:
            y = y + self.astype(bias, float32.numpy)
        return self.astype(y, dtype)

    def quantized_embedding(self, weight: PackedArray, indices: Array) -> Array:
        """Unpack only the rows of the packed `weight` (V, D) at int64 indices (...): (..., D) in
        the dtype `weight.float_dtype`."""
        return self.unpack(weight.rows(self, (indices,)), weight.float_dtype)


def _rounded(be: PackedDefaults[Array], x: Array) -> Array:
    *rows, k = x.shape
    steps = -(-k // INT8_STEP)
    if k % INT8_STEP:
        x = be.concatenate([x, be.zeros((*rows, steps * INT8_STEP - k), x.dtype)], -1)
    x = be.reshape(x, (*rows, steps, INT8_STEP))
    size = be.max(be.abs(x), -1, keepdims=True)
    inverse = be.where(size >= INT8_TINY, 127 / size, be.zeros(size.shape, x.dtype))
    rounded = be.round(x * inverse) * (size / 127)
    return be.getitem(be.reshape(rounded, (*rows, steps * INT8_STEP)), (..., slice(0, k)))


def row_chunks(n: int, k: int) -> Iterator[slice]:
    """Split rows 0 .. n - 1 of k weights into slices of about CHUNK weights; at least one slice.

    The slices depend only on the shape, and so do the last bits of a product.
    """
    step = max(CHUNK // max(k, 1), MIN_ROWS)
    for start in range(0, max(n, 1), step):
        yield slice(start, min(start + step, n))


def matrix_sizes(op: str, x: ArrayOperators, weight: PackedArray, axis: int) -> tuple[int, int]:
    """The sizes of a packed weight; an error if `x` cannot be multiplied with its `axis`."""
    if x.dtype.kind in "biu":
        raise DTypeError(
            f"{op}: expected a floating-point input for a packed weight, got {x.dtype}; cast it "
            "with .to()"
        )
    if len(weight.shape) != 2 or not len(x.shape) or x.shape[-1] != weight.shape[axis]:
        raise ShapeError(
            f"{op}: expected an input (..., K) and a packed weight (N, K), got "
            f"{tuple(x.shape)} and {weight.dtype.name} {tuple(weight.shape)}"
        )
    n, k = weight.shape
    return n, k
