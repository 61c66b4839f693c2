"""The largest or smallest along an axis of flat arrays (outer, n, inner); NaN where there is one.

The smallest x is found as the largest -x: `sign` is 1 or -1.
"""

import numpy as np

from gradient.backends.numpy.kernels import vector_operators as vector_operators
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.vectors import fill, lanes, load, store

COLUMNS = 512
"""Columns that are taken together, row after row."""

PART = 1 << 14
"""Elements of a row whose extreme a thread finds at a time."""


@emitted(lambda best, x: best)
def larger_or_nan(builder, best, x):
    """x where it is above `best` or NaN, and `best` is not NaN, else `best`; for vectors."""
    beyond = builder.fcmp_unordered(">", x, best)
    replaces = builder.and_(beyond, builder.fcmp_ordered("ord", best, best))
    return builder.select(replaces, x, best)


@ordered_subroutine
def larger_number(best, x):
    return x if (x > best) | (x != x) else best


@ordered_kernel
def extremes_of_parts(start, stop, x, n, parts, sign, out):
    """out (rows, parts) = the extremes of the parts of each row of n, for the parts start to
    stop."""
    width = lanes(x)
    lane, signs = np.empty(width, x.dtype), fill(sign)
    for item in range(start, stop):
        row, part = item // parts, item % parts
        at, last = row * n + part * PART, min(row * n + (part + 1) * PART, (row + 1) * n)
        best = sign * x[at]
        if last - at >= width:
            end = last - width
            a = b = c = d = fill(best)
            while at + 4 * width <= last:
                a = larger_or_nan(a, signs * load(x, at))
                b = larger_or_nan(b, signs * load(x, at + width))
                c = larger_or_nan(c, signs * load(x, at + 2 * width))
                d = larger_or_nan(d, signs * load(x, at + 3 * width))
                at += 4 * width
            while at < last:
                a = larger_or_nan(a, signs * load(x, min(at, end)))  # some of it again
                at += width
            store(lane, 0, larger_or_nan(larger_or_nan(a, b), larger_or_nan(c, d)))
            for j in range(width):
                best = larger_number(best, lane[j])
        while at < last:
            best = larger_number(best, sign * x[at])
            at += 1
        out[item] = sign * best


@ordered_kernel
def extremes_of_columns(start, stop, x, n, inner, sign, out):
    """out (outer, inner) = the extremes over n, for the blocks of columns start to stop."""
    width, signs = lanes(x), fill(sign)
    blocks = (inner + COLUMNS - 1) // COLUMNS
    for item in range(start, stop):
        outer, left = item // blocks, item % blocks * COLUMNS
        count = min(COLUMNS, inner - left)
        to, at, whole = outer * inner + left, outer * n * inner + left, count // width * width
        for j in range(count):
            out[to + j] = sign * x[at + j]
        for _ in range(1, n):
            at += inner
            for j in range(0, whole, width):
                best = larger_or_nan(load(out, to + j), signs * load(x, at + j))
                store(out, to + j, best)
            for j in range(whole, count):
                out[to + j] = larger_number(out[to + j], sign * x[at + j])
        for j in range(count):
            out[to + j] *= sign
