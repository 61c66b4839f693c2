"""Products of two small float32 matrices by a direct call of their kernel.

To find out which kernel takes a product, and in what blocks (`gemm`), costs as much as a product of
64 x 64 x 64 numbers. What depends only on shapes and strides is therefore kept here.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.numpy import gemm, kernels, linear
from gradient.backends.numpy.threads import listeners
from gradient.backends.packed import PackedArray
from gradient.backends.required import Shape
from gradient.dtypes import float32

FLOAT32, ndarray, empty = float32.numpy, np.ndarray, np.empty  # faster look-ups


class _Call(NamedTuple):
    """What a product's shapes and strides determine."""

    kernel: Any
    is_flat: tuple[bool, bool]
    """Whether the elements of an operand are neighbours in memory, in whatever order."""
    places_of_a: tuple[Any, ...]
    places_of_b: tuple[Any, ...]
    shape: Shape
    sizes: tuple[Any, ...]


class SmallProducts(AttentionDefaults[np.ndarray]):
    """Overrides of the matrix products."""

    def matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if (
            type(a) is ndarray is type(b)
            and a.dtype is FLOAT32 is b.dtype
            and a.ndim == 2 == b.ndim
            and a.size * b.shape[1] > gemm.FEW_PRODUCTS
            and not listeners
        ):
            call = _call(a.shape, a.strides, b.shape, b.strides, False)
            if call is not None:
                return _made(call, a, b, gemm.NO_BIAS)
        return super().matmul(a, b)

    def linear(
        self, x: np.ndarray, weight: np.ndarray | PackedArray, bias: np.ndarray | None = None
    ) -> np.ndarray:
        if (
            type(weight) is ndarray is type(x)
            and weight.dtype is FLOAT32 is x.dtype
            and x.ndim == 2 == weight.ndim
            and x.size * weight.shape[0] > gemm.FEW_PRODUCTS
            and not listeners
        ):
            other = weight.T
            call = _call(x.shape, x.strides, other.shape, other.strides, True)
            if call is not None:
                if bias is None:
                    return _made(call, x, other, gemm.NO_BIAS)
                if bias.dtype is FLOAT32 and bias.shape == weight.shape[:1] and bias.flags.carray:
                    return _made(call, x, other, bias)
        return super().linear(x, weight, bias)


def _made(call: _Call, a: np.ndarray, b: np.ndarray, bias: np.ndarray) -> np.ndarray:
    kernel, (a_is_flat, b_is_flat), places_of_a, places_of_b, shape, sizes = call
    out = empty(shape, FLOAT32)
    kernel(
        *(0, 1, a.ravel("K") if a_is_flat else gemm._memory(a), *places_of_a),
        *(b.ravel("K") if b_is_flat else gemm._memory(b), *places_of_b),
        *(bias, False, out.ravel(), *sizes),
    )
    return out


@functools.lru_cache(maxsize=4096)
def _call(a: Shape, a_strides: Shape, b: Shape, b_strides: Shape, is_linear: bool) -> _Call | None:
    """How the kernel for small matrices computes a product of more than FEW_PRODUCTS
    multiplications, if it is this kernel's and one block; `is_linear` if it is that of `linear`,
    which has another kernel for few rows."""
    (m, k), n = a, b[1]
    least = linear.FEW_ROWS + 1 if is_linear else gemm.FEW_ROWS
    if k != b[0] or m < least or n < gemm.FEW_COLUMNS or m * k * n >= 2 * gemm.BLOCK_PRODUCTS:
        return None
    if any(step < 0 or step % 4 for step in a_strides + b_strides) or not gemm._is_compiled():
        return None
    layout = gemm._layout(a, a_strides, b, b_strides, (m, n), is_linear, 1)
    name, blocks, _, places_of_a, places_of_b, sizes = layout
    if name != "small_products" or blocks != 1:
        return None
    flat, number = np.ones(1, np.float32), np.ones(1, np.int64)
    places = number, 1, 1
    example = (0, 1, flat, *places, flat, *places, flat, False, flat, *(1,) * 6, False, 1, False)
    kernel = kernels.load("compilation").compiled_for(kernels.load(name).product, example)
    is_flat = _is_flat(a, a_strides), _is_flat(b, b_strides)
    return _Call(kernel, is_flat, places_of_a, places_of_b, (m, n), (*sizes, is_linear, 1, False))


def _is_flat(shape: Shape, strides: Shape) -> bool:
    (m, n), (down, across) = shape, strides
    return (down, across) in ((4 * n, 4), (4, 4 * m))
