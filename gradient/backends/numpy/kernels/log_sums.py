"""log sum e^x and its gradient: along the last axis, or along a middle one for several columns."""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.compilation import (
    ordered_subroutine,
    strict_kernel,
    subroutine,
)
from gradient.backends.numpy.kernels.functions import exp
from gradient.backends.numpy.kernels.norms import exp_sum, largest_of, scale_row

COLUMNS = 256
"""Columns of a block."""

POWERS = 1 << 12
"""Numbers of a block whose exponentials are computed together, at least COLUMNS."""


@ordered_subroutine
def log_of_infinite(row, high):
    """The result for a row whose largest number is infinite: NaN where there is one."""
    for i in range(row.size):
        if row[i] != row[i]:
            return row[i]
    return high


@strict_kernel
def logsumexp_of_rows(start, stop, x, n, out):
    for r in range(start, stop):
        row = x[r * n : (r + 1) * n]
        high = largest_of(row)
        if np.isinf(high):
            out[r] = log_of_infinite(row, high)
        else:
            out[r] = np.log(exp_sum(row, high, None)) + high


@strict_kernel
def logsumexp_grad_of_rows(start, stop, g, x, n, gx):
    for r in range(start, stop):
        row, grad = x[r * n : (r + 1) * n], gx[r * n : (r + 1) * n]
        high = largest_of(row)
        if np.isinf(high):
            grad_of_infinite(g[r], x, r * n, n, 1, log_of_infinite(row, high), gx)
        else:
            scale_row(grad, g[r] / exp_sum(row, high, grad))


@ordered_subroutine
def grad_of_infinite(g, x, at, n, step, total, gx):
    """The gradient of n numbers, `step` apart, whose result is infinite or NaN: 0 for those below
    an infinity, else NaN."""
    for i in range(n):
        place = at + i * step
        is_below = total == np.inf and x[place] < np.inf
        gx[place] = g * x.dtype.type(0) if is_below else x.dtype.type(np.nan)


@ordered_subroutine
def largest_of_columns(x, at, n, inner, high):
    """The largest number of each column but NaN, 0 if that is infinite; whether one is inf."""
    high[:] = -np.inf
    for i in range(n):
        row = x[at + i * inner : at + i * inner + high.size]
        for j in range(high.size):
            high[j] = row[j] if row[j] > high[j] else high[j]
    infinite = False
    for j in range(high.size):
        if np.isinf(high[j]):
            infinite |= high[j] > 0
            high[j] = 0
    return infinite


@ordered_subroutine
def subtract(x, shift, y):
    for j in range(y.size):
        y[j] = x[j] - shift[j]


@subroutine
def exponentials(y):
    for j in range(y.size):
        y[j] = exp(y[j])


@ordered_subroutine
def add(x, total):
    for j in range(total.size):
        total[j] += x[j]


@strict_kernel
def logsumexp_of_columns(start, stop, x, n, inner, out):
    """Of (outer, n, inner), for the blocks of columns start to stop."""
    blocks = (inner + COLUMNS - 1) // COLUMNS
    shifts, totals = np.empty(COLUMNS, x.dtype), np.empty(COLUMNS, np.float64)
    powers = np.empty(POWERS, x.dtype)
    for item in range(start, stop):
        outer, left = item // blocks, item % blocks * COLUMNS
        count = min(COLUMNS, inner - left)
        at, shift, total = outer * n * inner + left, shifts[:count], totals[:count]
        largest_of_columns(x, at, n, inner, shift)
        total[:] = 0
        together = POWERS // count
        for first in range(0, n, together):
            rows = min(together, n - first)
            for i in range(rows):
                place = at + (first + i) * inner
                subtract(x[place : place + count], shift, powers[i * count : (i + 1) * count])
            exponentials(powers[: rows * count])
            for i in range(rows):
                add(powers[i * count : (i + 1) * count], total)
        result = out[outer * inner + left : outer * inner + left + count]
        for j in range(count):
            result[j] = x.dtype.type(np.log(total[j])) + shift[j]


@strict_kernel
def logsumexp_grad_of_columns(start, stop, g, x, n, inner, gx):
    """Of (outer, n, inner), for the blocks of columns start to stop."""
    blocks = (inner + COLUMNS - 1) // COLUMNS
    shifts, totals = np.empty(COLUMNS, x.dtype), np.empty(COLUMNS, np.float64)
    for item in range(start, stop):
        outer, left = item // blocks, item % blocks * COLUMNS
        count = min(COLUMNS, inner - left)
        at, shift, total = outer * n * inner + left, shifts[:count], totals[:count]
        infinite = largest_of_columns(x, at, n, inner, shift)
        total[:] = 0
        for i in range(n):
            place = at + i * inner
            subtract(x[place : place + count], shift, gx[place : place + count])
            if count < inner:
                exponentials(gx[place : place + count])
        if count == inner:
            exponentials(gx[at : at + n * inner])
        for i in range(n):
            add(gx[at + i * inner : at + i * inner + count], total)
        grad = g[outer * inner + left : outer * inner + left + count]
        for j in range(count):
            shift[j] = grad[j] / x.dtype.type(total[j])
        for i in range(n):
            row = gx[at + i * inner : at + i * inner + count]
            for j in range(count):
                row[j] *= shift[j]
        if infinite:
            for j in range(count):
                if not np.isfinite(total[j]):
                    grad_of_infinite(grad[j], x, at + j, n, inner, total[j], gx)
