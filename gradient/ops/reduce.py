"""Ops that reduce axes. `axis` is None (all), an int or a tuple of ints, none negative."""

from __future__ import annotations

import math
from typing import Any

from gradient.autograd.op import op


def spread(be: Any, y: Any, shape: tuple[int, ...], axis: Any, keepdims: bool) -> Any:
    """A reduced array over the reduced axes again."""
    if axis is not None and not keepdims:
        dropped = axis if isinstance(axis, tuple) else (axis,)
        y = be.reshape(y, tuple(1 if i in dropped else n for i, n in enumerate(shape)))
    return be.spread(y, shape)


def count(shape: tuple[int, ...], axis: Any) -> int:
    """How many elements each sum has."""
    n = 1
    for i in range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,):
        n *= shape[i]
    return n


@op(lambda g, be, x_shape, axis, keepdims: spread(be, g, x_shape, axis, keepdims))
def sum(be, x, /, *, axis=None, keepdims=False):
    """The sum; bools and integers give int64."""
    return be.sum(x, axis, keepdims)


@op(lambda g, be, x_shape, axis, keepdims:
    spread(be, g / count(x_shape, axis), x_shape, axis, keepdims))  # fmt: skip
def mean(be, x, /, *, axis=None, keepdims=False):
    """The mean."""
    return be.mean(x, axis, keepdims)


@op(lambda g, be, x, axis, correction, keepdims:
    var_grad(be, g, x, axis, correction, keepdims), numbers="floating")  # fmt: skip
def var(be, x, /, *, axis=None, correction=1, keepdims=False):
    """The variance: the sum of squared distances from the mean over count - correction."""
    return be.var(x, axis, correction, keepdims)


def var_grad(be: Any, g: Any, x: Any, axis: Any, correction: float, keepdims: bool) -> Any:
    freedom = count(x.shape, axis) - correction
    scale = 2 / freedom if freedom else math.inf
    return spread(be, g, x.shape, axis, keepdims) * ((x - be.mean(x, axis, True)) * scale)


@op(lambda g, be, x, out, axis, correction, keepdims:
    var_grad(be, std_grad(be, g, out), x, axis, correction, keepdims),
    numbers="floating")  # fmt: skip
def std(be, x, /, *, axis=None, correction=1, keepdims=False):
    """The square root of the variance, with derivative 0 where all are equal."""
    return be.std(x, axis, correction, keepdims)


def std_grad(be: Any, g: Any, out: Any) -> Any:
    """The gradient for the variance."""
    flat = out == 0
    safe = be.where(flat, be.full((), 1, out.dtype), out)
    return be.where(flat, be.full((), 0, out.dtype), g / (safe * 2))


@op(lambda g, be, x, axis, keepdims:
    spread(be, g, x.shape, axis, keepdims) * prod_of_others(be, x, axis))  # fmt: skip
def prod(be, x, /, *, axis=None, keepdims=False):
    """The product."""
    return be.prod(x, axis, keepdims)


def prod_of_others(be: Any, x: Any, axis: Any) -> Any:
    """For each element, the product of the others, right where there are zeros too: with one zero
    only its own is not zero, with more all are."""
    one, zero = be.full((), 1, x.dtype), be.full((), 0, x.dtype)
    none = x == 0
    zeros = be.sum(be.astype(none, x.dtype), axis, True)
    rest = be.prod(be.where(none, one, x), axis, True)
    if axis is None:
        shape = (1,) * len(x.shape)
        zeros, rest = be.reshape(zeros, shape), be.reshape(rest, shape)
    others = be.where(zeros == 0, rest, zero) / be.where(none, one, x)
    return be.where(none, be.where(zeros == 1, rest, zero), others)


@op(lambda g, be, x, out, axis, keepdims: share_of_best(be, g, x, out, axis, keepdims))
def amax(be, x, /, *, axis=None, keepdims=False):
    """The maximum; ties share the gradient equally."""
    return be.max(x, axis, keepdims)


@op(lambda g, be, x, out, axis, keepdims: share_of_best(be, g, x, out, axis, keepdims))
def amin(be, x, /, *, axis=None, keepdims=False):
    """The minimum; ties share the gradient equally."""
    return be.min(x, axis, keepdims)


def share_of_best(be: Any, g: Any, x: Any, out: Any, axis: Any, keepdims: bool) -> Any:
    best = be.astype(x == spread(be, be.detach(out), x.shape, axis, keepdims), g.dtype)
    ties = be.sum(best, axis, keepdims)
    return best * spread(be, g / ties, x.shape, axis, keepdims)


@op(lambda g, be, x, axis, keepdims:
    spread(be, g, x.shape, axis, keepdims) * be.softmax(x, axis), numbers="floating")  # fmt: skip
def logsumexp(be, x, /, *, axis, keepdims=False):
    """log sum e^x"""
    return be.logsumexp(x, axis, keepdims)


@op(lambda g, be, axis: reverse_cumsum(be, g, axis))
def cumsum(be, x, /, *, axis):
    """The running sum."""
    return be.cumsum(x, axis)


def reverse_cumsum(be: Any, x: Any, axis: int) -> Any:
    return be.flip(be.cumsum(be.flip(x, (axis,)), axis), (axis,))


@op(lambda g, be, x, axis: cumprod_grad(be, g, x, axis))
def cumprod(be, x, /, *, axis):
    """The running product."""
    return be.cumprod(x, axis)


def cumprod_grad(be: Any, g: Any, x: Any, axis: int) -> Any:
    """Without zeros, a running sum from the end divided by x. At the first zero of a row, the sum
    of the products that it enters, without it; beyond it, zero."""
    one, zero = be.full((), 1, x.dtype), be.full((), 0, x.dtype)
    none = x == 0
    seen = be.cumsum(be.astype(none, x.dtype), axis)
    first = none & (seen == 1)
    plain = reverse_cumsum(be, g * be.cumprod(x, axis), axis) / be.where(none, one, x)
    without = be.cumprod(be.where(first, one, x), axis)
    at_zero = reverse_cumsum(be, be.where(seen >= 1, g * without, zero), axis)
    return be.where(first, at_zero, be.where(seen == 0, plain, zero))


# Without gradients ---------------------------------------------------------------------------


@op()
def argmax(be, x, /, *, axis=None, keepdims=False):
    """The index of the first maximum."""
    return be.argmax(x, axis, keepdims)


@op()
def argmin(be, x, /, *, axis=None, keepdims=False):
    """The index of the first minimum."""
    return be.argmin(x, axis, keepdims)


@op()
def argsort(be, x, /, *, axis):
    """The indices that sort, stable."""
    return be.argsort(x, axis)


@op()
def topk(be, x, /, *, k, axis, largest=True):
    """The indices of the k largest (or smallest), best first."""
    return be.topk(x, k, axis, largest)


@op()
def all(be, x, /, *, axis=None, keepdims=False):
    """Whether no element is zero."""
    return be.all(x, axis, keepdims)


@op()
def any(be, x, /, *, axis=None, keepdims=False):
    """Whether some element is not zero."""
    return be.any(x, axis, keepdims)
