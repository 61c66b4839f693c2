"""An index along an axis that is expanded over the axes after it: `index[:, None].expand(-1, 64)`.
It selects whole rows of a matrix, so kernels gather and combine all columns of a row at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradient.backends.numpy import kernels, threads, workspace
from gradient.backends.numpy.indexed_sums import added_rows
from gradient.backends.numpy.kernels import INT64
from gradient.backends.numpy.selection import TAKEN, takes_rows
from gradient.backends.required import Shape

MANY = 256
"""The size of an index from which whole rows are gathered and combined."""


def is_expanded(index: np.ndarray, axis: int) -> bool:
    """Whether one index in memory stands for several consecutive elements."""
    steps = index.strides[axis + 1 :]
    return (
        bool(steps)
        and steps[-1] == 0
        and all(n == 1 or step == 0 for n, step in zip(index.shape[axis + 1 :], steps, strict=True))
        and math.prod(index.shape[axis + 1 :]) > 1
    )


def each_once(index: np.ndarray) -> np.ndarray:
    """An index without the elements that repeat others in memory."""
    if 0 not in index.strides or not index.size:
        return index
    return index[tuple([slice(None if step else 1) for step in index.strides])]


def rows_said(index: np.ndarray, shape: Shape, axis: int) -> np.ndarray | None:
    """The rows (index rows,) of `matrix`, of an array of that shape, that an index along an axis
    selects. None if it does not select whole rows, is small, or is out of range."""
    if not (
        type(index) is np.ndarray
        and index.size >= min(MANY, kernels.MIN_SIZE)
        and index.dtype == INT64
        and index.ndim == len(shape)
        and index.shape[:axis] == shape[:axis]
        and index.shape[axis + 1 :] == shape[axis + 1 :]
        and is_expanded(index, axis)
        and kernels.available()
    ):
        return None
    n, outer = shape[axis], math.prod(shape[:axis])
    first: tuple[Any, ...] = (..., *(0,) * (index.ndim - 1 - axis))
    rows = kernels.contiguous(index[first])
    if np.maximum.reduce(rows.view(np.uint64), None) >= n:  # one below zero is large
        return None
    if outer > 1:
        rows = rows.reshape(outer, -1) + np.arange(0, outer * n, n)[:, None]
    return rows.reshape(-1)


def matrix(x: np.ndarray, axis: int) -> np.ndarray:
    """x as a contiguous matrix, whose rows hold the axes after `axis`."""
    return kernels.contiguous(x).reshape(-1, math.prod(x.shape[axis + 1 :]))


def take(x: np.ndarray, rows: np.ndarray, axis: int, size: Shape) -> np.ndarray:
    """The rows of x, in an array of that size. Few rows of a large x should not copy all of it, so
    it should be contiguous; a weight in a mapped file is, which cannot be written to."""
    table = np.ascontiguousarray(x).reshape(-1, math.prod(x.shape[axis + 1 :]))
    if not takes_rows(table, rows):
        return table[rows].reshape(size)
    # No view of another array: as a gradient that would be copied.
    out, wrong = workspace.result(size, table.dtype), np.zeros(1, INT64)
    threads.parallel_for(
        *(kernels.load("embedding").take_rows, rows.size, max(1, TAKEN // table.shape[1])),
        *(table.reshape(-1), *table.shape, rows, wrong, out.reshape(-1)),
    )
    return out


def add_rows(x: np.ndarray, rows: np.ndarray, value: np.ndarray, axis: int) -> bool:
    """Whether a kernel has added `value` to the rows of x."""
    return (
        x.flags.carray
        and x.dtype in kernels.FLOATS
        and x.dtype == value.dtype
        and added_rows(matrix(x, axis), rows, matrix(value, axis), clears=False)
    )


def join(x: np.ndarray, rows: np.ndarray, src: np.ndarray, axis: int, combine: str) -> np.ndarray:
    """As `Backend.reduce_along`, for float32 or float64."""
    out = np.array(x, order="C")
    family, width = kernels.load("scattered_rows"), math.prod(x.shape[axis + 1 :])
    kernel, options = (
        (family.multiply_rows, ())
        if combine == "multiply"
        else (family.extreme_rows, (combine == "maximum",))
    )
    threads.parallel_for(
        *(kernel, family.parts(width), 1, out.reshape(-1), width, rows),
        *(kernels.contiguous(src).reshape(-1), *options),
    )
    return out


def join_grad(
    g: np.ndarray,
    x: np.ndarray,
    rows: np.ndarray,
    width: int,
    src: np.ndarray,
    out: np.ndarray,
    combine: str,
    include_self: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """As `Backend.reduce_along_grad`, for float32 or float64, and rows of that width."""
    family = kernels.load("scattered_rows")
    x_grad, grad = np.empty(x.shape, x.dtype), np.empty(src.shape, x.dtype)
    g, x, src, out = (kernels.contiguous(a).reshape(-1) for a in (g, x, src, out))
    work: tuple[Any, ...] = g, x, width, rows, src
    if combine == "multiply":
        kernel = family.multiply_rows_grad
    else:
        count = x.size // width
        counts = np.full(count, True) if include_self else np.bincount(rows, minlength=count) == 0
        room = np.empty(x.size, np.int32), np.empty_like(x)
        kernel, work = family.extreme_rows_grad, (*work, out, counts, *room)
    threads.parallel_for(
        kernel, family.parts(width), 1, *work, x_grad.reshape(-1), grad.reshape(-1)
    )
    return x_grad, grad


def count(rows: np.ndarray, shape: Shape, axis: int, dtype: np.dtype) -> np.ndarray:
    """How often each place of an array of that shape is said, which is a number for each row."""
    per_row = np.bincount(rows, minlength=math.prod(shape[: axis + 1])).astype(dtype, copy=False)
    per_row = per_row.reshape(*shape[: axis + 1], *(1,) * (len(shape) - axis - 1))
    return np.broadcast_to(per_row, shape)
