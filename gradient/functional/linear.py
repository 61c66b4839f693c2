"""Products with a weight, and rows looked up in one."""

from __future__ import annotations

from collections.abc import Sequence

from gradient.autograd import no_grad
from gradient.autograd.autocast import autocasts
from gradient.autograd.variable import wrap
from gradient.dtypes import int64
from gradient.errors import (
    ArgumentError,
    DTypeError,
    FailedCheck,
    ShapeError,
    TypeMismatch,
    sentence,
)
from gradient.functional.arguments import composite, integers
from gradient.ops import index, linalg
from gradient.tensor import Tensor
from gradient.tensor.arguments import INDICES, constant, int_of, tensor_of
from gradient.tensor.creation import arange
from gradient.tensor.einsum import einsum
from gradient.tensor.joining import where

MANY = 1 << 16
"""Numbers of one-hot vectors from which ones are written to zeros, where that is checked."""

__all__ = ["bilinear", "embedding", "grouped_linear", "linear", "one_hot"]


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias`: input (..., in), weight (out, in), bias (out,), result (..., out).

    A weight (in,) gives (...); its bias then has no dimension.
    """
    if bias is not None and not isinstance(bias, Tensor):
        raise TypeMismatch(sentence("linear", "a Tensor as bias", type(bias).__name__))
    if isinstance(weight, Tensor) and len(weight.array.shape) == 1 and not weight.dtype.is_packed:
        return _linear_of_vector(input, weight, bias)
    y = linalg.linear(input, weight, bias)
    if bias is not None and bias.array.shape != weight.array.shape[:1]:
        shape = *input.array.shape[:-1], weight.array.shape[0]
        if y.array.shape != shape:  # the sum was broadcast to the bias
            raise ShapeError(sentence("linear", f"a bias ({shape[-1]},)", tuple(bias.shape)))
    return y


@autocasts("lower_precision")
def _linear_of_vector(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    size = tuple(tensor_of("linear", input).shape)
    if size[-1:] != tuple(weight.shape):
        expected = f"an input (..., {len(weight)}) beside a weight ({len(weight)},)"
        raise ShapeError(sentence("linear", expected, size))
    if bias is not None and tensor_of("linear", bias).ndim:
        got = tuple(bias.shape)
        raise ShapeError(sentence("linear", "a bias of no dimension beside a weight (in,)", got))
    y = input @ weight
    return y if bias is None else y + bias


def grouped_linear(input: Tensor, weights: Sequence[Tensor] | Tensor, counts: Tensor) -> Tensor:
    """Multiply each group of rows by the transpose of its own weight, as in a mixture of experts.

    Args:
        input: (M, in), rows sorted by group.
        weights: E matrices (out, in), of the input's dtype or quantised; a list, or one tensor
            (E, out, in).
        counts: (E,) integers: the number of rows in each group, which may be 0. Their sum is M.

    Returns:
        (M, out).
    """
    weights = list(weights)
    if not weights:
        raise ShapeError("grouped_linear: weights: expected at least one matrix, got none")
    rows = integers("grouped_linear", "counts", counts, input)
    return linalg.grouped_linear(input, *weights, counts=rows)


@autocasts("widest")
@composite
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`y_k = x1 @ weight_k @ x2 + bias_k`: (..., in1), (..., in2), weight (out, in1, in2)."""
    if input1.shape[:-1] != input2.shape[:-1]:
        raise ShapeError(
            "bilinear: expected inputs that differ only in the last dimension, got "
            f"{tuple(input1.shape)} and {tuple(input2.shape)}"
        )
    sizes = tuple(tensor_of("bilinear", weight).shape)
    if len(sizes) != 3 or (input1.shape[-1:], input2.shape[-1:]) != (sizes[1:2], sizes[2:]):
        wanted = f"(out, {', '.join(str(n) for x in (input1, input2) for n in x.shape[-1:])})"
        raise ShapeError(sentence("bilinear", f"a weight {wanted}", sizes))
    if bias is not None and tuple(tensor_of("bilinear", bias).shape) != sizes[:1]:
        raise ShapeError(sentence("bilinear", f"a bias {sizes[:1]}", tuple(bias.shape)))
    output = einsum("...i,kij,...j->...k", input1, weight, input2)
    return output if bias is None else output + bias


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Look up the rows of `weight` (V, D) at the integers `input` (...): result (..., D).

    The row `padding_idx` gets no gradient. With `max_norm`, looked-up rows are first scaled, in
    place, to at most this norm. With `scale_grad_by_freq`, the gradient of a row is divided by its
    number of occurrences in `input`. `sparse` gradients are not available. Raises IndexOutOfRange
    for an index that is not in [0, V).
    """
    if sparse:
        raise ArgumentError("embedding: sparse gradients are not available")
    if not isinstance(weight, Tensor) or len(weight.array.shape) != 2:
        weight = tensor_of("embedding", weight)
        raise ShapeError(sentence("embedding", "a weight (V, D)", tuple(weight.shape)))
    if padding_idx is not None:
        rows, padding_idx = weight.shape[0], int_of("embedding", "padding_idx", padding_idx)
        if not -rows <= padding_idx < rows:
            raise FailedCheck(
                f"embedding: padding_idx must be within weight's {rows} rows, got {padding_idx}"
            )
        padding_idx %= rows
    if max_norm is not None:
        _renormalize(weight, input, max_norm, norm_type)
    tokens = constant("embedding", "input", input, weight, "weight")
    if tokens is None or tokens.dtype not in INDICES:
        input = tensor_of("embedding", input)
        raise DTypeError(sentence("embedding", "an input of int64 or int32", input.dtype))
    return index.embedding(
        weight, indices=tokens, padding_idx=padding_idx, scale_grad_by_freq=scale_grad_by_freq
    )


def _renormalize(weight: Tensor, input: Tensor, max_norm: float, norm_type: float) -> None:
    with no_grad():
        used = input.flatten().unique()
        rows = weight[used]
        norms = rows.norm(norm_type, 1, keepdim=True)
        weight[used] = where(norms > max_norm, rows * (max_norm / (norms + 1e-7)), rows)


@composite
def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """One-hot vectors of integers: (...) to (..., C), int64. C is `num_classes`, or by default the
    largest integer + 1."""
    if tensor.dtype is not int64:
        raise DTypeError(sentence("one_hot", "classes of int64", tensor.dtype, "use .long()"))
    num_classes = int_of("one_hot", "num_classes", num_classes)
    if num_classes != -1 and num_classes < 1:
        expected = "num_classes of at least 1, or -1 to infer it"
        raise ArgumentError(sentence("one_hot", expected, num_classes))
    if num_classes == -1:
        if not tensor.numel():
            raise ArgumentError(
                "one_hot: pass num_classes, it cannot be inferred from an empty tensor"
            )
        lowest, largest = int(tensor.min()), int(tensor.max())
        if lowest < 0:
            raise ArgumentError(f"one_hot: classes must be 0 or more, got {lowest}")
        num_classes = largest + 1
    else:
        tensor.backend.check_range(tensor.array, 0, num_classes - 1, "one_hot", "classes")
    be = tensor.backend
    if tensor.numel() * num_classes >= MANY and be.looks_along and be.reads_values:
        at = be.unsqueeze(tensor.array, -1)
        none = be.zeros((*tensor.shape, num_classes), int64.numpy)
        return wrap(be.put_along(none, at, be.ones(at.shape, int64.numpy), -1, False), be)
    classes = arange(num_classes, device=tensor.device)
    return (tensor.unsqueeze(-1) == classes).long()
