"""Running products and extremes along the middle axis of flat arrays (outer, n, inner)."""

import numpy as np

from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine

COLUMNS = 256
"""Columns that are taken together, row after row."""


@ordered_kernel
def running_products(start, stop, x, n, inner, out):
    """Running products, in float64, of the blocks of columns start to stop; with one column, of
    four rows side by side, as each product waits for the one before it: of the fours start to
    stop."""
    one = np.float64(1)
    if inner == 1:
        for row in range(4 * start, min(4 * stop, x.size // n - 3), 4):
            a, b, c, d, at = one, one, one, one, row * n
            for i in range(at, at + n):
                a, b, c, d = a * x[i], b * x[i + n], c * x[i + 2 * n], d * x[i + 3 * n]
                out[i], out[i + n], out[i + 2 * n], out[i + 3 * n] = a, b, c, d
        for row in range(max(4 * start, x.size // n // 4 * 4), min(4 * stop, x.size // n)):
            a = one
            for i in range(row * n, (row + 1) * n):
                a *= x[i]
                out[i] = a
        return
    products = np.empty(COLUMNS, np.float64)
    blocks = (inner + COLUMNS - 1) // COLUMNS
    for item in range(start, stop):
        outer, left = item // blocks, item % blocks * COLUMNS
        count = min(COLUMNS, inner - left)
        products[:] = 1
        for i in range(n):
            at = (outer * n + i) * inner + left
            for j in range(count):
                products[j] *= x[at + j]
                out[at + j] = products[j]


@ordered_kernel
def running_extremes(start, stop, x, n, inner, largest, places):
    """places = where along n the largest (or smallest) of all up to each element is, the last of
    equal ones or of NaNs, for the blocks of columns start to stop (of `outer`, where there is one
    column)."""
    if inner == 1:
        for row in range(start, stop):
            first, place = x[row * n : (row + 1) * n], places[row * n : (row + 1) * n]
            best, at = first[0], 0
            for i in range(n):  # with branches, which are seldom taken, nothing waits
                value = first[i]
                if largest:
                    if not value < best and (value >= best or value != value):
                        best, at = value, i
                elif not value > best and (value <= best or value != value):
                    best, at = value, i
                place[i] = at
        return
    kept, where = np.empty(COLUMNS, x.dtype), np.empty(COLUMNS, np.int64)
    blocks = (inner + COLUMNS - 1) // COLUMNS
    for item in range(start, stop):
        outer, left = item // blocks, item % blocks * COLUMNS
        count = min(COLUMNS, inner - left)
        to = outer * n * inner + left
        for j in range(count):
            kept[j], where[j] = x[to + j], 0
        for i in range(n):
            _keep(x[to : to + count], i, largest, kept, where, places[to : to + count])
            to += inner


@ordered_subroutine
def _keep(x, number, largest, best, at, places):
    for j in range(x.size):
        value = x[j]
        takes = (value >= best[j] if largest else value <= best[j]) | (value != value)
        best[j], at[j] = value if takes else best[j], number if takes else at[j]
        places[j] = at[j]
