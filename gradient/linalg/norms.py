"""Norms of vectors and matrices."""

from __future__ import annotations

import math
from typing import Any

from gradient.autograd.autocast import autocasts
from gradient.dtypes import DType, dtype_of
from gradient.dtypes.promotion import norm_dtype
from gradient.errors import ArgumentError, ShapeError, sentence
from gradient.linalg.arguments import matrices, squares
from gradient.linalg.decompositions import svdvals
from gradient.linalg.solving import inv_ex
from gradient.tensor import Tensor
from gradient.tensor.arguments import axis_of, tensor_of

__all__ = ["cond", "matrix_norm", "norm", "vector_norm"]

Order = float | int | str | None


def vector_norm(
    x: Tensor,
    ord: float = 2,
    dim: int | tuple[int, ...] | None = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Tensor:
    """(sum |x|^ord)^(1 / ord) over `dim`, or over all elements. For ord inf it is the largest |x|,
    for -inf the smallest, for 0 the number of nonzero elements."""
    if isinstance(ord, str):
        raise ArgumentError(sentence("linalg.vector_norm", "a number as ord", repr(ord)))
    x = tensor_of("linalg.vector_norm", x)
    if dtype is not None:
        x = x.to(norm_dtype("linalg.vector_norm", x.dtype, dtype_of(dtype)))
    x = matrices("linalg.vector_norm", x.abs() if x.is_complex() else x, 0)
    dims = None if dim is None else ((dim,) if isinstance(dim, int) else tuple(dim))
    if dims == ():
        dims = None
    if dims is None:
        flat = x.reshape(-1)
        found = flat.norm(ord, 0)
        return found.reshape((1,) * x.ndim) if keepdim else found
    return x.norm(ord, dims, keepdim)


def matrix_norm(
    A: Tensor,
    ord: Order = "fro",
    dim: tuple[int, int] = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Tensor:
    """A norm of the matrices in the two dimensions `dim`: "fro" (Frobenius), "nuc" (the sum of the
    singular values), 2 and -2 (the largest and the smallest of them), 1 and -1 (the largest and the
    smallest column sum of |A|), inf and -inf (the same for row sums)."""
    x = matrices("linalg.matrix_norm", A, takes_complex=True)
    if dtype is not None:
        x = x.to(norm_dtype("linalg.matrix_norm", x.dtype, dtype_of(dtype)))
    if not isinstance(dim, (tuple, list)) or len(dim) != 2:
        raise ArgumentError(sentence("linalg.matrix_norm", "dim, two dimensions", dim))
    rows, columns = (axis_of(d, x.ndim) for d in dim)
    if rows == columns:
        raise ShapeError(sentence("linalg.matrix_norm", "two different dimensions", dim))
    if ord == "fro":
        return vector_norm(x, 2, (rows, columns), keepdim)
    if ord in ("nuc", 2, -2):
        values = svdvals(x.movedim((rows, columns), (-2, -1)))
        if values.shape[-1] == 0:
            ord = "nuc"
        found = values.sum(-1) if ord == "nuc" else values.amax(-1) if ord == 2 else values.amin(-1)
    elif ord in (1, -1, math.inf, -math.inf):
        along = rows if abs(float(ord)) == 1 else columns
        other = columns if along == rows else rows
        sums = x.abs().sum(along, True)
        if sums.shape[other] == 0:  # no rows, no columns
            sums = sums.sum(other, True)
        found = sums.amax((along, other)) if float(ord) > 0 else sums.amin((along, other))
    else:
        wanted = "ord fro, nuc, 1, -1, 2, -2, inf or -inf"
        raise ArgumentError(sentence("linalg.matrix_norm", wanted, repr(ord)))
    if keepdim:
        for d in sorted((rows, columns)):
            found = found.unsqueeze(d)
    return found


def norm(
    A: Tensor,
    ord: Order = None,
    dim: int | tuple[int, ...] | None = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Tensor:
    """`vector_norm` over one dimension, or without `ord` over any number of dimensions; otherwise
    `matrix_norm` over two."""
    dims = None if dim is None else ((dim,) if isinstance(dim, int) else tuple(dim))
    if ord is None:
        return vector_norm(A, 2, dims, keepdim, dtype=dtype)
    if (dims is not None and len(dims) == 2) or (dims is None and A.ndim == 2):
        chosen: Any = (-2, -1) if dims is None else dims
        return matrix_norm(A, ord, chosen, keepdim, dtype=dtype)
    if isinstance(ord, str):
        raise ArgumentError(sentence("linalg.norm", f"two dimensions for ord {ord!r}", dims))
    if dims is None and A.ndim != 1:
        raise ShapeError(sentence("linalg.norm", "1 or 2 dimensions, or dim", tuple(A.shape)))
    return vector_norm(A, ord, dims, keepdim, dtype=dtype)


@autocasts("float32_on_cpu")
def cond(A: Tensor, p: Order = None) -> Tensor:
    """The condition number |A| |A^-1| of A (..., N, N) in the norm p. For p None, 2 and -2 it is
    computed from singular values, and A need not be square. Infinite for a singular matrix, 0 for
    an empty one."""
    check = matrices if p in (None, 2, -2) else squares
    x = check("linalg.cond", A, takes_complex=True)
    if x.shape[-1] == 0 or x.shape[-2] == 0:
        return x.abs().sum((-2, -1))
    if p in (None, 2, -2):
        values = svdvals(x)
        first, last = values[..., 0], values[..., -1]
        return last / first if p == -2 else first / last
    inverse, info = inv_ex(x)
    inverse = inverse.masked_fill((info != 0)[..., None, None], 0.0)
    found = matrix_norm(x, p) * matrix_norm(inverse, p)
    return found.masked_fill(info != 0, math.inf)
