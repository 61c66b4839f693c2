"""ExponentialFamily: distributions whose density is an exponential of natural parameters."""

from __future__ import annotations

from gradient.autograd import grad
from gradient.distributions.distribution import Distribution
from gradient.tensor import Tensor

__all__ = ["ExponentialFamily"]


class ExponentialFamily(Distribution):
    """Densities p(x) = exp(<t(x), θ> - F(θ) + k(x)): natural parameters θ, log normalizer F.

    A subclass gives `_natural_params`, `_log_normalizer` and `_mean_carrier_measure`, or an
    `entropy` of its own, as the ones here do.
    """

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        """θ, tensors that begin with the batch shape."""
        raise NotImplementedError

    def _log_normalizer(self, *natural_params: Tensor) -> Tensor:
        """F(θ), of the batch shape."""
        raise NotImplementedError

    @property
    def _mean_carrier_measure(self) -> float:
        """The expectation of k(x)."""
        raise NotImplementedError

    def entropy(self) -> Tensor:
        """F(θ) - <θ, ∇F(θ)> - E[k(x)], of the batch shape (Nielsen & Nock 2010, "Entropies and
        cross-entropies of exponential families")."""
        carrier = self._mean_carrier_measure
        params = [p.detach().requires_grad_() for p in self._natural_params]
        normalizer = self._log_normalizer(*params)
        result = normalizer - carrier
        for p, g in zip(params, grad(normalizer.sum(), params, create_graph=True), strict=True):
            result = result - (p * g).reshape(*self._batch_shape, -1).sum(-1)
        return result
