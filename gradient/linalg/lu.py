"""The LU decomposition, and systems of linear equations solved with it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gradient.autograd.autocast import autocasts
from gradient.autograd.variable import wrap
from gradient.dtypes import int32
from gradient.errors import DTypeError, LinAlgError, ShapeError, sentence
from gradient.linalg.arguments import matrices, of_host, squares
from gradient.linalg.solving import solve_triangular
from gradient.ops import decompositions as ops
from gradient.tensor import Tensor
from gradient.tensor.arguments import all_samples, tensor_of
from gradient.tensor.arithmetic import same_dtype
from gradient.tensor.creation import eye
from gradient.tensor.reductions import return_type

__all__ = ["lu", "lu_factor", "lu_factor_ex", "lu_solve"]


@return_type("linalg_lu")
class LU(NamedTuple):
    P: Tensor
    L: Tensor
    U: Tensor


@return_type("linalg_lu_factor")
class LUFactor(NamedTuple):
    LU: Tensor
    pivots: Tensor


@return_type("linalg_lu_factor_ex")
class LUFactorEx(NamedTuple):
    LU: Tensor
    pivots: Tensor
    info: Tensor


@autocasts("float32_on_cpu")
def lu(A: Tensor, *, pivot: bool = True) -> LU:
    """Return P, L and U of A = P L U (..., M, N): a permutation P (..., M, M), L (..., M, K), lower
    triangular with ones on the diagonal, and U (..., K, N), upper triangular, with K = min(M, N).

    Rows are exchanged so that the pivot is the largest element of a column. Without `pivot` they
    are not, and P is empty. L and U have gradients if the first K columns and the rows of the
    pivots are linearly independent.
    """
    factors, pivots, _ = lu_factor_ex(A, pivot=pivot)
    return unpacked(factors, pivots if pivot else None)


@autocasts("float32_on_cpu")
def lu_factor(A: Tensor, *, pivot: bool = True) -> LUFactor:
    """Return (LU, pivots) of A (..., M, N), for `lu_solve`. L is below the diagonal of LU, U is the
    rest. Row k was exchanged with row pivots[k], counted from 1; pivots are int32 (..., K).

    Raises LinAlgError if U has a 0 on its diagonal; `lu` and `lu_factor_ex` take such matrices.
    """
    factors, pivots, info = lu_factor_ex(A, pivot=pivot)
    _check("linalg.lu_factor", info)
    return LUFactor(factors, pivots)


@autocasts("float32_on_cpu")
def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> LUFactorEx:
    """Return (LU, pivots) of `lu_factor`, and info: 0, or the position, from 1, of the first 0 on
    the diagonal of U. With `check_errors` such a 0 raises LinAlgError."""
    x = matrices("linalg.lu_factor_ex", A, takes_complex=True)
    m, n = x.shape[-2:]
    if pivot:
        pivots = ops.lu_pivots(x.detach()) + 1
        x = _rows(x, permutation(pivots, m))
    else:
        each = np.arange(1, min(m, n) + 1, dtype=np.int32)
        each = np.broadcast_to(each, (*x.shape[:-2], len(each))).copy()
        pivots = wrap(x.backend.asarray(each), x.backend)
    factors = ops.lu(x)
    info = _first_zeros(factors)
    if check_errors:
        _check("linalg.lu_factor_ex", info)
    return LUFactorEx(factors, pivots, info)


@autocasts("float32_on_cpu")
def lu_solve(
    LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False
) -> Tensor:
    """Solve A X = B, or X A = B if not `left`, with the factors of A (see `lu_factor`); with
    `adjoint`, A^H instead of A. LU is (..., N, N), B and X (..., N, K), or (..., K, N) if not
    `left`."""
    factors = squares("linalg.lu_solve", LU, takes_complex=True)
    b = matrices("linalg.lu_solve", B, takes_complex=True)
    same_dtype("linalg.lu_solve", "B", factors, b)
    size = factors.shape[-1]
    check_pivots("linalg.lu_solve", factors, pivots)
    if b.shape[-2 if left else -1] != size:
        got = f"LU {tuple(factors.shape)} and B {tuple(b.shape)}"
        raise ShapeError(sentence("linalg.lu_solve", "B of as many rows as LU", got))
    order = permutation(pivots, size)
    if adjoint and factors.is_complex():
        factors = factors.conj()
    b = b if left else b.mT
    if adjoint == left:  # U^T L^T P^T x = b
        x = solve_triangular(factors.mT, b, upper=False)
        x = solve_triangular(factors.mT, x, upper=True, unitriangular=True)
        x = _rows(x, order.argsort(-1))
    else:
        x = solve_triangular(factors, _rows(b, order), upper=False, unitriangular=True)
        x = solve_triangular(factors, x, upper=True)
    return x if left else x.mT


def unpacked(factors: Tensor, pivots: Tensor | None) -> LU:
    """Return P, L and U from the results of `lu_factor`; P is empty without pivots."""
    m, n = factors.shape[-2:]
    k = min(m, n)
    lower = factors[..., :k].tril(-1) + eye(m, k, dtype=factors.dtype, device=factors.device)
    upper = factors[..., :k, :].triu()
    if pivots is None:
        return LU(factors.new_empty((0,)), lower, upper)
    one = eye(m, dtype=factors.dtype, device=factors.device)
    return LU(_rows(one, permutation(pivots, m)).mT.clone(), lower, upper)


def permutation(pivots: Tensor, rows: int) -> Tensor:
    """Return the index of the row of A that is row i of P^T A, int64 (..., rows), from pivots,
    which count from 1."""

    def exchanged(host: np.ndarray) -> np.ndarray:
        order = np.broadcast_to(np.arange(rows), (*host.shape[:-1], rows)).copy()
        for k in range(host.shape[-1]):
            chosen = host[..., k, None].astype(np.int64) - 1
            upper = order[..., k, None].copy()
            order[..., k, None] = np.take_along_axis(order, chosen, -1)
            np.put_along_axis(order, chosen, upper, -1)
        return order

    return wrap(pivots.backend.of_values(exchanged, pivots.detach().array), pivots.backend)


def _rows(x: Tensor, order: Tensor) -> Tensor:
    """Return the rows of x (..., M, N) in the order (..., M); batches broadcast."""
    batch = np.broadcast_shapes(tuple(x.shape[:-2]), tuple(order.shape[:-1]))
    shape = (*batch, *x.shape[-2:])
    return x.expand(shape).gather(-2, order.unsqueeze(-1).expand(shape))


def _first_zeros(factors: Tensor) -> Tensor:
    """Return the position, from 1, of the first 0 on each diagonal, int32 (...); 0 if none."""

    def found(host: np.ndarray) -> np.ndarray:
        zeros = host.diagonal(0, -2, -1) == 0
        past = np.ones((*zeros.shape[:-1], 1), bool)
        first = np.concatenate([zeros, past], -1).argmax(-1) + 1
        return np.asarray(first % (zeros.shape[-1] + 1), np.int32)

    return of_host(found, factors)


def _check(name: str, info: Tensor) -> None:
    known = all_samples(info)
    if not known.backend.has_values:
        return
    host = known.backend.to_numpy(known.array)
    if host.any():
        at = tuple(int(i) for i in np.argwhere(host)[0])
        where = f"matrix {at} of the batch has" if at else "the matrix has"
        raise LinAlgError(
            f"{name}: {where} a 0 at place {int(host[at])} of U's diagonal, by which lu_solve "
            "would divide; linalg.lu and lu_factor_ex take such matrices"
        )


def check_pivots(name: str, factors: Tensor, pivots: Tensor) -> None:
    pivots = tensor_of(name, pivots)
    if pivots.dtype is not int32:
        raise DTypeError(sentence(name, "pivots of int32", pivots.dtype))
    count = min(factors.shape[-2:])
    if pivots.ndim == 0 or pivots.shape[-1] != count or pivots.shape[:-1] != factors.shape[:-2]:
        expected = f"pivots {(*factors.shape[:-2], count)}"
        raise ShapeError(sentence(name, expected, tuple(pivots.shape)))
    known = all_samples(pivots)
    if not known.backend.has_values:
        return
    host = known.backend.to_numpy(known.array)
    if host.size and not (host.min() >= 1 and host.max() <= factors.shape[-2]):
        expected = f"pivots from 1 to {factors.shape[-2]}"
        raise ShapeError(sentence(name, expected, f"{host.min()} to {host.max()}"))
