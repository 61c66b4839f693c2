"""Transforms of vectors to simplices and to matrices of a special form."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradient import functional as F
from gradient.distributions import constraints
from gradient.distributions.transforms.base import Transform
from gradient.distributions.transforms.elementwise import inside_unit
from gradient.dtypes import finfo
from gradient.errors import ShapeError, sentence
from gradient.linalg.decompositions import cholesky
from gradient.tensor import Size, Tensor
from gradient.tensor.creation import arange, eye, tril_indices

__all__ = [
    "CorrCholeskyTransform",
    "LowerCholeskyTransform",
    "PositiveDefiniteTransform",
    "SoftmaxTransform",
    "StickBreakingTransform",
]


class SoftmaxTransform(Transform):
    """`softmax(x)` over the last dimension; its inverse is `log`, up to a constant."""

    domain, codomain = constraints.real_vector, constraints.simplex

    def _call(self, x: Tensor) -> Tensor:
        return x.softmax(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return y.log()


class StickBreakingTransform(Transform):
    """K - 1 numbers to K with sum 1: each takes its share of the rest left by those before it."""

    domain, codomain = constraints.real_vector, constraints.simplex
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        z = inside_unit((x - self._offset(x).log()).sigmoid())
        left = (1 - z).cumprod(-1)
        return F.pad(z, (0, 1), value=1.0) * F.pad(left, (1, 0), value=1.0)

    def _inverse(self, y: Tensor) -> Tensor:
        shares = y[..., :-1]
        left = (1 - shares.cumsum(-1)).clamp(min=finfo(y.dtype).tiny)
        return shares.log() - left.log() + self._offset(shares).log()

    def _offset(self, x: Tensor) -> Tensor:
        count = x.shape[-1]
        return arange(count, 0, -1, dtype=x.dtype, device=x.device)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        x = x - self._offset(x).log()
        return (F.logsigmoid(x) - x + y[..., :-1].log()).sum(-1)

    def forward_shape(self, shape: Sequence[int]) -> Size:
        return Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: Sequence[int]) -> Size:
        return Size((*shape[:-1], shape[-1] - 1))


class LowerCholeskyTransform(Transform):
    """The lower triangle of a square matrix, with the exponentials of the diagonal."""

    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.lower_cholesky

    def _call(self, x: Tensor) -> Tensor:
        return x.tril(-1) + x.diagonal(dim1=-2, dim2=-1).exp().diag_embed()

    def _inverse(self, y: Tensor) -> Tensor:
        return y.tril(-1) + y.diagonal(dim1=-2, dim2=-1).log().diag_embed()


class PositiveDefiniteTransform(Transform):
    """L L^T, where L is the `LowerCholeskyTransform` of a square matrix."""

    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.positive_definite

    def _call(self, x: Tensor) -> Tensor:
        factor = LowerCholeskyTransform()(x)
        return factor @ factor.mT

    def _inverse(self, y: Tensor) -> Tensor:
        return LowerCholeskyTransform().inv(cholesky(y))


class CorrCholeskyTransform(Transform):
    """D (D - 1) / 2 numbers to the Cholesky factor (D, D) of a correlation matrix.

    Row by row below the diagonal, tanh of each number is its signed share of the root of the rest
    of the row's squared length 1; the diagonal takes the remainder.
    """

    domain, codomain = constraints.real_vector, constraints.corr_cholesky
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        eps = finfo(x.dtype).eps
        shares = _below_diagonal(x.tanh().clamp(-1 + eps, 1 - eps))
        left = (1 - shares**2).sqrt().cumprod(-1)
        one = eye(shares.shape[-1], dtype=x.dtype, device=x.device)
        return (shares + one) * F.pad(left[..., :-1], (1, 0), value=1.0)

    def _inverse(self, y: Tensor) -> Tensor:
        left = F.pad((1 - (y * y).cumsum(-1))[..., :-1], (1, 0), value=1.0)
        rows, columns = _places(y.shape[-1])
        return (y[..., rows, columns] / left[..., rows, columns].sqrt()).atanh()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        left = 1 - (y * y).cumsum(-1)
        rows, columns = _places(y.shape[-1], -2)
        breaking = 0.5 * left[..., rows, columns].log().sum(-1)
        return breaking - 2 * (x + F.softplus(-2 * x) - math.log(2)).sum(-1)

    def forward_shape(self, shape: Sequence[int]) -> Size:
        n = _size(shape[-1] if shape else -1)
        return Size((*shape[:-1], n, n))

    def inverse_shape(self, shape: Sequence[int]) -> Size:
        if len(shape) < 2 or shape[-1] != shape[-2]:
            raise ShapeError(sentence("CorrCholeskyTransform", "a square matrix", tuple(shape)))
        return Size((*shape[:-2], shape[-1] * (shape[-1] - 1) // 2))


def _size(count: int) -> int:
    """D of count = D (D - 1) / 2."""
    n = round((0.25 + 2 * max(count, 0)) ** 0.5 + 0.5)
    if n * (n - 1) // 2 != count:
        expected = "as many numbers as below the diagonal of a square matrix: 1, 3, 6 ..."
        raise ShapeError(sentence("CorrCholeskyTransform", expected, count))
    return n


def _places(n: int, offset: int = -1) -> tuple[Tensor, Tensor]:
    """The rows and columns of the entries below the diagonal of an (n, n) matrix, row by row."""
    rows, columns = tril_indices(n, n, offset)
    return rows, columns


def _below_diagonal(x: Tensor) -> Tensor:
    """(..., D (D - 1) / 2) -> (..., D, D), row by row."""
    n = _size(x.shape[-1])
    rows, columns = _places(n)
    out = x.new_zeros((*x.shape[:-1], n, n))
    out[..., rows, columns] = x
    return out
