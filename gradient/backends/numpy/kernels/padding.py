"""Planes surrounded by a value: (planes, rows, columns), flat."""

from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.vectors import fill, lanes, load, load_some, store, store_some


@ordered_subroutine
def repeat(value, out, at, count):
    """`count` times the value, from `at` on."""
    end = at + count
    while at < end:
        store_some(out, at, fill(value), min(lanes(out), end - at))
        at += lanes(out)


@ordered_kernel
def pad(start, stop, x, rows, columns, top, bottom, left, right, value, out):
    """Planes start to stop, with so many rows and columns more around each."""
    width = left + columns + right
    value = out.dtype.type(value)
    for plane in range(start, stop):
        to = plane * (top + rows + bottom) * width
        repeat(value, out, to, top * width)
        to += top * width
        at = plane * rows * columns
        for _ in range(rows):
            repeat(value, out, to, left)
            to += left
            j = 0
            while j + lanes(x) <= columns:
                store(out, to + j, load(x, at + j))
                j += lanes(x)
            if j < columns:
                store_some(out, to + j, load_some(x, at + j, columns - j), columns - j)
            repeat(value, out, to + columns, right)
            to += columns + right
            at += columns
        repeat(value, out, to, bottom * width)
