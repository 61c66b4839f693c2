"""The continuous Bernoulli distribution, of pixels between 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradient import functional as F
from gradient.distributions import constraints
from gradient.distributions.by_probability import ByProbability, clamp_probs
from gradient.distributions.exponential_family import ExponentialFamily
from gradient.random import rand
from gradient.tensor import Tensor
from gradient.tensor.joining import broadcast_tensors, where

__all__ = ["ContinuousBernoulli"]


class ContinuousBernoulli(ByProbability, ExponentialFamily):
    """Numbers from 0 to 1, with density proportional to `probs^x (1 - probs)^(1 - x)`
    (Loaiza-Ganem and Cunningham 2019).

    Between the two `lims`, near 1/2 where the formulas divide 0 by 0, their Taylor series are
    used.
    """

    has_rsample = True
    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.unit_interval

    def __init__(
        self,
        probs: Any = None,
        logits: Any = None,
        lims: tuple[float, float] = (0.499, 0.501),
        validate_args: bool | None = None,
    ) -> None:
        self._set_probs_or_logits(probs, logits)
        self._lims = lims
        super().__init__(self._param.shape, validate_args=validate_args)
        self.probs = clamp_probs(self.probs)

    def _formula(self) -> tuple[Tensor, Tensor]:
        """Where the formulas are valid, and the probabilities, elsewhere a valid one."""
        low, high = self._lims
        holds = (self.probs <= low) | (self.probs > high)
        return holds, where(holds, self.probs, low)

    def _log_norm(self) -> Tensor:
        """log(2 atanh(1 - 2 p) / (1 - 2 p))"""
        holds, p = self._formula()
        found = ((-p).log1p() - p.log()).abs().log() - (1 - 2 * p).abs().log()
        x = (self.probs - 0.5) ** 2
        return where(holds, found, math.log(2) + (4 / 3 + 104 / 45 * x) * x)

    @property
    def mean(self) -> Tensor:
        holds, p = self._formula()
        x = self.probs - 0.5
        near = 0.5 + (1 / 3 + 16 / 45 * x**2) * x
        return where(holds, p / (2 * p - 1) + 1 / ((-p).log1p() - p.log()), near)

    @property
    def variance(self) -> Tensor:
        holds, p = self._formula()
        x = (self.probs - 0.5) ** 2
        found = p * (p - 1) / (1 - 2 * p) ** 2 + 1 / ((-p).log1p() - p.log()) ** 2
        return where(holds, found, 1 / 12 - (1 / 15 - 128 / 945 * x) * x)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return self.icdf(rand(shape, dtype=self.probs.dtype, device=self.probs.device))

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        logits, value = broadcast_tensors(self.logits, value)
        loss = F.binary_cross_entropy_with_logits(logits, value, reduction="none")
        return self._log_norm() - loss

    def cdf(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        holds, p = self._formula()
        found = (p**value * (1 - p) ** (1 - value) + p - 1) / (2 * p - 1)
        return where(value <= 0, 0.0, where(value >= 1, 1.0, where(holds, found, value)))

    def icdf(self, value: Tensor) -> Tensor:
        holds, p = self._formula()
        log_zero = (-p).log1p()
        found = ((-p + value * (2 * p - 1)).log1p() - log_zero) / (p.log() - log_zero)
        return where(holds, found, value)

    def entropy(self) -> Tensor:
        zeros, ones = (-self.probs).log1p(), self.probs.log()
        return self.mean * (zeros - ones) - self._log_norm() - zeros
