"""Distributions of matrices: of covariances, and of the Cholesky factors of correlations."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from gradient.autograd import no_grad
from gradient.distributions import constraints
from gradient.distributions.distribution import Distribution, broadcast_all
from gradient.distributions.exponential_family import ExponentialFamily
from gradient.distributions.gamma import Beta, Chi2
from gradient.distributions.multivariate_normal import factor_of, half_log_det, one_matrix
from gradient.dtypes import finfo
from gradient.errors import ArgumentError, sentence
from gradient.linalg.older import cholesky_inverse, cholesky_solve
from gradient.linalg.solving import slogdet
from gradient.ops.special import digamma, lgamma
from gradient.random import randn
from gradient.tensor import Tensor
from gradient.tensor.creation import arange
from gradient.tensor.from_data import tensor
from gradient.tensor.joining import cat

__all__ = ["LKJCholesky", "Wishart"]


class LKJCholesky(Distribution):
    """The Cholesky factors (dim, dim) of correlation matrices R; the density of R is proportional
    to `det(R)^(concentration - 1)` (Lewandowski, Kurowicka and Joe 2009).

    Draws are made row by row (the paper's section 3.2, the onion method).
    """

    arg_constraints = {"concentration": constraints.positive}
    support = constraints.corr_cholesky

    def __init__(
        self, dim: int, concentration: Any = 1.0, validate_args: bool | None = None
    ) -> None:
        if dim < 2:
            raise ArgumentError(sentence("LKJCholesky", "dim of at least 2", dim))
        self.dim = dim
        (self.concentration,) = broadcast_all("LKJCholesky", concentration)
        super().__init__(self.concentration.shape, (dim, dim), validate_args)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with no_grad():
            like: dict[str, Any] = {
                "dtype": self.concentration.dtype,
                "device": self.concentration.device,
            }
            half = 0.5 * arange(self.dim - 1, **like)
            half = cat([half.new_zeros((1,)), half])  # nothing is drawn for the first row
            most = (self.concentration + 0.5 * (self.dim - 2)).unsqueeze(-1)
            # (PyTorch has half + half + 0.5 here, and its draws do not agree with its log_prob.)
            lengths = Beta(half + 0.5, most - half).sample(sample_shape).unsqueeze(-1)
            sides = randn(self._extended_shape(sample_shape), **like).tril(-1)
            tiny = finfo(sides.dtype).tiny
            rows = lengths.sqrt() * sides / sides.norm(2, -1, True).clamp(min=tiny)
            left = (1 - (rows**2).sum(-1)).clamp(min=tiny)
            return rows + left.sqrt().diag_embed()

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        a, n = self.concentration, self.dim
        place = arange(2, n + 1, dtype=a.dtype, device=a.device)
        power = 2 * (a - 1).unsqueeze(-1) + n - place
        density = (power * value.diagonal(dim1=-1, dim2=-2)[..., 1:].log()).sum(-1)
        top = a + 0.5 * (n - 1)
        norm = (top - 0.5).mvlgamma(n - 1) - (n - 1) * lgamma(top)
        return density - norm - 0.5 * (n - 1) * math.log(math.pi)


class Wishart(ExponentialFamily):
    """The Wishart distribution of matrices (n, n): for an integer `df`, the sum of x x^T over `df`
    normal vectors x (n,) of mean 0. Give one of: their covariance, its inverse, or its Cholesky
    factor `scale_tril`."""

    has_rsample = True
    support = constraints.positive_definite

    def __init__(
        self,
        df: Any,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        key, matrix = one_matrix("Wishart", covariance_matrix, precision_matrix, scale_tril)
        degrees = df if isinstance(df, Tensor) else tensor(float(df), dtype=matrix.dtype)
        flat = broadcast_all("Wishart", degrees, matrix[..., 0, 0])[0]
        self.df = flat.to(matrix.dtype)
        batch, events = self.df.shape, matrix.shape[-2:]
        vars(self)[key] = matrix.expand((*batch, *events))
        super().__init__(batch, events, validate_args)
        self.scale_tril = factor_of(key, vars(self)[key])

    # Not a class attribute: the minimum degrees of freedom depend on the matrix.
    @property
    def arg_constraints(self) -> Any:  # type: ignore[override]
        return {
            "covariance_matrix": constraints.positive_definite,
            "precision_matrix": constraints.positive_definite,
            "scale_tril": constraints.lower_cholesky,
            "df": constraints.greater_than(self.event_shape[-1] - 1),
        }

    @functools.cached_property
    def covariance_matrix(self) -> Tensor:
        """The mean of one x x^T."""
        return self.scale_tril @ self.scale_tril.mT

    @functools.cached_property
    def precision_matrix(self) -> Tensor:
        """The inverse of `covariance_matrix`."""
        return cholesky_inverse(self.scale_tril)

    @property
    def mean(self) -> Tensor:
        return self.df[..., None, None] * self.covariance_matrix

    @property
    def mode(self) -> Tensor:
        factor = self.df - self.event_shape[-1] - 1
        return factor.masked_fill(factor <= 0, math.nan)[..., None, None] * self.covariance_matrix

    @property
    def variance(self) -> Tensor:
        v = self.covariance_matrix
        diagonal = v.diagonal(dim1=-2, dim2=-1)
        return self.df[..., None, None] * (v**2 + diagonal[..., None] * diagonal[..., None, :])

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw by Bartlett's decomposition (Odell and Feiveson 1966)."""
        n, like = self.event_shape[-1], self.df
        degrees = like.unsqueeze(-1) - arange(n, dtype=like.dtype, device=like.device)
        diagonal = Chi2(degrees).rsample(sample_shape).sqrt()
        shape = self._extended_shape(sample_shape)
        below = randn(shape, dtype=like.dtype, device=like.device).tril(-1)
        factor = self.scale_tril @ (below + diagonal.diag_embed())
        return factor @ factor.mT

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        n, df, factor = self.event_shape[-1], self.df, self.scale_tril
        trace = cholesky_solve(value, factor).diagonal(dim1=-2, dim2=-1).sum(-1)
        norm = df * (n * math.log(2) / 2 + half_log_det(factor)) + (df / 2).mvlgamma(n)
        return (df - n - 1) / 2 * slogdet(value).logabsdet - trace / 2 - norm

    def _slope(self) -> Tensor:
        """The derivative of `mvlgamma` at df / 2."""
        places = arange(self.event_shape[-1], dtype=self.df.dtype, device=self.df.device)
        return digamma((self.df / 2).unsqueeze(-1) - places / 2).sum(-1)

    def entropy(self) -> Tensor:
        n, df, slope = self.event_shape[-1], self.df, self._slope()
        size = (n + 1) * (n * math.log(2) / 2 + half_log_det(self.scale_tril))
        return size + (df / 2).mvlgamma(n) - (df - n - 1) / 2 * slope + df * n / 2
