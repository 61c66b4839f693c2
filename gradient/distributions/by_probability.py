"""Distributions with probabilities, or their logarithms, as parameters."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

from gradient import functional as F
from gradient.distributions.distribution import Distribution, broadcast_all, require
from gradient.dtypes import finfo
from gradient.errors import ArgumentError, sentence
from gradient.tensor import Tensor

__all__ = ["clamp_probs", "logits_to_probs", "probs_to_logits"]


def clamp_probs(probs: Tensor) -> Tensor:
    """Probabilities, clamped away from 0 and 1 by the dtype's epsilon."""
    eps = finfo(probs.dtype).eps
    return probs.clamp(eps, 1 - eps)


def logits_to_probs(logits: Tensor, is_binary: bool = False) -> Tensor:
    """`softmax` over the last dimension, or `sigmoid`."""
    return logits.sigmoid() if is_binary else logits.softmax(-1)


def probs_to_logits(probs: Tensor, is_binary: bool = False) -> Tensor:
    """Logarithms of probabilities, or of odds."""
    clamped = clamp_probs(probs)
    return clamped.log() - (-clamped).log1p() if is_binary else clamped.log()


class ByProbability(Distribution):
    """A distribution with `probs` and `logits`: one is given, the other computed from it."""

    _binary: ClassVar[bool] = True

    def _set_probs_or_logits(self, probs: Any, logits: Any) -> None:
        """Store the given one as a tensor; probabilities of classes are normalised to sum to 1."""
        name = type(self).__name__
        if (probs is None) == (logits is None):
            got = "neither" if probs is None else "both"
            raise ArgumentError(sentence(name, "either probs or logits", got))
        (given,) = broadcast_all(name, logits if probs is None else probs)
        if not self._binary:
            if given.ndim < 1:
                raise ArgumentError(sentence(name, "parameters of at least 1 dimension", "none"))
            if probs is not None:
                if self._validate_args:
                    require(given >= 0, name, "probs that are not negative", given)
                given = given / given.sum(-1, keepdim=True)
            else:
                given = given - given.logsumexp(-1, keepdim=True)
        vars(self)["logits" if probs is None else "probs"] = given

    @functools.cached_property
    def probs(self) -> Tensor:
        """The probabilities."""
        return logits_to_probs(self.logits, self._binary)

    @functools.cached_property
    def logits(self) -> Tensor:
        """The logarithms of the probabilities; for binary outcomes, of the odds."""
        return probs_to_logits(self.probs, self._binary)

    @property
    def _param(self) -> Tensor:
        """The given parameter."""
        name = "probs" if "probs" in vars(self) else "logits"
        return vars(self)[name]

    @property
    def param_shape(self) -> Any:
        """The shape of the probabilities."""
        return self._param.size()

    def _entropy_of_odds(self) -> Tensor:
        """The entropy of a coin with these odds."""
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")
