"""Triangular systems a x = b, by substitution. Each column of x is one chain of sums in the order
of the rows before it, except for a single column, whose sums are by vectors along the rows."""

from gradient.backends.numpy.kernels import vector_operators as vector_operators
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.vector_functions import sum_of_elements
from gradient.backends.numpy.kernels.vectors import add_product, fill, lanes, load, store


@ordered_subroutine
def vectors_of(a, n, x, columns, c, lower):
    """The unknowns in four vectors of columns, from column c on."""
    width = lanes(x)
    for step in range(n):
        i = step if lower else n - 1 - step
        first, behind = (0, i) if lower else (i + 1, n)
        at = i * columns + c
        v, w = load(x, at), load(x, at + width)
        y, z = load(x, at + 2 * width), load(x, at + 3 * width)
        for j in range(first, behind):
            factor, row = fill(-a[i * n + j]), j * columns + c
            v = add_product(v, factor, load(x, row))
            w = add_product(w, factor, load(x, row + width))
            y = add_product(y, factor, load(x, row + 2 * width))
            z = add_product(z, factor, load(x, row + 3 * width))
        pivot = fill(a[i * n + i])
        store(x, at, v / pivot)
        store(x, at + width, w / pivot)
        store(x, at + 2 * width, y / pivot)
        store(x, at + 3 * width, z / pivot)


@ordered_subroutine
def column_of(a, n, x, columns, c, lower):
    """The unknowns of column c."""
    for step in range(n):
        i = step if lower else n - 1 - step
        first, behind = (0, i) if lower else (i + 1, n)
        total = x[i * columns + c]
        for j in range(first, behind):
            total -= a[i * n + j] * x[j * columns + c]
        x[i * columns + c] = total / a[i * n + i]


@ordered_kernel
def substitute(start, stop, a, n, x, columns, lower):
    """x (N, columns) = a^-1 x, for columns start to stop; a (N, N)."""
    c, width = start, 4 * lanes(x)
    while c + width <= stop:
        vectors_of(a, n, x, columns, c, lower)
        c += width
    while c < stop:
        column_of(a, n, x, columns, c, lower)
        c += 1


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
