"""Batch normalisation, a channel at a time, which stays in the cache over the passes.

x is flat (N, C, size). Rows are processed by vectors. In sums, each lane adds a chain of at most
`CHAIN` numbers; these chains, and the rest of a row after its vectors, are added in float64.
"""

import numpy as np

from gradient.backends.numpy.kernels import vector_operators as vector_operators
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.vector_functions import sum_of_elements
from gradient.backends.numpy.kernels.vectors import add_product, fill, lanes, load, store

CHAIN = 256
"""Vectors that are added up before their elements are, but that a row is never divided."""


@ordered_subroutine
def rows_together(x, size):
    """The number of rows of `size` numbers that are summed in vectors before a float64 sum."""
    return max(1, CHAIN * lanes(x) // size)


@ordered_subroutine
def sum_of(x, c, images, channels, size):
    """The sum of a channel."""
    width, some = lanes(x), rows_together(x, size)
    zero = fill(x.dtype.type(0))
    total = 0.0
    for begin in range(0, images, some):
        a, b, d, e = zero, zero, zero, zero
        for n in range(begin, min(images, begin + some)):
            i = (n * channels + c) * size
            end = i + size
            while i + 4 * width <= end:
                a += load(x, i)
                b += load(x, i + width)
                d += load(x, i + 2 * width)
                e += load(x, i + 3 * width)
                i += 4 * width
            while i + width <= end:
                a += load(x, i)
                i += width
            while i < end:
                total += x[i]
                i += 1
        total += sum_of_elements((a + b) + (d + e))
    return total


@ordered_subroutine
def squares_of(x, c, images, channels, size, mean):
    """The sums of x - mean, and of its squares, over a channel."""
    width, some = lanes(x), rows_together(x, size)
    zero, one, less = fill(x.dtype.type(0)), x.dtype.type(1), fill(-mean)
    rest, squares = 0.0, 0.0
    for begin in range(0, images, some):
        a, b, aa, bb = zero, zero, zero, zero
        for n in range(begin, min(images, begin + some)):
            i = (n * channels + c) * size
            end = i + size
            while i + 2 * width <= end:
                v = add_product(less, one, load(x, i))
                w = add_product(less, one, load(x, i + width))
                a += v
                b += w
                aa = add_product(aa, v, v)
                bb = add_product(bb, w, w)
                i += 2 * width
            while i + width <= end:
                v = add_product(less, one, load(x, i))
                a += v
                aa = add_product(aa, v, v)
                i += width
            while i < end:
                u = x[i] - mean
                rest += u
                squares += u * u
                i += 1
        rest += sum_of_elements(a + b)
        squares += sum_of_elements(aa + bb)
    return rest, squares


@ordered_subroutine
def moments_of(x, c, images, channels, size):
    """A channel's mean, as a rounded value and the rounding error, and its variance."""
    count = images * size
    mean = x.dtype.type(sum_of(x, c, images, channels, size) / count)
    rest, squares = squares_of(x, c, images, channels, size, mean)
    rest /= count
    return mean, rest, max(squares / count - rest * rest, 0.0)


@ordered_subroutine
def products_of(g, x, c, images, channels, size, mean):
    """The sums of g, and of g (x - mean), over a channel."""
    width, some = lanes(x), rows_together(x, size)
    zero, less = fill(x.dtype.type(0)), fill(mean)
    total, products = 0.0, 0.0
    for begin in range(0, images, some):
        a, b, aa, bb = zero, zero, zero, zero
        for n in range(begin, min(images, begin + some)):
            i = (n * channels + c) * size
            end = i + size
            while i + 2 * width <= end:
                v, w = load(g, i), load(g, i + width)
                a += v
                b += w
                aa = add_product(aa, v, load(x, i) - less)
                bb = add_product(bb, w, load(x, i + width) - less)
                i += 2 * width
            while i + width <= end:
                v = load(g, i)
                a += v
                aa = add_product(aa, v, load(x, i) - less)
                i += width
            while i < end:
                total += g[i]
                products += g[i] * (x[i] - mean)
                i += 1
        total += sum_of_elements(a + b)
        products += sum_of_elements(aa + bb)
    return total, products


@ordered_subroutine
def moments(start, stop, x, images, channels, size, out):
    """out (2, channels) = the means and the variances of channels start to stop."""
    for c in range(start, stop):
        mean, rest, variance = moments_of(x, c, images, channels, size)
        out[c] = mean + rest
        out[channels + c] = variance


@ordered_kernel
def channel_moments(start, stop, x, images, channels, size, out):
    moments(start, stop, x, images, channels, size, out)


@ordered_subroutine
def normalise(x, i, size, m, left, scale, shift, y):
    """y = (x - m - left) * scale + shift for `size` numbers from the i-th on."""
    width, end = lanes(x), i + size
    m_, left_, shift_ = fill(m), fill(left), fill(shift)
    while i + width <= end:
        store(y, i, add_product(shift_, scale, (load(x, i) - m_) - left_))
        i += width
    while i < end:
        y[i] = ((x[i] - m) - left) * scale + shift
        i += 1


@ordered_subroutine
def normalise_channels(start, stop, x, images, channels, size, weight, bias, eps, y, mean, rstd):
    for c in range(start, stop):
        m, rest, variance = moments_of(x, c, images, channels, size)
        s = x.dtype.type(1 / np.sqrt(variance + eps))
        mean[c], rstd[c] = m + rest, s
        left = x.dtype.type(rest)
        scale, shift = s * weight[c], bias[c]
        for n in range(images):
            normalise(x, (n * channels + c) * size, size, m, left, scale, shift, y)


@ordered_kernel
def batch_norm(start, stop, x, images, channels, size, weight, bias, eps, y, mean, rstd):
    normalise_channels(
        start, stop, x, images, channels, size, weight, bias, eps, y, mean, rstd
    )  # fmt: skip


@ordered_subroutine
def grads_of_channels(
    start, stop, g, x, images, channels, size, weight, mean, rstd, gx, gw, gb
):  # fmt: skip
    width = lanes(x)
    for c in range(start, stop):
        m, s = mean[c], rstd[c]
        total, products = products_of(g, x, c, images, channels, size, m)
        gw[c], gb[c] = products * s, total
        scale = s * weight[c]
        mean_g = x.dtype.type(total / (images * size))
        slope = x.dtype.type(-products * s * s / (images * size))
        m_, mean_g_, scale_ = fill(m), fill(mean_g), fill(scale)
        for n in range(images):
            i = (n * channels + c) * size
            end = i + size
            while i + width <= end:
                rest = load(g, i) - mean_g_
                store(gx, i, scale_ * add_product(rest, slope, load(x, i) - m_))
                i += width
            while i < end:
                gx[i] = scale * (g[i] - mean_g + (x[i] - m) * slope)
                i += 1


@ordered_kernel
def batch_norm_grad(
    start, stop, g, x, images, channels, size, weight, mean, rstd, gx, gw, gb
):  # fmt: skip
    grads_of_channels(
        start, stop, g, x, images, channels, size, weight, mean, rstd, gx, gw, gb
    )  # fmt: skip


# Channels of one number a sample, x (N, C): the lanes of a vector are neighbouring channels. The
# last channels, too few for a vector, are processed one by one. Arrays that a kernel only works
# with: `sums` (2, C) of float64, and `part` (3, C) of x's dtype.


@ordered_subroutine
def add_lanes(v, part, c, sums, to):
    """Add the lanes of a vector to sums[to], sums[to + 1] ..."""
    store(part, c, v)
    for j in range(lanes(part)):
        sums[to + j] += part[c + j]


@ordered_subroutine
def clear(sums, at, part):
    for j in range(lanes(part)):
        sums[at + j] = 0.0


@ordered_subroutine
def mean_of_columns(x, c, rows, columns, part, sums, mean):
    """The rounded means of a vector's columns."""
    zero = fill(x.dtype.type(0))
    clear(sums, c, part)
    for begin in range(0, rows, CHAIN):
        n, end = begin, min(rows, begin + CHAIN)
        a, b = zero, zero
        while n + 2 <= end:
            a += load(x, n * columns + c)
            b += load(x, (n + 1) * columns + c)
            n += 2
        if n < end:
            a += load(x, n * columns + c)
        add_lanes(a + b, part, c, sums, c)
    for j in range(c, c + lanes(x)):
        mean[j] = sums[j] / rows


@ordered_subroutine
def moments_of_columns(x, c, rows, columns, part, sums, mean):
    """The rounded means of a vector's columns; in sums, what rounding left, and the variances."""
    mean_of_columns(x, c, rows, columns, part, sums, mean)
    zero, m = fill(x.dtype.type(0)), load(mean, c)
    clear(sums, c, part)
    clear(sums, columns + c, part)
    for begin in range(0, rows, CHAIN):
        n, end = begin, min(rows, begin + CHAIN)
        a, b, aa, bb = zero, zero, zero, zero
        while n + 2 <= end:
            v, w = load(x, n * columns + c) - m, load(x, (n + 1) * columns + c) - m
            a += v
            b += w
            aa = add_product(aa, v, v)
            bb = add_product(bb, w, w)
            n += 2
        if n < end:
            v = load(x, n * columns + c) - m
            a += v
            aa = add_product(aa, v, v)
        add_lanes(a + b, part, c, sums, c)
        add_lanes(aa + bb, part, c, sums, columns + c)
    for j in range(c, c + lanes(x)):
        rest = sums[j] / rows
        sums[j] = rest
        sums[columns + j] = max(sums[columns + j] / rows - rest * rest, 0.0)


@ordered_kernel
def column_moments(start, stop, x, rows, columns, part, sums, out):
    """`channel_moments` of x (N, C)."""
    c, width = start, lanes(x)
    while c + width <= stop:
        moments_of_columns(x, c, rows, columns, part, sums, out)
        for j in range(c, c + width):
            out[j] += sums[j]
            out[columns + j] = sums[columns + j]
        c += width
    moments(c, stop, x, rows, columns, 1, out)


@ordered_kernel
def column_batch_norm(
    start, stop, x, rows, columns, weight, bias, eps, part, sums, y, mean, rstd
):  # fmt: skip
    """`batch_norm` of x (N, C)."""
    c, width = start, lanes(x)
    while c + width <= stop:
        moments_of_columns(x, c, rows, columns, part, sums, mean)
        m, shift = load(mean, c), load(bias, c)
        for j in range(c, c + width):
            rstd[j] = 1 / np.sqrt(sums[columns + j] + eps)
            part[j], part[columns + j] = rstd[j] * weight[j], sums[j]
            mean[j] += sums[j]
        scale, left = load(part, c), load(part, columns + c)
        for n in range(rows):
            i = n * columns + c
            store(y, i, add_product(shift, scale, (load(x, i) - m) - left))
        c += width
    normalise_channels(c, stop, x, rows, columns, 1, weight, bias, eps, y, mean, rstd)


@ordered_kernel
def column_batch_norm_grad(
    start, stop, g, x, rows, columns, weight, mean, rstd, part, sums, gx, gw, gb
):  # fmt: skip
    """`batch_norm_grad` of x (N, C)."""
    c, width = start, lanes(x)
    zero = fill(x.dtype.type(0))
    while c + width <= stop:
        m = load(mean, c)
        clear(sums, c, part)
        clear(sums, columns + c, part)
        for begin in range(0, rows, CHAIN):
            a, aa = zero, zero
            for n in range(begin, min(rows, begin + CHAIN)):
                v = load(g, n * columns + c)
                a += v
                aa = add_product(aa, v, load(x, n * columns + c) - m)
            add_lanes(a, part, c, sums, c)
            add_lanes(aa, part, c, sums, columns + c)
        for j in range(c, c + width):
            total, products, s = sums[j], sums[columns + j], rstd[j]
            gw[j], gb[j] = products * s, total
            part[j], part[columns + j] = s * weight[j], total / rows
            part[2 * columns + j] = -products * s * s / rows
        scale, mean_g = load(part, c), load(part, columns + c)
        slope = load(part, 2 * columns + c)
        for n in range(rows):
            i = n * columns + c
            rest = load(g, i) - mean_g
            store(gx, i, scale * add_product(rest, slope, load(x, i) - m))
        c += width
    grads_of_channels(c, stop, g, x, rows, columns, 1, weight, mean, rstd, gx, gw, gb)


@ordered_kernel
def group_norm(start, stop, x, channels, size, weight, bias, groups, eps, y, mean, rstd):
    """The groups start to stop of all samples; x (N, channels, size)."""
    some = channels // groups
    for group in range(start, stop):
        m, rest, variance = moments_of(x, group, 1, 0, some * size)
        s = x.dtype.type(1 / np.sqrt(variance + eps))
        mean[group], rstd[group] = m + rest, s
        left = x.dtype.type(rest)
        for j in range(some):
            c = group % groups * some + j
            i = (group * some + j) * size
            normalise(x, i, size, m, left, s * weight[c], bias[c], y)


@ordered_kernel
def group_norm_grad(
    start, stop, g, x, channels, size, weight, groups, mean, rstd, gx, sums
):  # fmt: skip
    """As `group_norm`. sums (2, N, channels): the contributions of each sample's channels to the
    gradients for weight and bias."""
    some, width = channels // groups, lanes(x)
    behind = sums.size // 2
    for group in range(start, stop):
        m, s = mean[group], rstd[group]
        total, products = 0.0, 0.0
        for j in range(some):
            c, scale = group * some + j, weight[group % groups * some + j]
            of_channel, with_x = products_of(g, x, c, 1, 0, size, m)
            sums[c], sums[behind + c] = with_x * s, of_channel
            total += scale * of_channel
            products += scale * with_x
        shift = x.dtype.type(-total * s / (some * size))
        slope = x.dtype.type(-products * s * s * s / (some * size))
        m_, shift_ = fill(m), fill(shift)
        for j in range(some):
            scale = s * weight[group % groups * some + j]
            i = (group * some + j) * size
            end = i + size
            while i + width <= end:
                rest = add_product(shift_, slope, load(x, i) - m_)
                store(gx, i, add_product(rest, scale, load(g, i)))
                i += width
            while i < end:
                gx[i] = scale * g[i] + (shift + (x[i] - m) * slope)
                i += 1
