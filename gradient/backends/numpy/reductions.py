"""Sums, products, argmax and cumulative sums by kernels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from gradient.backends.array_api import FLOAT32, INT64, ArrayAPIBackend
from gradient.backends.numpy import direct, kernels, threads
from gradient.backends.required import Axis, Shape
from gradient.dtypes import HALF_PRECISION

_add: Any = np.add.reduce
"""The ufunc's method, which takes keywords by their places, too: that is quicker."""

_max: Any = np.maximum.reduce
_min: Any = np.minimum.reduce
_all: Any = np.logical_and.reduce
_any: Any = np.logical_or.reduce

MANY = 1 << 14
"""Elements from which a kernel adds up quicker than NumPy."""

FEW_COLUMNS = 8
"""Columns below which NumPy finds the largest of each quicker."""

SHORT = 16
"""Elements of a row up to which rows that do not follow each other are copied first."""

LONG = 128
"""Numbers of an axis that is not the fastest that NumPy may add up one after another."""

SHORT_ROW = 64
"""Numbers of a row from which its squares are added up without an array of them."""

CHUNK = 1 << 14
"""Elements of whole rows that a thread takes at a time."""


NUMPY_SUMS = direct.Direct("reductions", "numpy_sums", lambda x: (x, 1, x))


class ReductionKernels(ArrayAPIBackend):
    """Overrides for `NumpyBackend` of sums of large arrays."""

    def sum(self, x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
        # The ufunc's method, without NumPy's wrapper function.
        if x.dtype.char not in "fd":
            if x.dtype in HALF_PRECISION:
                if x.size >= MANY:
                    return self.sum(self.astype(x, FLOAT32), axis, keepdims).astype(x.dtype)
                return _added(x, axis, keepdims, FLOAT32).astype(x.dtype)
            if x.dtype.kind not in "biu":
                return _added(x, axis, keepdims)
            if axis is None and not keepdims and x.dtype.char == "?":
                return INT64.type(np.count_nonzero(x))
            return _add(x, axis, INT64, None, keepdims)
        if x.size < MANY:
            if (
                keepdims
                or x.size < kernels.MIN_SIZE
                or not (axis is None or axis == x.ndim - 1 > 0)
                or (sums := NUMPY_SUMS.of(x)) is None
            ):
                return _add(x, axis, None, None, keepdims)
            # NumPy's result, in half of the time.
            if axis is None:
                out = np.empty(1, x.dtype)
                sums(0, 1, x.ravel(), x.size, out)
                return out[0]
            out = np.empty(x.shape[:-1], x.dtype)
            sums(0, out.size, x.ravel(), x.shape[-1], out.ravel())
            return out
        if not takes(x, axis):
            if not _has_short_rows(x, axis):
                return _added(x, axis, keepdims)
            x = np.array(x, order="C")
        out = np.empty(reduced(x.shape, axis, keepdims), x.dtype)
        for launch in launches(x, axis, out):
            threads.parallel_for(*launch)
        return out

    def mean(self, x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
        """The mean without NumPy's checks of arguments, and its count of elements by axes."""
        if x.dtype.char not in "fd" or not x.size:
            return super().mean(x, axis, keepdims)
        total = self.sum(x, axis, keepdims)
        return total / (x.size if axis is None else x.size // total.size)

    def sum_of_squares(
        self, x: np.ndarray, axis: Axis = None, keepdims: bool = False
    ) -> np.ndarray:
        if x.size < MANY and x.dtype.char in "fd":
            return _add(x * x, axis, None, None, keepdims)
        if not takes(x, axis):
            return super().sum_of_squares(x, axis, keepdims)
        outer, n, inner = cast("tuple[int, int, int]", split(x.shape, axis))
        if inner > 1 or n < SHORT_ROW:
            return super().sum_of_squares(x, axis, keepdims)
        out = np.empty(reduced(x.shape, axis, keepdims), x.dtype)
        family = kernels.load("reductions")
        for launch in _of_rows(
            family.squares_of_parts, family.sum_of_parts, x.ravel(), outer, n, out
        ):
            threads.parallel_for(*launch)
        return out

    def prod(self, x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
        if not takes(x, axis):
            if x.size >= MANY and x.dtype in HALF_PRECISION:
                return self.prod(self.astype(x, FLOAT32), axis, keepdims).astype(x.dtype)
            return super().prod(x, axis, keepdims)
        outer, n, inner = cast("tuple[int, int, int]", split(x.shape, axis))
        out = np.empty(reduced(x.shape, axis, keepdims), x.dtype)
        family, flat = kernels.load("reductions"), x.ravel()
        if inner == 1:
            for launch in _of_rows(
                family.product_of_parts, family.product_of_parts, flat, outer, n, out
            ):
                threads.parallel_for(*launch)
        else:
            blocks = outer * -(-inner // family.COLUMNS)
            threads.parallel_for(family.product_of_columns, blocks, 1, flat, n, inner, out.ravel())
        return out

    def prod_of_others(self, x: np.ndarray, axis: Axis = None) -> np.ndarray:
        if not takes(x, axis):
            return super().prod_of_others(x, axis)
        outer, n, inner = cast("tuple[int, int, int]", split(x.shape, axis))
        family, flat, out = kernels.load("reductions"), x.ravel(), np.empty(x.shape, x.dtype)
        if inner == 1:
            threads.parallel_for(
                *(family.products_of_others_of_rows, outer, 4 * max(1, CHUNK // (4 * n))),
                *(flat, n, out.ravel()),
            )
        else:
            blocks = outer * -(-inner // family.COLUMNS)
            threads.parallel_for(family.products_of_others, blocks, 1, flat, n, inner, out.ravel())
        return out

    def max(self, x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
        if x.size < MANY or not takes(x, axis):
            if x.size >= MANY and x.dtype in HALF_PRECISION:
                return self.max(self.astype(x, FLOAT32), axis, keepdims).astype(x.dtype)
            return _max(x, axis, None, None, keepdims)
        return _extremes(x, axis, keepdims, largest=True)

    def min(self, x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
        if x.size < MANY or not takes(x, axis):
            if x.size >= MANY and x.dtype in HALF_PRECISION:
                return self.min(self.astype(x, FLOAT32), axis, keepdims).astype(x.dtype)
            return _min(x, axis, None, None, keepdims)
        return _extremes(x, axis, keepdims, largest=False)

    def all(self, x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
        if x.dtype.kind == "b":  # sixteen or more at a time, and to the first that decides
            return _all(x, axis, None, None, keepdims)
        return super().all(x, axis, keepdims)

    def any(self, x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
        if x.dtype.kind == "b":
            return _any(x, axis, None, None, keepdims)
        return super().any(x, axis, keepdims)

    def argmax(self, x: np.ndarray, axis: int | None = None, keepdims: bool = False) -> np.ndarray:
        if not _takes_columns(x, axis):
            if type(x) is np.ndarray:  # the method, without NumPy's wrapper function
                # (NumPy's annotations do not allow axis=None with keepdims.)
                return x.argmax(axis, None, keepdims=keepdims)  # type: ignore[arg-type]
            return super().argmax(x, axis, keepdims)
        return _largest_of_columns(x, axis, keepdims, 1)

    def argmin(self, x: np.ndarray, axis: int | None = None, keepdims: bool = False) -> np.ndarray:
        if not _takes_columns(x, axis):
            if type(x) is np.ndarray:
                return x.argmin(axis, None, keepdims=keepdims)  # type: ignore[arg-type]
            return super().argmin(x, axis, keepdims)
        return _largest_of_columns(x, axis, keepdims, -1)

    def cumsum(self, x: np.ndarray, axis: int) -> np.ndarray:
        """For x reversed in memory, the result is reversed too: flipped again, as in the gradient,
        it is contiguous."""
        axis %= max(x.ndim, 1)
        straight = kernels.supports(x)
        if not straight and _is_worth_a_copy(x, axis):
            x, straight = kernels.contiguous(x), True  # for cumulative sums in float64
        if not straight and not (
            x.ndim and x.strides[axis] < 0 and kernels.supports(np.flip(x, axis))
        ):
            return super().cumsum(x, axis)
        flat = (x if straight else np.flip(x, axis)).ravel()
        outer, n, inner = math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])
        first, step = (0, 1) if straight else (n - 1, -1)
        out = np.empty(x.shape, x.dtype)
        family = kernels.load("reductions")
        if inner == 1:
            chunk = 4 * max(1, CHUNK // (4 * n))
            threads.parallel_for(
                family.running_sums, outer, chunk, flat, n, first, step, out.ravel()
            )
        else:
            blocks = outer * -(-inner // family.COLUMNS)
            threads.parallel_for(
                *(family.running_sums_of_columns, blocks, 1),
                *(flat, n, inner, first, step, out.ravel()),
            )
        return out if straight else np.flip(out, axis)


def _is_worth_a_copy(x: np.ndarray, axis: int) -> bool:
    """Whether a kernel should compute cumulative sums, in float64, though it needs a copy."""
    return x.dtype.char in "fd" and x.size >= MANY and x.strides[axis] >= 0 and kernels.available()


def _extremes(x: np.ndarray, axis: Axis, keepdims: bool, largest: bool) -> np.ndarray:
    outer, n, inner = cast("tuple[int, int, int]", split(x.shape, axis))
    if not n:
        return _max(x, axis, None, None, keepdims)  # its error
    family, out = kernels.load("extremes"), np.empty(reduced(x.shape, axis, keepdims), x.dtype)
    flat, sign = x.ravel(), x.dtype.type(1 if largest else -1)
    if inner > 1:
        blocks = outer * -(-inner // family.COLUMNS)
        arguments = flat, n, inner, sign, out.ravel()
        threads.parallel_for(family.extremes_of_columns, blocks, 1, *arguments)
        return out
    while True:
        parts = -(-n // family.PART)
        best = out.ravel() if parts == 1 else np.empty(outer * parts, x.dtype)
        chunk = max(1, CHUNK // min(n, family.PART))
        threads.parallel_for(
            family.extremes_of_parts, outer * parts, chunk, flat, n, parts, sign, best
        )
        if parts == 1:
            return out
        flat, n = best, parts


def _added(x: np.ndarray, axis: Axis, keepdims: bool, dtype: Any = None) -> np.ndarray:
    """The sum by NumPy; of a long axis, the float64 sum of the sums of blocks."""
    long = long_axis(x, axis)
    if axis is None or long is None:
        return _add(x, axis, dtype, None, keepdims)
    return _added_in_blocks(x, _axes(x, axis), long, keepdims, dtype)


def long_axis(x: np.ndarray, axis: Axis) -> int | None:
    """The axis along which a sum is added up in blocks, if there is one: NumPy adds one number
    after another on all axes but the fastest, and would lose the digits of later ones."""
    if x.size < MANY or axis is None:
        return None
    axes = _axes(x, axis)
    slow = [a for a in axes if x.shape[a] > LONG and abs(x.strides[a]) != x.itemsize]
    return max(slow, key=x.shape.__getitem__) if slow and len(axes) < x.ndim else None


def _axes(x: np.ndarray, axis: int | tuple[int, ...]) -> set[int]:
    return {a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))}


def _added_in_blocks(
    x: np.ndarray, axes: set[int], long: int, keepdims: bool, dtype: Any
) -> np.ndarray:
    n, shape = x.shape[long], x.shape
    at = (slice(None),) * long
    blocks = x[(*at, slice(0, n // LONG * LONG))].reshape(
        *shape[:long], n // LONG, LONG, *shape[long + 1 :]
    )
    within = tuple([a + (a >= long) for a in axes if a != long] + [long + 1])
    sums = _add(blocks, within, dtype, None, True)
    wide = np.result_type(sums.dtype, np.float64)
    out = np.add.reduce(sums.squeeze(long + 1), long, wide, keepdims=True)
    if n % LONG:
        rest = x[(*at, slice(n // LONG * LONG, n))]
        out = out + _add(rest, tuple(axes), dtype, None, True)
    out = out.astype(sums.dtype, copy=False)
    return out if keepdims else out.squeeze(tuple(axes))


def _takes_columns(x: np.ndarray, axis: int | None) -> bool:
    """Whether a kernel computes argmax along an axis, for several adjacent columns at once."""
    if axis is None or axis in (-1, x.ndim - 1):  # of all elements, or of rows
        return False
    found = split(x.shape, axis) if takes(x, axis) else None
    return found is not None and found[2] >= FEW_COLUMNS


def _largest_of_columns(x: np.ndarray, axis: int | None, keepdims: bool, sign: int) -> np.ndarray:
    """The index of the largest sign * x along an axis."""
    outer, n, inner = cast("tuple[int, int, int]", split(x.shape, axis))
    out = np.empty(reduced(x.shape, axis, keepdims), np.int64)
    family = kernels.load("reductions")
    threads.parallel_for(
        *(family.argmax_of_columns, outer * -(-inner // family.COLUMNS), 1),
        *(x.ravel(), n, inner, x.dtype.type(sign), out.ravel()),
    )
    return out


def takes(x: np.ndarray, axis: Axis) -> bool:
    """Whether kernels compute a sum: of a large array along adjacent axes."""
    return x.size >= MANY and kernels.supports(x) and split(x.shape, axis) is not None


def _has_short_rows(x: np.ndarray, axis: Axis) -> bool:
    """Whether to copy an array to row-major order, to add up its short rows: for NumPy each is as
    much work as a long one."""
    return (
        axis in (-1, x.ndim - 1, (x.ndim - 1,))
        and x.shape[-1] <= SHORT
        and x.dtype in kernels.FLOATS
        and kernels.available()
    )


def sum_of_parts(parts: np.ndarray) -> np.ndarray:
    """Sum kernels' partial sums over the first axis, by a kernel at any size. So a plan can run the
    whole method as tasks, with the partial sums in its arena."""
    out = np.empty(parts.shape[1:], parts.dtype)
    for launch in launches(parts, 0, out):
        threads.parallel_for(*launch)
    return out


def launches(x: np.ndarray, axis: Axis, out: np.ndarray) -> list[tuple[Any, ...]]:
    """The arguments of `parallel_for`, one launch after another, for a sum (`takes`) into a
    contiguous `out`."""
    outer, n, inner = cast("tuple[int, int, int]", split(x.shape, axis))
    family = kernels.load("reductions")
    if inner == 1 and 1 < n <= family.SHORT:
        items = -(-outer // family.ROWS_TOGETHER[x.dtype.char])
        chunk = max(1, CHUNK * items // x.size)
        return [(family.sum_of_short_rows, items, chunk, x.ravel(), n, outer, out.ravel())]
    if inner == 1:
        return _of_rows(family.sum_of_parts, family.sum_of_parts, x.ravel(), outer, n, out)
    blocks = outer * -(-inner // family.COLUMNS)
    return [(family.sum_of_columns, blocks, 1, x.ravel(), n, inner, out.ravel())]


def _of_rows(
    kernel: Callable[..., None],
    merge: Callable[..., None],
    x: np.ndarray,
    rows: int,
    n: int,
    out: np.ndarray,
) -> list[tuple[Any, ...]]:
    """As `launches`, for rows of n: `kernel` reduces parts, then `merge` their results in turn."""
    family, found = kernels.load("reductions"), []
    while True:
        parts = -(-n // family.PART)
        sums = out.ravel() if parts == 1 else np.empty(rows * parts, x.dtype)
        chunk = max(1, CHUNK // min(n, family.PART))
        found.append((kernel, rows * parts, chunk, x, n, parts, sums))
        if parts == 1:
            return found
        kernel, x, n = merge, sums, parts


# Kept, as a model asks for the same ones at each step.


@functools.lru_cache(maxsize=1024)
def split(shape: Shape, axis: Axis) -> tuple[int, int, int] | None:
    """The sizes before, of and after the axes, if these are adjacent; else None."""
    if axis is None:
        return 1, math.prod(shape), 1
    axes = sorted(a % len(shape) for a in (axis if isinstance(axis, tuple) else (axis,)))
    if not axes or axes[-1] - axes[0] + 1 != len(axes):
        return None
    return (
        math.prod(shape[: axes[0]]),
        math.prod(shape[axes[0] : axes[-1] + 1]),
        math.prod(shape[axes[-1] + 1 :]),
    )


@functools.lru_cache(maxsize=1024)
def reduced(shape: Shape, axis: Axis, keepdims: bool) -> Shape:
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    gone = {a % len(shape) for a in axes}
    if keepdims:
        return tuple(1 if i in gone else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in gone)
