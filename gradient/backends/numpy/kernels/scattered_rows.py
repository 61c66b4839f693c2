"""Multiply or compare rows of a matrix with rows that are scattered to them; and gradients.

A part is one of the shares of rows of `embedding.add_rows`, in a block of columns. Only one thread
works on a part, in the order of the scattered rows, so results do not depend on the threads.
"""

import numpy as np

from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.embedding import COLUMNS, GROUP, SHARES


def parts(width):
    """How many parts there are of a matrix with so many columns."""
    return SHARES * -(-width // COLUMNS)


@ordered_kernel
def multiply_rows(start, stop, x, width, index, value):
    """x[index[r]] *= value[r] for each r in turn, for flat x (rows, width) and value (n, width)."""
    for part in range(start, stop):
        share, first = part % SHARES, part // SHARES * COLUMNS
        last = min(first + COLUMNS, width)
        for r in range(index.size):
            row = index[r]
            if (row // GROUP) % SHARES != share:
                continue
            y = x[row * width + first : row * width + last]
            v = value[r * width + first : r * width + last]
            for i in range(y.size):
                y[i] *= v[i]


@ordered_kernel
def extreme_rows(start, stop, x, width, index, value, largest):
    """As `multiply_rows`, but the largest or the smallest of all elements; NaN if one is NaN."""
    for part in range(start, stop):
        share, first = part % SHARES, part // SHARES * COLUMNS
        last = min(first + COLUMNS, width)
        for r in range(index.size):
            row = index[r]
            if (row // GROUP) % SHARES != share:
                continue
            y = x[row * width + first : row * width + last]
            v = value[r * width + first : r * width + last]
            if largest:
                for i in range(y.size):
                    old, new = y[i], v[i]
                    y[i] = old if (old >= new) | (old != old) else new
            else:
                for i in range(y.size):
                    old, new = y[i], v[i]
                    y[i] = old if (old <= new) | (old != old) else new


@ordered_kernel
def multiply_rows_grad(start, stop, g, x, width, index, value, x_grad, grad):
    """The gradients of x and `value` in `multiply_rows`. `grad` (n, width) first gets the product
    of the factors before each, then is multiplied by those after it; `x_grad` (rows, width) holds
    the running products."""
    for part in range(start, stop):
        share, first = part % SHARES, part // SHARES * COLUMNS
        last = min(first + COLUMNS, width)
        _copy_share(share, first, last, width, x, x_grad)
        for r in range(index.size):
            row = index[r]
            if (row // GROUP) % SHARES != share:
                continue
            product = x_grad[row * width + first : row * width + last]
            v = value[r * width + first : r * width + last]
            y = grad[r * width + first : r * width + last]
            for i in range(y.size):
                before = product[i]
                y[i] = before
                product[i] = before * v[i]
        _copy_share(share, first, last, width, g, x_grad)
        for r in range(index.size - 1, -1, -1):
            row = index[r]
            if (row // GROUP) % SHARES != share:
                continue
            product = x_grad[row * width + first : row * width + last]
            v = value[r * width + first : r * width + last]
            y = grad[r * width + first : r * width + last]
            for i in range(y.size):
                behind = product[i]
                y[i] *= behind
                product[i] = behind * v[i]


@ordered_subroutine
def _copy_share(share, first, last, width, x, y):
    """The rows of a share, in the columns first to last, from x to y, both flat (rows, width)."""
    rows = x.size // width
    for group in range(share * GROUP, rows, SHARES * GROUP):
        for row in range(group, min(group + GROUP, rows)):
            for i in range(row * width + first, row * width + last):
                y[i] = x[i]


@ordered_kernel
def extreme_rows_grad(
    start, stop, g, x, width, index, value, out, counts, ties, share, x_grad, grad
):
    """The gradients of x and `value` in `extreme_rows`, whose result is `out`: equal shares of g
    for all that attain it, x only in rows that `counts` (rows,); NaN where it is NaN. `ties` and
    `share` (rows, width) are room for how many they are, and what each gets."""
    nothing, one = g.dtype.type(0), np.int32(1)
    for part in range(start, stop):
        own, first = part % SHARES, part // SHARES * COLUMNS
        last = min(first + COLUMNS, width)
        for group in range(own * GROUP, counts.size, SHARES * GROUP):
            for row in range(group, min(group + GROUP, counts.size)):
                begin, end, counted = row * width + first, row * width + last, counts[row]
                o, a, n = out[begin:end], x[begin:end], ties[begin:end]
                for i in range(n.size):
                    n[i] = (a[i] == o[i]) & counted
        for r in range(index.size):
            row = index[r]
            if (row // GROUP) % SHARES != own:
                continue
            n, o = ties[row * width + first : row * width + last], out[row * width + first :]
            v = value[r * width + first : r * width + last]
            for i in range(n.size):
                n[i] += v[i] == o[i]
        for group in range(own * GROUP, counts.size, SHARES * GROUP):
            for row in range(group, min(group + GROUP, counts.size)):
                begin, end, counted = row * width + first, row * width + last, counts[row]
                o, a, n, given = out[begin:end], x[begin:end], ties[begin:end], g[begin:end]
                part_of, y = share[begin:end], x_grad[begin:end]
                for i in range(n.size):
                    each = given[i] / g.dtype.type(max(n[i], one))
                    missing = o[i] != o[i]
                    each = o[i] if missing else each
                    part_of[i] = each
                    y[i] = each if missing | ((a[i] == o[i]) & counted) else nothing
        for r in range(index.size):
            row = index[r]
            if (row // GROUP) % SHARES != own:
                continue
            o, part_of = out[row * width + first :], share[row * width + first :]
            v, y = value[r * width + first :], grad[r * width + first : r * width + last]
            for i in range(y.size):
                y[i] = part_of[i] if (v[i] == o[i]) | (o[i] != o[i]) else nothing
