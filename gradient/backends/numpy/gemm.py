"""Float32 matrix products by kernels of our own, in any layout and without a copy.

They are kernels like others, so that a recorded step's products stand in its list of tasks, where
an OpenBLAS product has Python before and after it. One multiplies float32 vectors (`kernels.gemm`),
the other one, where the processor has tiles and the product is large, parts of the numbers in
bfloat16 (`kernels.split_products`). In each an element's bits do not depend on the number of
threads, nor on what other rows and columns the product has.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from gradient.backends import small_calls
from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.packed import PackedArray
from gradient.backends.required import Shape
from gradient.dtypes import float32

FEW_PRODUCTS = 1 << 20
"""Multiplications up to which a product is left to NumPy."""

FEW_ROWS, FEW_COLUMNS = 12, 32
"""Of a result: with less, much of a tile would be computed in vain."""

BLOCK_PRODUCTS = 1 << 22
"""Multiplications of a block below which a thread more is not worth its start."""

SPLITTING = 1.2
"""Of the time of a product of two panels, what it takes to split the numbers of one of them."""

MANY_ROWS = 512
"""Rows of x up to which `linear` has the bits of the kernel for few rows, whatever is quicker."""

MANY_MATRICES = 256
"""Of a batch, from which what is known of its layout, 16 bytes for each, is not kept."""

ROUNDS = 3
"""The most blocks for each thread among which the best ones are looked for."""

NO_BIAS = np.empty(0, np.float32)


class GemmKernels(AttentionDefaults[np.ndarray]):
    """Overrides of the matrix products."""

    def matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if not takes(a, b):
            return super().matmul(a, b)
        batch = a.shape[:-2]
        if batch != b.shape[:-2]:
            batch = np.broadcast_shapes(batch, b.shape[:-2])
        out = np.empty((*batch, a.shape[-2], b.shape[-1]), np.float32)
        threads.parallel_for(*launch(a, b, None, out))
        return out

    def linear(
        self, x: np.ndarray, weight: np.ndarray | PackedArray, bias: np.ndarray | None = None
    ) -> np.ndarray:
        if not isinstance(weight, np.ndarray) or not takes_linear(x, weight, bias):
            return super().linear(x, weight, bias)
        out = np.empty((*x.shape[:-1], weight.shape[0]), np.float32)
        threads.parallel_for(*linear_launch(x, weight, bias, out))
        return out

    def linear_activation(
        self, x: np.ndarray, weight: np.ndarray | PackedArray, bias: np.ndarray, activation: str
    ) -> np.ndarray:
        if not isinstance(weight, np.ndarray) or not takes_activation(x, weight, bias, activation):
            return super().linear_activation(x, weight, bias, activation)
        out = np.empty((*x.shape[:-1], weight.shape[0]), np.float32)
        threads.parallel_for(*linear_launch(x, weight, bias, out, relu=True))
        return out


def takes(a: Any, b: Any) -> bool:
    """Whether the kernel takes a @ b."""
    return (
        _is_matrix(a)
        and _is_matrix(b)
        and a.shape[-1] == b.shape[-2]
        and min(a.size, b.size) > 0
        and _is_worth(a.shape[-2], max(a.size, b.size // b.shape[-1] * a.shape[-2]), b.shape[-1])
    )


def takes_linear(x: Any, weight: Any, bias: np.ndarray | None) -> bool:
    """Whether the kernel takes x @ weight.T (+ bias)."""
    return (
        _is_matrix(x)
        and _is_matrix(weight)
        and weight.ndim == 2
        and x.shape[-1] == weight.shape[1] > 0
        and (bias is None or (bias.shape == weight.shape[:1] and bias.dtype == float32.numpy))
        and _is_worth(x.size // x.shape[-1], x.size, weight.shape[0])
    )


def takes_activation(x: Any, weight: Any, bias: np.ndarray, activation: str) -> bool:
    """Whether the kernel takes x @ weight.T + bias and this activation of it."""
    if activation != "relu" or not takes_linear(x, weight, bias):
        return False
    (n, k), rows = weight.shape, x.size // x.shape[-1]
    return rows <= MANY_ROWS or not _is_split(rows, n, k)


def _is_matrix(x: Any) -> bool:
    """Whether the kernel reads such an array, of one matrix or several. Numbers that are no whole
    ones apart, such as a field's of records, are not aligned."""
    return (
        type(x) is np.ndarray
        and x.dtype == float32.numpy
        and x.ndim > 1
        and min(x.strides) >= 0
        and x.flags.aligned
    )


def _is_worth(rows: int, size: int, columns: int) -> bool:
    """Whether the kernel is quicker than BLAS where so many rows, of `size` numbers in all, are
    multiplied by so many columns; or nearly, where a call of BLAS would part two lists of tasks."""
    if small_calls.are_repeated():
        return rows >= FEW_ROWS // 3 and columns >= FEW_COLUMNS // 4 and _is_compiled()
    return (
        size * columns > FEW_PRODUCTS
        and rows >= FEW_ROWS
        and columns >= FEW_COLUMNS
        and _is_compiled()
    )


@functools.cache
def _is_compiled() -> bool:
    """Whether there are kernels, for a processor whose vectors the tiles are made for."""
    return kernels.available() and kernels.load("cpu").BYTES >= 32


def launch(
    a: np.ndarray, b: np.ndarray, bias: np.ndarray | None, out: np.ndarray, upright: bool = False
) -> Any:
    """What `parallel_for` is to be given for out = a @ b (+ bias, a number for each column, or for
    each row if `upright`), `out` being contiguous. An element has one chain of sums for each part
    of k that is packed at a time."""
    return _launch(a, b, bias, out, False, upright)


def linear_launch(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: Any, relu: bool = False
) -> Any:
    """As `launch`, for out = x @ weight.T (+ bias), or for `relu` of that, if `takes_activation`.
    Of up to MANY_ROWS rows an element is one chain of sums in the order of k, as it is with few
    rows (`kernels.dense`); of more where they are not split."""
    rows = x.reshape(-1, x.shape[-1])
    return _launch(rows, weight.T, bias, out.reshape(-1, out.shape[-1]), True, relu=relu)


def _launch(
    a: Any,
    b: Any,
    bias: np.ndarray | None,
    out: np.ndarray,
    chained: bool,
    upright: bool = False,
    relu: bool = False,
) -> Any:
    workers = threads.get_num_threads()
    layout_of = _layout if math.prod(out.shape[:-2]) < MANY_MATRICES else _layout.__wrapped__
    layout = layout_of(a.shape, a.strides, b.shape, b.strides, out.shape, chained, workers)
    split, blocks, places_of_a, places_of_b, sizes = layout
    bias = NO_BIAS if bias is None else kernels.contiguous(bias)
    if split:
        products = kernels.load("split_products")
        kernel, last = products.product, [products.part_of(a.shape[-1])]
    else:
        kernel, last = kernels.load("gemm").product, [chained, workers, relu]
    return (
        *(kernel, blocks, 1, _memory(a), *places_of_a),
        *(_memory(b), *places_of_b, bias, upright, out.reshape(-1), *sizes, *last),
    )


@functools.lru_cache(maxsize=4096)
def _layout(
    a: Shape, a_strides: Shape, b: Shape, b_strides: Shape, out: Shape, chained: bool, workers: int
) -> tuple[bool, int, tuple[Any, ...], tuple[Any, ...], tuple[int, ...]]:
    """What depends on shapes and strides alone: whether numbers are split; how many blocks there
    are; of each operand where its matrices begin, and the distances of rows and columns; and the
    sizes the kernel is told."""
    *batch, m, n = out
    k, matrices = a[-1], math.prod(batch)
    split = (m > MANY_ROWS or not chained) and _is_split(m, n, k)
    rows, columns = _blocks(m, n, k, matrices, workers, split)
    places = (_places(a, a_strides, tuple(batch)), _places(b, b_strides, tuple(batch)))
    blocks = matrices * -(-m // rows) * -(-n // columns)
    return split, blocks, *places, (n, m, n, k, rows, columns)


def _is_split(m: int, n: int, k: int) -> bool:
    """Whether tiles of bfloat16 parts are quicker than float32 vectors.

    A step of a product of panels, 32 x 32 x 32 multiplications, takes 0.6 of their time by vectors.
    A product of panels takes four steps more to begin and to write, splitting a step of a panel
    SPLITTING, and to start 200.
    """
    if kernels.load("cpu").PATH != "amx":
        return False
    size = kernels.load("split_products").PAIR
    down, across, steps = -(-m // size), -(-n // size), -(-k // size)
    work = down * across * (steps + 4) + SPLITTING * (down + across) * steps + 200
    return 0.6 * work * size**3 < m * n * k


def _blocks(
    m: int, n: int, k: int, matrices: int, workers: int, split: bool = False
) -> tuple[int, int]:
    """The rows and columns of the blocks with which threads are ready first, as far as is known.

    In units of the time of a tile, a block takes one for each of its tiles, 1.5 to pack the columns
    of a panel, 0.5 to read the rows of a tile (if numbers are split, SPLITTING for either), and 2
    to begin. With one block for each thread, whatever delays one of them delays the product: that
    counts as 2 per cent.
    """
    if split:
        products = kernels.load("split_products")
        height, width, widest = products.PAIR, products.PAIR, products.widest(k)
        pack, read = SPLITTING, SPLITTING
    else:
        family = kernels.load("gemm")
        height, width, widest = family.ROWS, family.PAIR, family.COLUMNS
        pack, read = 1.5, 0.5
    narrowest = -(-n // widest)
    fewest = matrices * narrowest
    most = max(fewest, min(ROUNDS * workers, matrices * (m * n * k // BLOCK_PRODUCTS)))
    best, least = (m, n), math.inf
    for across in range(narrowest, max(narrowest, most // matrices) + 1):
        columns = -(-n // (across * width)) * width
        for down in range(1, max(1, most // (matrices * across)) + 1):
            rows = -(-m // (down * height)) * height
            blocks = matrices * -(-m // rows) * -(-n // columns)
            tiles, panels = rows // height, columns // width
            cost = -(-blocks // workers) * (tiles * panels + pack * panels + read * tiles + 2)
            cost *= 1.02 if blocks <= workers else 1
            if cost < least:
                best, least = (rows, columns), cost
    return best


def _places(shape: Shape, strides: Shape, batch: Shape) -> tuple[np.ndarray, int, int]:
    """Where each matrix of a batch begins in the memory of an operand, and how far apart its rows
    and its columns are, in numbers. The array is shared, and never written to."""
    *steps, row, column = (stride // 4 for stride in strides)
    starts = np.zeros((1,) * len(batch), np.int64)
    for axis, (size, step) in enumerate(zip(shape[-3::-1], steps[::-1], strict=True), 1):
        if size > 1:
            along = [size if i == len(batch) - axis else 1 for i in range(len(batch))]
            starts = starts + (np.arange(size) * step).reshape(along)
    return kernels.contiguous(np.broadcast_to(starts, batch).reshape(-1)), row, column


def _memory(x: np.ndarray) -> np.ndarray:
    """The numbers from the first one of `x` to the last, flat and, for the sake of its type alone,
    writable."""
    if x.flags.carray:
        return x.reshape(-1)
    if x.T.flags.carray:
        return x.T.reshape(-1)
    span = 1 + sum((n - 1) * (step // 4) for n, step in zip(x.shape, x.strides, strict=True))
    return np.asarray(_Numbers(x, span))


class _Numbers:
    """What an array of so many float32 numbers from an array's first is made of."""

    def __init__(self, x: np.ndarray, span: int) -> None:
        self.held = x
        self.__array_interface__ = {
            "data": (x.ctypes.data, False), "shape": (span,), "typestr": x.dtype.str, "version": 3,
        }  # fmt: skip
