"""Images between their pixels: x is (N, C, H, W), places are (N, P, 2) of columns and rows, and
results (N, C, P), all flat. An item is SOME places of an image, or the gradient of SOME_PLANES of
its channels."""

import numpy as np

from gradient.backends.numpy.kernels.compilation import strict_kernel, subroutine

SOME = 256
"""Places whose pixels are found once for all channels."""

SOME_PLANES = 8
"""Channels for which they are found once, where their planes are summed up."""


@subroutine
def find(places, height, width, at, weight):
    """The pixels about places (n, 2), row by row: where they are in a plane, or -1 outside, and
    their weights by row and column; both with the corner first."""
    one = places.dtype.type(1)
    for p in range(places.size // 2):
        column, row = places[2 * p], places[2 * p + 1]
        left, top = np.floor(column), np.floor(row)
        near = ((top + one) - row, row - top)
        beside = ((left + one) - column, column - left)
        for i in range(2):
            for j in range(2):
                y, x = top + i, left + j
                k = 2 * i + j
                at[k, p] = -1
                if y >= 0 and y < height and x >= 0 and x < width:
                    at[k, p] = np.int64(y) * width + np.int64(x)
                weight[k, p] = near[i] * beside[j]


@subroutine
def pixel(plane, at):
    return plane[at] if at >= 0 else plane.dtype.type(0)


@strict_kernel
def bilinear_sample(start, stop, x, places, channels, height, width, points, out):
    """out = x at the places, for the items start to stop: SOME places each."""
    parts, size = -(-points // SOME), height * width
    at, weight = np.empty((4, SOME), np.int64), np.empty((4, SOME), x.dtype)
    for item in range(start, stop):
        n, first = item // parts, item % parts * SOME
        count = min(SOME, points - first)
        begin = 2 * (n * points + first)
        find(places[begin : begin + 2 * count], height, width, at, weight)
        for c in range(n * channels, (n + 1) * channels):
            plane = x[c * size : (c + 1) * size]
            to = out[c * points + first : c * points + first + count]
            for p in range(count):
                value = pixel(plane, at[0, p]) * weight[0, p]
                value += pixel(plane, at[1, p]) * weight[1, p]
                value += pixel(plane, at[2, p]) * weight[2, p]
                to[p] = value + pixel(plane, at[3, p]) * weight[3, p]


@strict_kernel
def bilinear_sample_grad(start, stop, g, places, channels, height, width, points, out):
    """out (N, C, H, W) = the sums of what each pixel gave to g, for the items start to stop:
    SOME_PLANES channels each."""
    parts, size, zero = -(-channels // SOME_PLANES), height * width, g.dtype.type(0)
    at, weight = np.empty((4, SOME), np.int64), np.empty((4, SOME), g.dtype)
    for item in range(start, stop):
        n, channel = item // parts, item % parts * SOME_PLANES
        planes = n * channels + channel
        stop_plane = n * channels + min(channels, channel + SOME_PLANES)
        for i in range(planes * size, stop_plane * size):
            out[i] = zero
        for first in range(0, points, SOME):
            count = min(SOME, points - first)
            begin = 2 * (n * points + first)
            find(places[begin : begin + 2 * count], height, width, at, weight)
            for c in range(planes, stop_plane):
                plane = out[c * size : (c + 1) * size]
                line = g[c * points + first : c * points + first + count]
                for p in range(count):
                    value = line[p]
                    for k in range(4):
                        if at[k, p] >= 0:
                            plane[at[k, p]] += value * weight[k, p]


@strict_kernel
def bilinear_sample_places_grad(start, stop, g, x, places, channels, height, width, points, out):
    """out (N, P, 2) = the gradient for the places, for the items start to stop: SOME places
    each."""
    parts, size, zero, one = -(-points // SOME), height * width, g.dtype.type(0), g.dtype.type(1)
    at, weight = np.empty((4, SOME), np.int64), np.empty((4, SOME), g.dtype)
    share = np.empty((4, SOME), g.dtype)
    for item in range(start, stop):
        n, first = item // parts, item % parts * SOME
        count = min(SOME, points - first)
        begin = 2 * (n * points + first)
        some = places[begin : begin + 2 * count]
        find(some, height, width, at, weight)
        for k in range(4):
            for p in range(count):
                share[k, p] = zero
        for c in range(n * channels, (n + 1) * channels):
            plane = x[c * size : (c + 1) * size]
            line = g[c * points + first : c * points + first + count]
            for k in range(4):
                for p in range(count):
                    share[k, p] += line[p] * pixel(plane, at[k, p])
        for p in range(count):
            column, row = some[2 * p], some[2 * p + 1]
            left, top = np.floor(column), np.floor(row)
            above, below = (top + one) - row, row - top
            before, after = (left + one) - column, column - left
            to = begin + 2 * p
            out[to] = (share[1, p] - share[0, p]) * above + (share[3, p] - share[2, p]) * below
            out[to + 1] = (share[2, p] - share[0, p]) * before + (share[3, p] - share[1, p]) * after
