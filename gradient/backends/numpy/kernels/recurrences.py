"""Sums along the middle axis of flat arrays (outer, n, inner), each computed in float64 from the
one beside it."""

import numpy as np

from gradient.backends.numpy.kernels.arithmetic import choose
from gradient.backends.numpy.kernels.compilation import (
    ordered_kernel,
    ordered_subroutine,
    strict_kernel,
)
from gradient.backends.numpy.kernels.functions import exp
from gradient.backends.numpy.kernels.logarithm import log
from gradient.backends.numpy.kernels.scans import COLUMNS

ROWS = 16
"""Rows of which logarithms are computed side by side, in vectors."""

TILE = 16
"""Numbers of a row that are copied together: a line of the cache."""


@ordered_kernel
def recurrent_sums(start, stop, g, factors, n, inner, out):
    """out_i = g_i + factors_i out_(i+1), where factors are (outer, n - 1, inner), for the blocks of
    columns start to stop; with one column, of four rows side by side, as each sum waits for the one
    before it: of the fours start to stop."""
    zero = np.float64(0)
    if inner == 1:
        rows = g.size // n
        for row in range(4 * start, min(4 * stop, rows - 3), 4):
            a, b, c, d = zero, zero, zero, zero
            at, to = row * n, row * (n - 1)
            for i in range(n - 1, -1, -1):
                if i < n - 1:
                    a, b = a * factors[to + i], b * factors[to + n - 1 + i]
                    c, d = c * factors[to + 2 * (n - 1) + i], d * factors[to + 3 * (n - 1) + i]
                a, b, c, d = (
                    *(a + g[at + i], b + g[at + n + i]),
                    *(c + g[at + 2 * n + i], d + g[at + 3 * n + i]),
                )
                out[at + i], out[at + n + i] = a, b
                out[at + 2 * n + i], out[at + 3 * n + i] = c, d
        for row in range(max(4 * start, rows // 4 * 4), min(4 * stop, rows)):
            a = zero
            for i in range(n - 1, -1, -1):
                if i < n - 1:
                    a *= factors[row * (n - 1) + i]
                a += g[row * n + i]
                out[row * n + i] = a
        return
    sums = np.empty(COLUMNS, np.float64)
    blocks = (inner + COLUMNS - 1) // COLUMNS
    for item in range(start, stop):
        outer, left = item // blocks, item % blocks * COLUMNS
        count = min(COLUMNS, inner - left)
        sums[:] = 0
        for i in range(n - 1, -1, -1):
            if i < n - 1:
                at = (outer * (n - 1) + i) * inner + left
                for j in range(count):
                    sums[j] *= factors[at + j]
            at = (outer * n + i) * inner + left
            for j in range(count):
                sums[j] += g[at + j]
                out[at + j] = sums[j]


@strict_kernel
def running_log_sums(start, stop, x, n, inner, out):
    """out_i = log(e^x_0 + ... + e^x_i), for the blocks of columns start to stop; with one column,
    of ROWS rows side by side."""
    highs, sums = np.empty(COLUMNS, np.float64), np.empty(COLUMNS, np.float64)
    values = np.empty(max(COLUMNS, ROWS * TILE), np.float64)
    blocks = (inner + COLUMNS - 1) // COLUMNS
    for item in range(start, stop):
        highs[:] = -np.inf
        sums[:] = 0
        if inner == 1:
            count = min(ROWS, x.size // n - item * ROWS)
            for first in range(0, n, TILE):
                width = min(TILE, n - first)
                for j in range(count):
                    at = (item * ROWS + j) * n + first
                    for i in range(width):
                        values[i * ROWS + j] = x[at + i]
                for i in range(width):
                    _take(values[i * ROWS : i * ROWS + count], highs[:count], sums[:count])
                for j in range(count):
                    at = (item * ROWS + j) * n + first
                    for i in range(width):
                        out[at + i] = values[i * ROWS + j]
        else:
            outer, left = item // blocks, item % blocks * COLUMNS
            count = min(COLUMNS, inner - left)
            for i in range(n):
                at = (outer * n + i) * inner + left
                for j in range(count):
                    values[j] = x[at + j]
                _take(values[:count], highs[:count], sums[:count])
                for j in range(count):
                    out[at + j] = values[j]


@ordered_subroutine
def _take(values, highs, sums):
    """Take numbers into sums of e^(x - high), where `highs` are the largest so far, and write the
    logarithms of the sums in their place."""
    for j in range(values.size):
        x, high = values[j], highs[j]
        apart = choose(x == high, 0.0, x - high)  # not NaN where both are infinite
        small = exp(-abs(apart))
        higher = x > high
        total = choose(higher, sums[j] * small + 1.0, sums[j] + small)
        high = choose(higher, x, high)
        highs[j], sums[j] = high, total
        values[j] = high + log(total)
