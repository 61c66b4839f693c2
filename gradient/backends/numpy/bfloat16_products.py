"""Matrix products in bfloat16 by AMX, on processors that multiply tiles of matrices.

Gradients of linear layers are such products, too, of transposed matrices: operands are arranged in
tiles from any layout. Other processors multiply in float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.numpy import fused, kernels, threads
from gradient.dtypes import bfloat16

FEW_PRODUCTS = 1 << 14
"""Multiplications up to which a product is left to the default, which widens and rounds."""

BLOCK_ROWS, BLOCK_COLUMNS = 512, 256
"""The largest block of a result that a thread computes at a time: it, and what it is made of, stay
in the second cache."""

BLOCKS = 2
"""Blocks for each thread into which a product is cut, if it is large enough."""

BLOCK_PRODUCTS = 1 << 25
"""Multiplications of a block that are worth a thread's while."""


class Bfloat16Products(AttentionDefaults[np.ndarray]):
    """Overrides of the matrix products."""

    def matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if not takes(a, b):
            return super().matmul(a, b)
        shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        out = np.empty((*shape, a.shape[-2], b.shape[-1]), a.dtype)
        product(a, b, np.empty(0, np.float32), out)
        return out


def takes(a: Any, b: Any) -> bool:
    """Whether the kernel takes a @ b."""
    return (
        type(a) is np.ndarray
        and type(b) is np.ndarray
        and a.dtype == b.dtype == bfloat16.numpy
        and min(a.ndim, b.ndim) > 1
        and a.shape[-1] == b.shape[-2]
        and max(a.size * b.shape[-1], b.size * a.shape[-2]) > FEW_PRODUCTS
        and min(a.size, b.size) > 0
        and kernels.computes(a.dtype)
        and kernels.load("cpu").PATH == "amx"
    )


def product(a: np.ndarray, b: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """out = a @ b + bias; the bias is float32, with a number for each column, or empty. `out` is
    contiguous."""
    family = kernels.load("bfloat16_products")
    batch, (m, n), k = out.shape[:-2], out.shape[-2:], a.shape[-1]
    rows, columns = _blocks(m, n, k, math.prod(batch))
    threads.parallel_for(
        *(family.product, math.prod(batch) * -(-m // rows) * -(-n // columns), 1),
        *(_arranged(a, False), _numbers(a, batch), _arranged(b.swapaxes(-1, -2), True)),
        *(_numbers(b, batch), bias, out.reshape(-1).view(np.uint8), m, n, k, rows, columns),
    )


def _blocks(m: int, n: int, k: int, matrices: int) -> tuple[int, int]:
    """The rows and columns of a block."""
    pair = kernels.load("bfloat16_products").PAIR
    down, across = -(-m // BLOCK_ROWS), -(-n // BLOCK_COLUMNS)
    wanted = BLOCKS * threads.get_num_threads()
    while matrices * down * across < wanted and m * n * k >= 2 * BLOCK_PRODUCTS * down * across:
        if m * across > n * down:
            down += 1
        else:
            across += 1
    return -(-m // (down * pair)) * pair, -(-n // (across * pair)) * pair


def _arranged(x: np.ndarray, paired: bool) -> np.ndarray:
    """Matrices (..., rows, k) in the layout of `bfloat16_products.arrange`."""
    family = kernels.load("bfloat16_products")
    *batch, rows, k = x.shape
    matrices, panels = math.prod(batch), -(-rows // family.PAIR)
    size = panels * -(-k // family.STEP) * 2 * family.TILE
    out = np.empty(matrices * size + 32, np.uint16)
    out = out[-out.ctypes.data % 64 // 2 :]  # rows of tiles are cache lines
    threads.parallel_for(
        *(family.arrange, matrices * -(-panels // family.TOGETHER), 1, *_memory(x), rows, k),
        *(paired, out),
    )
    return out


def _memory(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, int]:
    """The memory of matrices as a flat array, the offset of each matrix, and the strides of rows
    and columns. If neither stride is 1, a copy."""
    x = x.view(np.uint16)
    if min(x.strides) < 0 or x.strides[-1] != 2 != x.strides[-2] or any(s % 2 for s in x.strides):
        x = kernels.contiguous(x)
    steps = [stride // 2 for stride in x.strides]
    starts = np.zeros(1, np.int64)
    for size, step in zip(x.shape[:-2], steps, strict=False):
        starts = np.add.outer(starts, np.arange(size) * step)
    if x.flags.carray:
        memory = x.reshape(-1)
    else:
        memory = fused.flat(x, 1 + sum((n - 1) * s for n, s in zip(x.shape, steps, strict=True)))
    return memory, starts.reshape(-1), steps[-2], steps[-1]


def _numbers(x: np.ndarray, batch: tuple[int, ...]) -> np.ndarray:
    """For each matrix of the broadcast batch, the number of the operand's matrix."""
    own = x.shape[:-2]
    return kernels.contiguous(
        np.broadcast_to(np.arange(math.prod(own)).reshape(own), batch)
    ).reshape(-1)
