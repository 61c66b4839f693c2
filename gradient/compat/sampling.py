"""Draws of counts, as functions of the package: `poisson`, `binomial`."""

from __future__ import annotations

import math
from typing import Any

from gradient.autograd.forwarding import forwarded
from gradient.autograd.function import Function, once_differentiable
from gradient.distributions import count_sampling
from gradient.errors import ArgumentError, DTypeError, TypeMismatch, sentence
from gradient.random import Generator
from gradient.tensor import Tensor
from gradient.tensor.arguments import anywhere, tensor_of
from gradient.tensor.joining import broadcast_tensors, where

__all__ = ["binomial", "poisson"]


class _Poisson(Function):
    """A draw for each rate, which no rate moves: the gradient is 0."""

    @staticmethod
    def forward(ctx: Any, rate: Tensor, generator: Generator | None) -> Tensor:
        return count_sampling.poisson(rate, generator)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad * 0, None


@forwarded
def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """A draw of Poisson's distribution for each rate, of the shape and dtype of the rates.

    Raises:
        ArgumentError: a rate is below 0, infinite or NaN.
    """
    rate = _floats("poisson", "input", input)
    if anywhere(~((rate >= 0) & rate.isfinite())):
        raise ArgumentError(sentence("poisson", "rates of at least 0", "others", "clamp(min=0)"))
    drawn: Tensor = _Poisson.apply(rate, generator)
    return drawn


@forwarded
def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """How many of `count` coins that are 1 with probability `prob` are: tensors that broadcast, of
    one floating-point dtype. Counts are rounded down, probabilities put between 0 and 1. Of
    infinitely many coins all are 1, or none, or the number is NaN."""
    n, p = _floats("binomial", "count", count), _floats("binomial", "prob", prob)
    if n.dtype is not p.dtype:
        raise DTypeError(sentence("binomial", f"prob of {n.dtype}, as count", p.dtype))
    n, p = broadcast_tensors(n, p)
    if anywhere(n.isnan() | p.isnan()):
        raise ArgumentError(sentence("binomial", "counts and probabilities", "NaN"))
    endless = n.isposinf()
    if not anywhere(endless):
        return count_sampling.binomial(n, p, generator)
    drawn = count_sampling.binomial(n.masked_fill(endless, 0.0), p, generator)
    limit = where(p <= 0, 0.0, where(p >= 1, math.inf, math.nan)).to(n.dtype)
    return where(endless, limit, drawn)


def _floats(caller: str, name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeMismatch(sentence(caller, f"a Tensor as {name}", type(value).__name__))
    if not tensor_of(caller, value).is_floating_point():
        kind = DTypeError if caller == "poisson" else ArgumentError  # PyTorch's are a ValueError
        raise kind(sentence(caller, f"a floating-point {name}", value.dtype))
    return value
