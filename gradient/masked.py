"""Reductions and normalizations of the elements where a mask is True, with PyTorch's names.

>>> x = gradient.tensor([[1.0, 2.0, 30.0]])
>>> gradient.masked.mean(x, 1, mask=gradient.tensor([True, True, False]))
tensor([1.5000])

A mask broadcasts to the input and may not have more dimensions. What it leaves out has a gradient
of 0, whatever is there. Where nothing is left a reduction gives its identity (0 of a sum, -inf of a
maximum), a mean, variance, median or softmax NaN. Without a mask, all elements count.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gradient import absent
from gradient.autograd.promotion import refuse_complex
from gradient.dtypes import DType, bool_, dtype_of, float32, int64
from gradient.errors import ArgumentError, IndexOutOfRange, sentence
from gradient.linalg import vector_norm
from gradient.tensor import Tensor
from gradient.tensor.arguments import DTypeLike, axes_of, axis_of, tensor_of
from gradient.tensor.creation_like import full_like, ones_like
from gradient.tensor.gathering import identity
from gradient.tensor.joining import where

__all__ = [
    "amax",
    "amin",
    "argmax",
    "argmin",
    "cumprod",
    "cumsum",
    "log_softmax",
    "logaddexp",
    "logsumexp",
    "mean",
    "median",
    "norm",
    "normalize",
    "prod",
    "softmax",
    "softmin",
    "std",
    "sum",
    "var",
]

Dim = int | tuple[int, ...] | None


# Sums and products -------------------------------------------------------------------------------


def sum(
    input: Tensor,
    dim: Dim = None,
    *,
    keepdim: bool = False,
    dtype: DTypeLike | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The sum of the elements where `mask` is True; integers and bools give int64."""
    filled = _filled("sum", input, mask, 0)
    return filled.sum(_dims(dim, input.ndim), keepdim, dtype=dtype)


def prod(
    input: Tensor,
    dim: Dim = None,
    *,
    keepdim: bool = False,
    dtype: DTypeLike | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The product of the elements where `mask` is True; integers and bools give int64."""
    result = _filled("prod", input, mask, 1)
    if not input.ndim:
        return result.prod(dtype=dtype)
    for axis in reversed(_dims(dim, input.ndim)):
        result = result.prod(axis, keepdim, dtype=dtype)
    return result


def cumsum(
    input: Tensor, dim: int, *, dtype: DTypeLike | None = None, mask: Tensor | None = None
) -> Tensor:
    """The sums of all elements up to each where `mask` is True, in the dtype of the input."""
    return _filled("cumsum", input, mask, 0).cumsum(dim, dtype=_own(dtype, input))


def cumprod(
    input: Tensor, dim: int, *, dtype: DTypeLike | None = None, mask: Tensor | None = None
) -> Tensor:
    """The products of all elements up to each where `mask` is True, in the dtype of the input."""
    return _filled("cumprod", input, mask, 1).cumprod(dim, dtype=_own(dtype, input))


def logsumexp(
    input: Tensor,
    dim: Dim = None,
    *,
    keepdim: bool = False,
    dtype: DTypeLike | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """log sum e^x of the elements where `mask` is True, in the dtype of the input."""
    filled = _filled("logsumexp", input, mask, identity("amax", input.dtype))
    return filled.logsumexp(_dims(dim, input.ndim), keepdim).to(dtype=_own(dtype, input))


def logaddexp(
    input: Tensor,
    other: Tensor,
    *,
    dtype: DTypeLike | None = None,
    input_mask: Tensor | None = None,
    other_mask: Tensor | None = None,
) -> Tensor:
    """log(e^x + e^other), where what a mask leaves out adds nothing."""
    a = _filled("logaddexp", input, input_mask, -math.inf)
    b = _filled("logaddexp", other, other_mask, -math.inf)
    return a.logaddexp(b).to(dtype=_own(dtype, input))


# Extremes ----------------------------------------------------------------------------------------


def amax(
    input: Tensor,
    dim: Dim = None,
    *,
    keepdim: bool = False,
    dtype: DTypeLike | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The maximum of the elements where `mask` is True; ties share its gradient."""
    filled = _filled("amax", input, mask, identity("amax", input.dtype))
    return filled.amax(_dims(dim, input.ndim), keepdim).to(dtype=_own(dtype, input))


def amin(
    input: Tensor,
    dim: Dim = None,
    *,
    keepdim: bool = False,
    dtype: DTypeLike | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The minimum of the elements where `mask` is True; ties share its gradient."""
    filled = _filled("amin", input, mask, identity("amin", input.dtype))
    return filled.amin(_dims(dim, input.ndim), keepdim).to(dtype=_own(dtype, input))


def argmax(
    input: Tensor,
    dim: int | None = None,
    *,
    keepdim: bool = False,
    dtype: DTypeLike | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The place of the maximum, in the dtype of the input, as in PyTorch; dtype=gradient.int64
    gives an index."""
    filled = _filled("argmax", input, mask, identity("amax", input.dtype))
    return filled.argmax(dim, keepdim).to(dtype=_own(dtype, input))


def argmin(
    input: Tensor,
    dim: int | None = None,
    *,
    keepdim: bool = False,
    dtype: DTypeLike | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The place of the minimum; its dtype as of `argmax`."""
    filled = _filled("argmin", input, mask, identity("amin", input.dtype))
    return filled.argmin(dim, keepdim).to(dtype=_own(dtype, input))


# Statistics --------------------------------------------------------------------------------------


def mean(
    input: Tensor,
    dim: Dim = None,
    *,
    keepdim: bool = False,
    dtype: DTypeLike | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The mean of the elements where `mask` is True, of a floating-point `dtype`."""
    own = _own(dtype, input)
    if own.kind in ("int", "bool"):
        raise ArgumentError(sentence("mean", "a floating-point dtype", own, "give one as dtype"))
    total = sum(input, dim, keepdim=keepdim, dtype=own, mask=mask)
    return total / _count("mean", input, dim, keepdim, mask)


def median(
    input: Tensor,
    dim: int = -1,
    *,
    keepdim: bool = False,
    dtype: DTypeLike | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The lower median of the elements that are no NaN."""
    x = input if input.is_floating_point() else input.float()
    found, _ = _filled("median", x, mask, math.nan).nanmedian(axis_of(dim, input.ndim), keepdim)
    if input.is_floating_point():
        return found
    if found.isnan().any():
        expected = "elements left by the mask in each row of integers"
        raise ArgumentError(sentence("median", expected, "none in one", "cast with .float()"))
    return found.to(dtype=_own(dtype, input))


def var(
    input: Tensor,
    dim: Dim = None,
    unbiased: bool | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
    dtype: DTypeLike | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The variance with `correction` degrees of freedom taken off (1; 0 if not `unbiased`)."""
    if unbiased is not None and correction is not None:
        raise ArgumentError(sentence("var", "unbiased or correction", "both"))
    if correction is None:
        correction = 0 if unbiased is False else 1
    own = _own(dtype, input)
    refuse_complex("var", [own, input.dtype])
    own = own if own.is_floating_point else float32
    count = _count("var", input, dim, True, mask)
    centre = sum(input, dim, keepdim=True, dtype=own, mask=mask) / count
    rest = _filled("var", input - centre, mask, 0)
    total = sum(rest * rest, dim, keepdim=keepdim, dtype=own)
    freedom = (count.reshape(total.shape).to(own) - correction).clamp(min=0)
    return (total / freedom).to(dtype=_own(dtype, total))


def std(
    input: Tensor,
    dim: Dim = None,
    unbiased: bool | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
    dtype: DTypeLike | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The root of `var`."""
    spread = var(
        input, dim, unbiased, correction=correction, keepdim=keepdim, dtype=dtype, mask=mask
    )
    return spread.sqrt()


def norm(
    input: Tensor,
    ord: float = 2.0,
    dim: Dim = None,
    *,
    keepdim: bool = False,
    dtype: DTypeLike | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The vector norm, as `linalg.vector_norm`."""
    filled = _filled("norm", input, mask, math.inf if ord == -math.inf else 0)
    own = None if dtype is None else dtype_of(dtype)
    return vector_norm(filled, ord, _dims(dim, input.ndim), keepdim, dtype=own)


# Normalizations ----------------------------------------------------------------------------------


def softmax(
    input: Tensor, dim: int, *, dtype: DTypeLike | None = None, mask: Tensor | None = None
) -> Tensor:
    """e^x / sum e^x along `dim`, 0 where the mask is False."""
    filled = _filled("softmax", input, mask, identity("amax", input.dtype))
    return filled.softmax(dim, dtype=dtype)


def log_softmax(
    input: Tensor, dim: int, *, dtype: DTypeLike | None = None, mask: Tensor | None = None
) -> Tensor:
    """The logarithm of `softmax`."""
    filled = _filled("log_softmax", input, mask, identity("amax", input.dtype))
    return filled.log_softmax(dim, dtype=dtype)


def softmin(
    input: Tensor, dim: int, *, dtype: DTypeLike | None = None, mask: Tensor | None = None
) -> Tensor:
    """`softmax` of -x."""
    filled = _filled("softmin", input, mask, identity("amin", input.dtype))
    return (-filled).softmax(dim, dtype=dtype)


def normalize(
    input: Tensor,
    ord: float,
    dim: int,
    *,
    eps: float = 1e-12,
    dtype: DTypeLike | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """x over its norm along `dim`, or over `eps` where that is larger; 0 where the mask is
    False."""
    size = norm(input, ord, dim, keepdim=True, dtype=dtype, mask=mask)
    return _filled("normalize", input, mask, 0) / size.maximum(full_like(size, eps))


# Masks -------------------------------------------------------------------------------------------


def _filled(caller: str, input: Tensor, mask: Tensor | None, value: float) -> Tensor:
    """The input with what the mask leaves out replaced by a number."""
    tensor_of(caller, input, "input")
    if mask is None:
        return input
    return where(_whole(caller, input, mask), input, full_like(input.detach(), value))


def _whole(caller: str, input: Tensor, mask: Tensor) -> Tensor:
    """The mask in the shape of the input."""
    if tensor_of(caller, mask, "mask").ndim > input.ndim:
        expected = f"a mask of at most {input.ndim} dimensions, as the input"
        raise IndexOutOfRange(sentence(caller, expected, mask.ndim))
    return mask.detach().to(bool_).expand(input.shape)


def _count(caller: str, input: Tensor, dim: Dim, keepdim: bool, mask: Tensor | None) -> Tensor:
    """How many elements are left along `dim`."""
    left = ones_like(input.detach(), dtype=int64) if mask is None else _whole(caller, input, mask)
    return left.sum(_dims(dim, input.ndim), keepdim)


def _dims(dim: Dim, ndim: int) -> tuple[int, ...]:
    """The dimensions that are reduced, in order: all of them for None and ()."""
    axes = axes_of(dim, ndim)
    if axes is None:
        return tuple(range(ndim))
    return (axes,) if isinstance(axes, int) else tuple(sorted(axes))


def _own(dtype: DTypeLike | None, x: Tensor) -> DType:
    """The dtype asked for, or that of the tensor."""
    return x.dtype if dtype is None else dtype_of(dtype)


if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
