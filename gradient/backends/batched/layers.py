"""Rules for layers and losses: the samples join the axis of the rows, or of the channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradient.backends.batched.array import BatchedArray
from gradient.backends.batched.base import Batching, Shape
from gradient.backends.batched.elementwise import is_array
from gradient.backends.options import AttentionOptions, PoolingOptions, WindowRanges
from gradient.dtypes import HALF_PRECISION

ALONG = ("softmax", "log_softmax")
"""Methods (x, axis)."""

GRADS_ALONG = ("softmax_grad", "log_softmax_grad")
"""Methods (g, out, axis)."""

OF_ROWS = ("cross_entropy", "cross_entropy_in_float32", "cross_entropy_grad", "nll")
"""Methods of which all arrays have the rows as their first axis."""


def _along(name: str) -> Callable[..., Any]:
    def method(self: Batching, x: Any, axis: Any) -> Any:
        value, batched = self.split(x)
        if batched and x.shape:
            axis = self.shifted(x, axis)
        elif batched:
            return self.reshape(getattr(self, name)(self.reshape(x, (1,)), 0), ())
        return BatchedArray(self, getattr(self.inner, name)(value, axis), batched)

    method.__name__ = name
    return method


def _grad_along(name: str) -> Callable[..., Any]:
    def method(self: Batching, g: Any, out: Any, axis: Any) -> Any:
        if not self.is_batched(g, out):
            return self.shared(getattr(self.inner, name)(*self.values(g, out), axis))
        if not out.shape:
            g, out = self.reshape(g, (1,)), self.reshape(out, (1,))
            return self.reshape(getattr(self, name)(g, out, 0), ())
        at = self.shifted(out, axis)
        return self.batch(getattr(self.inner, name)(self.whole(g), self.whole(out), at))

    method.__name__ = name
    return method


def _of_rows(name: str) -> Callable[..., Any]:
    def method(self: Batching, *given: Any) -> Any:
        call = getattr(self.inner, name)
        if not self.is_batched(*given):
            return self.result(call(*self.values(*given)), False)
        n = given[0].shape[0]
        out = call(*[self.merged(x) if is_array(x) else x for x in given])
        if type(out) is tuple:
            return tuple([self.unmerged(y, n) for y in out])
        return self.unmerged(out, n)

    method.__name__ = name
    return method


class LayerRules(Batching):
    """Softmax, losses, norms, attention and pooling. What has no rule here is composed of methods
    that have one."""

    def logsumexp(self, x: Any, axis: Any, keepdims: bool = False) -> Any:
        value, batched = self.split(x)
        if not batched:
            return self.shared(self.inner.logsumexp(value, axis, keepdims))
        if not x.shape:
            return super().logsumexp(x, axis, keepdims)
        return self.batch(self.inner.logsumexp(value, self.shifted(x, axis), keepdims))

    def ctc(self, log_probs: Any, labels: Any, steps: Any, sizes: Any) -> Any:
        return self._of_each("ctc", log_probs, labels, steps, sizes)

    def ctc_grad(self, *given: Any) -> Any:
        return self._of_each("ctc_grad", *given)

    def _of_each(self, method: str, *arrays: Any) -> Any:
        if self.is_batched(*arrays):
            return self.each(method, arrays)
        return self.result(getattr(self.inner, method)(*self.values(*arrays)), False)

    def scaled_gap(self, scale: Any, x: Any, target: Any) -> Any:
        return (x - target) * scale

    def nll_grad(self, g: Any, shape: Shape, target: Any, ignore_index: int) -> Any:
        if not self.is_batched(g, target):
            return self.shared(
                self.inner.nll_grad(self.values(g)[0], shape, self.values(target)[0], ignore_index)
            )
        rows = self.merged(g)
        shape = (rows.shape[0], *shape[1:])
        out = self.inner.nll_grad(rows, shape, self.merged(target), ignore_index)
        return self.unmerged(out, g.shape[0])

    # Normalisation -------------------------------------------------------------------------------

    def layer_norm(self, x: Any, weight: Any, bias: Any, eps: float) -> Any:
        value, batched = self.split(x)
        if not self.is_batched(weight, bias):
            given = self.values(weight, bias)
            return self.result(self.inner.layer_norm(value, *given, eps), batched)
        if x.dtype in HALF_PRECISION:  # rounded once
            return super().layer_norm(x, weight, bias, eps)
        found = self.inner.layer_norm(value, None, None, eps)
        y, mean, rstd = self.result(found, batched)
        y = y if weight is None else y * weight
        return (y if bias is None else y + bias), mean, rstd

    def layer_norm_grad(self, g: Any, x: Any, weight: Any, mean: Any, rstd: Any) -> Any:
        if not self.is_batched(g, x, mean, rstd) and not self.is_batched(weight):
            given = self.values(g, x, weight, mean, rstd)
            return self.result(self.inner.layer_norm_grad(*given), False)
        if self.is_batched(weight) or x.dtype in HALF_PRECISION:
            return super().layer_norm_grad(g, x, weight, mean, rstd)
        arrays = [self.whole(a) for a in (x, mean, rstd)]
        x_grad, _, _ = self.inner.layer_norm_grad(
            self.whole(g), arrays[0], self.values(weight)[0], *arrays[1:]
        )
        rows = tuple(range(len(x.shape) - 1))
        weight_grad = None if weight is None else self.sum(g * ((x - mean) * rstd), rows)
        return self.batch(x_grad), weight_grad, self.sum(g, rows)

    def rms_norm(self, x: Any, weight: Any, eps: float, round_first: bool = False) -> Any:
        value, batched = self.split(x)
        if not self.is_batched(weight):
            w = self.values(weight)[0]
            return self.result(self.inner.rms_norm(value, w, eps, round_first), batched)
        return super().rms_norm(x, weight, eps, round_first)

    def _by_channels(self, x: Any) -> Any:
        """The value with the samples among the channels: (B, N, C, ...) as (N, B C, ...)."""
        value = self.whole(x)
        b, n, c, *rest = value.shape
        value = self.inner.permute(value, (1, 0, *range(2, len(value.shape))))
        return self.inner.reshape(value, (n, b * c, *rest))

    def _of_channels(self, value: Any, c: int) -> BatchedArray:
        """The inverse of `_by_channels`."""
        n, _, *rest = value.shape
        value = self.inner.reshape(value, (n, self.size, c, *rest))
        return self.batch(self.inner.permute(value, (1, 0, *range(2, len(value.shape)))))

    def batch_norm(self, x: Any, weight: Any, bias: Any, eps: float) -> Any:
        if not self.is_batched(x, weight, bias):
            return self.result(self.inner.batch_norm(*self.values(x, weight, bias), eps), False)
        c = x.shape[1]
        affine = [None if a is None else self.merged(a) for a in (weight, bias)]
        y, mean, rstd = self.inner.batch_norm(self._by_channels(x), *affine, eps)
        return self._of_channels(y, c), self.unmerged(mean, c), self.unmerged(rstd, c)

    def batch_norm_grad(self, g: Any, x: Any, weight: Any, mean: Any, rstd: Any) -> Any:
        if not self.is_batched(g, x, weight, mean, rstd):
            given = self.values(g, x, weight, mean, rstd)
            return self.result(self.inner.batch_norm_grad(*given), False)
        c = x.shape[1]
        x_grad, weight_grad, bias_grad = self.inner.batch_norm_grad(
            self._by_channels(g),
            self._by_channels(x),
            None if weight is None else self.merged(weight),
            self.merged(mean),
            self.merged(rstd),
        )
        return (
            self._of_channels(x_grad, c),
            None if weight_grad is None else self.unmerged(weight_grad, c),
            self.unmerged(bias_grad, c),
        )

    def group_norm(self, x: Any, weight: Any, bias: Any, groups: int, eps: float) -> Any:
        if not self.is_batched(x, weight, bias):
            given = self.values(x, weight, bias)
            return self.result(self.inner.group_norm(*given, groups, eps), False)
        if self.is_batched(weight, bias):
            return super().group_norm(x, weight, bias, groups, eps)
        n = x.shape[0]
        y, mean, rstd = self.inner.group_norm(
            self.merged(x), *self.values(weight, bias), groups, eps
        )
        return self.unmerged(y, n), self.unmerged(mean, n * groups), self.unmerged(rstd, n * groups)

    # Attention -----------------------------------------------------------------------------------

    def rope(self, x: Any, cos: Any, sin: Any, interleaved: bool = False) -> Any:
        value, batched = self.split(x)
        if self.is_batched(cos, sin) or len(cos.shape) > len(x.shape):
            return super().rope(x, cos, sin, interleaved)
        angles = self.values(cos, sin)
        return BatchedArray(self, self.inner.rope(value, *angles, interleaved), batched)

    def _merged_mask(self, mask: Any, q: Any) -> Any:
        """A mask for the merged queries; one without the axis of the batch stays."""
        if mask is None:
            return None
        value, batched = self.split(mask)
        if not batched and (len(mask.shape) < 4 or mask.shape[0] == 1):
            return value
        shape = (1,) * (4 - len(mask.shape)) + tuple(mask.shape)
        mask = self.reshape(mask, shape)
        return self.merged(self.broadcast_to(mask, (q.shape[0], *shape[1:])))

    def attention(
        self,
        q: Any,
        k: Any,
        v: Any,
        mask: Any = None,
        options: AttentionOptions = AttentionOptions(),  # noqa: B008 (frozen)
    ) -> Any:
        if not self.is_batched(q, k, v, mask):
            return self.result(self.inner.attention(*self.values(q, k, v, mask), options), False)
        rows = [self.merged(a) for a in (q, k, v)]
        found = self.inner.attention(*rows, self._merged_mask(mask, q), options)
        return tuple([self.unmerged(y, q.shape[0]) for y in found])

    def attention_grad(
        self,
        g: Any,
        q: Any,
        k: Any,
        v: Any,
        out: Any,
        high: Any,
        log_sum: Any,
        mask: Any = None,
        options: AttentionOptions = AttentionOptions(),  # noqa: B008 (frozen)
    ) -> Any:
        given = g, q, k, v, out, high, log_sum
        if not self.is_batched(*given, mask):
            found = self.inner.attention_grad(*self.values(*given, mask), options)
            return self.result(found, False)
        rows = [self.merged(a) for a in given]
        found = self.inner.attention_grad(*rows, self._merged_mask(mask, q), options)
        return tuple([self.unmerged(y, q.shape[0]) for y in found])

    # Pooling: the axes before those of the windows are free --------------------------------------

    def max_pool(self, x: Any, options: PoolingOptions) -> Any:
        value, batched = self.split(x)
        return self.result(self.inner.max_pool(value, options), batched)

    def max_pool_grad(self, g: Any, indices: Any, shape: Shape, options: PoolingOptions) -> Any:
        return self._pool_grad("max_pool_grad", (g, indices), shape, options)

    def adaptive_max_pool(self, x: Any, out_sizes: Shape) -> Any:
        value, batched = self.split(x)
        return self.result(self.inner.adaptive_max_pool(value, out_sizes), batched)

    def adaptive_max_pool_grad(self, g: Any, indices: Any, shape: Shape, out_sizes: Shape) -> Any:
        return self._pool_grad("adaptive_max_pool_grad", (g, indices), shape, out_sizes)

    def avg_pool(self, x: Any, windows: WindowRanges) -> Any:
        value, batched = self.split(x)
        return BatchedArray(self, self.inner.avg_pool(value, windows), batched)

    def avg_pool_grad(self, g: Any, shape: Shape, windows: WindowRanges) -> Any:
        return self._pool_grad("avg_pool_grad", (g,), shape, windows)

    def _pool_grad(self, method: str, arrays: tuple[Any, ...], shape: Shape, options: Any) -> Any:
        call = getattr(self.inner, method)
        if not self.is_batched(*arrays):
            return self.shared(call(*self.values(*arrays), tuple(shape), options))
        values = [self.whole(a) for a in arrays]
        return self.batch(call(*values, (self.size, *shape), options))

    def resize(self, x: Any, fraction: Any, low: Any, high: Any, axis: int) -> Any:
        value, batched = self.split(x)
        if self.is_batched(fraction, low, high):
            return super().resize(x, fraction, low, high, axis)
        at = axis % len(x.shape) + batched
        out = self.inner.resize(value, *self.values(fraction, low, high), at)
        return BatchedArray(self, out, batched)

    def resize_grad(self, g: Any, fraction: Any, low: Any, high: Any, size: int, axis: int) -> Any:
        value, batched = self.split(g)
        if self.is_batched(fraction, low, high):
            return super().resize_grad(g, fraction, low, high, size, axis)
        at = axis % len(g.shape) + batched
        out = self.inner.resize_grad(value, *self.values(fraction, low, high), size, at)
        return BatchedArray(self, out, batched)

    def weighted_taps(self, x: Any, weights: Any, places: tuple[Any, ...], axis: int) -> Any:
        value, batched = self.split(x)
        if self.is_batched(weights, *places):
            return super().weighted_taps(x, weights, places, axis)
        at = axis % len(x.shape) + batched
        given = self.values(weights)[0], tuple(self.values(*places))
        return BatchedArray(self, self.inner.weighted_taps(value, *given, at), batched)

    def weighted_taps_grad(
        self, g: Any, weights: Any, places: tuple[Any, ...], size: int, axis: int
    ) -> Any:
        value, batched = self.split(g)
        if self.is_batched(weights, *places):
            return super().weighted_taps_grad(g, weights, places, size, axis)
        at = axis % len(g.shape) + batched
        given = self.values(weights)[0], tuple(self.values(*places))
        out = self.inner.weighted_taps_grad(value, *given, size, at)
        return BatchedArray(self, out, batched)


for _name in ALONG:
    setattr(LayerRules, _name, _along(_name))
for _name in GRADS_ALONG:
    setattr(LayerRules, _name, _grad_along(_name))
for _name in OF_ROWS:
    setattr(LayerRules, _name, _of_rows(_name))
