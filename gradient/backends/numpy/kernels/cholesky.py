"""The Cholesky decomposition x = L L^T, a panel of columns at a time (Golub and Van Loan, Matrix
Computations, section 4.2.5): the columns before are subtracted from a panel, by tiles; the square
on its diagonal is decomposed; and the rows below that are the solutions of a triangular system."""

import math

import numpy as np

from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.small_tiles import height_of, sums_of_rows
from gradient.backends.numpy.kernels.triangular import substitute_panel
from gradient.backends.numpy.kernels.vectors import lanes, transpose_square


@ordered_subroutine
def turn(x, at, row, rows, columns, y, to, y_row):
    """y (columns, rows) = x (rows, columns).T, flat arrays with rows so far apart."""
    width = lanes(x)
    for i in range(0, rows, width):
        for j in range(0, columns, width):
            if i + width <= rows and j + width <= columns:
                transpose_square(x, at + i * row + j, row, y, to + j * y_row + i, y_row)
            else:
                for p in range(i, min(i + width, rows)):
                    for q in range(j, min(j + width, columns)):
                        y[to + q * y_row + p] = x[at + p * row + q]


@ordered_subroutine
def decompose_square(x, at, row, size):
    """The lower triangle of x (size, size) by its decomposition; whether it has one."""
    for j in range(size):
        for i in range(j, size):
            total = x[at + i * row + j]
            for q in range(j):
                total -= x[at + i * row + q] * x[at + j * row + q]
            if i == j:
                if not total > 0 or total == math.inf:
                    return False
                x[at + i * row + j] = math.sqrt(total)
            else:
                x[at + i * row + j] = total / x[at + j * row + j]
    return True


@ordered_kernel
def cholesky(start, stop, x, n, done):
    """L of the matrices start to stop of x (batch, N, N), in its place. `done` of a matrix is set
    if it is positive definite."""
    panel = 2 * lanes(x)
    turned = np.empty(n * panel, x.dtype)
    for matrix in range(start, stop):
        first, is_positive = matrix * n * n, True
        for left in range(0, n, panel):
            wide = min(panel, n - left)
            at = first + left * n
            if left > 0:
                turn(x, at, n, wide, left, turned, 0, panel)
                for place in range(left * panel):
                    turned[place] = -turned[place]
                i = 0
                while i < n - left:
                    height, to = height_of(n - left - i), at + i * n
                    sums_of_rows(
                        height, x, to, n, 1, turned, 0, panel, wide, left,
                        x, to + left, n, True, False,
                    )  # fmt: skip
                    i += height
            if not decompose_square(x, at + left, n, wide):
                is_positive = False
                break
            for top in range(left + wide, n, panel):
                rows, below = min(panel, n - top), first + top * n + left
                turn(x, below, n, rows, wide, turned, 0, panel)
                substitute_panel(x, at + left, n, 1, wide, turned, 0, panel, rows, True)
                turn(turned, 0, panel, wide, rows, x, below, n)
        for i in range(n):
            for j in range(first + i * n + i + 1, first + i * n + n):
                x[j] = 0
        done[matrix] = is_positive
