"""Linear algebra functions that PyTorch has outside of `linalg`, some with older arguments."""

from __future__ import annotations

from typing import NamedTuple

from gradient.autograd.autocast import autocasts
from gradient.autograd.forwarding import forwarded
from gradient.dtypes import int64
from gradient.errors import ArgumentError, ShapeError, sentence
from gradient.linalg import decompositions, powers, solving
from gradient.linalg.arguments import matrices, squares
from gradient.linalg.lu import LUFactor, LUFactorEx, check_pivots, lu_factor_ex, unpacked
from gradient.linalg.lu import lu_solve as solve_by_lu
from gradient.ops import decompositions as ops
from gradient.tensor import Tensor
from gradient.tensor.arguments import int_of, number_of, tensor_of
from gradient.tensor.creation import arange, eye
from gradient.tensor.reductions import return_type

__all__ = [
    "cholesky",
    "cholesky_inverse",
    "cholesky_solve",
    "det",
    "inverse",
    "logdet",
    "lu",
    "lu_solve",
    "lu_unpack",
    "matrix_exp",
    "matrix_power",
    "pinverse",
    "qr",
    "slogdet",
    "svd",
    "triangular_solve",
    "vander",
]


@return_type("svd")
class SVD(NamedTuple):
    U: Tensor
    S: Tensor
    V: Tensor


@return_type("slogdet")
class LogDeterminant(NamedTuple):
    sign: Tensor
    logabsdet: Tensor


@return_type("qr")
class QR(NamedTuple):
    Q: Tensor
    R: Tensor


@return_type("lu_unpack")
class LU(NamedTuple):
    P: Tensor
    L: Tensor
    U: Tensor


@forwarded
def det(input: Tensor) -> Tensor:
    """`linalg.det`."""
    return solving.det(input)


@forwarded
def slogdet(input: Tensor) -> LogDeterminant:
    """`linalg.slogdet`."""
    return LogDeterminant(*solving.slogdet(input))


@forwarded
def logdet(input: Tensor) -> Tensor:
    """log det A: NaN if the determinant is negative, -inf if it is 0; of complex matrices complex,
    with the determinant's angle as imaginary part."""
    sign, size = solving.slogdet(input)
    if sign.is_complex():
        return size + sign.log()
    return size.masked_fill(sign < 0, float("nan"))


@forwarded
@autocasts("float32_on_cpu")
def inverse(input: Tensor) -> Tensor:
    """`linalg.inv`."""
    return solving.inv(input)


@forwarded
@autocasts("float32_on_cpu")
def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """`linalg.pinv`."""
    return solving.pinv(input, rtol=number_of("pinverse", "rcond", rcond))


@forwarded
def matrix_exp(input: Tensor) -> Tensor:
    """`linalg.matrix_exp`."""
    return powers.matrix_exp(input)


@forwarded
def matrix_power(input: Tensor, n: int) -> Tensor:
    """`linalg.matrix_power`."""
    return powers.matrix_power(input, n)


@forwarded
@autocasts("float32_on_cpu")
def cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """`linalg.cholesky`."""
    return decompositions.cholesky(input, upper=upper)


@forwarded
@autocasts("float32_on_cpu")
def cholesky_solve(input: Tensor, input2: Tensor, upper: bool = False) -> Tensor:
    """Solve A X = input for X, where input2 (..., N, N) is the Cholesky factor of A: A = L L^H,
    with `upper` L^H L."""
    b = matrices("cholesky_solve", input, takes_complex=True)
    x = squares("cholesky_solve", input2, takes_complex=True)
    lower = x.mH if upper else x
    # As in PyTorch, the other triangle gets a gradient too, as if L were a full matrix.
    other = lower.masked_fill(~lower.detach().isfinite(), 0.0).triu(1)
    lower = lower.tril() + (other - other.detach())
    found = ops.solve_triangular(lower, b, lower=True)
    return ops.solve_triangular(lower.mH, found, lower=False)


@forwarded
@autocasts("float32_on_cpu")
def cholesky_inverse(input: Tensor, upper: bool = False) -> Tensor:
    """Return the inverse of A, where `input` (..., N, N) is its Cholesky factor: A = L L^H, with
    `upper` L^H L."""
    x = squares("cholesky_inverse", input, takes_complex=True)
    return cholesky_solve(eye(x.shape[-1], dtype=x.dtype, device=x.device), x, upper)


@forwarded
@autocasts("float32_on_cpu")
def qr(input: Tensor, some: bool = True) -> QR:
    """`linalg.qr`, reduced if `some`, else complete."""
    return QR(*decompositions.qr(input, "reduced" if some else "complete"))


@forwarded
@autocasts("float32_on_cpu")
def svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> SVD:
    """`linalg.svd` with V instead of V^T, reduced if `some`; zeros for U and V without
    `compute_uv`."""
    input = matrices("svd", input, takes_complex=True)
    if not compute_uv:
        m, n = input.shape[-2:]
        batch = input.shape[:-2]
        values = decompositions.svdvals(input)
        return SVD(input.new_zeros((*batch, m, m)), values, input.new_zeros((*batch, n, n)))
    u, s, vh = decompositions.svd(input, not some)
    return SVD(u, s, vh.mH.clone())


@return_type("triangular_solve")
class TriangularSolution(NamedTuple):
    solution: Tensor
    cloned_coefficient: Tensor


@forwarded
@autocasts("float32_on_cpu")
def lu(A: Tensor, pivot: bool = True, get_infos: bool = False) -> LUFactor | LUFactorEx:
    """Return (LU, pivots) like `linalg.lu_factor`, also for singular matrices; with `get_infos`
    also the info of `linalg.lu_factor_ex`."""
    found = lu_factor_ex(A, pivot=pivot)
    return found if get_infos else LUFactor(found.LU, found.pivots)


@forwarded
@autocasts("float32_on_cpu")
def lu_solve(input: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """`linalg.lu_solve` for input (..., N, K) and the results of `linalg.lu_factor`."""
    return solve_by_lu(LU_data, LU_pivots, input)


@forwarded
def lu_unpack(
    LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True
) -> LU:
    """Return P, L and U of `linalg.lu` from the results of `linalg.lu_factor`. L and U are empty
    without `unpack_data`, P is empty without `unpack_pivots`."""
    factors = matrices("lu_unpack", LU_data, takes_complex=True)
    if unpack_pivots:
        check_pivots("lu_unpack", factors, LU_pivots)
    p, lower, upper = unpacked(factors, LU_pivots if unpack_pivots else None)
    if not unpack_data:
        lower = upper = factors.new_empty((0,))
    return LU(p, lower, upper)


@forwarded
@autocasts("float32_on_cpu")
def triangular_solve(
    input: Tensor,
    A: Tensor,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
) -> TriangularSolution:
    """Solve A X = input, with `transpose` A^T X = input, for a triangular A (..., N, N); return X
    and a copy of A. Only one triangle is read (see `linalg.solve_triangular`); batches
    broadcast."""
    a = squares("triangular_solve", A, takes_complex=True)
    b = matrices("triangular_solve", input, takes_complex=True)
    x = solving.solve_triangular(
        a.mT if transpose else a, b, upper=upper != transpose, unitriangular=unitriangular
    )
    return TriangularSolution(x, a.expand(*x.shape[:-2], *a.shape[-2:]).clone())


@forwarded
def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """Return the powers N - 1 down to 0 of each element of the vector x (n,), with `increasing` 0
    up to N - 1: (n, N). N is n by default. Integers give int64. `linalg.vander` takes batches."""
    values = tensor_of("vander", x)
    if values.ndim != 1:
        raise ShapeError(sentence("vander", "a vector", f"shape {tuple(values.shape)}"))
    count = values.shape[0] if N is None else int_of("vander", "N", N)
    if count < 0:
        raise ArgumentError(sentence("vander", "N of at least 0", count))
    if not (values.is_floating_point() or values.is_complex()):
        values = values.to(int64)
    powers = arange(count, device=values.device)
    raised: Tensor = values.unsqueeze(-1) ** (powers if increasing else powers.flip(0))
    return raised
