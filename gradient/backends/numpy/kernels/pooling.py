"""Max pooling and its gradient, a plane at a time, the windows of one row together."""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine


@ordered_subroutine
def keep_larger(x, at, step, number, advance, first, last, best, places):
    """For windows first to last of a row: best = the larger of it and of x at `at`, `step` apart;
    places = the number of what is kept, `advance` apart from `number` on."""
    # Cut first: LLVM then knows that no index is negative, and vectorises.
    row, best, places = x[at:], best[first:last], places[first:last]
    for i in range(best.size):
        value, kept = row[i * step], best[i]
        take = (value > kept) | (value != value)
        best[i] = value if take else kept
        place, place_kept = np.int32(number + i * advance), places[i]
        places[i] = place if take else place_kept


@ordered_kernel
def max_pool(start, stop, x, sizes, windows, kernel, stride, before, dilation, y, indices):
    """Planes start to stop of y (planes, *windows), the largest of each window of x (planes,
    *sizes), and where it is in its plane. All of three dimensions; a window's first number is at
    window * stride - before."""
    size, row = sizes[0] * sizes[1] * sizes[2], windows[2]
    step, n = stride[2], sizes[2]
    best, places = np.empty(row, x.dtype), np.empty(row, np.int32)
    firsts = np.empty(row, np.int32)
    for i in range(row):
        first = i * step - before[2]
        firsts[i] = (
            first if first >= 0 else first + (dilation[2] - 1 - first) // dilation[2] * dilation[2]
        )
    for p in range(start, stop):
        for d in range(windows[0]):
            for h in range(windows[1]):
                begun = False
                for k in range(kernel[0]):
                    z = d * stride[0] - before[0] + k * dilation[0]
                    if z < 0 or z >= sizes[0]:
                        continue
                    for j in range(kernel[1]):
                        v = h * stride[1] - before[1] + j * dilation[1]
                        if v < 0 or v >= sizes[1]:
                            continue
                        line = (z * sizes[1] + v) * n
                        if not begun:  # of numbers that are all -inf, the first
                            begun = True
                            for i in range(row):
                                best[i] = -np.inf
                                places[i] = line + firsts[i]
                        for i in range(kernel[2]):
                            shift = i * dilation[2] - before[2]
                            # The windows whose number is inside.
                            first = max(0, (step - 1 - shift) // step)
                            last = min(row, (n - 1 - shift) // step + 1)
                            number = line + first * step + shift
                            at = p * size + number
                            if step == 1:
                                keep_larger(x, at, 1, number, 1, first, last, best, places)
                            elif step == 2:
                                keep_larger(x, at, 2, number, 2, first, last, best, places)
                            else:
                                keep_larger(x, at, step, number, step, first, last, best, places)
                to = ((p * windows[0] + d) * windows[1] + h) * row
                for i in range(row):
                    y[to + i] = best[i]
                for i in range(row):
                    indices[to + i] = places[i]


@ordered_kernel
def max_pool_of_four(start, stop, x, height, width, y, indices):
    """As `max_pool`, for windows of 2 x 2, none of which overlap, in planes height x width."""
    rows, n = height // 2, width // 2
    for p in range(start, stop):
        for h in range(rows):
            line = 2 * h * width
            at, to = p * height * width + line, (p * rows + h) * n
            top, low = x[at : at + width], x[at + width : at + 2 * width]
            out, places = y[to : to + n], indices[to : to + n]
            for i in range(n):
                a, b, c, d = top[2 * i], top[2 * i + 1], low[2 * i], low[2 * i + 1]
                right = (b > a) | (b != b)
                right_low = (d > c) | (d != d)
                high, high_low = b if right else a, d if right_low else c
                lower = (high_low > high) | (high_low != high_low)
                out[i] = high_low if lower else high
                place, place_low = np.int64(right), width + np.int64(right_low)
                places[i] = line + 2 * i + (place_low if lower else place)


@ordered_kernel
def max_pool_of_four_grad(start, stop, g, indices, height, width, out):
    """As `max_pool_grad`, for what `max_pool_of_four` gave."""
    rows, n = height // 2, width // 2
    for p in range(start, stop):
        for h in range(rows):
            line = 2 * h * width
            at, to = (p * rows + h) * n, p * height * width + line
            slopes, places = g[at : at + n], indices[at : at + n]
            top, low = out[to : to + width], out[to + width : to + 2 * width]
            zero = g.dtype.type(0)
            for i in range(n):
                slope, place = slopes[i], np.int32(places[i] - line - 2 * i)
                top[2 * i] = slope if place == 0 else zero
                top[2 * i + 1] = slope if place == 1 else zero
                low[2 * i] = slope if place == width else zero
                low[2 * i + 1] = slope if place == width + 1 else zero
            for i in range(2 * n, width):
                top[i] = low[i] = zero
        rest = out[(p * height + 2 * rows) * width : (p + 1) * height * width]
        for i in range(rest.size):
            rest[i] = 0


@ordered_kernel
def max_pool_grad(start, stop, g, indices, count, size, out):
    """Planes start to stop of out (planes, size): the sums of g (planes, count) at the indices."""
    for p in range(start, stop):
        plane = out[p * size : (p + 1) * size]
        slopes, places = g[p * count : (p + 1) * count], indices[p * count : (p + 1) * count]
        for i in range(plane.size):
            plane[i] = 0
        for i in range(slopes.size):
            if places[i] >= 0:
                plane[places[i]] += slopes[i]
