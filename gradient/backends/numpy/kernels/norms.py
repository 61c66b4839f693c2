"""Softmax, cross-entropy and normalisation of the rows start to stop of (rows, columns) arrays."""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.numpy.kernels import vector_operators as vector_operators
from gradient.backends.numpy.kernels.compilation import (
    inlined,
    kernel,
    ordered_subroutine,
    strict_kernel,
    subroutine,
)
from gradient.backends.numpy.kernels.functions import exp
from gradient.backends.numpy.kernels.half_precision import get, put, real
from gradient.backends.numpy.kernels.reductions import numpy_sum
from gradient.backends.numpy.kernels.vector_functions import (
    full_exp_of_nonpositive,
    largest_element,
    sum_of_elements,
)
from gradient.backends.numpy.kernels.vector_operators import maximum
from gradient.backends.numpy.kernels.vectors import (
    fill,
    lanes,
    load,
    load_or,
    load_some,
    store,
    store_some,
)

CHUNK = 1 << 16
"""Elements, in whole rows, that a thread takes at a time."""

CHAIN = 256
"""Vectors that are added up one after another, before their elements are."""


def rows_of(columns: int) -> int:
    """Rows of a chunk."""
    return CHUNK // (columns or 1) or 1  # three times as quick as by `max`


rows_of_chunk = subroutine(rows_of)

BLOCK = 1 << 12
"""Elements, in whole rows, that one step after the other is done with: the processor has several
rows' at a time, where one row's would wait for each other, and finds them in its first cache."""


@subroutine
def rows_of_block(columns):
    return max(1, BLOCK // max(1, columns))


@ordered_subroutine
def largest_of(row):
    """The largest number of a row; where there is a NaN, any of them."""
    width, lowest = lanes(row), fill(row.dtype.type(-np.inf))
    whole = row.size - row.size % width
    high = lowest
    for i in range(0, whole, width):
        high = maximum(load(row, i), high)
    if whole < row.size:
        high = maximum(load_or(row, whole, row.size - whole, lowest), high)
    return largest_element(high)


@ordered_subroutine
def exp_sum(row, shift, powers):
    """The sum of e^(x - shift) over a row, of which no number is greater than `shift`; `powers`
    gets them, if it is not None."""
    width, less, lowest = lanes(row), fill(shift), fill(row.dtype.type(-np.inf))
    total = row.dtype.type(0)
    for first in range(0, row.size, CHAIN * width):
        last = min(first + CHAIN * width, row.size)
        whole = last - (last - first) % width
        sums = fill(row.dtype.type(0))
        for i in range(first, whole, width):
            power = full_exp_of_nonpositive(load(row, i) - less)
            if powers is not None:
                store(powers, i, power)
            sums += power
        if whole < last:
            power = full_exp_of_nonpositive(load_or(row, whole, last - whole, lowest) - less)
            if powers is not None:
                store_some(powers, whole, power, last - whole)
            sums += power
        total += sum_of_elements(sums)
    return total


@ordered_subroutine
def scale_row(row, factor):
    width, factors = lanes(row), fill(factor)
    whole = row.size - row.size % width
    for i in range(0, whole, width):
        store(row, i, load(row, i) * factors)
    if whole < row.size:
        rest = row.size - whole
        store_some(row, whole, load_some(row, whole, rest) * factors, rest)


@subroutine
def shifted_sum(x, shift):
    """The sum of x - shift."""
    total = x.dtype.type(0)
    for i in range(x.size):
        total += x[i] - shift
    return total


# Softmax ------------------------------------------------------------------------------------------


@strict_kernel
def softmax(start, stop, x, y):
    """Of four rows at a time one step after the other: those of one row wait for each other. (Not
    of short ones: the vector that is read at a row's end has numbers that are being written.)"""
    one, fours = x.dtype.type(1), (stop - start) // 4 if x.shape[1] >= lanes(x) else 0
    last = start + 4 * fours
    for r in range(start, last, 4):
        i, j, k = r + 1, r + 2, r + 3
        a, b, c, d = largest_of(x[r]), largest_of(x[i]), largest_of(x[j]), largest_of(x[k])
        a, b = exp_sum(x[r], a, y[r]), exp_sum(x[i], b, y[i])
        c, d = exp_sum(x[j], c, y[j]), exp_sum(x[k], d, y[k])
        scale_row(y[r], one / a)
        scale_row(y[i], one / b)
        scale_row(y[j], one / c)
        scale_row(y[k], one / d)
    for r in range(last, stop):
        scale_row(y[r], one / exp_sum(x[r], largest_of(x[r]), y[r]))


@kernel
def softmax_grad(start, stop, g, out, gx):
    for r in range(start, stop):
        grad, p, result = g[r], out[r], gx[r]
        dot = g.dtype.type(0)
        for i in range(p.size):
            dot += grad[i] * p[i]
        for i in range(p.size):
            result[i] = p[i] * (grad[i] - dot)


@strict_kernel
def log_softmax(start, stop, x, y):
    for r in range(start, stop):
        row, out = x[r], y[r]
        high = largest_of(row)
        log_total = x.dtype.type(math.log(exp_sum(row, high, None)))
        for i in range(row.size):
            out[i] = (row[i] - high) - log_total


@kernel
def log_softmax_grad(start, stop, g, out, gx):
    for r in range(start, stop):
        grad, log_p, result = g[r], out[r], gx[r]
        total = g.dtype.type(0)
        for i in range(grad.size):
            total += grad[i]
        for i in range(grad.size):
            result[i] = grad[i] - exp(log_p[i]) * total


# Cross-entropy: `wrong` (1,) gets a 1 where a target is no class, whose row is left out -----------


@inlined
def losses(start, stop, logits, target, ignore_index, smoothing, loss, high, log_sum, wrong):
    one, share = logits.dtype.type(1), real(logits, smoothing)
    for first in range(start, stop, rows_of_block(logits.shape[1])):
        last = min(first + rows_of_block(logits.shape[1]), stop)
        for r in range(first, last):
            high[r] = largest_of(logits[r])
        for r in range(first, last):
            log_sum[r] = exp_sum(logits[r], high[r], None)
        for r in range(first, last):
            log_sum[r] = math.log(log_sum[r])
        for r in range(first, last):
            row, shift = logits[r], high[r]
            if target[r] == ignore_index:
                loss[r] = 0
                continue
            if not 0 <= target[r] < row.size:
                wrong[0] = 1
                continue
            loss[r] = log_sum[r] - (row[target[r]] - shift)
            if share != 0:
                uniform = log_sum[r] - shifted_sum(row, shift) / logits.dtype.type(row.size)
                loss[r] = (one - share) * loss[r] + share * uniform


@strict_kernel
def cross_entropy(start, stop, logits, target, ignore_index, smoothing, loss, high, log_sum, wrong):
    losses(start, stop, logits, target, ignore_index, smoothing, loss, high, log_sum, wrong)


@strict_kernel
def mean_cross_entropy(
    start, stop, logits, target, ignore_index, smoothing, loss, high, log_sum, count
):
    """As `cross_entropy`, of all rows, and then loss[0] = the mean of the losses as NumPy has it,
    over the count[0] targets that are not ignored: -1 where one of them is no class."""
    count[0] = 0
    losses(start, stop, logits, target, ignore_index, smoothing, loss, high, log_sum, count)
    if count[0] != 0:
        count[0] = -1
        return
    for r in range(start, stop):
        count[0] += target[r] != ignore_index
    loss[0] = numpy_sum(loss, 0, stop) / count[0]


@inlined
def _class_grads(start, stop, g, logits, target, high, log_sum, ignore_index, smoothing, gx, wrong):
    one, share = logits.dtype.type(1), real(logits, smoothing)
    for r in range(start, stop):
        row, out = logits[r], gx[r]
        if target[r] == ignore_index:
            out[:] = 0
            continue
        if not 0 <= target[r] < row.size:
            wrong[0] = 1
            continue
        shift, log, scale = high[r], log_sum[r], g[r]
        least = share / logits.dtype.type(row.size)
        for i in range(row.size):
            out[i] = scale * (exp((row[i] - shift) - log) - least)
        out[target[r]] -= scale * (one - share)


@strict_kernel
def cross_entropy_grad(
    start, stop, g, logits, target, high, log_sum, ignore_index, smoothing, gx, wrong
):
    _class_grads(start, stop, g, logits, target, high, log_sum, ignore_index, smoothing, gx, wrong)


@strict_kernel
def cross_entropy_grad_in_place(
    start, stop, g, x, target, high, log_sum, ignore_index, smoothing, wrong
):
    """The gradient, over the logits x: as one array LLVM sees that no element is read after it is
    written, of two that overlap it would compute one number after another."""
    _class_grads(start, stop, g, x, target, high, log_sum, ignore_index, smoothing, x, wrong)


@strict_kernel
def nll(start, stop, x, target, ignore_index, loss, wrong):
    """loss (N,) = -x[r, target[r]], for the rows start to stop of x (N, C)."""
    for r in range(start, stop):
        if target[r] == ignore_index:
            loss[r] = 0
        elif 0 <= target[r] < x.shape[1]:
            loss[r] = -x[r, np.uint64(target[r])]
        else:
            wrong[0] = 1


@strict_kernel
def nll_grad(start, stop, g, target, ignore_index, out, wrong):
    """out (N, C), the gradient of `nll` for x, for the rows start to stop."""
    for r in range(start, stop):
        row = out[r]
        row[:] = 0
        if target[r] == ignore_index:
            continue
        if 0 <= target[r] < row.size:
            row[target[r]] = -g[r]
        else:
            wrong[0] = 1


# Normalisation ------------------------------------------------------------------------------------


@subroutine
def moments(x):
    """The mean, as its rounded value and what the rounding left over, and the variance."""
    n = real(x, x.size)
    m = real(x, 0)
    for i in range(x.size):
        m += get(x, i)
    m /= n
    rest = real(x, 0)
    squares = real(x, 0)
    for i in range(x.size):
        d = get(x, i) - m
        rest += d
        squares += d * d
    rest /= n
    return m, rest, max(squares / n - rest * rest, real(x, 0))


@strict_kernel
def layer_norm(start, stop, x, weight, bias, y, eps, mean, rstd):
    """x and y (rows, columns), weight and bias as `half_precision.stored`."""
    least = real(x, eps)
    for r in range(start, stop):
        row, out = x[r], y[r]
        m, rest, variance = moments(row)
        s = real(x, 1) / np.sqrt(variance + least)
        for i in range(row.size):
            put(out, i, ((get(row, i) - m) - rest) * s * get(weight, i) + get(bias, i))
        mean[r], rstd[r] = m + rest, s


@kernel
def layer_norm_grad(start, stop, g, x, weight, mean, rstd, gx, gw, gb):
    """gw and gb (chunks, columns) get the sums over the rows of this chunk."""
    n = x.dtype.type(x.shape[1])
    chunk = start // rows_of_chunk(x.shape[1])
    sum_w, sum_b = gw[chunk], gb[chunk]
    sum_w[:] = 0
    sum_b[:] = 0
    for r in range(start, stop):
        grad, row, out = g[r], x[r], gx[r]
        m, s = mean[r], rstd[r]
        mean_g = x.dtype.type(0)
        mean_gn = x.dtype.type(0)
        for i in range(row.size):
            normed = (row[i] - m) * s
            weighted = grad[i] * weight[i]
            mean_g += weighted
            mean_gn += weighted * normed
        mean_g /= n
        mean_gn /= n
        for i in range(row.size):
            normed = (row[i] - m) * s
            sum_w[i] += grad[i] * normed
            sum_b[i] += grad[i]
            out[i] = s * (grad[i] * weight[i] - mean_g - normed * mean_gn)


@kernel
def rms_norm(start, stop, x, weight, y, eps, round_first, rstd):
    """x and y (rows, columns) and weight as `half_precision.stored`; with `round_first` the
    quotient is rounded to what y holds before it is multiplied. A weight without columns is 1."""
    n, least = real(x, x.shape[1]), real(x, eps)
    for r in range(start, stop):
        row, out = x[r], y[r]
        total = real(x, 0)
        for i in range(row.size):
            total += get(row, i) * get(row, i)
        s = real(x, 1) / np.sqrt(total / n + least)
        rstd[r] = s
        if weight.size == 0 or round_first:
            for i in range(row.size):
                put(out, i, get(row, i) * s)
            if weight.size != 0:
                for i in range(row.size):
                    put(out, i, get(out, i) * get(weight, i))
        else:
            for i in range(row.size):
                put(out, i, get(row, i) * s * get(weight, i))


@kernel
def rms_norm_grad(start, stop, g, x, weight, rstd, gx, gw):
    """gw (chunks, columns) gets the sums over the rows of this chunk."""
    n = x.dtype.type(x.shape[1])
    sum_w = gw[start // rows_of_chunk(x.shape[1])]
    sum_w[:] = 0
    for r in range(start, stop):
        grad, row, out = g[r], x[r], gx[r]
        s = rstd[r]
        mean_gn = x.dtype.type(0)
        for i in range(row.size):
            mean_gn += grad[i] * weight[i] * (row[i] * s)
        mean_gn /= n
        for i in range(row.size):
            sum_w[i] += grad[i] * (row[i] * s)
            out[i] = s * (grad[i] * weight[i] - row[i] * s * mean_gn)
