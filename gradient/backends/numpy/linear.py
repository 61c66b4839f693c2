"""`linear` by kernels that read a weight of 32 or 16 bits once, as it is stored.

Unlike with a BLAS library, the bits of an output do not depend on how many rows of x are computed
together. So a generated text does not depend on the other texts in its batch, nor on how its prompt
was split. In float32 this holds up to `gemm.MANY_ROWS` rows: more go to BLAS if `gemm` has no
kernel, and are split if the processor has AMX.
"""

from __future__ import annotations

from typing import TypeGuard

import numpy as np

from gradient.backends import small_calls
from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.numpy import bfloat16_products, blas, gemm, kernels, threads
from gradient.backends.packed import PackedArray
from gradient.dtypes import HALF_PRECISION, bfloat16, float32

CHUNK = 1 << 18
"""Weights, in whole rows, that a thread takes at a time for a few rows of x."""

PANEL = 32
"""Rows of W that are a whole panel on every processor."""

PANELS = 4
"""Panels through which rows of x pass while they are in the cache, where there are many."""

CHUNK_OF_HALVES = 64
"""Rows of W that a thread takes at a time for many rows of x in 16 bits."""

CHUNK_OF_TILES = 256
"""The same where they are multiplied by tiles."""

FEW_ROWS = 12
"""Rows of x up to which no other kernel is as quick in float32."""

PADDING = 16
"""Numbers after each row of x: rows a power of two apart would compete for the same few lines of
the cache."""

FEW_WEIGHTS = 1 << 10
"""Weights of 16 bits below which the kernel is not worth waking: the default widens and rounds
them, which takes long, and goes to BLAS."""

COPIED = 1 << 16
"""Numbers of x that a thread copies at a time."""


class LinearKernels(AttentionDefaults[np.ndarray]):
    """Overrides of the products with a weight (N, K)."""

    def linear(
        self, x: np.ndarray, weight: np.ndarray | PackedArray, bias: np.ndarray | None = None
    ) -> np.ndarray:
        if not takes(weight, x, bias):
            return super().linear(x, weight, bias)
        if x.dtype == float32.numpy:
            return _product_of_floats(x, weight, bias)
        if x.dtype == bfloat16.numpy and kernels.load("cpu").PATH == "amx":
            return _product_of_tiles(x, weight, bias)
        return _product_of_halves(x, weight, bias)


def _product_of_floats(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """`linear` in float32."""
    family = kernels.load("dense")
    n, k = weight.shape
    m = x.size // k
    rows = np.zeros((-(-m // 4) * 4, k + PADDING), np.float32).reshape(-1)
    given = kernels.contiguous(x).reshape(-1)
    threads.parallel_for(family.copy_rows, m, max(1, COPIED // k), given, k, rows, k + PADDING)
    out = np.empty((m, n), x.dtype)
    chunk = max(1, CHUNK // k // PANEL) * PANEL
    if m > family.FEW:
        chunk = PANEL * PANELS if n >= 4 * PANEL * PANELS else PANEL
    threads.parallel_for(
        *(family.linear, n, chunk, rows, k + PADDING, m),
        *(weight.reshape(-1), n, k, float32_bias(bias), as_bytes(out)),
    )
    return out.reshape(*x.shape[:-1], n)


def _multiplies_pairs() -> bool:
    """Whether the processor has an instruction for pairs of bfloat16 numbers."""
    return bool(kernels.load("cpu").MULTIPLIES_BFLOAT16)


def _product_of_halves(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """`linear` in bfloat16 or float16."""
    family, stored = kernels.load("half_linear"), kernels.load("half_precision").stored
    n, k = weight.shape
    m = x.size // k
    x_row = -(-k // family.STEP) * family.STEP + PADDING
    held = family.whole_rows(m)
    given = stored(kernels.contiguous(x)).reshape(-1)
    pairs = x.dtype == bfloat16.numpy and _multiplies_pairs()
    rows = np.zeros(held * x_row, given.dtype if pairs else np.float32)
    threads.parallel_for(family.copy_rows, m, max(1, COPIED // k), given, k, rows, x_row)
    out = np.empty((m, n), x.dtype)
    chunk = max(1, CHUNK // k // PANEL) * PANEL
    if m > family.FEW:
        chunk = CHUNK_OF_HALVES if n >= 4 * CHUNK_OF_HALVES else PANEL
    threads.parallel_for(
        *(family.linear, n, chunk, rows, x_row, held, kernels.load("stored").KINDS[x.dtype.name]),
        *(stored(weight).reshape(-1), n, k, float32_bias(bias), as_bytes(out)),
    )
    return out.reshape(*x.shape[:-1], n)


def _product_of_tiles(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """`linear` in bfloat16, on processors that multiply tiles (AMX)."""
    family, stored = kernels.load("bfloat16_tiles"), kernels.load("half_precision").stored
    n, k = weight.shape
    m = x.size // k
    if m > family.FEW:
        out = np.empty((m, n), x.dtype)
        bfloat16_products.product(x.reshape(m, k), weight.T, float32_bias(bias), out)
        return out.reshape(*x.shape[:-1], n)
    rows = np.empty(m * -(-k // family.STEP) * family.STEP, np.uint16)
    given = stored(kernels.contiguous(x)).reshape(-1)
    threads.parallel_for(
        *(family.arrange_rows, -(-m // family.ROWS), max(1, COPIED // (family.ROWS * k))),
        *(given, k, m, rows),
    )
    out = np.empty((m, n), x.dtype)
    chunk = max(1, CHUNK // k // PANEL) * PANEL
    if m > family.PAIR:
        chunk = CHUNK_OF_TILES if n >= 4 * CHUNK_OF_TILES else PANEL
    threads.parallel_for(
        *(family.linear, n, chunk, rows, m, stored(weight).reshape(-1), n, k),
        *(float32_bias(bias), as_bytes(out)),
    )
    return out.reshape(*x.shape[:-1], n)


def as_bytes(x: np.ndarray) -> np.ndarray:
    """The bytes of a contiguous array."""
    return x.reshape(-1).view(np.uint8)


def float32_bias(bias: np.ndarray | None) -> np.ndarray:
    """A bias in float32 for kernels, without a copy if possible; of size 0 for None."""
    if bias is None:
        return np.empty(0, np.float32)
    return kernels.contiguous(bias if bias.dtype == float32.numpy else bias.astype(np.float32))


def padded_rows(x: np.ndarray) -> np.ndarray:
    """The rows of x (..., K) as float32 (M, K + PADDING)."""
    k = x.shape[-1]
    rows = np.zeros((x.size // k, k + PADDING), np.float32)
    rows[:, :k] = x.reshape(-1, k)
    return rows


def is_small(weight: np.ndarray | PackedArray, x: np.ndarray) -> TypeGuard[np.ndarray]:
    """Whether NumPy should compute x @ weight.T, unless it is repeated: no kernel takes it."""
    return (
        type(weight) is np.ndarray
        and type(x) is np.ndarray
        and x.dtype.char in "fd"
        and weight.ndim == 2
        and weight.size < 4 * kernels.MIN_SIZE
        and x.size * weight.shape[0] <= blas.ONE_THREAD
    )


def takes(
    weight: np.ndarray | PackedArray, x: np.ndarray, bias: np.ndarray | None
) -> TypeGuard[np.ndarray]:
    """Whether the kernel takes a product x @ weight.T + bias."""
    return (
        type(weight) is np.ndarray
        and (
            weight.size >= 4 * kernels.MIN_SIZE or (weight.size > 0 and small_calls.are_repeated())
            if weight.dtype == float32.numpy
            else weight.size >= FEW_WEIGHTS and weight.dtype in HALF_PRECISION
        )
        and weight.ndim == 2
        and weight.flags.c_contiguous
        and type(x) is np.ndarray
        and x.dtype == weight.dtype
        and x.size > 0
        and (x.dtype != float32.numpy or _few(x, weight, bias))
        and x.shape[-1:] == weight.shape[1:]
        and (bias is None or bias.shape == weight.shape[:1])
        and kernels.computes(x.dtype)
    )


def _few(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> bool:
    """Whether x has so few rows that this float32 kernel pays; the one for more rows gives the same
    bits."""
    rows = x.size // max(1, weight.shape[1])
    return rows <= FEW_ROWS or (rows <= gemm.MANY_ROWS and not gemm.takes_linear(x, weight, bias))
