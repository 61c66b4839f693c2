"""Rules for reductions, scans, sorting and moves of elements: axes count from the samples' on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gradient.backends.batched.array import BatchedArray, lengthened
from gradient.backends.batched.base import Batching, Shape

REDUCTIONS = ("sum", "prod", "max", "min", "mean", "all", "any")
"""Methods (x, axis, keepdims), where axis may be None."""

ALONG = ("cumsum", "cumprod", "argsort")
"""Methods (x, axis), of which the result has the shape of x."""

ON_LAST_AXES = (
    "diagonal", "triangle", "likeliest", "inv", "cholesky", "lu", "lu_pivots", "logabsdet",
    "det_sign", "det", "cofactor", "eigh", "eig", "svd", "qr", "pinv",
)  # fmt: skip
"""Methods on matrices, or vectors, along the last axes of an array."""


def _reduction(name: str) -> Callable[..., Any]:
    def method(self: ReductionRules, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        value, batched = self.split(x)
        reduce = getattr(self.inner, name)
        if not batched:
            return self.shared(reduce(value, axis, keepdims))
        if axis is None or not x.shape:
            return self._in_all(reduce, x, keepdims)
        return self.batch(reduce(value, self.shifted(x, axis), keepdims))

    method.__name__ = name
    return method


def _along(name: str) -> Callable[..., Any]:
    def method(self: ReductionRules, x: Any, axis: int) -> Any:
        value, batched = self.split(x)
        if not batched:
            return self.shared(getattr(self.inner, name)(value, axis))
        if not x.shape:
            out = getattr(self.inner, name)(self.inner.reshape(value, (-1, 1)), 1)
            return self.batch(self.inner.reshape(out, value.shape))
        return self.batch(getattr(self.inner, name)(value, axis % len(x.shape) + 1))

    method.__name__ = name
    return method


def _on_last_axes(name: str) -> Callable[..., Any]:
    def method(self: Batching, x: Any, *options: Any) -> Any:
        value, batched = self.split(x)
        return BatchedArray(self, getattr(self.inner, name)(value, *options), batched)

    method.__name__ = name
    return method


class ReductionRules(Batching):
    """The methods above, and those that are not of these forms."""

    def solve_triangular(self, a: Any, b: Any, lower: bool) -> Any:
        values, batched = self.aligned(a, b)
        return BatchedArray(self, self.inner.solve_triangular(*values, lower), batched)

    def _in_all(self, reduce: Callable[..., Any], x: Any, keepdims: bool) -> Any:
        """Reduce all elements of each sample, as a row."""
        rows = self.inner.reshape(x.value, (x.value.shape[0], math.prod(x.shape)))
        out = reduce(rows, 1, False)
        if keepdims:
            out = self.inner.reshape(out, (x.value.shape[0], *(1,) * len(x.shape)))
        return self.batch(out)

    def argmax(self, x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
        return self._arg("argmax", x, axis, keepdims)

    def argmin(self, x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
        return self._arg("argmin", x, axis, keepdims)

    def _arg(self, method: str, x: Any, axis: int | None, keepdims: bool) -> Any:
        value, batched = self.split(x)
        found = getattr(self.inner, method)
        if not batched:
            return self.shared(found(value, axis, keepdims))
        if axis is None or not x.shape:
            return self._in_all(found, x, keepdims)
        return self.batch(found(value, axis % len(x.shape) + 1, keepdims))

    def var(self, x: Any, axis: Any = None, correction: float = 1, keepdims: bool = False) -> Any:
        return self._spread("var", x, axis, correction, keepdims)

    def std(self, x: Any, axis: Any = None, correction: float = 1, keepdims: bool = False) -> Any:
        return self._spread("std", x, axis, correction, keepdims)

    def _spread(self, method: str, x: Any, axis: Any, correction: float, keepdims: bool) -> Any:
        value, batched = self.split(x)
        found = getattr(self.inner, method)
        if not batched:
            return self.shared(found(value, axis, correction, keepdims))
        if axis is None or not x.shape:
            return self._in_all(
                lambda rows, at, keep: found(rows, at, correction, keep), x, keepdims
            )
        return self.batch(found(value, self.shifted(x, axis), correction, keepdims))

    def topk(self, x: Any, k: int, axis: int, largest: bool) -> Any:
        value, batched = self.split(x)
        if not batched:
            return self.shared(self.inner.topk(value, k, axis, largest))
        if not x.shape:
            return super().topk(self.reshape(x, (1,)), k, 0, largest)
        return self.batch(self.inner.topk(value, k, axis % len(x.shape) + 1, largest))

    def solve(self, a: Any, b: Any) -> Any:
        (x, y), batched = self.aligned(a, b)
        return BatchedArray(self, self.inner.solve(x, y), batched)

    # Moves of elements ---------------------------------------------------------------------------

    def reshape(self, x: Any, shape: Shape) -> Any:
        value, batched = self.split(x)
        if not batched:
            return self.shared(self.inner.reshape(value, shape))
        if -1 in shape:
            known = -math.prod(shape)
            missing = math.prod(x.shape) // known if known else 0
            shape = tuple([missing if n == -1 else n for n in shape])
        if math.prod(shape) != math.prod(x.shape):
            raise ValueError(f"cannot reshape array of shape {tuple(x.shape)} into shape {shape}")
        return self.batch(self.inner.reshape(value, (value.shape[0], *shape)))

    def permute(self, x: Any, axes: Shape) -> Any:
        value, batched = self.split(x)
        if not batched:
            return self.shared(self.inner.permute(value, axes))
        n = len(x.shape)
        return self.batch(self.inner.permute(value, (0, *[a % n + 1 for a in axes])))

    def broadcast_to(self, x: Any, shape: Shape) -> Any:
        return self._expanded("broadcast_to", x, shape)

    def expand(self, x: Any, shape: Shape) -> Any:
        return self._expanded("expand", x, shape)

    def _expanded(self, method: str, x: Any, shape: Shape) -> Any:
        value, batched = self.split(x)
        expand = getattr(self.inner, method)
        if not batched:
            return self.shared(expand(value, shape))
        value = lengthened(x, len(shape))
        return self.batch(expand(value, (value.shape[0], *shape)))

    def concatenate(self, arrays: list[Any], axis: int) -> Any:
        if not self.is_batched(*arrays):
            return self.shared(self.inner.concatenate(self.values(*arrays), axis))
        ndim = len(arrays[0].shape)
        return self.batch(self.inner.concatenate([self.whole(x) for x in arrays], axis % ndim + 1))

    def stack(self, arrays: list[Any], axis: int) -> Any:
        if not self.is_batched(*arrays):
            return self.shared(self.inner.stack(self.values(*arrays), axis))
        ndim = len(arrays[0].shape) + 1
        return self.batch(self.inner.stack([self.whole(x) for x in arrays], axis % ndim + 1))

    def flip(self, x: Any, axis: Shape) -> Any:
        value, batched = self.split(x)
        if not batched:
            return self.shared(self.inner.flip(value, axis))
        if not x.shape:
            return x
        return self.batch(self.inner.flip(value, self.shifted(x, tuple(axis))))

    def pad(self, x: Any, widths: tuple[tuple[int, int], ...], value: complex = 0) -> Any:
        array, batched = self.split(x)
        widths = ((0, 0), *widths) if batched else widths
        return BatchedArray(self, self.inner.pad(array, widths, value), batched)

    def sliding_window(self, x: Any, axis: int, size: int, step: int) -> Any:
        value, batched = self.split(x)
        at = axis % len(x.shape) + batched
        return BatchedArray(self, self.inner.sliding_window(value, at, size, step), batched)

    def unfold(self, x: Any, kernel: Shape, stride: Shape, dilation: Shape) -> Any:
        if not self.is_batched(x):
            return self.shared(self.inner.unfold(self.values(x)[0], kernel, stride, dilation))
        out = self.inner.unfold(self.merged(x), kernel, stride, dilation)
        return self.unmerged(out, x.shape[0])

    def fold(self, x: Any, shape: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> Any:
        if not self.is_batched(x):
            value = self.values(x)[0]
            return self.shared(self.inner.fold(value, shape, kernel, stride, dilation))
        rows = self.merged(x)
        shape = (rows.shape[0], *shape[1:])
        out = self.inner.fold(rows, shape, kernel, stride, dilation)
        return self.unmerged(out, x.shape[0])

    # Fourier transforms --------------------------------------------------------------------------

    def fft(self, x: Any, axes: Shape, inverse: bool, norm: str) -> Any:
        value, batched = self.split(x)
        axes = self.shifted(x, tuple(axes)) if batched else axes
        return BatchedArray(self, self.inner.fft(value, axes, inverse, norm), batched)

    def rfft(self, x: Any, axis: int, norm: str) -> Any:
        value, batched = self.split(x)
        axis = self.shifted(x, axis) if batched else axis
        return BatchedArray(self, self.inner.rfft(value, axis, norm), batched)

    def irfft(self, x: Any, axis: int, n: int, norm: str) -> Any:
        value, batched = self.split(x)
        axis = self.shifted(x, axis) if batched else axis
        return BatchedArray(self, self.inner.irfft(value, axis, n, norm), batched)


for _name in REDUCTIONS:
    setattr(ReductionRules, _name, _reduction(_name))
for _name in ALONG:
    setattr(ReductionRules, _name, _along(_name))
for _name in ON_LAST_AXES:
    setattr(ReductionRules, _name, _on_last_axes(_name))
