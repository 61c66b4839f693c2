"""The normal distribution of vectors whose covariance is of low rank, beside a diagonal."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from gradient.distributions import constraints
from gradient.distributions.distribution import Distribution, same_as
from gradient.distributions.multivariate_normal import half_log_det, mahalanobis
from gradient.errors import ArgumentError, sentence
from gradient.linalg.decompositions import cholesky
from gradient.linalg.solving import solve_triangular
from gradient.random import randn
from gradient.tensor import Tensor
from gradient.tensor.creation import eye
from gradient.tensor.joining import broadcast_tensors

__all__ = ["LowRankMultivariateNormal"]


class LowRankMultivariateNormal(Distribution):
    """Vectors (n,) of mean `loc` and covariance `cov_factor cov_factor^T + diag(cov_diag)`, with
    `cov_factor` (n, rank) and `cov_diag` (n,).

    What is factored is 1 + W^T D^-1 W (rank, rank), by Woodbury's identity and the lemma of the
    determinant of matrices.
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
        for name in names:  # what was computed follows from the parameters again
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
