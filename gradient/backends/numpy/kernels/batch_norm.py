"""Batch normalisation, a channel at a time: it stays in the cache over the passes.

x is flat (N, C, size). Sums of rows are added up in float64.
"""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.compilation import kernel, strict_kernel, subroutine


@subroutine
def row_sum(x, at, size):
    total = x.dtype.type(0)
    for i in range(at, at + size):
        total += x[i]
    return total


@subroutine
def row_moments(x, at, size, mean):
    """The sums of what a row is from `mean`, and of its squares."""
    rest, squares = x.dtype.type(0), x.dtype.type(0)
    for i in range(at, at + size):
        d = x[i] - mean
        rest += d
        squares += d * d
    return rest, squares


@subroutine
def moments_of(x, c, images, channels, size):
    """A channel's mean, as its rounded value and what the rounding left over, and its variance."""
    total, rest, squares = 0.0, 0.0, 0.0
    for n in range(images):
        total += row_sum(x, (n * channels + c) * size, size)
    mean = x.dtype.type(total / (images * size))
    for n in range(images):
        sums = row_moments(x, (n * channels + c) * size, size, mean)
        rest += sums[0]
        squares += sums[1]
    rest /= images * size
    return mean, rest, max(squares / (images * size) - rest * rest, 0.0)


@subroutine
def row_products(g, x, at, size, mean):
    """The sums of g, and of g times what x is from `mean`."""
    total, products = g.dtype.type(0), g.dtype.type(0)
    for i in range(at, at + size):
        total += g[i]
        products += g[i] * (x[i] - mean)
    return total, products


@strict_kernel
def channel_moments(start, stop, x, images, channels, size, out):
    """out (2, channels) = the means and the variances of channels start to stop."""
    for c in range(start, stop):
        mean, rest, variance = moments_of(x, c, images, channels, size)
        out[c] = mean + rest
        out[channels + c] = variance


@strict_kernel
def batch_norm(start, stop, x, images, channels, size, weight, bias, eps, y, mean, rstd):
    for c in range(start, stop):
        m, rest, variance = moments_of(x, c, images, channels, size)
        s = x.dtype.type(1 / np.sqrt(variance + eps))
        mean[c], rstd[c] = m + rest, s
        left = x.dtype.type(rest)
        scale, shift = s * weight[c], bias[c]
        for n in range(images):
            at = (n * channels + c) * size
            for i in range(at, at + size):
                y[i] = ((x[i] - m) - left) * scale + shift


@kernel
def batch_norm_grad(
    start, stop, g, x, images, channels, size, weight, mean, rstd, gx, gw, gb
):  # fmt: skip
    for c in range(start, stop):
        m, s = mean[c], rstd[c]
        total, products = 0.0, 0.0
        for n in range(images):
            sums = row_products(g, x, (n * channels + c) * size, size, m)
            total += sums[0]
            products += sums[1]
        gw[c], gb[c] = products * s, total
        scale = s * weight[c]
        mean_g = x.dtype.type(total / (images * size))
        slope = x.dtype.type(products * s * s / (images * size))
        for n in range(images):
            at = (n * channels + c) * size
            for i in range(at, at + size):
                gx[i] = scale * (g[i] - mean_g - (x[i] - m) * slope)
