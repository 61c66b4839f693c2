"""The search for the scales of k-quants, as `gradient.dtypes.packed.search` defines it.

Each lane of a vector searches for a block of its own, so a kernel reads as the definition does for
one block. The results are the definition's to the bit: products are rounded before they are added,
and sums are taken in NumPy's order.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from gradient.backends.numpy.kernels.compilation import Kernel, ordered_kernel
from gradient.backends.numpy.kernels.vector_operators import (
    absolute,
    maximum,
    minimum,
    rint,
    square_root,
    to_half,
    to_half_beyond,
    where_less,
)
from gradient.backends.numpy.kernels.vectors import fill, lanes, load, store
from gradient.dtypes.packed import search

BLOCK = 256
"""Weights of a block."""
CANDIDATES = search.CANDIDATES
TOO_LARGE = search.TOO_LARGE


def subroutine(function: Callable[..., Any]) -> Kernel:
    """Compile a function that kernels call, in which a division by zero is no error."""
    return njit(error_model="numpy")(function)


@subroutine
def inverse(x):
    """1 / x, and 0 where that is no finite number."""
    zero = fill(np.float32(0))
    found = fill(np.float32(1)) / x
    return where_less(absolute(found), fill(np.float32(np.inf)), found, zero)


@subroutine
def nearest(x, low, high):
    """The nearest integers within limits."""
    return minimum(maximum(rint(x), low), high)


@subroutine
def total(terms, at, count):
    """The sum of `count` vectors, a multiple of 8, in the order in which NumPy adds numbers."""
    n = lanes(terms)
    a, b = load(terms, at), load(terms, at + n)
    c, d = load(terms, at + 2 * n), load(terms, at + 3 * n)
    e, f = load(terms, at + 4 * n), load(terms, at + 5 * n)
    g, h = load(terms, at + 6 * n), load(terms, at + 7 * n)
    for i in range(8, count, 8):
        here = at + i * n
        a, b = a + load(terms, here), b + load(terms, here + n)
        c, d = c + load(terms, here + 2 * n), d + load(terms, here + 3 * n)
        e, f = e + load(terms, here + 4 * n), f + load(terms, here + 5 * n)
        g, h = g + load(terms, here + 6 * n), h + load(terms, here + 7 * n)
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@subroutine
def gather(x, first, last, into):
    """Weight i of the blocks from `first` on, up to `last` in each lane, as vector i of `into`."""
    n = lanes(into)
    for lane in range(n):
        start = min(first + lane, last) * BLOCK
        for i in range(BLOCK):
            into[i * n + lane] = min(max(x[start + i], -TOO_LARGE), TOO_LARGE)


@subroutine
def weigh(x, width, terms, into):
    """How much an error in each weight counts: `search.importance`."""
    n = lanes(x)
    for first in range(0, BLOCK, width):
        for i in range(width):
            value = load(x, (first + i) * n)
            store(terms, i * n, value * value)
        typical = square_root(total(terms, 0, width) / fill(np.float32(width)))
        for i in range(first, first + width):
            store(into, i * n, absolute(load(x, i * n)) + typical)


# Symmetric: weight = scale * code ----------------------------------------------------------------


@ordered_kernel
def symmetric(start, stop, x, width, half, most, scales, multiples, codes):
    """`search.symmetric` of blocks start to stop of x, flat float32; each part flat, in x's order.

    scales float32 (blocks,), multiples float32 (blocks, sub-blocks), codes int8 (blocks, 256).
    """
    n = lanes(x)
    values, weights = np.empty(BLOCK * n, np.float32), np.empty(BLOCK * n, np.float32)
    terms, more = np.empty(width * n, np.float32), np.empty(width * n, np.float32)
    parts = BLOCK // width
    wanted, chosen = np.empty(parts * n, np.float32), np.empty(parts * n, np.float32)
    sums, others = np.empty(parts * n, np.float32), np.empty(parts * n, np.float32)
    found = np.empty(BLOCK * n, np.float32)
    low, high = fill(np.float32(-half)), fill(np.float32(half - 1))
    lowest, highest = fill(np.float32(-most)), fill(np.float32(most - 1))
    for block in range(start, stop, n):
        gather(x, block, stop - 1, values)
        weigh(values, width, terms, weights)
        edge = fill(np.float32(0))
        for part in range(parts):
            fitted = fit_scale(values, weights, part * width, width, half, terms, more)
            store(wanted, part * n, fitted)
            edge = where_less(absolute(edge), absolute(fitted), fitted, edge)
        scale = to_half_beyond(edge / lowest)
        inv = inverse(scale)
        for part in range(parts):
            store(chosen, part * n, nearest(load(wanted, part * n) * inv, lowest, highest))
        for last in range(search.ROUNDS + 1):
            for part in range(parts):
                at, first = part * n, part * width
                best = load(chosen, at)
                tried, error = best, symmetric_error(values, weights, first, width, scale, best, low, high, terms)  # fmt: skip # noqa: E501
                for step in (-1, 1):
                    other = minimum(maximum(tried + fill(np.float32(step)), lowest), highest)
                    its = symmetric_error(values, weights, first, width, scale, other, low, high, terms)  # fmt: skip # noqa: E501
                    best = where_less(its, error, other, best)
                    error = minimum(its, error)
                store(chosen, at, best)
                inv = inverse(scale * best)
                for i in range(width):
                    here = (first + i) * n
                    value, weight = load(values, here), load(weights, here)
                    code = nearest(value * inv, low, high)
                    store(found, here, code)
                    stored = best * code
                    store(terms, i * n, weight * value * stored)
                    store(more, i * n, weight * stored * stored)
                store(sums, at, total(terms, 0, width))
                store(others, at, total(more, 0, width))
            if last < search.ROUNDS:
                num, den = load(sums, 0), load(others, 0)
                for at in range(n, parts * n, n):
                    num, den = num + load(sums, at), den + load(others, at)
                fitted = to_half(num * inverse(den))
                zero = fill(np.float32(0))
                usable = where_less(zero, den, absolute(fitted), zero)
                scale = where_less(zero, usable, fitted, scale)
        for lane in range(min(n, stop - block)):
            scales[block + lane] = lane_of(scale, terms, lane)
            for part in range(parts):
                multiples[(block + lane) * parts + part] = chosen[part * n + lane]
            for i in range(BLOCK):
                codes[(block + lane) * BLOCK + i] = np.int8(found[i * n + lane])


@subroutine
def lane_of(vector, room, lane):
    store(room, 0, vector)
    return room[lane]


@subroutine
def fit_scale(x, w, first, width, half, terms, more):
    """The scale of the sub-block that starts at weight `first`: `search.fit_scale`."""
    n = lanes(x)
    low, high = fill(np.float32(-half)), fill(np.float32(half - 1))
    edge = load(x, first * n)
    for i in range(first + 1, first + width):
        value = load(x, i * n)
        edge = where_less(absolute(edge), absolute(value), value, edge)
    best, gain = fill(np.float32(0)), fill(np.float32(0))
    for candidate in range(len(CANDIDATES)):
        inv = inverse(edge / fill(-(np.float32(half) + CANDIDATES[candidate])))
        for i in range(width):
            value, weight = load(x, (first + i) * n), load(w, (first + i) * n)
            code = nearest(value * inv, low, high)
            store(terms, i * n, weight * value * code)
            store(more, i * n, weight * code * code)
        xq, inv = total(terms, 0, width), inverse(total(more, 0, width))
        gained = xq * xq * inv
        best = where_less(gain, gained, xq * inv, best)
        gain = where_less(gain, gained, gained, gain)
    return best


@subroutine
def symmetric_error(x, w, first, width, scale, multiple, low, high, terms):
    """The weighted squared error of a sub-block with this multiple of the scale."""
    n = lanes(x)
    step = scale * multiple
    inv = inverse(step)
    for i in range(width):
        value = load(x, (first + i) * n)
        error = value - step * nearest(value * inv, low, high)
        store(terms, i * n, load(w, (first + i) * n) * error * error)
    return total(terms, 0, width)


# Affine: weight = scale * code - minimum ---------------------------------------------------------


@ordered_kernel
def affine(start, stop, x, width, highest, most, scales, minimums, a, b, codes):
    """`search.affine` of blocks start to stop of x, flat float32; each part flat, in x's order.

    scales and minimums float32 (blocks,), a and b uint8 (blocks, sub-blocks), codes uint8 (blocks,
    256).
    """
    n = lanes(x)
    parts = BLOCK // width
    values, weights = np.empty(BLOCK * n, np.float32), np.empty(BLOCK * n, np.float32)
    found, terms = np.empty(BLOCK * n, np.float32), np.empty((3, width * n), np.float32)
    slopes, offsets = np.empty(parts * n, np.float32), np.empty(parts * n, np.float32)
    sums = np.empty((5, parts * n), np.float32)
    zero, top, limit = fill(np.float32(0)), fill(np.float32(highest)), fill(np.float32(most))
    for block in range(start, stop, n):
        gather(x, block, stop - 1, values)
        weigh(values, width, terms[0], weights)
        steepest, deepest = fill(np.float32(-np.inf)), fill(np.float32(-np.inf))
        for part in range(parts):
            slope, offset = fit_line(values, weights, part * width, width, top, terms)
            store(slopes, part * n, slope)
            store(offsets, part * n, offset)
            steepest, deepest = maximum(steepest, slope), maximum(deepest, offset)
        scale, low = to_half_beyond(steepest / limit), to_half_beyond(deepest / limit)
        inv, inv_low = inverse(scale), inverse(low)
        for at in range(0, parts * n, n):
            store(slopes, at, nearest(load(slopes, at) * inv, zero, limit))
            store(offsets, at, nearest(load(offsets, at) * inv_low, zero, limit))
        for last in range(search.ROUNDS + 1):
            for part in range(parts):
                at, first = part * n, part * width
                mine, its = load(slopes, at), load(offsets, at)
                mine = best_slope(values, weights, first, width, scale, mine, low * its, top, limit, terms[0])  # fmt: skip # noqa: E501
                its = best_offset(values, weights, first, width, scale * mine, low, its, top, limit, terms[0])  # fmt: skip # noqa: E501
                store(slopes, at, mine)
                store(offsets, at, its)
                inv, minimum_ = inverse(scale * mine), low * its
                for i in range(width):
                    here = (first + i) * n
                    code = nearest((load(values, here) + minimum_) * inv, zero, top)
                    store(found, here, code)
                if last < search.ROUNDS:
                    for i in range(width):
                        here = (first + i) * n
                        weight, stored = load(weights, here), mine * load(found, here)
                        store(terms[0], i * n, weight * stored * stored)
                        store(terms[1], i * n, weight * stored * load(values, here))
                        store(terms[2], i * n, weight * stored)
                    store(sums[0], at, total(terms[0], 0, width))
                    store(sums[1], at, total(terms[1], 0, width))
                    store(sums[2], at, its * total(terms[2], 0, width))
                    for i in range(width):
                        here = (first + i) * n
                        store(terms[0], i * n, load(weights, here) * load(values, here))
                    store(sums[3], at, its * total(terms[0], 0, width))
                    store(sums[4], at, its * its * total(weights, first * n, width))
            if last < search.ROUNDS:
                ss, sx = total(sums[0], 0, parts), total(sums[1], 0, parts)
                sb, bx = total(sums[2], 0, parts), total(sums[3], 0, parts)
                bb = total(sums[4], 0, parts)
                det = ss * bb - sb * sb
                inv = inverse(det)
                new, new_low = (
                    to_half((sx * bb - sb * bx) * inv),
                    to_half((sb * sx - ss * bx) * inv),
                )
                # Taken together or not at all: det > 0, the scale > 0, the minimum >= 0.
                below = where_less(new_low, zero, zero, new)
                usable = where_less(zero, det, below, zero)
                low = where_less(zero, usable, new_low, low)
                scale = where_less(zero, usable, new, scale)
        for lane in range(min(n, stop - block)):
            scales[block + lane] = lane_of(scale, terms[0], lane)
            minimums[block + lane] = lane_of(low, terms[0], lane)
            for part in range(parts):
                a[(block + lane) * parts + part] = np.uint8(slopes[part * n + lane])
                b[(block + lane) * parts + part] = np.uint8(offsets[part * n + lane])
            for i in range(BLOCK):
                codes[(block + lane) * BLOCK + i] = np.uint8(found[i * n + lane])


@subroutine
def fit_line(x, w, first, width, top, terms):
    """Scale and minimum of the sub-block that starts at weight `first`: `search.fit_line`."""
    n = lanes(x)
    zero = fill(np.float32(0))
    lowest = highest = load(x, first * n)
    for i in range(first + 1, first + width):
        lowest, highest = minimum(lowest, load(x, i * n)), maximum(highest, load(x, i * n))
    lowest = minimum(lowest, zero)
    span = highest - lowest
    for i in range(width):
        value, weight = load(x, (first + i) * n), load(w, (first + i) * n)
        store(terms[0], i * n, weight * value)
        store(terms[1], i * n, weight * value * value)
    sw = total(w, first * n, width)
    sx, sxx = total(terms[0], 0, width), total(terms[1], 0, width)
    scale, offset = span / top, fill(np.float32(-0.0)) - lowest  # -0 of 0, as in NumPy
    error = affine_error(x, w, first, width, scale, offset, top, terms[0])
    for candidate in range(len(CANDIDATES)):
        inv = inverse(span / (top + fill(CANDIDATES[candidate])))
        for i in range(width):
            value, weight = load(x, (first + i) * n), load(w, (first + i) * n)
            code = nearest((value - lowest) * inv, zero, top)
            store(terms[0], i * n, weight * code)
            store(terms[1], i * n, weight * code * code)
            store(terms[2], i * n, weight * value * code)
        sq, sqq = total(terms[0], 0, width), total(terms[1], 0, width)
        sqx = total(terms[2], 0, width)
        det = sw * sqq - sq * sq
        inv = inverse(det)
        slope, shift = (sw * sqx - sq * sx) * inv, (sq * sqx - sqq * sx) * inv
        # A minimum below 0 cannot be stored: then the line goes through 0.
        steep = sqx * inverse(sqq)
        slope = where_less(shift, zero, steep, where_less(zero, det, slope, steep))
        shift = where_less(zero, det, where_less(shift, zero, zero, shift), zero)
        # sum w (slope q - shift - x)^2, multiplied out.
        two = fill(np.float32(2))
        weighted_error = (
            slope * slope * sqq + shift * shift * sw + sxx
            - two * (slope * shift * sq + slope * sqx - shift * sx)
        )  # fmt: skip
        weighted_error = where_less(slope, zero, error, weighted_error)
        scale = where_less(weighted_error, error, slope, scale)
        offset = where_less(weighted_error, error, shift, offset)
        error = where_less(weighted_error, error, weighted_error, error)
    return scale, offset


@subroutine
def affine_error(x, w, first, width, step, minimum_, top, terms):
    """The weighted squared error of a sub-block with this scale and minimum."""
    n = lanes(x)
    inv, zero = inverse(step), fill(np.float32(0))
    for i in range(width):
        above = load(x, (first + i) * n) + minimum_
        error = above - step * nearest(above * inv, zero, top)
        store(terms, i * n, load(w, (first + i) * n) * error * error)
    return total(terms, 0, width)


@subroutine
def best_slope(x, w, first, width, scale, a, minimum_, top, limit, terms):
    """Of a sub-block's integer for the scale and its neighbours the one of least error."""
    best, error = a, affine_error(x, w, first, width, scale * a, minimum_, top, terms)
    for step in (-1, 1):
        tried = minimum(maximum(a + fill(np.float32(step)), fill(np.float32(0))), limit)
        other = affine_error(x, w, first, width, scale * tried, minimum_, top, terms)
        best = where_less(other, error, tried, best)
        error = minimum(other, error)
    return best


@subroutine
def best_offset(x, w, first, width, step_, low, b, top, limit, terms):
    """Of a sub-block's integer for the minimum and its neighbours the one of least error."""
    best, error = b, affine_error(x, w, first, width, step_, low * b, top, terms)
    for step in (-1, 1):
        tried = minimum(maximum(b + fill(np.float32(step)), fill(np.float32(0))), limit)
        other = affine_error(x, w, first, width, step_, low * tried, top, terms)
        best = where_less(other, error, tried, best)
        error = minimum(other, error)
    return best
