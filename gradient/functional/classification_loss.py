"""Losses for choosing among classes, and for distributions over them."""

from __future__ import annotations

from typing import Any

from gradient.autograd.autocast import autocasts, wanted
from gradient.autograd.modes import mode
from gradient.dtypes import HALF_PRECISION, float32, int64, uint8
from gradient.errors import (
    ArgumentError,
    DTypeError,
    IndexOutOfRange,
    ShapeError,
    TypeMismatch,
    sentence,
)
from gradient.functional.activation import logsigmoid
from gradient.functional.arguments import composite, floats, one_dtype, tried_first
from gradient.functional.reduction import are_added_up, reduced, takes_retired_arguments
from gradient.ops import fused, loss
from gradient.tensor import Tensor
from gradient.tensor.arguments import constant, flag_of, int_of, tensor_of
from gradient.tensor.creation_like import ones_like
from gradient.tensor.joining import where

INT64 = int64.numpy

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "kl_div",
    "nll_loss",
]


def _computes_in_float32(input: Any = None, target: Any = None, *args: Any, **options: Any) -> bool:
    """Whether autocast wants a float32 loss, and the logits may stay in 16 bits: the GPU's kernels
    compute in float32 anyway. (Those of the CPU need float32 logits.)"""
    if not isinstance(input, Tensor) or input.array.dtype not in HALF_PRECISION:
        return False
    weight = args[0] if args else options.get("weight")
    return (
        isinstance(target, Tensor)
        and weight is None
        and not target.dtype.is_floating_point
        and input.device.type != "cpu"
        and wanted("float32", input.backend, (input.array.dtype,)) is not None
    )


def _mean_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor | None:
    """The mean `cross_entropy` of logits (N, C), which most calls need; None for other calls."""
    logits, classes = input.array, target.array
    shape = logits.shape
    if (
        weight is None
        and reduction == "mean"
        and type(label_smoothing) is float
        and 0.0 <= label_smoothing <= 1.0
        and type(ignore_index) is int
        and len(shape) == 2
        and shape[:1] == classes.shape
        and shape[1]
        and logits.dtype.char in "fd"
        and classes.dtype is INT64
        and target.backend is input.backend
        and mode.autocast is None
    ):
        return loss.mean_cross_entropy(
            input, target=classes, ignore_index=ignore_index, label_smoothing=label_smoothing
        )
    return None


@tried_first(_mean_cross_entropy)
@autocasts("float32", unless=_computes_in_float32)
@takes_retired_arguments
@composite
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """`-log softmax(x)[target]` for logits x (C,), (N, C) or (N, C, d1, ...).

    Args:
        target: class indices, of the input's shape without C, int64 or uint8; or probabilities t of
            the input's shape and a floating dtype, for `-sum_c t_c log softmax(x)_c`.
        weight: (C,), a factor for each class; "mean" divides by the sum of the targets' weights.
        ignore_index: targets of this value are left out, also of the mean.
        reduction: "mean", "sum", or "none" for one loss per target.
        label_smoothing: share of the uniform distribution in the targets (Szegedy et al. 2015).

    Raises:
        ShapeError: input and target do not fit together.
        DTypeError: the input is not floating, or class indices are neither int64 nor uint8.
        IndexOutOfRange: a class is not in [0, C).
        ArgumentError: label_smoothing is not in [0, 1].
    """
    if not 0.0 <= label_smoothing <= 1.0:
        raise ArgumentError(
            f"cross_entropy: label_smoothing must be between 0 and 1, got {label_smoothing}"
        )
    label_smoothing = float(label_smoothing)
    ignore_index = int_of("cross_entropy", "ignore_index", ignore_index)
    class_dim = 0 if len(input.array.shape) == 1 else 1
    if target.array.dtype.kind not in "biu" and target.dtype.is_floating_point:
        sizes = tuple(input.array.shape)
        if tuple(target.array.shape) == sizes[:class_dim] + sizes[class_dim + 1 :]:
            raise DTypeError(
                f"cross_entropy: expected integers as class indices, got {target.dtype}; cast with "
                f".long() (probabilities would have the input's shape {sizes})"
            )
        if ignore_index >= 0:
            raise ArgumentError(
                "cross_entropy: expected no ignore_index beside a target of probabilities, "
                f"got {ignore_index}"
            )
        return _soft_cross_entropy(input, target, weight, class_dim, reduction, label_smoothing)
    logits, classes = class_rows("cross_entropy", input, target, class_dim, weight)
    if weight is None:
        op = loss.mean_cross_entropy if reduction == "mean" else loss.cross_entropy
        losses = op(
            logits,
            target=constant("cross_entropy", "target", classes, logits),
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            in_float32=_computes_in_float32(input, target),
        )
        if reduction == "mean":
            return losses
        weights = None
    else:
        log_probs = fused.log_softmax(logits, axis=1)
        losses, weights = _weighted_nll("cross_entropy", log_probs, classes, weight, ignore_index)
        if label_smoothing > 0.0:
            spread = -(log_probs * weight).sum(1) / logits.shape[1]
            spread = spread.masked_fill(classes == ignore_index, 0.0)
            # Each is reduced by itself: where no target has a weight, 0 / 0 makes their mean NaN.
            own, spread = (
                _class_reduce("cross_entropy", x, weights, target, reduction)
                for x in (losses, spread)
            )
            return (1 - label_smoothing) * own + label_smoothing * spread
    return _class_reduce("cross_entropy", losses, weights, target, reduction)


@autocasts("float32")
@takes_retired_arguments
@composite
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """`-x[target]` for log-probabilities x (C,), (N, C) or (N, C, d1, ...) and class indices;
    other arguments and errors as in `cross_entropy`."""
    ignore_index = int_of("nll_loss", "ignore_index", ignore_index)
    class_dim = 0 if len(input.array.shape) == 1 else 1
    rows, classes = class_rows("nll_loss", input, target, class_dim, weight, maps=True)
    if len(rows.array.shape) > 2:
        of_maps = _nll_of_maps(rows, classes, weight, ignore_index)
        return _class_reduce("nll_loss", *of_maps, target, reduction)
    if weight is None and reduction == "mean":
        at = constant("nll_loss", "target", classes, rows)
        return loss.mean_nll(rows, target=at, ignore_index=ignore_index)
    losses, weights = _weighted_nll("nll_loss", rows, classes, weight, ignore_index)
    return _class_reduce("nll_loss", losses, weights, target, reduction)


def class_rows(
    op: str,
    input: Tensor,
    target: Tensor,
    class_dim: int,
    weight: Tensor | None,
    *,
    maps: bool = False,
) -> tuple[Tensor, Tensor]:
    """Logits as (rows, C) and classes as (rows,); with `maps`, those of (N, C, d1, ...) as they
    are."""
    shape, to = input.array.shape, target.array
    if (
        len(shape) == 2
        and shape[:1] == to.shape
        and shape[1]
        and weight is None
        and input.array.dtype.kind == "f"
        and to.dtype == INT64
    ):
        return input, target  # as most are
    floats(op, input)
    if not shape:
        raise ShapeError(sentence(op, "an input (C,), (N, C) or (N, C, ...)", shape))
    if target.dtype not in (int64, uint8):
        raise DTypeError(sentence(op, "class indices of int64", target.dtype, "cast with .long()"))
    expected = shape[:class_dim] + shape[class_dim + 1 :]
    if target.array.shape != expected:
        soft = op == "cross_entropy" and target.array.shape == shape
        fix = f"; probabilities are {input.dtype}: cast with .to(input.dtype)" if soft else ""
        raise ShapeError(
            f"{op}: for an input {shape} expected class indices of shape {expected}, "
            f"got {tuple(target.shape)}{fix}"
        )
    classes = shape[class_dim]
    if not classes and target.numel():
        raise IndexOutOfRange(sentence(op, "an input of at least one class", shape))
    if weight is not None:
        one_dtype(op, input, weight=weight)
        if tuple(weight.shape) != (classes,):
            got = tuple(weight.shape)
            raise ShapeError(f"{op}: expected weight of shape ({classes},), got {got}")
    if len(shape) == 2 or (maps and len(shape) > 2):
        return input, target
    if len(shape) > 2:
        input = input.movedim(1, -1)
    return input.reshape(-1, classes), target.reshape(-1)


def _weighted_nll(
    op: str, log_probs: Tensor, classes: Tensor, weight: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor | None]:
    """Return the loss and the weight of each row (None: all 1); both are 0 for ignored targets."""
    at = constant(op, "target", classes, log_probs)
    losses = loss.nll(log_probs, target=at, ignore_index=ignore_index)
    if weight is None:
        return losses, None
    weights = _weights_of(weight, classes, ignore_index)
    return losses * weights, weights


def _weights_of(weight: Tensor, classes: Tensor, ignore_index: int) -> Tensor:
    """The weight of each target's class; 0 where ignored."""
    ignored = classes == ignore_index
    if classes.dtype is uint8:
        classes = classes.long()  # a tensor of uint8 in brackets is a mask
    return weight[classes.masked_fill(ignored, 0)].masked_fill(ignored, 0.0)


def _nll_of_maps(
    log_probs: Tensor, classes: Tensor, weight: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Return the loss and the weight of each target (N, d1, ...), for log-probabilities (N, C, d1,
    ...) as they lie: as rows of C they would be copied."""
    constant("nll_loss", "target", classes, log_probs)
    ignored = classes == ignore_index
    at = classes.long().masked_fill(ignored, 0).unsqueeze(1)
    try:
        losses = -log_probs.gather(1, at).squeeze(1)
    except IndexOutOfRange as error:
        raise IndexOutOfRange("nll_loss" + str(error).removeprefix("gather")) from None
    losses = losses.masked_fill(ignored, 0.0)
    if weight is None:
        wide = log_probs.dtype if log_probs.dtype.itemsize > 4 else float32
        return losses, ignored.logical_not().to(wide)
    weights = _weights_of(weight, classes, ignore_index)
    return losses * weights, weights


def _class_reduce(
    op: str, losses: Tensor, weights: Tensor | None, target: Tensor, reduction: str
) -> Tensor:
    if reduction == "mean" and weights is not None:
        # With every target ignored this is 0 / 0 = nan, as a mean over nothing should be.
        # In 16 bits a sum would overflow.
        wide = losses.float() if losses.dtype.itemsize < 4 else losses
        total = wide.sum()
        return (total / weights.sum().to(total.dtype)).to(losses.dtype)
    return reduced(op, losses.reshape(target.shape), reduction)


def _soft_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    class_dim: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    if target.shape != input.shape:
        indices = input.shape[:class_dim] + input.shape[class_dim + 1 :]
        fix = "; class indices are int64: cast with .long()" if target.shape == indices else ""
        raise ShapeError(
            f"cross_entropy: probabilities must have the input's shape {tuple(input.shape)}, "
            f"got {tuple(target.shape)}{fix}"
        )
    classes = input.shape[class_dim]
    if label_smoothing > 0.0:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    products = fused.log_softmax(input, axis=class_dim) * target
    if weight is not None:
        products = products * weight.reshape(-1, *(1,) * (input.ndim - class_dim - 1))
    losses = -products.sum(class_dim)
    return reduced("cross_entropy", losses, reduction)


@autocasts("float32_on_cpu")
@takes_retired_arguments
@composite
def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """`-(t log x + (1 - t) log(1 - x))`, elementwise, for probabilities x and t of one shape.

    Logarithms are at least -100. `weight` broadcasts to the input and multiplies the losses, which
    have the input's dtype.
    """
    op = "binary_cross_entropy"
    _refuse_numbers(op, weight=weight)
    _one_size(op, input, target)
    floats(op, input)
    one_dtype(op, input, target=target)
    for name, values in (("input", input), ("target", target)):
        values.backend.check_range(values.array, 0, 1, op, name)
    losses = loss.binary_cross_entropy(input, target)
    if weight is not None:
        losses = (losses * weight).to(input.dtype)
        if losses.shape != input.shape:
            expected = f"a weight that broadcasts to the input's shape {tuple(input.shape)}"
            raise ShapeError(sentence(op, expected, tuple(weight.shape)))
    return reduced(op, losses, reduction)


@autocasts("float32")
@takes_retired_arguments
@composite
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`binary_cross_entropy(sigmoid(x), t)` for logits x, without overflow; `pos_weight` multiplies
    the term with t. The losses have the target's dtype."""
    op = "binary_cross_entropy_with_logits"
    _refuse_numbers(op, weight=weight, pos_weight=pos_weight)
    _one_size(op, input, target)
    floats(op, target)
    if pos_weight is None and are_added_up(input, target, weight, reduction):
        return loss.logistic_error(input, target, count=input.numel() if reduction == "mean" else 1)
    # log(1 - sigmoid(x)) = logsigmoid(x) - x
    log_sigmoid = logsigmoid(input)
    if pos_weight is None:
        losses = (1 - target) * input - log_sigmoid
    else:
        losses = (1 - target) * input - (1 + (pos_weight - 1) * target) * log_sigmoid
    if weight is not None:
        losses = losses * weight
    return reduced(op, losses.to(target.dtype), reduction)


def _refuse_numbers(op: str, **weights: Tensor | None) -> None:
    """Raise where a weight is a number, such as `size_average` in the wrong place."""
    for name, weight in weights.items():
        if weight is not None and not isinstance(weight, Tensor):
            raise TypeMismatch(sentence(op, f"a Tensor as {name}", repr(weight)))


def _one_size(op: str, input: Tensor, target: Tensor) -> None:
    if input.shape != target.shape:
        raise ArgumentError(
            f"{op}: target size {tuple(target.shape)} differs from input size {tuple(input.shape)}"
        )


@autocasts("float32")
@takes_retired_arguments
@composite
def kl_div(
    input: Tensor, target: Tensor, *, reduction: str = "mean", log_target: bool = False
) -> Tensor:
    """`t * (log t - x)`, elementwise, for log-probabilities x and probabilities t (with
    `log_target`, log-probabilities).

    reduction="batchmean" divides the sum by the batch size, which is the mathematical definition.
    """
    flag_of("kl_div", "log_target", log_target)
    for tensor in (input, tensor_of("kl_div", target)):
        floats("kl_div", tensor)
    if log_target:
        losses = target.exp() * (target - input)
    else:
        # 0 log 0 = 0, with a gradient of 0
        log = where(target == 0, ones_like(target.detach()), target).log()
        losses = target * log - target * input
    if reduction == "batchmean":
        return losses.sum() / (input.shape[0] if input.ndim else 1)
    return reduced("kl_div", losses, reduction)
