"""Decompositions of matrices and their gradients.

Giles 2008, "An extended collection of matrix derivative results for forward and reverse mode
algorithmic differentiation"; pseudo-inverse: Golub and Pereyra 1973, "The Differentiation of
Pseudo-Inverses and Nonlinear Least Squares Problems Whose Variables Separate"; QR: Liao et al.
2019, "Differentiable Programming Tensor Networks", section III. Several result matrices are stacked
in one array, one below the other: see `gradient.backends.composed.decompositions`.

Eigenvalues: Boeddeker et al. 2017, "On the Computation of Complex-valued Gradients with Application
to Statistically Optimum Beamforming", section 4.

For complex matrices, `inv`, `solve`, `lu` and determinants have the same rules as for real ones,
with gradients as nodes pass them to each other (`gradient.autograd.engine`). The other functions
are not holomorphic: their rules conjugate the incoming gradient, follow the same papers with
adjoints instead of transposes, and conjugate the result. The phases of complex vectors are
arbitrary, so a loss must not depend on them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.autograd.op import op
from gradient.errors import LinAlgError

if TYPE_CHECKING:
    from gradient.backends import Array, Backend

    Be = Backend[Any]


def _t(be: Be, x: Any) -> Any:
    return be.matrix_transpose(x)


def _h(be: Be, x: Any) -> Any:
    """The adjoint: the conjugate transpose."""
    return be.conj(be.matrix_transpose(x))


def _rows(be: Be, x: Any, start: int, stop: int | None) -> Any:
    return be.getitem(x, (..., slice(start, stop), slice(None)))


def _columns(be: Be, x: Any, start: int, stop: int | None) -> Any:
    return be.getitem(x, (..., slice(start, stop)))


def _mask(be: Be, mask: np.ndarray, x: Any) -> Any:
    """A constant 0 or 1 for each element of a matrix."""
    return be.asarray(mask.astype(np.float64), x.dtype)


def _diagonal(be: Be, row: Any) -> Any:
    """A row (..., 1, N) as the diagonal of (..., N, N)."""
    return row * _mask(be, np.eye(row.shape[-1]), row)


def _over(be: Be, x: Any, gap: Any) -> Any:
    """x / gap with 0 / 0 = 0: if a loss does not use the vectors, ties give no NaN."""
    neither = (x == 0) & (gap == 0)
    return x / be.where(neither, be.full((), np.inf, gap.dtype), gap)


def _over_differences(be: Be, x: Any, row: Any) -> Any:
    """x_ij / (row_j - row_i) for row (..., 1, N), and 0 on the diagonal."""
    same = _mask(be, np.eye(row.shape[-1]), row)
    return _over(be, x * (1 - same), row - _t(be, row) + same)


def _inv_grad(g: Any, be: Be, out: Any) -> Any:
    across = _t(be, out)
    return -be.matmul(be.matmul(across, g), across)


@op(_inv_grad, promotion="same_float", core_dims=2, takes_complex=True)
def inv(be: Backend[Array], x: Array, /) -> Array:
    """The inverse of x (..., N, N)."""
    return be.inv(x)


@op(lambda g, be, a, out: -be.matmul(be.solve(_t(be, a), g), _t(be, out)),
    lambda g, be, a: be.solve(_t(be, a), g),
    promotion="same_float", core_dims=2, takes_complex=True)  # fmt: skip
def solve(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """x of a x = b, for a (..., N, N) and b (..., N, K); batch axes broadcast."""
    return be.solve(a, b)


@op(lambda g, be, a, out, lower:
    -be.matmul(be.solve_triangular(_t(be, a), g, not lower), _t(be, out)),
    lambda g, be, a, lower: be.solve_triangular(_t(be, a), g, not lower),
    promotion="same_float", core_dims=2, takes_complex=True)  # fmt: skip
def solve_triangular(be: Backend[Array], a: Array, b: Array, /, *, lower: bool) -> Array:
    """`solve` for a triangular a, whose other triangle is 0."""
    return be.solve_triangular(a, b, lower)


def _cholesky_grad(g: Any, be: Be, out: Any) -> Any:
    inner = be.matmul(_h(be, out), be.conj(g))
    below = _h(be, be.triangle(inner, -1, True))
    inner = be.triangle(inner, 0, True) + below
    upper = _h(be, out)
    left = be.solve_triangular(upper, inner * 0.5, False)
    return be.conj(_h(be, be.solve_triangular(upper, _h(be, left), False)))


@op(_cholesky_grad, promotion="same_float", core_dims=2, takes_complex=True)
def cholesky(be: Backend[Array], x: Array, /) -> Array:
    """The lower L of a symmetric x = L L^T (..., N, N), or a Hermitian x = L L^H."""
    return be.cholesky(x)


def _lu_grad(g: Any, be: Be, x_shape: Any, out: Any) -> Any:
    m, n = x_shape[-2:]
    k = min(m, n)
    unit = be.asarray(np.eye(k), out.dtype)
    square = _columns(be, _rows(be, out, 0, k), 0, k)
    lower, upper = be.triangle(square, -1, True) + unit, be.triangle(square, 0, False)
    g_square = _columns(be, _rows(be, g, 0, k), 0, k)
    g_lower, g_upper = be.triangle(g_square, -1, True), be.triangle(g_square, 0, False)
    parts = []  # the part to the right of the square, or below it
    if n > m:
        beside = be.solve_triangular(_t(be, lower), _columns(be, g, k, None), False)
        g_lower = g_lower - be.matmul(beside, _t(be, _columns(be, out, k, None)))
        parts = [beside]
    if m > n:
        below = _t(be, be.solve_triangular(upper, _t(be, _rows(be, g, k, None)), False))
        g_upper = g_upper - be.matmul(_t(be, _rows(be, out, k, None)), below)
        parts = [below]
    inner = be.triangle(be.matmul(_t(be, lower), g_lower), -1, True)
    inner = inner + be.triangle(be.matmul(g_upper, _t(be, upper)), 0, False)
    found = _t(be, be.solve_triangular(upper, _t(be, inner), False))
    found = be.solve_triangular(_t(be, lower), found, False)
    return be.concatenate([found, *parts], -1 if n > m else -2)


@op(_lu_grad, promotion="same_float", core_dims=2, takes_complex=True)
def lu(be: Backend[Array], x: Array, /) -> Array:
    """L (below the diagonal) and U (the rest) of x (..., M, N) = L U, without pivoting: the rows of
    x must be in a suitable order."""
    return be.lu(x)


@op(promotion="none", takes_complex=True)
def lu_pivots(be: Backend[Array], x: Array, /) -> Array:
    """The row, counted from 0, with which elimination exchanges each row: int32 (..., K)."""
    return be.lu_pivots(x)


def _matrix(be: Be, g: Any) -> Any:
    """Reshape one number for each matrix, (...), to (..., 1, 1)."""
    return be.reshape(g, (*g.shape, 1, 1))


def _inverse(be: Be, x: Any) -> Any:
    """x^-1; for singular matrices NaN, not an error."""
    try:
        return be.inv(x)
    except LinAlgError:
        size = be.logabsdet(x)
        singular = _matrix(be, (be.real(size) if x.dtype.kind == "c" else size) == -math.inf)
        one = be.asarray(np.eye(x.shape[-1]), x.dtype)
        return be.where(singular, math.nan, be.inv(be.where(singular, one, x)))


@op(lambda g, be, x: _matrix(be, g) * _t(be, _inverse(be, x)),
    promotion="same_float", core_dims=2, takes_complex=True)  # fmt: skip
def logabsdet(be: Backend[Array], x: Array, /) -> Array:
    """log |det x| for x (..., N, N); for complex x log det x, whose imaginary part is an angle."""
    return be.logabsdet(x)


@op(lambda g, be, x: _matrix(be, g) * be.cofactor(x),
    promotion="same_float", core_dims=2, takes_complex=True)  # fmt: skip
def det(be: Backend[Array], x: Array, /) -> Array:
    """The determinant of x (..., N, N)."""
    return be.det(x)


def _cofactor_grad(g: Any, be: Be, x: Any, out: Any) -> Any:
    back = _t(be, be.inv(x))
    along = be.sum(g * out, (-2, -1), True)
    return along * back - be.matmul(be.matmul(out, _t(be, g)), back)


@op(_cofactor_grad, promotion="same_float", core_dims=2, takes_complex=True)
def cofactor(be: Backend[Array], x: Array, /) -> Array:
    """The cofactors of x (..., N, N). The gradient is for invertible matrices only."""
    return be.cofactor(x)


def _eigh_grad(g: Any, be: Be, out: Any) -> Any:
    n = out.shape[-1]
    vectors, values = _rows(be, out, 0, n), _rows(be, out, n, n + 1)
    g = be.conj(g)
    inner = _over_differences(be, be.matmul(_h(be, vectors), _rows(be, g, 0, n)), values)
    inner = inner + _diagonal(be, _rows(be, g, n, n + 1))
    found = be.matmul(be.matmul(vectors, inner), _h(be, vectors))
    return be.conj(found + _h(be, found)) * 0.5


@op(_eigh_grad, promotion="same_float", core_dims=2, takes_complex=True)
def eigh(be: Backend[Array], x: Array, /) -> Array:
    """The eigenvectors of a symmetric or Hermitian x (..., N, N), and below them the eigenvalues.
    If two values are equal, the gradient of the vectors is infinite, that of the values finite."""
    return be.eigh(x)


def _eig_grad(g: Any, be: Be, out: Any) -> Any:
    n = out.shape[-1]
    vectors, values = _rows(be, out, 0, n), _rows(be, out, n, n + 1)
    g, across = be.conj(g), _h(be, vectors)
    along = be.matmul(across, _rows(be, g, 0, n))
    one = _mask(be, np.eye(n), out)
    lengths = be.sum(along * one, -2, True)  # the vectors always have norm 1
    lengths = (lengths + be.conj(lengths)) * 0.5
    inner = along - be.matmul(across, vectors) * lengths
    inner = _over_differences(be, inner, be.conj(values)) + _diagonal(be, _rows(be, g, n, n + 1))
    return be.conj(be.solve(across, be.matmul(inner, across)))


@op(_eig_grad, promotion="same_float", core_dims=2, takes_complex=True)
def eig(be: Backend[Array], x: Array, /) -> Array:
    """The eigenvectors of x (..., N, N), of norm 1, and below them the eigenvalues, complex both.
    If two values are equal, the gradient of the vectors is infinite."""
    return be.eig(x)


def _eigvalsh_grad(g: Any, be: Be, x: Any) -> Any:
    n = x.shape[-1]
    vectors = _rows(be, be.eigh(x), 0, n)
    return be.matmul(vectors * be.reshape(g, (*g.shape[:-1], 1, n)), _t(be, vectors))


@op(_eigvalsh_grad, promotion="same_float", core_dims=2)
def eigvalsh(be: Backend[Array], x: Array, /) -> Array:
    """The eigenvalues (..., N) of a symmetric x (..., N, N), ascending."""
    n = x.shape[-1]
    return be.getitem(be.eigh(x), (..., n, slice(None)))


def _parts(be: Be, found: Any, m: int) -> tuple[Any, Any, Any]:
    return _rows(be, found, 0, m), _rows(be, found, m, m + 1), _rows(be, found, m + 1, None)


def _svd_grad(g: Any, be: Be, x: Any, out: Any) -> Any:
    m, n = x.shape[-2:]
    (u, s, v), (gu, gs, gv) = _parts(be, out, m), _parts(be, be.conj(g), m)
    left, right = be.matmul(_h(be, u), gu), be.matmul(_h(be, v), gv)
    skew = left - _h(be, left)
    inner = _over_differences(be, skew, s * s) * s
    inner = inner + _t(be, s) * _over_differences(be, right - _h(be, right), s * s)
    if out.dtype.kind[:1] == "c":
        gs = (gs + be.conj(gs)) * 0.5  # the values are real
        # The phases: those of U are taken as arbitrary.
        inner = inner + _over(be, skew * _mask(be, np.eye(s.shape[-1]), s), s + s)
    inner = inner + _diagonal(be, gs)
    found = be.matmul(u, be.matmul(inner, _h(be, v)))
    if m > n:
        beyond = gu - be.matmul(u, left)
        found = found + be.matmul(_over(be, beyond, s), _h(be, v))
    if n > m:
        beyond = gv - be.matmul(v, right)
        found = found + be.matmul(u, _h(be, _over(be, beyond, s)))
    return be.conj(found)


@op(_svd_grad, promotion="same_float", core_dims=2, takes_complex=True)
def svd(be: Backend[Array], x: Array, /) -> Array:
    """U, the singular values and V of x (..., M, N), one below the other. If two singular values
    are equal, the gradient of U and V is infinite, that of the values finite."""
    return be.svd(x)


def _svdvals_grad(g: Any, be: Be, x: Any) -> Any:
    u, _, v = _parts(be, be.svd(x), x.shape[-2])
    return be.matmul(u * be.reshape(g, (*g.shape[:-1], 1, g.shape[-1])), _t(be, v))


@op(_svdvals_grad, promotion="same_float", core_dims=2)
def svdvals(be: Backend[Array], x: Array, /) -> Array:
    """The singular values of x (..., M, N), descending."""
    return be.getitem(be.svd(x), (..., x.shape[-2], slice(None)))


def _qr_grad(g: Any, be: Be, x: Any, out: Any) -> Any:
    m, n = x.shape[-2:]
    q, across = _rows(be, out, 0, m), _rows(be, out, m, m + n)  # R^T
    g = be.conj(g)
    gq, gr = _rows(be, g, 0, m), _t(be, _rows(be, g, m, m + n))
    inner = be.matmul(_t(be, across), _h(be, gr)) - be.matmul(_h(be, gq), q)
    half = inner * _mask(be, np.tril(np.ones((n, n))) - np.eye(n) / 2, x)
    total = gq + be.matmul(q, half + _h(be, half))
    return be.conj(_h(be, be.solve_triangular(_t(be, across), _h(be, total), False)))


@op(_qr_grad, promotion="same_float", core_dims=2, takes_complex=True)
def qr(be: Backend[Array], x: Array, /) -> Array:
    """Q of x (..., M, N), and R^T below it; differentiable if M >= N."""
    return be.qr(x)


def _pinv_grad(g: Any, be: Be, x: Any, out: Any) -> Any:
    g = be.conj(g)
    out_h, g_h = _h(be, out), _h(be, g)
    found = -be.matmul(be.matmul(out_h, g), out_h)
    left = be.matmul(g_h, be.matmul(out, out_h))
    right = be.matmul(be.matmul(out_h, out), g_h)
    found = found + left - be.matmul(x, be.matmul(out, left))
    return be.conj(found + right - be.matmul(be.matmul(right, out), x))


@op(_pinv_grad, promotion="same_float", core_dims=2, takes_complex=True)
def pinv(be: Backend[Array], x: Array, /, *, atol: float, rtol: float) -> Array:
    """The pseudo-inverse (..., N, M) of x (..., M, N). Its gradient assumes a constant rank."""
    return be.pinv(x, atol, rtol)
