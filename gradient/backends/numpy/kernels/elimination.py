"""Linear systems and determinants of many small matrices, by Gaussian elimination with partial
pivoting (Golub and Van Loan, Matrix Computations, section 3.4): a call of LAPACK for each would
take longer than its arithmetic."""

import math

from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine


@ordered_subroutine
def swap_rows(x, first, second, columns):
    for k in range(columns):
        x[first + k], x[second + k] = x[second + k], x[first + k]


@ordered_subroutine
def subtract_row(x, to, factor, row, columns):
    for k in range(columns):
        x[to + k] -= factor * x[row + k]


@ordered_subroutine
def eliminate(a, at, n, b, to, columns):
    """U in the upper triangle of a (n, n), and L^-1 P b in b (n, columns), for P a = L U. Returns
    the sign of P, or 0 if a is singular."""
    sign = 1
    for j in range(n):
        row = at + j * n
        pivot, largest = j, abs(a[row + j])
        for i in range(j + 1, n):
            size = abs(a[at + i * n + j])
            if size > largest or size != size:  # NaN, which nothing is larger than
                pivot, largest = i, size
        if largest == 0:
            return 0
        if pivot != j:
            sign = -sign
            swap_rows(a, row + j, at + pivot * n + j, n - j)
            swap_rows(b, to + j * columns, to + pivot * columns, columns)
        for i in range(j + 1, n):
            other = at + i * n
            factor = a[other + j] / a[row + j]
            subtract_row(a, other + j + 1, factor, row + j + 1, n - j - 1)
            subtract_row(b, to + i * columns, factor, to + j * columns, columns)
    return sign


@ordered_kernel
def solve(start, stop, a, n, b, columns, done):
    """x of a x = b, in place of b, for the matrices start to stop of a (batch, N, N), which is
    overwritten, and b (batch, N, columns). `done` of a matrix is set unless it is singular."""
    for matrix in range(start, stop):
        at, to = matrix * n * n, matrix * n * columns
        done[matrix] = eliminate(a, at, n, b, to, columns) != 0
        if not done[matrix]:
            continue
        for j in range(n - 1, -1, -1):
            row = to + j * columns
            for k in range(row, row + columns):
                b[k] /= a[at + j * n + j]
            for i in range(j):
                subtract_row(b, to + i * columns, a[at + i * n + j], row, columns)


@ordered_kernel
def determinants(start, stop, a, n, out):
    """The determinants of the matrices start to stop of a (batch, N, N), which is overwritten."""
    for matrix in range(start, stop):
        at = matrix * n * n
        product = a.dtype.type(eliminate(a, at, n, a, at, 0))
        for j in range(n):
            product *= a[at + j * n + j]
        out[matrix] = product


@ordered_kernel
def logarithms(start, stop, a, n, signs, out):
    """As `determinants`, the logarithms of their magnitudes, and their signs."""
    for matrix in range(start, stop):
        at = matrix * n * n
        sign = eliminate(a, at, n, a, at, 0)
        total = a.dtype.type(-math.inf if sign == 0 else 0)
        for j in range(n):
            pivot = a[at + j * n + j]
            if sign != 0:
                total += math.log(abs(pivot))
                sign = sign if pivot > 0 else -sign
        signs[matrix], out[matrix] = sign, total
