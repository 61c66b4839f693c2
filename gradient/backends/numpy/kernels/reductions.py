"""Sums and running sums along an axis of arrays seen as (outer, n, inner), flat."""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.compilation import (
    kernel,
    ordered_kernel,
    ordered_subroutine,
    subroutine,
)

PART = 4096
"""Elements of a row that are added up together, in vectors whose lanes are chains."""

COLUMNS = 512
"""Columns that are added up together: their sums stay in the first cache."""


@subroutine
def total(x):
    result = x.dtype.type(0)
    for i in range(x.size):
        result += x[i]
    return result


@subroutine
def total_of_squares(x):
    result = x.dtype.type(0)
    for i in range(x.size):
        result += x[i] * x[i]
    return result


@kernel
def squares_of_parts(start, stop, x, n, parts, out):
    """As `sum_of_parts`, of the squares."""
    for item in range(start, stop):
        row, part = item // parts, item % parts
        first = row * n + part * PART
        out[item] = total_of_squares(x[first : min(first + PART, (row + 1) * n)])


@kernel
def sum_of_parts(start, stop, x, n, parts, out):
    """out (rows, parts) = the sums of the parts of each row of n, for the parts start to stop."""
    for item in range(start, stop):
        row, part = item // parts, item % parts
        first = row * n + part * PART
        out[item] = total(x[first : min(first + PART, (row + 1) * n)])


@ordered_subroutine
def add_rows(x, inner, y):
    """y += each of four rows, in their order."""
    a, b, c, d = x, x[inner:], x[2 * inner :], x[3 * inner :]
    for j in range(y.size):
        y[j] = (((y[j] + a[j]) + b[j]) + c[j]) + d[j]


@ordered_kernel
def sum_of_columns(start, stop, x, n, inner, out):
    """out (outer, inner) = the sums over n, for the blocks of columns start to stop."""
    blocks = (inner + COLUMNS - 1) // COLUMNS
    for item in range(start, stop):
        outer, left = item // blocks, item % blocks * COLUMNS
        right = min(left + COLUMNS, inner)
        y = out[outer * inner + left : outer * inner + right]
        y[:] = 0
        i, at = 0, outer * n * inner
        while i + 4 <= n:
            add_rows(x[at + left :], inner, y)
            i, at = i + 4, at + 4 * inner
        while i < n:
            row = x[at + left : at + right]
            for j in range(y.size):
                y[j] += row[j]
            i, at = i + 1, at + inner


@ordered_kernel
def running_sums(start, stop, x, n, first, step, out):
    """Running sums, in float64, of the rows start to stop of n numbers, of which the i-th is
    element `first` + i * `step` of its row of x."""
    row = start
    while row + 4 <= stop:
        a, b, c, d = 0.0, 0.0, 0.0, 0.0
        at, to = row * n + first, row * n
        for i in range(n):
            a += x[at]
            b += x[at + n]
            c += x[at + 2 * n]
            d += x[at + 3 * n]
            out[to + i] = a
            out[to + n + i] = b
            out[to + 2 * n + i] = c
            out[to + 3 * n + i] = d
            at += step
        row += 4
    while row < stop:
        a, at = 0.0, row * n + first
        for i in range(n):
            a += x[at]
            out[row * n + i] = a
            at += step
        row += 1


@ordered_kernel
def running_sums_of_columns(start, stop, x, n, inner, first, step, out):
    """As `running_sums` along the middle axis, for the blocks of columns start to stop."""
    blocks = (inner + COLUMNS - 1) // COLUMNS
    sums = np.empty(COLUMNS, np.float64)
    for item in range(start, stop):
        outer, left = item // blocks, item % blocks * COLUMNS
        count = min(COLUMNS, inner - left)
        sums[:] = 0
        for i in range(n):
            at = (outer * n + first + i * step) * inner + left
            to = (outer * n + i) * inner + left
            for j in range(count):
                sums[j] += x[at + j]
                out[to + j] = sums[j]
