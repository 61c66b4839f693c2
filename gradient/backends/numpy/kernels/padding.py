"""Planes surrounded by a value, or by their own numbers: (planes, rows, columns), flat."""

from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.vectors import fill, lanes, load, load_some, store, store_some

CONSTANT, REFLECT, REPLICATE, CIRCULAR = range(4)
MODES = {"reflect": REFLECT, "replicate": REPLICATE, "circular": CIRCULAR}
"""What stands around a plane."""


@ordered_subroutine
def repeat(value, out, at, count):
    """`count` times the value, from `at` on."""
    end = at + count
    while at < end:
        store_some(out, at, fill(value), min(lanes(out), end - at))
        at += lanes(out)


@ordered_subroutine
def around(i, n, mode):
    """The element that stands at place i of n, padded: one before the first or after the last."""
    if mode == REFLECT:
        return n - 1 - abs(n - 1 - abs(i))
    if mode == REPLICATE:
        return min(max(i, 0), n - 1)
    return i + n if i < 0 else i - n if i >= n else i


@ordered_kernel
def pad(start, stop, x, rows, columns, top, bottom, left, right, mode, value, out):
    """Rows start to stop of all planes, with so many rows and columns more around each plane: of
    `value`, or of its own numbers."""
    height, width = top + rows + bottom, left + columns + right
    value = out.dtype.type(value)
    for row in range(start, stop):
        to, i = row * width, row % height - top
        if mode != CONSTANT:
            i = around(i, rows, mode)
        elif i < 0 or i >= rows:
            repeat(value, out, to, width)
            continue
        at = (row // height * rows + i) * columns
        if mode == CONSTANT:
            repeat(value, out, to, left)
            repeat(value, out, to + left + columns, right)
        else:
            for j in range(left):
                out[to + j] = x[at + around(j - left, columns, mode)]
            for j in range(columns, columns + right):
                out[to + left + j] = x[at + around(j, columns, mode)]
        to += left
        j = 0
        while j + lanes(x) <= columns:
            store(out, to + j, load(x, at + j))
            j += lanes(x)
        if j < columns:
            store_some(out, to + j, load_some(x, at + j, columns - j), columns - j)
