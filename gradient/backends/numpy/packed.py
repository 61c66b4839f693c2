"""Packed weights by kernels that read GGUF's blocks in place, and unpack them in registers.

For few rows of x, the kernel multiplies while it reads the weight. For many, some rows of the
weight at a time are unpacked and multiplied by BLAS. Other formats are unpacked by the composed
definition, on the pool's threads. The pieces depend only on the shapes, so results do not depend on
the number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradient.backends.composed.packed import PackedDefaults, matrix_sizes, row_chunks
from gradient.backends.composed.precision import in_float32
from gradient.backends.numpy import kernels, threads
from gradient.backends.numpy.blas import one_blas_thread
from gradient.backends.numpy.linear import PADDING, padded_rows
from gradient.backends.packed import PackedArray
from gradient.dtypes import float32
from gradient.dtypes.packed.blocks import BlockDType

MIN_SIZE = 1 << 18
"""Weights from which waking the pool pays."""

FEW_ROWS = 16
"""Rows of x up to which unpacking the weight in registers, for each few rows anew, is quicker."""

MANY_ROWS = 64
"""Rows of a gradient from which unpacking columns of the weight, whose blocks lie apart, pays."""

COLUMNS = 256
"""Columns of the weight of which a thread computes the gradients at a time."""

CHUNK = 1 << 18
"""Weights, in whole rows or blocks, that a thread takes at a time."""


class PackedKernels(PackedDefaults[np.ndarray]):
    """Overrides of `composed.packed`."""

    def unpack(self, x: PackedArray, dtype: np.dtype = float32.numpy) -> np.ndarray:
        if not _supported(x):
            return super().unpack(x, dtype)
        kind: Any = x.dtype
        out = np.empty(x.shape, np.float32)
        kernel, *arguments = _unpacking(x, out)
        blocks = x.size // kind.block_size
        threads.parallel_for(kernel, blocks, CHUNK // kind.block_size, *arguments)
        return out.astype(dtype, copy=False)

    @in_float32
    def quantized_matmul(self, x: np.ndarray, weight: PackedArray) -> np.ndarray:
        n, k = matrix_sizes("linear", x, weight, -1)
        if x.dtype == float32.numpy and 0 < x.size <= FEW_ROWS * k and _supported(weight):
            return _matmul_few_rows(x, weight)
        pieces = list(row_chunks(n, k))
        if weight.size < MIN_SIZE or len(pieces) < 2:
            return super().quantized_matmul(x, weight)
        rows = x.reshape(math.prod(x.shape[:-1]), k)
        out = np.empty((len(rows), n), x.dtype)

        if _supported(weight):
            threads.precompile(*_unpacking(weight, np.empty(0, np.float32)))

        def part(i: int) -> None:
            some = pieces[i]
            np.matmul(rows, self.unpack(weight.rows(self, (some,)), x.dtype).T, out=out[:, some])

        with one_blas_thread():
            threads.run(len(pieces), part)
        return out.reshape(*x.shape[:-1], n)

    @in_float32
    def quantized_matmul_grad(self, g: np.ndarray, weight: PackedArray) -> np.ndarray:
        n, k = matrix_sizes("linear_input_grad", g, weight, -2)
        if g.dtype != float32.numpy or g.size < MANY_ROWS * n or not _supported(weight):
            return super().quantized_matmul_grad(g, weight)
        kind: Any = weight.dtype
        family, form = kernels.load("packed_grad"), kernels.load("formats").FORMATS[kind.name]
        m = g.size // n
        rows = np.zeros((-(-m // 4) * 4, n + PADDING), np.float32)
        rows[:m, :n] = g.reshape(m, n)
        out = np.empty((m, k), np.float32)
        threads.parallel_for(
            *(family.input_grad, k // kind.block_size, max(1, COLUMNS // kind.block_size)),
            *(rows.reshape(-1), n + PADDING, len(rows), weight.parts[0].reshape(-1), form.tag),
            *(kind.block_size, kind.block_bytes, n, k, out.reshape(-1)),
        )
        return out.reshape(*g.shape[:-1], k)


def _unpacking(x: PackedArray, out: np.ndarray) -> tuple[Any, ...]:
    """The kernel that unpacks, and its arguments after start and stop."""
    kind: Any = x.dtype
    form = kernels.load("formats").FORMATS[kind.name].tag
    blocks = x.parts[0].reshape(-1)
    unpack = kernels.load("packed_linear").unpack
    return unpack, blocks, form, kind.block_size, kind.block_bytes, out.reshape(-1)


def _matmul_few_rows(x: np.ndarray, weight: PackedArray) -> np.ndarray:
    """`quantized_matmul` of float32 rows, by the kernel that unpacks in registers."""
    family, forms = kernels.load("packed_linear"), kernels.load("formats").FORMATS
    n, k = weight.shape
    rows = padded_rows(x)
    out = np.empty((len(rows), n), np.float32)
    threads.parallel_for(
        *(family.packed_linear, n, max(1, CHUNK // k), rows.reshape(-1), k + PADDING, len(rows)),
        *(weight.parts[0].reshape(-1), forms[weight.dtype.name].tag, k, out.reshape(-1)),
    )
    return out.reshape(*x.shape[:-1], n)


def _supported(x: PackedArray) -> bool:
    return (
        isinstance(x.dtype, BlockDType)
        and x.size >= kernels.MIN_SIZE
        and type(x.parts[0]) is np.ndarray
        and x.parts[0].flags.c_contiguous
        and kernels.available()
        and x.dtype.name in kernels.load("formats").FORMATS
        and kernels.load("linear").converts_float16()
    )
