"""The normal distribution of vectors, with any covariance or one of low rank."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from gradient.distributions import constraints
from gradient.distributions.distribution import Distribution, same_as
from gradient.errors import ArgumentError, sentence
from gradient.linalg.decompositions import cholesky
from gradient.linalg.solving import solve_triangular
from gradient.random import randn
from gradient.tensor import Tensor
from gradient.tensor.creation import eye
from gradient.tensor.joining import broadcast_shapes, broadcast_tensors

__all__ = ["LowRankMultivariateNormal", "MultivariateNormal"]


class MultivariateNormal(Distribution):
    """Normal vectors (n,) of mean `loc`. Give one of: their covariance, its inverse, or the
    covariance's lower triangular Cholesky factor `scale_tril` (the fastest)."""

    has_rsample = True
    arg_constraints = {
        "loc": constraints.real_vector,
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
    }
    support = constraints.real_vector
    loc: Tensor

    def __init__(
        self,
        loc: Tensor,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        name = "MultivariateNormal"
        if loc.ndim < 1:
            raise ArgumentError(sentence(name, "loc of at least 1 dimension", "a number"))
        key, matrix = one_matrix(name, covariance_matrix, precision_matrix, scale_tril)
        batch = broadcast_shapes(matrix.shape[:-2], loc.shape[:-1])
        vars(self)[key] = matrix.expand((*batch, *matrix.shape[-2:]))
        self.loc = loc.expand((*batch, loc.shape[-1]))
        super().__init__(batch, self.loc.shape[-1:], validate_args)
        self._unbroadcasted_scale_tril = factor_of(key, matrix)

    @functools.cached_property
    def scale_tril(self) -> Tensor:
        """The Cholesky factor of the covariance."""
        n = self.event_shape[0]
        return self._unbroadcasted_scale_tril.expand((*self.batch_shape, n, n))

    @functools.cached_property
    def covariance_matrix(self) -> Tensor:
        """E[(x - loc) (x - loc)^T]"""
        factor, n = self._unbroadcasted_scale_tril, self.event_shape[0]
        return (factor @ factor.mT).expand((*self.batch_shape, n, n))

    @functools.cached_property
    def precision_matrix(self) -> Tensor:
        """The inverse of the covariance."""
        factor, n = self._unbroadcasted_scale_tril, self.event_shape[0]
        inverse = inverse_of_triangle(factor)
        return (inverse.mT @ inverse).expand((*self.batch_shape, n, n))

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        factor = self._unbroadcasted_scale_tril
        del self._unbroadcasted_scale_tril
        try:
            made = super().expand(batch_shape)
        finally:
            self._unbroadcasted_scale_tril = factor
        made._unbroadcasted_scale_tril = factor
        return made

    mean: Tensor = same_as("loc")
    mode: Tensor = same_as("loc")

    @property
    def variance(self) -> Tensor:
        squares = (self._unbroadcasted_scale_tril**2).sum(-1)
        return squares.expand((*self.batch_shape, *self.event_shape))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        noise = randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + (self._unbroadcasted_scale_tril @ noise.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        factor = self._unbroadcasted_scale_tril
        distance = mahalanobis(factor, value - self.loc)
        constant = self.event_shape[0] * math.log(2 * math.pi)
        return -0.5 * (constant + distance) - half_log_det(factor)

    def entropy(self) -> Tensor:
        found = half_log_det(self._unbroadcasted_scale_tril)
        constant = 0.5 * self.event_shape[0] * (1 + math.log(2 * math.pi))
        return (constant + found).expand(self.batch_shape)


def one_matrix(
    name: str,
    covariance_matrix: Tensor | None,
    precision_matrix: Tensor | None,
    scale_tril: Tensor | None,
) -> tuple[str, Tensor]:
    """The one of the three matrices that is given, and its name."""
    given = {
        "covariance_matrix": covariance_matrix,
        "precision_matrix": precision_matrix,
        "scale_tril": scale_tril,
    }
    matrices = {key: value for key, value in given.items() if value is not None}
    if len(matrices) != 1:
        expected = "one of covariance_matrix, precision_matrix and scale_tril"
        raise ArgumentError(sentence(name, expected, ", ".join(matrices) or "none"))
    ((key, matrix),) = matrices.items()
    if matrix.ndim < 2:
        expected = f"{key} of at least 2 dimensions"
        raise ArgumentError(sentence(name, expected, tuple(matrix.shape)))
    return key, matrix


def factor_of(key: str, matrix: Tensor) -> Tensor:
    """The Cholesky factor of the covariance, from the result of `one_matrix`."""
    if key == "scale_tril":
        return matrix
    if key == "covariance_matrix":
        return cholesky(matrix)
    # P = R R^T with R upper triangular is a Cholesky factor of P turned by 180 degrees
    return inverse_of_triangle(cholesky(matrix.flip((-2, -1))).flip((-2, -1)).mT)


def half_log_det(factor: Tensor) -> Tensor:
    """Half the logarithm of the determinant of `factor @ factor.mT`."""
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def mahalanobis(factor: Tensor, offset: Tensor) -> Tensor:
    """The squared norm of `factor^-1 offset`, over the last dimension."""
    if factor.ndim == 2:  # one system for all vectors
        flat = offset.reshape(math.prod(offset.shape[:-1]), offset.shape[-1])
        found = (solve_triangular(factor, flat.mT, upper=False) ** 2).sum(0)
        return found.reshape(offset.shape[:-1])
    found = solve_triangular(factor, offset.unsqueeze(-1), upper=False)
    return (found.squeeze(-1) ** 2).sum(-1)


def inverse_of_triangle(factor: Tensor) -> Tensor:
    """The inverse of a lower triangular matrix."""
    one = eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    return solve_triangular(factor, one, upper=False)


class LowRankMultivariateNormal(Distribution):
    """Normal vectors (n,) of mean `loc` and covariance `cov_factor cov_factor^T + diag(cov_diag)`,
    with `cov_factor` (n, rank) and `cov_diag` (n,).

    Only 1 + W^T D^-1 W (rank, rank) is factored, by Woodbury's identity and the matrix determinant
    lemma.
    """

    has_rsample = True
    arg_constraints = {
        "loc": constraints.real_vector,
        "cov_factor": constraints.independent(constraints.real, 2),
        "cov_diag": constraints.independent(constraints.positive, 1),
    }
    support = constraints.real_vector

    def __init__(
        self,
        loc: Tensor,
        cov_factor: Tensor,
        cov_diag: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        n = loc.shape[-1:]
        if not n or cov_factor.shape[-2:-1] != n or cov_diag.shape[-1:] != n:
            expected = "loc (..., n), cov_factor (..., n, rank) and cov_diag (..., n)"
            got = ", ".join(str(tuple(x.shape)) for x in (loc, cov_factor, cov_diag))
            raise ArgumentError(sentence("LowRankMultivariateNormal", expected, got))
        column, self.cov_factor, diagonal = broadcast_tensors(
            loc.unsqueeze(-1), cov_factor, cov_diag.unsqueeze(-1)
        )
        self.loc, self.cov_diag = column[..., 0], diagonal[..., 0]
        super().__init__(self.loc.shape[:-1], n, validate_args)

    @functools.cached_property
    def _weighted(self) -> Tensor:
        """W^T D^-1, (..., rank, n)."""
        return self.cov_factor.mT / self.cov_diag.unsqueeze(-2)

    @functools.cached_property
    def _capacitance_tril(self) -> Tensor:
        """The Cholesky factor of 1 + W^T D^-1 W."""
        inner = self._weighted @ self.cov_factor
        return cholesky(inner + eye(inner.shape[-1], dtype=inner.dtype, device=inner.device))

    @functools.cached_property
    def covariance_matrix(self) -> Tensor:
        """E[(x - loc) (x - loc)^T]"""
        return self.cov_factor @ self.cov_factor.mT + self.cov_diag.diag_embed()

    @functools.cached_property
    def precision_matrix(self) -> Tensor:
        """The inverse of the covariance."""
        found = solve_triangular(self._capacitance_tril, self._weighted, upper=False)
        return self.cov_diag.reciprocal().diag_embed() - found.mT @ found

    @functools.cached_property
    def scale_tril(self) -> Tensor:
        """The Cholesky factor of the covariance."""
        return cholesky(self.covariance_matrix)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        made = super().expand(batch_shape)
        names = ("_weighted", "_capacitance_tril", "covariance_matrix", "precision_matrix",
                 "scale_tril")  # fmt: skip
        for name in names:  # cached values are recomputed from the parameters
            vars(made).pop(name, None)
        return made

    mean: Tensor = same_as("loc")
    mode: Tensor = same_as("loc")

    @property
    def variance(self) -> Tensor:
        return (self.cov_factor**2).sum(-1) + self.cov_diag

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        options: dict[str, Any] = {"dtype": self.loc.dtype, "device": self.loc.device}
        inner = randn((*shape[:-1], self.cov_factor.shape[-1], 1), **options)
        own = self.cov_diag.sqrt() * randn(shape, **options)
        return self.loc + (self.cov_factor @ inner).squeeze(-1) + own

    def _log_det(self) -> Tensor:
        return 2 * half_log_det(self._capacitance_tril) + self.cov_diag.log().sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        offset = value - self.loc
        inner = (self._weighted @ offset.unsqueeze(-1)).squeeze(-1)
        distance = (offset**2 / self.cov_diag).sum(-1) - mahalanobis(self._capacitance_tril, inner)
        constant = self.event_shape[0] * math.log(2 * math.pi)
        return -0.5 * (constant + self._log_det() + distance)

    def entropy(self) -> Tensor:
        return 0.5 * (self.event_shape[0] * (1 + math.log(2 * math.pi)) + self._log_det())
