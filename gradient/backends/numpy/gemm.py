"""Float32 matrix products by our own kernels, in any layout and without a copy.

As they are kernels, a recorded step has its products in its list of tasks; an OpenBLAS product
would need Python before and after it. One kernel multiplies float32 vectors (`kernels.gemm`), and
one with the same bits does so for small matrices (`kernels.small_products`). The third, for large
products on processors with AMX, splits numbers into bfloat16 parts (`kernels.split_products`). In
all, the bits of an element do not depend on the number of threads, nor on the other rows and
columns of the product.
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

FEW_PRODUCTS = 1 << 18
"""Multiplications up to which a product is left to NumPy: a kernel is quicker already for half as
many, but would have to be loaded."""

FEW_ROWS, FEW_COLUMNS = 4, 8
"""Of a result: with less, much of a tile would be computed in vain."""

SMALL_PRODUCTS = 1 << 23
"""Multiplications of two matrices up to which packing them takes longer than it saves."""

CHUNK_PRODUCTS = 1 << 17
"""Multiplications that a thread takes at a time, in whole matrices, if these are smaller."""

BLOCK_PRODUCTS = 1 << 20
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
    """Whether the kernel takes x @ weight.T + bias, followed by this activation."""
    if activation != "relu" or not takes_linear(x, weight, bias):
        return False
    (n, k), rows = weight.shape, x.size // x.shape[-1]
    return rows <= MANY_ROWS or not _is_split(rows, n, k)


def _is_matrix(x: Any) -> bool:
    """Whether the kernel reads an array of one or several matrices. Strides must be whole numbers
    of elements, unlike those of a field of a structured array."""
    return (
        type(x) is np.ndarray
        and x.dtype == float32.numpy
        and x.ndim > 1
        and min(x.strides) >= 0
        and x.flags.aligned
    )


def _is_worth(rows: int, size: int, columns: int) -> bool:
    """Whether the kernel is faster than BLAS for a product of so many rows, with `size` numbers in
    total, and columns; or nearly as fast, in plans, where a BLAS call would split a list of tasks.
    """
    if small_calls.are_repeated():
        return rows >= FEW_ROWS and columns >= FEW_COLUMNS and _is_compiled()
    return (
        size * columns > FEW_PRODUCTS
        and rows >= FEW_ROWS
        and columns >= FEW_COLUMNS
        and _is_compiled()
    )


@functools.cache
def _is_compiled() -> bool:
    """Whether there are kernels, and the processor has the vectors that their tiles need."""
    return kernels.available() and kernels.load("cpu").BYTES >= 32


def launch(
    a: np.ndarray, b: np.ndarray, bias: np.ndarray | None, out: np.ndarray, upright: bool = False
) -> Any:
    """The arguments of `parallel_for` for out = a @ b (+ bias, a number for each column, or for
    each row if `upright`); `out` is contiguous. An element is one chain of sums for each part of k
    that is packed at a time."""
    return _launch(a, b, bias, out, False, upright)


def linear_launch(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: Any, relu: bool = False
) -> Any:
    """As `launch`, for out = x @ weight.T (+ bias), followed by relu if asked (`takes_activation`).
    For up to MANY_ROWS rows, and for more if numbers are not split, an element is one chain of sums
    in the order of k, as with few rows (`kernels.dense`)."""
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
    name, blocks, chunk, places_of_a, places_of_b, sizes = layout
    family = kernels.load(name)
    bias = NO_BIAS if bias is None else kernels.contiguous(bias)
    if name == "split_products":
        last: Any = (family.part_of(a.shape[-1]),)
    else:
        last = chained, workers, relu
    return (
        *(family.product, blocks, chunk, _memory(a), *places_of_a),
        *(_memory(b), *places_of_b, bias, upright, out.reshape(-1), *sizes, *last),
    )


@functools.lru_cache(maxsize=4096)
def _layout(
    a: Shape, a_strides: Shape, b: Shape, b_strides: Shape, out: Shape, chained: bool, workers: int
) -> tuple[str, int, int, tuple[Any, ...], tuple[Any, ...], tuple[int, ...]]:
    """The values that depend only on shapes and strides: the family of the kernel; the number of
    blocks, and how many a thread takes at a time; for each operand the offsets of its matrices and
    the strides of rows and columns; and the kernel's sizes."""
    *batch, m, n = out
    k, matrices = a[-1], math.prod(batch)
    split = (m > MANY_ROWS or not chained) and _is_split(m, n, k)
    rows, columns = _blocks(m, n, k, matrices, workers, split)
    places = (_places(a, a_strides, tuple(batch)), _places(b, b_strides, tuple(batch)))
    blocks, chunk = matrices * -(-m // rows) * -(-n // columns), 1
    if not split and m * n * k <= SMALL_PRODUCTS and 1 in places[0][1:]:
        name, chunk = "small_products", max(1, CHUNK_PRODUCTS // max(1, m * n * k))
    else:
        name = "split_products" if split else "gemm"
    return name, blocks, chunk, *places, (n, m, n, k, rows, columns)


def _is_split(m: int, n: int, k: int) -> bool:
    """Whether tiles of bfloat16 parts are faster than float32 vectors.

    A step of a product of panels, 32 x 32 x 32 multiplications, takes 0.6 of its time by vectors.
    In units of a step, beginning and writing a product of panels costs 4, splitting a step of a
    panel SPLITTING, and the start 200.
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
    """The rows and columns of the blocks with the shortest estimated time.

    In units of the time of a tile, a block costs 1 for each tile, 1.5 to pack the columns of a
    panel, 0.5 to read the rows of a tile (if numbers are split, SPLITTING for both), and 2 to
    begin. With a single block for each thread, a delay of one thread delays the product: this
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
    """The offset of each matrix of a batch in an operand's memory, and the strides of rows and
    columns, in elements. The array is shared and must not be written to."""
    *steps, row, column = (stride // 4 for stride in strides)
    starts = np.zeros((1,) * len(batch), np.int64)
    for axis, (size, step) in enumerate(zip(shape[-3::-1], steps[::-1], strict=True), 1):
        if size > 1:
            along = [size if i == len(batch) - axis else 1 for i in range(len(batch))]
            starts = starts + (np.arange(size) * step).reshape(along)
    return kernels.contiguous(np.broadcast_to(starts, batch).reshape(-1)), row, column


def _memory(x: np.ndarray) -> np.ndarray:
    """The memory from the first element of x to the last, flat; it is marked writable only for its
    numba type."""
    if x.flags.carray:
        return x.reshape(-1)
    if x.T.flags.carray:
        return x.T.reshape(-1)
    span = 1 + sum((n - 1) * (step // 4) for n, step in zip(x.shape, x.strides, strict=True))
    return np.asarray(_Numbers(x, span))


class _Numbers:
    """The array interface of so many float32 numbers from an array's first element on."""

    def __init__(self, x: np.ndarray, span: int) -> None:
        self.held = x
        self.__array_interface__ = {
            "data": (x.ctypes.data, False), "shape": (span,), "typestr": x.dtype.str, "version": 3,
        }  # fmt: skip
