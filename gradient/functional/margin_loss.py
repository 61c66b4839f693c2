"""Losses that ask for a margin between the scores of classes."""

from __future__ import annotations

from gradient.autograd.autocast import autocasts
from gradient.dtypes import int64
from gradient.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError, sentence
from gradient.functional.activation import logsigmoid
from gradient.functional.arguments import composite, floats
from gradient.functional.classification_loss import class_rows
from gradient.functional.reduction import reduced, takes_retired_arguments
from gradient.tensor import Tensor
from gradient.tensor.arguments import all_samples, anywhere, constant, outside, tensor_of
from gradient.tensor.creation import arange
from gradient.tensor.joining import where

__all__ = [
    "hinge_embedding_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "soft_margin_loss",
]


@autocasts("float32")
@takes_retired_arguments
@composite
def soft_margin_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """`log(1 + exp(-t x))`, elementwise, for t = 1 or -1, of x's shape and dtype."""
    product = tensor_of("soft_margin_loss", target) * floats("soft_margin_loss", input)
    if product.shape != input.shape:
        expected = f"a target that broadcasts to the input's shape {tuple(input.shape)}"
        raise ShapeError(sentence("soft_margin_loss", expected, tuple(target.shape)))
    return reduced("soft_margin_loss", -logsigmoid(product).to(input.dtype), reduction)


@autocasts("float32")
@takes_retired_arguments
@composite
def hinge_embedding_loss(
    input: Tensor, target: Tensor, margin: float = 1.0, *, reduction: str = "mean"
) -> Tensor:
    """`x` where t = 1, `max(0, margin - x)` where t = -1, elementwise. (For another t their sum, as
    in PyTorch. There losses of integers are integers, too, and their margin is rounded to zero.)"""
    hinge = ((margin if input.is_floating_point() else int(margin)) - input).clamp(min=0)
    losses = where(target == -1, 0, input) + where(target == 1, 0, hinge)
    return reduced("hinge_embedding_loss", losses, reduction)


@autocasts("float32")
@takes_retired_arguments
@composite
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    *,
    reduction: str = "mean",
) -> Tensor:
    """`sum_(c != t) weight_t * max(0, margin - x_t + x_c)^p / C`, for scores (C,) or (N, C)."""
    if p not in (1, 2):
        raise ArgumentError(f"multi_margin_loss: p must be 1 or 2, got {p}")
    shape = target.shape
    if input.ndim > 2 or (input.ndim < 2 and shape not in ((), (1,))):
        expected = "an input (C,) or (1, C) with a target () or (1,), or (N, C) with (N,)"
        got = f"{tuple(input.shape)} and {tuple(shape)}"
        raise ShapeError(sentence("multi_margin_loss", expected, got))
    if input.ndim < 2 or (input.shape[0] == 1 and shape == ()):
        input, target = input.reshape(1, -1), target.reshape(1)
    rows, classes = class_rows("multi_margin_loss", input, target, 1, weight)
    index = classes.unsqueeze(1)
    gaps = margin - rows.gather(1, index) + rows
    gaps = where(gaps > 0, gaps, 0.0)
    gaps = gaps if p == 1 else gaps * gaps
    if weight is not None:
        gaps = gaps * weight[index]
    own = arange(rows.shape[1], device=rows.device) == index
    losses = gaps.masked_fill(own, 0.0).sum(1) / rows.shape[1]
    return reduced("multi_margin_loss", losses.reshape(shape), reduction)


@autocasts("float32")
@takes_retired_arguments
@composite
def multilabel_margin_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """`sum over targets t and other classes c of max(0, 1 - x_t + x_c) / C`, for scores (C,) or
    (N, C); a row of `target`, of the input's shape, is a list of classes that ends with -1."""
    op = "multilabel_margin_loss"
    number = {input.shape, target.shape} == {(), (1,)}
    if (input.shape != target.shape and not number) or input.ndim > 2:
        expected = "an input (C,) or (N, C) and a target of its shape"
        got = f"{tuple(input.shape)} and {tuple(target.shape)}"
        raise ShapeError(sentence(op, expected, got))
    floats(op, input)
    constant(op, "target", target, input)
    if target.dtype != int64:
        raise DTypeError(sentence(op, "a target of int64", target.dtype, "cast with .long()"))
    if input.ndim and not input.shape[-1]:
        raise ShapeError(sentence(op, "an input of at least one class", tuple(input.shape)))
    rows = input.reshape(-1, input.shape[-1] if input.ndim else 1)
    classes = target.reshape(rows.shape)
    count = rows.shape[1]
    known = all_samples(classes)
    if anywhere((known < -1) | (known >= count)):
        got = outside(known.backend.to_numpy(known.array), -1, count - 1)
        raise ArgumentError(sentence(op, f"a target from -1 to {count - 1}", got))
    listed = (classes >= 0).long().cumprod(1)  # (N, C): 1 up to the first -1
    most = _largest(listed.sum(1), count)  # of a row's targets, J: others would fill (N, C, C)
    listed, index = listed[:, :most], classes[:, :most].clamp(min=0)  # (N, J)
    others = classes.new_zeros(rows.shape).scatter_add(1, index, listed) == 0
    gaps = 1 - rows.gather(1, index).unsqueeze(2) + rows.unsqueeze(1)  # (N, J, C)
    counted = (listed > 0).unsqueeze(2) & others.unsqueeze(1) & (gaps > 0)
    losses = where(counted, gaps, 0.0).sum((1, 2)) / count
    return reduced(op, losses.reshape(input.shape[:-1]), reduction)


def _largest(counts: Tensor, limit: int) -> int:
    """The largest of all samples' counts; the limit where they have no values (meta)."""
    known = all_samples(counts)
    return int(known.max()) if known.backend.has_values and known.numel() else limit


@takes_retired_arguments
@composite
def multilabel_soft_margin_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """The mean over classes of `binary_cross_entropy_with_logits`, for x and t (N, C)."""
    losses = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    losses = losses if weight is None else losses * weight
    if not input.ndim:
        expected = "an input of at least one dimension"
        raise IndexOutOfRange(sentence("multilabel_soft_margin_loss", expected, "()"))
    classes = losses.sum(input.ndim - 1) / input.shape[-1]
    return reduced("multilabel_soft_margin_loss", classes, reduction)
