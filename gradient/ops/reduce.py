"""Ops that reduce axes. `axis` is None (all), an int or a tuple of ints, none negative."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from gradient.autograd.op import op
from gradient.backends.composed.shared import is_complex, prod_before, sliced
from gradient.dtypes import uint8

if TYPE_CHECKING:
    from gradient.backends import Array, Backend

UINT8 = uint8.numpy

Axis = int | tuple[int, ...] | None


def expand_reduced(be: Backend, y: Any, shape: tuple[int, ...], axis: Any, keepdims: bool) -> Any:
    """Broadcast a reduced array along its reduced axes, to `shape`."""
    return be.expand(kept(be, y, shape, axis, keepdims), shape)


def kept(be: Backend, y: Any, shape: tuple[int, ...], axis: Any, keepdims: bool) -> Any:
    """A reduced array with its reduced axes, of size 1; without axes if all were reduced."""
    if axis is None or keepdims:
        return y
    dropped = axis if isinstance(axis, tuple) else (axis,)
    return be.reshape(y, tuple(1 if i in dropped else n for i, n in enumerate(shape)))


def count(shape: tuple[int, ...], axis: Any) -> int:
    """The number of elements in each reduction."""
    n = 1
    for i in range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,):
        n *= shape[i]
    return n


@op(lambda g, be, x_shape, axis, keepdims: expand_reduced(be, g, x_shape, axis, keepdims),
    takes_complex=True, autocast="float32_on_gpu")  # fmt: skip
def sum(be: Backend[Array], x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """The sum; bools and integers give int64."""
    return be.sum(x, axis, keepdims)


@op(
    lambda g, be, x, axis, keepdims: squares_grad(be, g, x, axis, keepdims),
    promotion="float_only",
)
def sum_of_squares(
    be: Backend[Array], x: Array, /, *, axis: Axis = None, keepdims: bool = False
) -> Array:
    """The sum of the squares."""
    return be.sum_of_squares(x, axis, keepdims)


def squares_grad(be: Backend, g: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
    twice = g * 2
    if axis is not None:
        twice = expand_reduced(be, twice, tuple(x.shape), axis, keepdims)
    return x * twice


@op(promotion="none")
def total_norm(be: Backend[Array], /, *arrays: Array) -> Array:
    """The Euclidean norm of all elements of arrays of one dtype. It has no gradient."""
    return be.total_norm(list(arrays))


@op(lambda g, be, x_shape, axis, keepdims:
    expand_reduced(be, g / count(x_shape, axis), x_shape, axis, keepdims),
    takes_complex=True)  # fmt: skip
def mean(be: Backend[Array], x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """The mean."""
    return be.mean(x, axis, keepdims)


@op(lambda g, be, x, axis, correction, keepdims:
    var_grad(be, g, x, axis, correction, keepdims), promotion="int_to_float")  # fmt: skip
def var(
    be: Backend[Array],
    x: Array,
    /,
    *,
    axis: Axis = None,
    correction: float = 1,
    keepdims: bool = False,
) -> Array:
    """The variance: sum (x - mean)^2 / (count - correction)."""
    return be.var(x, axis, correction, keepdims)


def var_grad(be: Backend, g: Any, x: Any, axis: Any, correction: float, keepdims: bool) -> Any:
    freedom = count(x.shape, axis) - correction
    if freedom <= 0 and (axis is None or not x.shape):
        gap = be.abs(x - be.mean(x))  # the gradient is NaN where it is 0, else inf, as in PyTorch
        return expand_reduced(be, g, x.shape, axis, keepdims) * (gap * math.inf)
    scale = 2 / freedom if freedom else math.inf  # negative for too few elements, as in PyTorch
    return expand_reduced(be, g, x.shape, axis, keepdims) * ((x - be.mean(x, axis, True)) * scale)


@op(lambda g, be, x, out, axis, correction, keepdims:
    var_grad(be, std_grad(be, g, out), x, axis, correction, keepdims),
    promotion="int_to_float")  # fmt: skip
def std(
    be: Backend[Array],
    x: Array,
    /,
    *,
    axis: Axis = None,
    correction: float = 1,
    keepdims: bool = False,
) -> Array:
    """The square root of the variance, with derivative 0 if all elements are equal."""
    return be.std(x, axis, correction, keepdims)


def std_grad(be: Backend, g: Any, out: Any) -> Any:
    """The gradient with respect to the variance."""
    flat = out == 0
    safe = be.where(flat, be.full((), 1, out.dtype), out)
    return be.where(flat, be.full((), 0, out.dtype), g / (safe * 2))


@op(lambda g, be, x, axis, keepdims:
    expand_reduced(be, g, x.shape, axis, keepdims) * be.prod_of_others(x, axis),
    takes_complex=True, autocast="float32")  # fmt: skip
def prod(be: Backend[Array], x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """The product."""
    return be.prod(x, axis, keepdims)


@op(lambda g, be, x, out, axis, keepdims, nan_ties:
    amax_grad(be, g, x, out, axis, keepdims, nan_ties))  # fmt: skip
def amax(
    be: Backend[Array],
    x: Array,
    /,
    *,
    axis: Axis = None,
    keepdims: bool = False,
    nan_ties: bool = False,
) -> Array:
    """The maximum; ties share the gradient equally. If it is NaN, all NaNs do with `nan_ties`, as
    in PyTorch's norms; without it all gradients are NaN."""
    return be.max(x, axis, keepdims)


@op(lambda g, be, x, out, axis, keepdims, nan_ties:
    amax_grad(be, g, x, out, axis, keepdims, nan_ties))  # fmt: skip
def amin(
    be: Backend[Array],
    x: Array,
    /,
    *,
    axis: Axis = None,
    keepdims: bool = False,
    nan_ties: bool = False,
) -> Array:
    """The minimum; ties share the gradient equally. If it is NaN, all NaNs do with `nan_ties`, as
    in PyTorch's norms; without it all gradients are NaN."""
    return be.min(x, axis, keepdims)


@op(lambda g, be, x: taxicab_norm_grad(be, g, x), promotion="float_only")
def taxicab_norm(be: Backend[Array], x: Array, /) -> Array:
    """The sum of |x| along the last axis; the gradient of NaN is NaN, as in PyTorch's cdist."""
    return be.sum(be.abs(x), len(x.shape) - 1)


def taxicab_norm_grad(be: Backend, g: Any, x: Any) -> Any:
    x = be.detach(x)
    sign = be.where(x != x, x, be.sign(x))
    return expand_reduced(be, g, x.shape, len(x.shape) - 1, False) * sign


@op(lambda g, be, x, out: chebyshev_norm_grad(be, g, x, out), promotion="float_only")
def chebyshev_norm(be: Backend[Array], x: Array, /) -> Array:
    """The maximum of |x| along the last axis. As in PyTorch's cdist, each element of a tie gets the
    whole gradient; if there is a NaN, all gradients are NaN."""
    return be.max(be.abs(x), len(x.shape) - 1)


def chebyshev_norm_grad(be: Backend, g: Any, x: Any, out: Any) -> Any:
    last, x = len(x.shape) - 1, be.detach(x)
    largest = expand_reduced(be, be.detach(out), x.shape, last, False)
    sign = be.where(be.abs(x) == largest, be.sign(x), be.full((), 0, g.dtype))
    sign = be.where(largest != largest, largest, sign)
    return expand_reduced(be, g, x.shape, last, False) * sign


@op(lambda g, be, x, out: max_grad(be, g, x, out))
def max(be: Backend[Array], x: Array, /) -> Array:
    """The maximum of all elements; ties, or all NaNs if it is NaN, share the gradient equally."""
    return be.max(x)


@op(lambda g, be, x, out: max_grad(be, g, x, out))
def min(be: Backend[Array], x: Array, /) -> Array:
    """The minimum of all elements; ties, or all NaNs if it is NaN, share the gradient equally."""
    return be.min(x)


@op(lambda g, be, x, out: max_grad(be, g, x, out))
def median(be: Backend[Array], x: Array, /) -> Array:
    """The lower median of all elements, or NaN if there is one; ties share the gradient equally."""
    return be.median(x)


def max_grad(be: Backend, g: Any, x: Any, out: Any) -> Any:
    out = be.detach(out)
    best = (x == out) | ((x != x) & (out != out))
    ties = be.sum(be.astype(best, g.dtype))
    return be.where(best, g / ties, be.full((), 0, g.dtype))


def amax_grad(
    be: Backend, g: Any, x: Any, out: Any, axis: Any, keepdims: bool, nan_ties: bool
) -> Any:
    out = expand_reduced(be, be.detach(out), x.shape, axis, keepdims)
    same = (x == out) | ((x != x) & (out != out)) if nan_ties else x == out
    best = be.astype(same, g.dtype)
    ties = be.sum(best, axis, keepdims)
    return best * expand_reduced(be, g / ties, x.shape, axis, keepdims)


@op(lambda g, be, x, out, axis, keepdims:
    logsumexp_grad(be, g, x, out, axis, keepdims),
    promotion="int_to_float", takes_complex=True, autocast="float32_on_gpu")  # fmt: skip
def logsumexp(be: Backend[Array], x: Array, /, *, axis: Axis, keepdims: bool = False) -> Array:
    """log sum e^x"""
    return be.logsumexp(x, axis, keepdims)


def logsumexp_grad(be: Backend, g: Any, x: Any, out: Any, axis: Axis, keepdims: bool) -> Any:
    g, out = (kept(be, y, x.shape, axis, keepdims) for y in (g, out))
    return be.logsumexp_grad(g, x, out, axis)


@op(lambda g, be, axis: reverse_cumsum(be, g, axis), takes_complex=True, autocast="float32_on_gpu")
def cumsum(be: Backend[Array], x: Array, /, *, axis: int) -> Array:
    """The running sum."""
    return be.cumsum(x, axis)


def reverse_cumsum(be: Backend, x: Any, axis: int) -> Any:
    return be.flip(be.cumsum(be.flip(x, (axis,)), axis), (axis,))


@op(lambda g, be, x, axis: cumprod_grad(be, g, x, axis),
    takes_complex=True, autocast="float32_on_gpu")  # fmt: skip
def cumprod(be: Backend[Array], x: Array, /, *, axis: int) -> Array:
    """The running product."""
    return be.cumprod(x, axis)


def cumprod_grad(be: Backend, g: Any, x: Any, axis: int) -> Any:
    """The product of the earlier elements, times r, where r_i = g_i + x_(i+1) r_(i+1). Without a
    division, so it and its own derivatives are right for elements that are 0."""
    factors = sliced(be, x, axis, 1, x.shape[axis] or 1)
    return prod_before(be, x, axis) * be.recurrent_sum(g, factors, axis)


@op(lambda g, be, x, out, axis: logcumsumexp_grad(be, g, x, out, axis),
    promotion="float_only", takes_complex=True)  # fmt: skip
def logcumsumexp(be: Backend[Array], x: Array, /, *, axis: int) -> Array:
    """The logarithm of the running sum of exponentials; of complex numbers one after the other,
    which determines the multiples of 2 pi i."""
    if not is_complex(x) or x.shape[axis] < 2:
        return be.logcumsumexp(x, axis)
    parts = [sliced(be, x, axis, i, i + 1) for i in range(x.shape[axis])]
    return be.concatenate(list(accumulate(parts, lambda a, b: be.logaddexp(b, a))), axis)


def logcumsumexp_grad(be: Backend, g: Any, x: Any, out: Any, axis: int) -> Any:
    """e^(x_i - out_i) r_i, where r_i = g_i + e^(out_i - out_(i+1)) r_(i+1), as in `cumprod_grad`.
    As in PyTorch, if a result is inf, the gradient of smaller elements is 0, that of inf NaN."""
    n = x.shape[axis]
    nothing, least = be.full((), 0, x.dtype), be.full((), -math.inf, x.dtype)
    later, earlier = sliced(be, out, axis, 1, n or 1), sliced(be, out, axis, 0, n - 1 if n else 0)
    # What has no value is replaced before it is computed: its derivative would be NaN elsewhere.
    none = (later == math.inf) | (earlier == -math.inf)
    total = be.recurrent_sum(g, be.exp(be.where(none, least, earlier - later)), axis)
    highest, lowest = x == math.inf, out == -math.inf
    infinite = highest | lowest
    part = be.exp(be.where(infinite, nothing, x - out)) * total
    source = be.where(lowest, x + g, be.where(highest, x + total, nothing))  # of NaN
    return be.where(infinite, source * math.nan, part)


# Without gradients ---------------------------------------------------------------------------


@op()
def argmax(
    be: Backend[Array], x: Array, /, *, axis: int | None = None, keepdims: bool = False
) -> Array:
    """The index of the first maximum."""
    return be.argmax(x, axis, keepdims)


@op()
def argmin(
    be: Backend[Array], x: Array, /, *, axis: int | None = None, keepdims: bool = False
) -> Array:
    """The index of the first minimum."""
    return be.argmin(x, axis, keepdims)


@op()
def argsort(be: Backend[Array], x: Array, /, *, axis: int) -> Array:
    """The indices of a stable sort."""
    return be.argsort(x, axis)


@op()
def topk(be: Backend[Array], x: Array, /, *, k: int, axis: int, largest: bool = True) -> Array:
    """The indices of the k largest (or smallest), best first."""
    return be.topk(x, k, axis, largest)


@op()
def categorical(be: Backend[Array], weights: Array, uniform: Array, /) -> Array:
    """A random column of each row, with probabilities proportional to `weights`, by inversion of a
    `uniform` number."""
    return be.categorical(weights, uniform)


@op()
def likeliest(be: Backend[Array], x: Array, /) -> Array:
    """The argmax of each row; -1 if the maximum is -inf or NaN."""
    return be.likeliest(x)


@op(takes_complex=True)
def all(be: Backend[Array], x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Whether no element is zero; the result is bool, or uint8 for uint8."""
    return in_bytes(be, be.all(x, axis, keepdims), x)


@op(takes_complex=True)
def any(be: Backend[Array], x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Whether some element is not zero; the result is bool, or uint8 for uint8."""
    return in_bytes(be, be.any(x, axis, keepdims), x)


def in_bytes(be: Backend, out: Any, x: Any) -> Any:
    return be.astype(out, x.dtype) if x.dtype == UINT8 else out
