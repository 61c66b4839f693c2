"""Losses for predicting numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

from gradient.autograd.autocast import autocasts
from gradient.dtypes import bool_, promote_types
from gradient.errors import ArgumentError, DTypeError, ShapeError, sentence
from gradient.functional.arguments import composite, floats
from gradient.functional.reduction import (
    are_added_up,
    reduced,
    takes_retired_arguments,
    warn_if_broadcast,
)
from gradient.functional.stability import at_least
from gradient.ops import loss
from gradient.tensor import Tensor
from gradient.tensor.arguments import flag_of, number_of
from gradient.tensor.creation_like import full_like, ones_like
from gradient.tensor.joining import broadcast_tensors, where

__all__ = [
    "gaussian_nll_loss",
    "huber_loss",
    "l1_loss",
    "mse_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
]


@autocasts("float32")
@takes_retired_arguments
@composite
def mse_loss(
    input: Tensor, target: Tensor, *, reduction: str = "mean", weight: Tensor | None = None
) -> Tensor:
    """`(x - t)^2`, elementwise, for x and t of one shape (...). The result is a number (), or of
    this shape with reduction="none"; `weight`, of this shape, multiplies the losses."""
    if are_added_up(input, target, weight, reduction):
        return loss.squared_error(input, target, count=input.numel() if reduction == "mean" else 1)
    return _regression("mse_loss", input, target, reduction, weight, lambda gap: gap * gap)


@autocasts("float32")
@takes_retired_arguments
@composite
def l1_loss(
    input: Tensor, target: Tensor, *, reduction: str = "mean", weight: Tensor | None = None
) -> Tensor:
    """`|x - t|`, elementwise; shapes and arguments as in `mse_loss`."""
    if are_added_up(input, target, weight, reduction):
        return _added_up(input, target, reduction, 0.0, 1.0)
    return _regression("l1_loss", input, target, reduction, weight, lambda gap: gap.abs())


@autocasts("float32")
@takes_retired_arguments
@composite
def smooth_l1_loss(
    input: Tensor, target: Tensor, *, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """`d^2 / (2 beta)` where `d = |x - t| < beta`, else `d - beta / 2`, elementwise (Girshick
    2015, "Fast R-CNN", section 2.3)."""
    beta = number_of("smooth_l1_loss", "beta", beta)
    if beta < 0:
        raise ArgumentError(f"smooth_l1_loss: beta must be 0 or more, got {beta}")
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    if are_added_up(input, target, None, reduction):
        return _added_up(input, target, reduction, beta, beta)

    def losses(gap: Tensor) -> Tensor:
        return _huber(gap, beta) / beta

    return _regression("smooth_l1_loss", input, target, reduction, None, losses)


@autocasts("float32")
@composite
def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """`d^2 / 2` where `d = |x - t| <= delta`, else `delta (d - delta / 2)`, elementwise (Huber
    1964). The result has the input's dtype, or that of its product with `weight`."""
    delta = number_of("huber_loss", "delta", delta)
    if delta <= 0:
        raise ArgumentError(f"huber_loss: delta must be greater than 0, got {delta}")
    if are_added_up(input, target, weight, reduction):
        return _added_up(input, target, reduction, delta, 1.0)

    def losses(gap: Tensor) -> Tensor:
        return _huber(gap, delta).to(input.dtype)

    return _regression("huber_loss", floats("huber_loss", input), target, reduction, weight, losses)


def _added_up(
    input: Tensor, target: Tensor, reduction: str, delta: float, divisor: float
) -> Tensor:
    count = input.numel() if reduction == "mean" else 1
    return loss.huber_error(input, target, delta=delta, divisor=divisor, count=count)


def _huber(gap: Tensor, delta: float) -> Tensor:
    """`d^2 / 2` within delta, beyond it `c (d - c / 2)` with c the nearer of -delta and delta.
    Beyond, c is what is squared, too: 0 * inf would be nan. No |d|: its derivative at 0 is 0, which
    would hide the second one."""
    cut = gap.detach().clamp(-delta, delta)
    inside = cut.abs() < delta
    near = where(inside, gap, cut)
    return where(inside, 0.5 * near * near, cut * (gap - 0.5 * cut))


def _regression(
    op: str,
    input: Tensor,
    target: Tensor,
    reduction: str,
    weight: Tensor | None,
    losses_of: Callable[[Tensor], Tensor],
) -> Tensor:
    shape = input.shape
    if shape != target.shape:
        warn_if_broadcast(op, input, target)
        input, target = broadcast_tensors(input, target)  # so no dtype is that of a number
    if op != "l1_loss" and (weight is None or op == "huber_loss"):  # as PyTorch's kernels do
        if target.dtype == bool_:
            target = target.to(input.dtype)
        elif input.dtype == bool_:
            input = input.to(target.dtype)
        if not (common := promote_types(input.dtype, target.dtype)).is_floating_point:
            expected = "an input or a target of a floating-point dtype"
            raise DTypeError(sentence(op, expected, common, "cast with .float()"))
    losses = losses_of(input - target)
    if weight is None:
        return reduced(op, losses, reduction)
    if weight.shape != shape:
        raise ArgumentError(
            f"{op}: expected weight of the input's shape {tuple(shape)}, got {tuple(weight.shape)}"
        )
    losses = losses * weight
    if reduction == "mean" and op != "huber_loss":  # PyTorch's huber_loss averages plainly
        return losses.sum() / weight.sum()
    return reduced(op, losses, reduction)


@autocasts("float32")
@takes_retired_arguments
@composite
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    *,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """`exp(x) - t x`, elementwise, for x the logarithm of the rate; with `log_input=False`,
    `x - t log(x + eps)` for the rate x. `full` adds Stirling's term."""
    log_input = flag_of("poisson_nll_loss", "log_input", log_input)
    full = flag_of("poisson_nll_loss", "full", full)
    rate, log_rate = (input.exp(), input) if log_input else (input, (input + eps).log())
    losses = rate - target * log_rate
    if full:
        safe = where(target > 1, target, ones_like(target.detach()))
        stirling = safe * safe.log() - safe + 0.5 * (2 * math.pi * safe).log()
        losses = losses + stirling.masked_fill(target <= 1, 0.0)
    return reduced("poisson_nll_loss", losses, reduction)


@composite
def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """`(log var + (x - t)^2 / var) / 2`, elementwise, for a predicted mean x and variance `var`: a
    number, or of the input's shape, or of that shape with size 1 in one dimension, or without the
    last one.

    `full` adds `log(2 pi) / 2`.
    """
    variance = var if isinstance(var, Tensor) else full_like(input.detach(), var)
    floats("gaussian_nll_loss", variance)
    sizes, given = tuple(input.shape), tuple(variance.shape)
    if given != sizes:
        if given == sizes[:-1]:
            variance = variance.unsqueeze(-1)
        elif (
            len(given) != len(sizes)
            or sum(own for own, other in zip(given, sizes, strict=True) if own != other) != 1
        ):
            expected = (
                f"var of the input's shape {sizes}, without its last dimension, or with 1 in one"
            )
            raise ShapeError(sentence("gaussian_nll_loss", expected, given))
    negative = (variance.detach() < 0).array
    variance.backend.check_true(~negative, "gaussian_nll_loss: var has negative entries")
    variance = at_least(variance, eps)
    gap = input - target
    losses = 0.5 * (variance.log() + gap * gap / variance)
    if full:
        losses = losses + 0.5 * math.log(2 * math.pi)
    return reduced("gaussian_nll_loss", losses, reduction)
