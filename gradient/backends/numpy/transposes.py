"""Copies to row-major order of arrays whose last axis is another one in memory, such as images
whose channels were moved last: square by square, on all threads."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.numpy import fused, kernels, threads
from gradient.backends.required import Shape
from gradient.dtypes import HALF_PRECISION

MANY = 1 << 13
"""Elements from which a kernel is quicker than NumPy."""

SHORTEST = 4
"""Rows and columns of the matrices that are transposed."""

CHUNK = 1 << 14
"""Elements that a thread copies at a time."""


COPIED = (*kernels.FLOATS, np.dtype(np.uint16))
"""What kernels copy: 16-bit floats as their `bits`."""


def bits(x: np.ndarray) -> np.ndarray:
    """A view of 16-bit floats as integers, which NumPy also copies faster; other arrays as they
    are."""
    return x.view(np.uint16) if x.itemsize == 2 and x.dtype in HALF_PRECISION else x


def launch(x: np.ndarray, out: np.ndarray) -> tuple[Any, ...] | None:
    """The arguments of `parallel_for` to copy x to `out`, in row-major order and of its shape; None
    if x has other strides, is small, or of another dtype."""
    if x.size < MANY or x.dtype != out.dtype:
        return None
    x, out = bits(x), bits(out)
    if (
        x.dtype not in COPIED
        or not (out.flags.c_contiguous and x.flags.aligned)
        or x.shape != out.shape
    ):
        return None
    walk = _walk(x.shape, x.strides, x.itemsize)
    if walk is None or not kernels.available():
        return None
    family = kernels.load("copies")
    (n1, m, n), (x0, x1, column), (y0, y1, row) = walk.sizes, walk.source, walk.place
    items = walk.matrices * -(-m // family.TILE)
    return (
        *(family.transpose, items, max(1, CHUNK // (family.TILE * n))),
        *(fused.flat(x, walk.span), x0, x1, column, out.reshape(-1), y0, y1, row, n1, m, n),
    )


def copied(x: np.ndarray, out: np.ndarray) -> bool:
    """Copy x to `out` by the kernel; return whether it was done."""
    return threads.ran(launch(x, out))


class _Walk(NamedTuple):
    """Matrices along two axes, to be transposed."""

    matrices: int
    sizes: tuple[int, int, int]
    """How many along the second of the axes; the rows and columns of the result."""
    source: tuple[int, int, int]
    """x's strides along both axes and the columns, in elements; its rows are adjacent."""
    place: tuple[int, int, int]
    """The result's strides along both axes and the rows."""
    span: int
    """From x's first element to its last."""


@functools.lru_cache(maxsize=1024)
def _walk(shape: Shape, strides: tuple[int, ...], itemsize: int) -> _Walk | None:
    merged: list[list[int]] = []  # size, x's stride, the result's
    place = math.prod(shape)
    for n, stride in zip(shape, strides, strict=True):
        place //= max(1, n)
        if n == 1:
            continue
        if stride <= 0 or stride % itemsize:
            return None
        step = stride // itemsize
        if merged and merged[-1][1] == step * n:
            merged[-1] = [merged[-1][0] * n, step, place]
        else:
            merged.append([n, step, place])
    rows = [i for i, (_, step, _) in enumerate(merged[:-1]) if step == 1]
    if len(rows) != 1 or len(merged) > 4 or merged[-1][1] == 1:
        return None
    span = 1 + sum((n - 1) * step for n, step, _ in merged)
    n, column, _ = merged.pop()
    m, _, row = merged.pop(rows[0])
    if min(m, n) < SHORTEST:
        return None
    (n0, x0, y0), (n1, x1, y1) = [[1, 0, 0]] * (2 - len(merged)) + merged
    return _Walk(n0 * n1, (n1, m, n), (x0, x1, column), (y0, y1, row), span)
