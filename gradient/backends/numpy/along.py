"""Gather and scatter-add along an axis by kernels, with one index for every element."""

from __future__ import annotations

import functools
import math

import numpy as np

from gradient.backends.array_api import ArrayAPIBackend
from gradient.backends.numpy import kernels, threads
from gradient.backends.numpy.expanded_index import add_rows, count, join, join_grad, rows_said, take
from gradient.backends.numpy.indexed_sums import FEW
from gradient.backends.numpy.kernels import INT64
from gradient.backends.required import Shape
from gradient.dtypes import HALF_PRECISION

CHUNK = 1 << 13
"""Elements that a thread takes at a time."""

PUT = 1 << 11
"""Elements that a thread puts to their places at a time."""

MANY = 256
"""Elements that a kernel picks out of a large array quicker than NumPy."""

ROWS = 1 << 12
"""Rows of which one element each is picked by an index that is kept for the next such call."""

FLAT = 64
"""Elements from which NumPy adds quicker by an index of a flat array than by one for each axis."""

EXPANDED = (0,)
"""The last stride of an index that is one for all columns."""


class AlongKernels(ArrayAPIBackend):
    """Overrides for `NumpyBackend`, for indices that are not negative."""

    def take_along(self, x: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
        axis %= max(x.ndim, 1)
        if index.strides[-1:] == EXPANDED and (x.flags.c_contiguous or x.size <= index.size):
            rows = rows_said(index, x.shape, axis)
            if rows is not None:
                return take(x, rows, axis, index.shape)
        if not (_fits(x, index, axis) and kernels.supports(x)):
            if axis == x.ndim - 1 > 0 and _is_one_of_each_row(x, index):
                flat = index.ravel() + _begins(index.size, x.shape[axis])
                return x.ravel().take(flat).reshape(index.shape)
            if not x.flags.c_contiguous and MANY <= x.size <= index.size and x.dtype.char in "fd":
                return self.take_along(np.array(x, order="C"), index, axis)
            return super().take_along(x, index, axis)
        size = index.shape
        out, wrong = np.empty(size, x.dtype), np.zeros(1, INT64)
        inner = 1 if axis == len(size) - 1 else math.prod(size[axis + 1 :])
        threads.parallel_for(
            kernels.load("along").gather, index.size, CHUNK, x.ravel(), x.shape[axis],
            index.ravel(), size[axis], inner, wrong, out.ravel(),
        )  # fmt: skip
        if wrong[0]:
            return super().take_along(x, index, axis)  # its error names the index
        return out

    def reduce_along(
        self,
        x: np.ndarray,
        index: np.ndarray,
        src: np.ndarray,
        axis: int,
        combine: str,
        identity: float,
    ) -> np.ndarray:
        if x.dtype in HALF_PRECISION:  # in float32, rounded once
            wide = x.astype(np.float32), index, src.astype(np.float32)
            return self.reduce_along(*wide, axis, combine, identity).astype(x.dtype)
        if src.shape == index.shape and src.dtype == x.dtype and x.dtype in kernels.FLOATS:
            rows = rows_said(index, x.shape, axis)
            if rows is not None:
                return join(x, rows, src, axis, combine)
        if type(index) is np.ndarray:
            index = np.ascontiguousarray(index)  # one row for all columns, often
        if not (
            src.shape == index.shape
            and _fits(x, index, axis)
            and (kernels.supports(x, src) or kernels.supports(src, x))  # either may be large
            and are_within(index, x.shape[axis])
        ):
            return super().reduce_along(x, index, src, axis, combine, identity)
        out = np.array(x, order="C")
        family, size = kernels.load("along"), index.shape
        outer, m, inner = math.prod(size[:axis]), size[axis], math.prod(size[axis + 1 :])
        columns = min(inner, family.COLUMNS)
        kernel, options = (
            (family.scatter_product, ())
            if combine == "multiply"
            else (family.scatter_extreme, (combine == "maximum",))
        )
        threads.parallel_for(
            *(kernel, outer * -(-inner // family.COLUMNS), max(1, CHUNK // (m * columns))),
            *(out.ravel(), x.shape[axis], index.ravel(), m, inner),
            *(kernels.contiguous(src).ravel(), *options),
        )
        return out

    def reduce_along_grad(
        self,
        g: np.ndarray,
        x: np.ndarray,
        index: np.ndarray,
        src: np.ndarray,
        out: np.ndarray,
        axis: int,
        combine: str,
        include_self: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        rows, width = None, math.prod(x.shape[axis + 1 :])
        if src.shape == index.shape:
            rows = rows_said(index, x.shape, axis)
            product = combine == "multiply" and _is_large(index)
            if rows is None and product and are_within(index, x.shape[axis]):
                rows, width = _flat(x.shape, index, axis), 1  # each element is a row of its own
        if rows is not None:
            dtype = x.dtype
            if dtype in HALF_PRECISION:
                g, x, src, out = (a.astype(np.float32) for a in (g, x, src, out))
            if x.dtype in kernels.FLOATS and x.dtype == src.dtype == g.dtype:
                x_grad, grad = join_grad(g, x, rows, width, src, out, combine, include_self)
                return x_grad.astype(dtype, copy=False), grad
        return super().reduce_along_grad(g, x, index, src, out, axis, combine, include_self)

    def count_along(
        self, index: np.ndarray, shape: Shape, axis: int, dtype: np.dtype
    ) -> np.ndarray:
        rows = rows_said(index, shape, axis)
        if rows is None:
            return super().count_along(index, shape, axis, dtype)
        return count(rows, shape, axis, dtype)

    def pick(self, x: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
        if axis != x.ndim - 1 or index.size > ROWS or not x.flags.c_contiguous:
            return super().pick(x, index, axis)
        places = index.ravel() + _begins(index.size, x.shape[axis])
        return x.ravel().take(places).reshape(index.shape)

    def put_along(
        self, x: np.ndarray, index: np.ndarray, value: np.ndarray, axis: int, add: bool
    ) -> np.ndarray:
        axis %= max(x.ndim, 1)
        if add and x.itemsize == 2 and x.dtype in HALF_PRECISION:  # sum in float32, round once
            wide, index = value.astype(np.float32), index.astype(INT64, copy=False)
            few = index.size * FEW <= x.size and x.flags.carray
            if few and _is_within(index, x.shape[axis]):
                value = wide[tuple(map(slice, index.shape))]
                found, places = np.unique(_flat(x.shape, index, axis), return_inverse=True)
                sums = x.ravel()[found].astype(np.float32)
                np.add.at(sums, places, value.ravel())
                x.ravel()[found] = sums
                return x
            x[...] = self.put_along(x.astype(np.float32), index, wide, axis, add)
            return x
        if add and index.strides[-1:] == EXPANDED and value.shape == index.shape:
            rows = rows_said(index, x.shape, axis)
            if rows is not None and add_rows(x, rows, value, axis):
                return x
        if not (
            value.shape == index.shape
            and _fits(x, index, axis)
            and kernels.supports(x, value)
            and x.flags.carray
            and are_within(index, x.shape[axis])
        ):
            if add and _is_quicker_flat(x, index, value, axis):
                np.add.at(x.ravel(), _flat(x.shape, index, axis), value.ravel())
                return x
            return super().put_along(x, index, value, axis, add)
        family = kernels.load("along")
        outer, m, inner = (
            math.prod(n)
            for n in (x.shape[:axis], index.shape[axis : axis + 1], x.shape[axis + 1 :])
        )
        if inner == 1:
            work = outer, max(1, (CHUNK if add else PUT) // m)
        else:
            work = outer * -(-inner // family.COLUMNS), max(1, CHUNK // (m * family.COLUMNS))
        threads.parallel_for(
            *(family.scatter_add if add else family.put, *work, x.ravel(), x.shape[axis]),
            *(index.ravel(), m, inner, kernels.contiguous(value).ravel()),
        )
        return x


def are_within(index: np.ndarray, size: int) -> bool:
    """Whether all of a large contiguous array of int64 indices are from 0 to size - 1."""
    wrong = np.zeros(1, INT64)
    threads.parallel_for(
        kernels.load("along").check_indices, index.size, CHUNK, index.ravel(), size, wrong
    )
    return not wrong[0]


def _is_one_of_each_row(x: np.ndarray, index: np.ndarray) -> bool:
    """Whether there is one index for each row of a contiguous array, and all are in range."""
    return (
        type(x) is np.ndarray
        and index.shape == (*x.shape[:-1], 1)
        and 0 < index.size <= ROWS
        and index.dtype == INT64
        and x.flags.c_contiguous
        and bool(np.maximum.reduce(index.view(np.uint64), None) < x.shape[-1])
    )


@functools.lru_cache(maxsize=64)
def _begins(rows: int, columns: int) -> np.ndarray:
    """The offsets of rows. The array is shared, so callers must not write to it."""
    return np.arange(rows) * columns


def _is_quicker_flat(x: np.ndarray, index: np.ndarray, value: np.ndarray, axis: int) -> bool:
    """Whether to add by one flat index: NumPy has a fast loop for it, but making it takes time."""
    return (
        index.size >= FLAT
        and index.dtype == INT64
        and index.shape[axis] > 1
        and value.shape == index.shape
        and value.dtype == x.dtype
        and x.flags.carray
        and _is_within(index, x.shape[axis])
    )


def _is_within(index: np.ndarray, size: int) -> bool:
    """Whether all of a few int64 indices are from 0 to size - 1: negative numbers are large as
    unsigned ones."""
    return bool(np.maximum.reduce(index.view(np.uint64), None, initial=0) < size)


def _flat(shape: Shape, index: np.ndarray, axis: int) -> np.ndarray:
    """The flat indices, (index.size,), of the elements of an array of `shape` that an index along
    an axis selects."""
    step = math.prod(shape[axis + 1 :])
    places = index * step if step > 1 else index
    for i, n in enumerate(index.shape):
        if i != axis:
            step = math.prod(shape[i + 1 :])
            steps = np.arange(0, n * step, step).reshape(-1, *(1,) * (index.ndim - 1 - i))
            places = places + steps
    return places.ravel()


def _is_large(index: np.ndarray) -> bool:
    """Whether kernels are worth starting for an index of each element."""
    return (
        type(index) is np.ndarray
        and index.size >= kernels.MIN_SIZE
        and index.dtype == INT64
        and index.flags.c_contiguous
        and kernels.available()
    )


def _fits(x: np.ndarray, index: np.ndarray, axis: int) -> bool:
    """Whether there are many indices, with x's shape except on the axis."""
    return (
        type(index) is np.ndarray
        and index.size >= min(MANY, kernels.MIN_SIZE)
        and index.dtype == INT64
        and index.flags.carray
        and index.ndim == x.ndim
        and index.shape[:axis] == x.shape[:axis]
        and index.shape[axis + 1 :] == x.shape[axis + 1 :]
    )
