"""Triangular systems a x = b, by substitution. Each element of x is one chain of sums, except in a
single column, whose sums are by vectors along the rows."""

from gradient.backends.numpy.kernels import vector_operators as vector_operators
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.small_tiles import height_of, sums_of_rows
from gradient.backends.numpy.kernels.vector_functions import sum_of_elements
from gradient.backends.numpy.kernels.vectors import (
    add_product,
    fill,
    lanes,
    load,
    load_some,
    store_some,
)


@ordered_subroutine
def among_rows(a, at, a_row, a_column, x, x_at, columns, wide, height, lower):
    """The unknowns of so many rows, from which the sums over all others are subtracted already;
    with minus signs. `a` at `at` are the rows' factors of one another."""
    width = lanes(x)
    first = min(wide, width)
    for step in range(height):
        i = step if lower else height - 1 - step
        to, number = x_at + i * columns, at + i * a_row
        v, w = load_some(x, to, first), load_some(x, to + width, wide - width)
        for before in range(step):
            j = before if lower else height - 1 - before
            factor, row = fill(a[number + j * a_column]), x_at + j * columns
            v = add_product(v, factor, load_some(x, row, first))
            w = add_product(w, factor, load_some(x, row + width, wide - width))
        pivot = fill(-a[number + i * a_column])
        store_some(x, to, v / pivot, first)
        store_some(x, to + width, w / pivot, wide - width)


@ordered_subroutine
def substitute_panel(a, a_at, a_row, a_column, n, x, x_at, columns, wide, lower):
    """x (n, wide) = a^-1 x, of up to two vectors' columns; rows of x are `columns` apart."""
    done = 0
    while done < n:
        height = height_of(n - done)
        i = done if lower else n - done - height
        first, to = 0 if lower else i + height, x_at + i * columns
        sums_of_rows(
            height, a, a_at + i * a_row + first * a_column, a_row, a_column,
            x, x_at + first * columns, columns, wide, done, x, to, columns, True, False,
        )  # fmt: skip
        at = a_at + i * (a_row + a_column)
        among_rows(a, at, a_row, a_column, x, to, columns, wide, height, lower)
        done += height
    width = lanes(x)
    minus, some = fill(x.dtype.type(-1)), min(wide, width)
    for at in range(x_at, x_at + n * columns, columns):
        store_some(x, at, load_some(x, at, some) * minus, some)
        if wide > width:
            v = load_some(x, at + width, wide - width) * minus
            store_some(x, at + width, v, wide - width)


@ordered_kernel
def substitute(start, stop, a, a_row, a_column, n, x, columns, lower):
    """x (N, columns) = a^-1 x, for columns start to stop; a (N, N), one of whose strides is 1."""
    panel = 2 * lanes(x)
    for c in range(start, stop, panel):
        wide = min(panel, stop - c)
        substitute_panel(a, 0, a_row, a_column, n, x, c, columns, wide, lower)


@ordered_kernel
def substitute_one(start, stop, a, n, x, lower):
    """x (N,) = a^-1 x."""
    width = lanes(x)
    for step in range(n if start < stop else 0):
        i = step if lower else n - 1 - step
        j, behind = (0, i) if lower else (i + 1, n)
        total, sums = 0.0, fill(x.dtype.type(0))
        while j + width <= behind:
            sums = add_product(sums, load(a, i * n + j), load(x, j))
            j += width
        while j < behind:
            total += a[i * n + j] * x[j]
            j += 1
        x[i] = (x[i] - (total + sum_of_elements(sums))) / a[i * n + i]
