"""Softmax, cross-entropy and normalisation of the rows start to stop of (rows, columns) arrays."""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.numpy.kernels.compilation import kernel, part
from gradient.backends.numpy.kernels.functions import exp, largest

CHUNK = 1 << 16
"""Elements, in whole rows, that a thread takes at a time."""


def rows_of(columns: int) -> int:
    """Rows of a chunk."""
    return max(1, CHUNK // max(1, columns))


rows_of_chunk = part(rows_of)


@part
def exp_sum(x, shift):
    """The sum of e^(x - shift)."""
    total = x.dtype.type(0)
    for i in range(x.size):
        total += exp(x[i] - shift)
    return total


# Softmax ------------------------------------------------------------------------------------------


@kernel
def softmax(start, stop, x, y):
    for r in range(start, stop):
        row, out = x[r], y[r]
        high = largest(row)
        total = x.dtype.type(0)
        for i in range(row.size):
            e = exp(row[i] - high)
            out[i] = e
            total += e
        scale = x.dtype.type(1) / total
        for i in range(row.size):
            out[i] *= scale


@kernel
def softmax_grad(start, stop, g, out, gx):
    for r in range(start, stop):
        grad, p, result = g[r], out[r], gx[r]
        dot = g.dtype.type(0)
        for i in range(p.size):
            dot += grad[i] * p[i]
        for i in range(p.size):
            result[i] = p[i] * (grad[i] - dot)


@kernel
def log_softmax(start, stop, x, y):
    for r in range(start, stop):
        row, out = x[r], y[r]
        high = largest(row)
        log_total = x.dtype.type(math.log(exp_sum(row, high)))
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


# Cross-entropy ------------------------------------------------------------------------------------


@kernel
def cross_entropy(start, stop, logits, target, ignore_index, smoothing, loss, lse):
    one = logits.dtype.type(1)
    for r in range(start, stop):
        row = logits[r]
        high = largest(row)
        if not abs(high) < np.inf:
            high = logits.dtype.type(0)
        lse[r] = high + math.log(exp_sum(row, high))
        if target[r] == ignore_index:
            loss[r] = 0
            continue
        loss[r] = lse[r] - row[target[r]]
        if smoothing != 0:
            total = logits.dtype.type(0)
            for i in range(row.size):
                total += row[i]
            uniform = lse[r] - total / logits.dtype.type(row.size)
            loss[r] = (one - smoothing) * loss[r] + smoothing * uniform


@kernel
def cross_entropy_grad(start, stop, g, logits, target, lse, ignore_index, smoothing, gx):
    one = logits.dtype.type(1)
    for r in range(start, stop):
        row, out = logits[r], gx[r]
        if target[r] == ignore_index:
            out[:] = 0
            continue
        shift, scale = lse[r], g[r]
        least = smoothing / logits.dtype.type(row.size)
        for i in range(row.size):
            out[i] = scale * (exp(row[i] - shift) - least)
        out[target[r]] -= scale * (one - smoothing)


# Normalisation ------------------------------------------------------------------------------------


@kernel
def layer_norm(start, stop, x, weight, bias, eps, y, mean, rstd):
    n = x.dtype.type(x.shape[1])
    for r in range(start, stop):
        row, out = x[r], y[r]
        total = x.dtype.type(0)
        for i in range(row.size):
            total += row[i]
        m = total / n
        total = x.dtype.type(0)
        for i in range(row.size):
            total += (row[i] - m) * (row[i] - m)
        s = x.dtype.type(1) / np.sqrt(total / n + eps)
        for i in range(row.size):
            out[i] = (row[i] - m) * s * weight[i] + bias[i]
        mean[r], rstd[r] = m, s


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
            sum_w[i] += grad[i] * normed
            sum_b[i] += grad[i]
        mean_g /= n
        mean_gn /= n
        for i in range(row.size):
            normed = (row[i] - m) * s
            out[i] = s * (grad[i] * weight[i] - mean_g - normed * mean_gn)


@kernel
def rms_norm(start, stop, x, weight, eps, y, rstd):
    n = x.dtype.type(x.shape[1])
    for r in range(start, stop):
        row, out = x[r], y[r]
        total = x.dtype.type(0)
        for i in range(row.size):
            total += row[i] * row[i]
        s = x.dtype.type(1) / np.sqrt(total / n + eps)
        for i in range(row.size):
            out[i] = row[i] * s * weight[i]
        rstd[r] = s


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
            normed = row[i] * s
            mean_gn += grad[i] * weight[i] * normed
            sum_w[i] += grad[i] * normed
        mean_gn /= n
        for i in range(row.size):
            out[i] = s * (grad[i] * weight[i] - row[i] * s * mean_gn)
