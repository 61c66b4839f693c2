"""Copies of runs of elements between arrays of other strides."""

from __future__ import annotations

from gradient.backends.numpy.kernels.compilation import strict_kernel
from gradient.backends.numpy.kernels.vectors import (
    backwards,
    fill,
    lanes,
    load,
    store,
    transpose_square,
)

SHORT = 256
"""Elements of a run up to which it is copied a vector at a time: LLVM's loop, whose vectors are
four side by side, takes as long to begin as to copy 64."""


@strict_kernel
def fill_all(start, stop, out, value):
    """out[start:stop] = value."""
    width, number = lanes(out), out.dtype.type(value)
    vector, i = fill(number), start
    while i + width <= stop:
        store(out, i, vector)
        i += width
    while i < stop:
        out[i] = number
        i += 1


@strict_kernel
def add(start, stop, x, y):
    """x[start:stop] += y[start:stop]."""
    for i in range(start, stop):
        x[i] += y[i]


@strict_kernel
def copy_runs(start, stop, x, x0, x1, x2, y, y0, y1, y2, n1, n2, n, repeats):
    """Runs of n elements, the runs start to stop of those along three axes (the last two of n1 and
    n2 runs), from the flat x to the flat y, with the strides of each along these axes. Where
    `repeats`, a run of x is one element, again and again."""
    i, j, k = start // n2 // n1, start // n2 % n1, start % n2
    width = lanes(x)
    whole = n // width * width
    for _ in range(start, stop):
        at, to = i * x0 + j * x1 + k * x2, i * y0 + j * y1 + k * y2
        if repeats:
            place, element = y[to : to + n], x[at]
            for m in range(n):
                place[m] = element
        elif n <= SHORT:
            for m in range(0, whole, width):
                store(y, to + m, load(x, at + m))
            for m in range(whole, n):
                y[to + m] = x[at + m]
        else:
            place, source = y[to : to + n], x[at : at + n]
            for m in range(n):
                place[m] = source[m]
        k += 1  # counted, as a division takes as long as a run of 64
        if k == n2:
            j, k = j + 1, 0
            if j == n1:
                i, j = i + 1, 0


@strict_kernel
def copy_strided(start, stop, x, begin, x0, x1, x2, step, n1, n2, n, y):
    """y = x in row-major order: runs of n elements, those from start to stop of the runs along
    three axes (the last two of n1 and n2 runs). x is flat: its first element is `begin`, and it has
    the strides x0, x1 and x2 along these axes, and `step` along a run, any of which may be
    negative."""
    i, j, k = start // n2 // n1, start // n2 % n1, start % n2
    for run in range(start, stop):
        at, place = begin + i * x0 + j * x1 + k * x2, y[run * n : (run + 1) * n]
        if step == 1:
            source = x[at : at + n]
            for m in range(n):
                place[m] = source[m]
        elif step == 2:
            source = x[at : at + 2 * n - 1]
            for m in range(n):
                place[m] = source[2 * m]
        elif step == -1:
            source = x[at - n + 1 : at + 1]
            for m in range(n):
                place[m] = source[n - 1 - m]
        elif step >= 0:
            source = x[at : at + step * (n - 1) + 1]
            for m in range(n):
                place[m] = source[m * step]
        else:
            source = x[at + step * (n - 1) : at + 1]
            for m in range(n):
                place[m] = source[(m - n + 1) * step]
        k += 1
        if k == n2:
            j, k = j + 1, 0
            if j == n1:
                i, j = i + 1, 0


@strict_kernel
def join(start, stop, a, n, a_row, b, m, b_row, out):
    """Elements start to stop of out (rows, n + m), whose rows are those of a (rows, n) and then
    those of b (rows, m); all are flat. The rows of a and b begin a_row and b_row elements apart."""
    row, left = start // (n + m), start % (n + m)
    at = start
    while at < stop:
        if left < n:
            count = min(n - left, stop - at)
            place, source = out[at : at + count], a[row * a_row + left : row * a_row + left + count]
        else:
            count = min(n + m - left, stop - at)
            begin = row * b_row + left - n
            place, source = out[at : at + count], b[begin : begin + count]
        for i in range(count):
            place[i] = source[i]
        at, left = at + count, left + count
        if left == n + m:
            row, left = row + 1, 0


@strict_kernel
def reverse(start, stop, x, y, n, inner):
    """y (rows, n, inner) = x with the order of the n reversed; start and stop count these."""
    at = start
    while at < stop:
        row, left = at // n, at % n
        count = min(n - left, stop - at)
        source = (row * n + n - left - count) * inner
        part, place = x[source : source + count * inner], y[at * inner : (at + count) * inner]
        if inner == 1:
            whole = count // lanes(x) * lanes(x)
            for i in range(0, whole, lanes(x)):
                store(place, i, backwards(load(part, count - lanes(x) - i)))
            for i in range(whole, count):
                place[i] = part[count - 1 - i]
        else:
            for i in range(count):
                run, to = part[(count - 1 - i) * inner :][:inner], place[i * inner :][:inner]
                for j in range(inner):
                    to[j] = run[j]
        at += count


TILE = 32
"""Rows and columns that are transposed at once: their lines of both arrays fit in the nearest
cache."""


@strict_kernel
def transpose(start, stop, x, x0, x1, column, y, y0, y1, row, n1, m, n):
    """y[a, b, i, j] = x[a, b, j, i] for matrices (m, n) of y along two axes, the last of n1: x has
    the strides x0, x1, `column` and 1, y has y0, y1, `row` and 1. An item is TILE rows of y's."""
    parts, width = -(-m // TILE), lanes(x)
    whole = n // width * width
    for item in range(start, stop):
        matrix, first = item // parts, item % parts * TILE
        a, b = matrix // n1, matrix % n1
        at, to = a * x0 + b * x1, a * y0 + b * y1
        last = min(first + TILE, m)
        squares = first + (last - first) // width * width
        for j in range(0, whole, width):
            for i in range(first, squares, width):
                transpose_square(x, at + j * column + i, column, y, to + i * row + j, row)
        for i in range(first, squares):
            for j in range(whole, n):
                y[to + i * row + j] = x[at + j * column + i]
        for i in range(squares, last):
            for j in range(n):
                y[to + i * row + j] = x[at + j * column + i]


@strict_kernel
def triangle(start, stop, x, y, rows, columns, diagonal, lower):
    """y = the lower or upper triangle of x (batch, rows, columns), zero elsewhere: the rows start
    to stop of all matrices. `diagonal` is the last or the first one that is kept."""
    zero = y.dtype.type(0)
    for row in range(start, stop):
        cut = min(max(row % rows + diagonal + (1 if lower else 0), 0), columns)
        place, source = (
            y[row * columns : (row + 1) * columns],
            x[row * columns : (row + 1) * columns],
        )
        kept, cleared = (place[:cut], place[cut:]) if lower else (place[cut:], place[:cut])
        given = source[:cut] if lower else source[cut:]
        for j in range(kept.size):
            kept[j] = given[j]
        for j in range(cleared.size):
            cleared[j] = zero
