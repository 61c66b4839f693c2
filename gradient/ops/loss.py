"""Losses: one number for each prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradient.autograd.op import op
from gradient.dtypes import HALF_PRECISION, float32

if TYPE_CHECKING:
    from gradient.backends import Array, Backend


@op(lambda g, be, x, target: g * bernoulli_slope(be, x, target),
    lambda g, be, x: g * (be.log1p(-x) - be.log(x)), promotion="float_only")  # fmt: skip
def binary_cross_entropy(be: Backend[Array], x: Array, target: Array, /) -> Array:
    """-(t log x + (1 - t) log(1 - x)), with logarithms of at least -100."""
    least = be.full((), -100, x.dtype)
    log, other = be.maximum(be.log(x), least), be.maximum(be.log1p(-x), least)
    return (target - 1) * other - target * log


def bernoulli_slope(be: Backend, x: Any, target: Any) -> Any:
    """(x - t) / v with v = x (1 - x), where the divisor has a lower bound above 0, because v is 0
    for a saturated sigmoid. In the derivative (v - (x - t) (1 - 2 x)) / v^2 only the divisor is
    bounded."""
    if x.dtype in HALF_PRECISION:  # the bound is too small for these
        x, target = (be.astype(a, float32.numpy) for a in (x, target))
    variance = x * (1 - x)
    detached = be.detach(variance)
    held = be.maximum(detached, be.full((), 1e-12, x.dtype))
    slope = (x - target) / (variance + (held - detached))
    # This adds 0, and corrects the derivative.
    return slope + (detached - held) / (held * held) * (x - be.detach(x))


@op(lambda g, be, x, target, count: be.scaled_gap(g / count * 2, x, target),
    lambda g, be, x, target, count: be.scaled_gap(g / count * 2, target, x),
    promotion="float_only")  # fmt: skip
def squared_error(be: Backend[Array], x: Array, target: Array, /, *, count: int) -> Array:
    """The sum of (x - t)^2, for arrays of one shape, divided by `count`."""
    return be.squared_error(x, target) / count


@op(lambda g, be, x, target, delta, divisor, count:
        be.huber_error_grad(g / count, x, target, delta, divisor),
    lambda g, be, x, target, delta, divisor, count:
        be.huber_error_grad(g / count, target, x, delta, divisor),
    promotion="float_only")  # fmt: skip
def huber_error(
    be: Backend[Array], x: Array, target: Array, /, *, delta: float, divisor: float, count: int
) -> Array:
    """The sum of `F.huber_loss`, divided by `divisor`, for arrays of one shape, divided by `count`;
    with delta 0 that of |x - t|."""
    return be.huber_error(x, target, delta, divisor) / count


@op(lambda g, be, x, target, count: be.logistic_error_grad(g / count, x, target),
    lambda g, x, count: -((g / count) * x), promotion="float_only")  # fmt: skip
def logistic_error(be: Backend[Array], x: Array, target: Array, /, *, count: int) -> Array:
    """The sum of `binary_cross_entropy(sigmoid(x), t)`, for arrays of one shape, divided by
    `count`."""
    return be.logistic_error(x, target) / count


@op(lambda g, be, logits, target, high, log_sum, ignore_index, label_smoothing:
    be.cross_entropy_grad(
        g, logits, target, high, log_sum, ignore_index, label_smoothing),
    promotion="float_only")  # fmt: skip
def cross_entropy(
    be: Backend[Array],
    logits: Array,
    /,
    *,
    target: Any,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    in_float32: bool = False,
) -> tuple[Array, dict[str, Array]]:
    """Losses (N,) of logits (N, C) for int64 targets (N,); 0 where ignored. With `in_float32` the
    losses of 16-bit logits are float32, and the gradient is rounded only once."""
    method = be.cross_entropy_in_float32 if in_float32 else be.cross_entropy
    losses, high, log_sum = method(logits, target, ignore_index, label_smoothing)
    return losses, {"high": high, "log_sum": log_sum}


@op(lambda g, be, logits, target, high, log_sum, count, ignore_index, label_smoothing:
    be.cross_entropy_grad(
        be.expand(_wide(be, g) / count, high.shape),
        logits, target, high, log_sum, ignore_index, label_smoothing),
    promotion="float_only", public_name="cross_entropy")  # fmt: skip
def mean_cross_entropy(
    be: Backend[Array],
    logits: Array,
    /,
    *,
    target: Any,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    in_float32: bool = False,
) -> tuple[Array, dict[str, Array]]:
    """The mean of `cross_entropy` over targets that are not ignored (`mean_of_counted`)."""
    given = logits, target, ignore_index, label_smoothing
    if in_float32:
        losses, high, log_sum = be.cross_entropy_in_float32(*given)
        mean, count = be.mean_of_counted(losses, target, ignore_index)
    else:
        mean, count, high, log_sum = be.mean_cross_entropy(*given)
    return mean, {"high": high, "log_sum": log_sum, "count": count}


@op(lambda g, be, x_shape, target, ignore_index: be.nll_grad(g, x_shape, target, ignore_index),
    public_name="nll_loss")  # fmt: skip
def nll(be: Backend[Array], x: Array, /, *, target: Any, ignore_index: int) -> Array:
    """-x[i, target[i]] for x (N, C) and integers (N,); 0 where ignored."""
    return be.nll(x, target, ignore_index)


@op(lambda g, be, x_shape, target, count, ignore_index: be.nll_grad(
        be.expand(_wide(be, g) / count, x_shape[:1]), x_shape, target, ignore_index),
    gradients_without="x", public_name="nll_loss")  # fmt: skip
def mean_nll(
    be: Backend[Array], x: Array, /, *, target: Any, ignore_index: int
) -> tuple[Array, dict[str, Array]]:
    """The sum of `nll`, divided by the number of targets (N,) that are not `ignore_index`."""
    losses = be.nll(x, target, ignore_index)
    mean, count = be.mean_of_counted(losses, target, ignore_index)
    return mean, {"count": count}


@op(lambda g, be, log_probs, labels, steps, sizes, alpha, losses:
    be.ctc_grad(g, log_probs, labels, steps, sizes, alpha, losses),
    promotion="float_only", public_name="ctc_loss")  # fmt: skip
def ctc(
    be: Backend[Array], log_probs: Array, /, *, labels: Any, steps: Any, sizes: Any
) -> tuple[Array, dict[str, Array]]:
    """-log p (N,) of labels (N, L), with blanks between them, under log_probs (T, N, C), of which
    `steps` and of the labels 2 `sizes` + 1 count (`composed.alignments`)."""
    losses, alpha = be.ctc(log_probs, labels, steps, sizes)
    return losses, {"alpha": alpha, "losses": losses}


def _wide(be: Backend, x: Any) -> Any:
    return be.astype(x, float32.numpy) if x.dtype in HALF_PRECISION else x
