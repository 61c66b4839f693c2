"""Pooling over windows of the input, and resizing."""

from __future__ import annotations

import functools
import math
import operator

import numpy as np

from gradient.backends.composed.precision import in_float32
from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.options import PoolingOptions, WindowRanges, adaptive_windows
from gradient.backends.required import Array, Shape
from gradient.dtypes import int64


class PoolingDefaults(ShapeDefaults[Array]):
    """Methods of `Backend` that reduce windows of an input, or resize it."""

    def max_pool(self, x: Array, options: PoolingOptions) -> tuple[Array, Array]:
        """The maximum of each window of x (..., *S), and its int64 index in the flattened S. Of
        equal maxima, the first counts. NaN is the largest; of several, the last counts. The index
        is -1 (padding) only for windows that contain no element of the input."""
        lead, sizes = options.split(x.shape)
        columns = self._windows(
            self.reshape(x, (math.prod(lead), 1, *sizes)), options.least, options
        )
        detached = self.detach(columns)
        places = self._largest(detached, 1)
        if any(before or after for before, after in options.padding):
            # If all are the least, the first that is not padding.
            inside = self._windows(self.full((1, 1, *sizes), 1, int64.numpy), 0, options)
            high = self.take_along(detached, places, 1)
            places = self.where(high == options.least, self.argmax(inside, 1, True), places)
        numbers = self.reshape(self.arange(0, math.prod(sizes), 1, int64.numpy), (1, 1, *sizes))
        numbers = self.broadcast_to(self._windows(numbers, -1, options), columns.shape)
        out = (*lead, *columns.shape[2:])
        values = self.reshape(self.take_along(columns, places, 1), out)
        return values, self.reshape(self.take_along(numbers, places, 1), out)

    @in_float32
    def max_pool_grad(
        self, g: Array, indices: Array, shape: Shape, options: PoolingOptions
    ) -> Array:
        """The gradient of `max_pool` for x, which has `shape`."""
        none = self.zeros_like(indices)
        g = self.where(indices < 0, self.zeros_like(g), g)
        indices = self.where(indices < 0, none, indices)
        return self._at_indices(g, indices, shape, len(options.kernel))

    def adaptive_max_pool(self, x: Array, out_sizes: Shape) -> tuple[Array, Array]:
        """As `max_pool`, for `out_sizes` windows that cover S evenly (`adaptive_windows`)."""
        lead = len(x.shape) - len(out_sizes)
        sizes = tuple(x.shape[lead:])
        numbers = self.reshape(self.arange(0, math.prod(sizes), 1, int64.numpy), sizes)
        numbers = self.broadcast_to(numbers, tuple(x.shape))
        windows = adaptive_windows(sizes, out_sizes)
        # The last axis first, so that of equal numbers the first in memory counts.
        for i in reversed(range(len(sizes))):
            places, inside = places_of(windows.starts[i], windows.stops[i], sizes[i])
            # Shorter windows repeat their last number, which does not change the maximum.
            last = places[:, :1] + inside.sum(1, keepdims=True) - 1
            at = self.asarray(np.minimum(places, last))
            rows, axis = self._slices(x, at, lead + i), lead + i + 1
            best = self._largest(self.detach(rows), axis)
            numbers = self.take_along(self._slices(numbers, at, lead + i), best, axis)
            x = self.squeeze(self.take_along(rows, best, axis), axis)
            numbers = self.squeeze(numbers, axis)
        return x, numbers

    @in_float32
    def adaptive_max_pool_grad(
        self, g: Array, indices: Array, shape: Shape, out_sizes: Shape
    ) -> Array:
        """The gradient of `adaptive_max_pool` for x, which has `shape`."""
        return self._at_indices(g, indices, shape, len(out_sizes))

    @in_float32
    def avg_pool(self, x: Array, windows: WindowRanges) -> Array:
        """The mean of each window of x (..., *S); for integers rounded towards zero."""
        lead, sizes = windows.split(x.shape)
        if _tile(windows, sizes):
            pairs = zip(windows.windows, (stops[0] for stops in windows.stops), strict=True)
            parts = self.reshape(x, (*lead, *(n for pair in pairs for n in pair)))
            inside = tuple(range(len(lead) + 1, len(parts.shape), 2))
            return self._divided(self.sum(parts, inside), windows)
        for axis, starts, stops in zip(
            range(len(lead), len(x.shape)), windows.starts, windows.stops, strict=True
        ):
            x = self._sums(x, axis, starts, stops)
        return self._divided(x, windows)

    @in_float32
    def avg_pool_grad(self, g: Array, shape: Shape, windows: WindowRanges) -> Array:
        """The gradient of `avg_pool` for x, which has `shape`."""
        lead, sizes = windows.split(tuple(shape))
        g = self._divided(g, windows)
        if _tile(windows, sizes):
            lengths = tuple(stops[0] for stops in windows.stops)
            spread = [n for pair in zip(windows.windows, lengths, strict=True) for n in pair]
            whole = [n if i % 2 == 0 else 1 for i, n in enumerate(spread)]
            g = self.broadcast_to(self.reshape(g, (*lead, *whole)), (*lead, *spread))
            return self.reshape(g, tuple(shape))
        for i, size in enumerate(sizes):
            g = self._sums(g, len(lead) + i, *covering(windows.starts[i], windows.stops[i], size))
        return g

    def _at_indices(self, g: Array, indices: Array, shape: Shape, spatial: int) -> Array:
        """Zeros of a shape (..., *S), with g (..., *T) added at `indices` of the flattened S."""
        lead = math.prod(shape[: len(shape) - spatial])
        planes = lead, math.prod(g.shape[len(g.shape) - spatial :])
        zeros = self.zeros((lead, math.prod(shape[len(shape) - spatial :])), g.dtype)
        at, g = self.reshape(indices, planes), self.reshape(g, planes)
        return self.reshape(self.put_along(zeros, at, g, 1, True), tuple(shape))

    def _largest(self, x: Array, axis: int) -> Array:
        """The index of the maximum along an axis, which is kept as size 1: the first of equal
        maxima, or the last NaN."""
        order = self.arange(1, x.shape[axis] + 1, 1, int64.numpy)
        order = self.reshape(order, (-1, *(1,) * (len(x.shape) - 1 - axis)))
        last_nan = self.max(self.where(x != x, order, order * 0), axis, True) - 1
        return self.where(last_nan < 0, self.argmax(x, axis, True), last_nan)

    def _divided(self, total: Array, windows: WindowRanges) -> Array:
        """The sums of windows divided by their counts."""
        if total.dtype == int64.numpy:
            counts = self.asarray(_products(windows.counts))
            down = total // counts
            beyond = (down * counts != total) & (down < 0)  # // rounds down, not towards 0
            return down + self.astype(beyond, int64.numpy)
        if all(len({*counts}) == 1 for counts in windows.counts):
            return total / math.prod(counts[0] for counts in windows.counts)
        return total / self.astype(self.asarray(_products(windows.counts)), total.dtype)

    def _sums(self, x: Array, axis: int, starts: tuple[int, ...], stops: tuple[int, ...]) -> Array:
        """The sums over ranges along `axis`; elements outside of x count as 0."""
        places, inside = places_of(starts, stops, x.shape[axis])
        rows = self._slices(x, self.asarray(places), axis)
        if not inside.all():
            within = self.reshape(
                self.asarray(inside), (*inside.shape, *(1,) * (len(x.shape) - 1 - axis))
            )
            rows = self.where(within, rows, self.full((), 0, x.dtype))
        return self.sum(rows, axis + 1)

    @in_float32
    def resize(self, x: Array, fraction: Array, low: Array, high: Array, axis: int) -> Array:
        """(1 - fraction) x[low] + fraction x[high] along `axis`; all three have the new size."""
        fraction = self._in_line(fraction, x, axis)
        below, above = self._slices(x, low, axis), self._slices(x, high, axis)
        return (1 - fraction) * below + fraction * above

    @in_float32
    def resize_grad(
        self, g: Array, fraction: Array, low: Array, high: Array, size: int, axis: int
    ) -> Array:
        """The gradient of `resize` for x, whose `axis` has `size`."""
        fraction = self._in_line(fraction, g, axis)
        out = self.zeros((*g.shape[:axis], size, *g.shape[axis + 1 :]), g.dtype)
        before = (slice(None),) * axis
        out = self.index_add(out, (*before, low), (1 - fraction) * g)
        return self.index_add(out, (*before, high), fraction * g)

    def resize_fraction_grad(self, g: Array, x: Array, low: Array, high: Array, axis: int) -> Array:
        """The gradient of `resize` for the fraction."""
        slope = self._slices(x, high, axis) - self._slices(x, low, axis)
        return self.sum(g * slope, tuple(i for i in range(len(g.shape)) if i != axis))

    @in_float32
    def weighted_taps(
        self, x: Array, weights: Array, places: tuple[Array, ...], axis: int
    ) -> Array:
        """The sum over t of weights[t] x[places[t]] along `axis`, for weights (T, n) and T >= 1
        index arrays (n,)."""
        parts = [
            self._in_line(self.getitem(weights, (t,)), x, axis) * self._slices(x, at, axis)
            for t, at in enumerate(places)
        ]
        return functools.reduce(operator.add, parts)

    @in_float32
    def weighted_taps_grad(
        self, g: Array, weights: Array, places: tuple[Array, ...], size: int, axis: int
    ) -> Array:
        """The gradient of `weighted_taps` for x, whose `axis` has `size`."""
        out = self.zeros((*g.shape[:axis], size, *g.shape[axis + 1 :]), g.dtype)
        for t, at in enumerate(places):
            weight = self._in_line(self.getitem(weights, (t,)), g, axis)
            out = self.index_add(out, (*(slice(None),) * axis, at), weight * g)
        return out

    def weighted_taps_weights_grad(
        self, g: Array, x: Array, places: tuple[Array, ...], axis: int
    ) -> Array:
        """The gradient of `weighted_taps` for the weights."""
        others = tuple(i for i in range(len(g.shape)) if i != axis)
        return self.stack([self.sum(g * self._slices(x, at, axis), others) for at in places], 0)

    def _slices(self, x: Array, index: Array, axis: int) -> Array:
        return self.getitem(x, (*(slice(None),) * axis, index))

    def _in_line(self, vector: Array, x: Array, axis: int) -> Array:
        return self.reshape(vector, (-1, *(1,) * (len(x.shape) - 1 - axis)))

    def _windows(self, x: Array, fill: float, options: PoolingOptions) -> Array:
        """(N, K, *windows): the K numbers of each window of x (N, 1, *S), padded by `fill`."""
        if any(before or after for before, after in options.padding):
            x = self.pad(x, ((0, 0), (0, 0), *options.padding), fill)
        return self.squeeze(self.unfold(x, options.kernel, options.stride, options.dilation), 1)


@functools.lru_cache
def _tile(windows: WindowRanges, sizes: Shape) -> bool:
    """Whether windows of equal size cover each position of the input exactly once."""
    return all(
        starts and stops[0] > 0 and starts == (*range(0, size, stops[0]),)
        and stops == (*range(stops[0], size + 1, stops[0]),)
        for starts, stops, size in zip(windows.starts, windows.stops, sizes, strict=True)
    )  # fmt: skip


@functools.lru_cache
def places_of(
    starts: tuple[int, ...], stops: tuple[int, ...], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The positions of each range, padded to the longest range, and a mask of the valid ones: both
    (n, longest)."""
    first, last = (np.clip(np.array(ends, np.int64), 0, size) for ends in (starts, stops))
    places = first[:, None] + np.arange((last - first).max() if starts else 1)
    return np.minimum(places, max(size - 1, 0)), places < last[:, None]


def _products(counts: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """The product of the counts over the dimensions, for each window."""
    return functools.reduce(np.multiply.outer, [np.array(n, np.int64) for n in counts])


@functools.lru_cache
def covering(
    starts: tuple[int, ...], stops: tuple[int, ...], size: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For each of `size` positions, the first range that contains it, and the last one plus 1."""
    places = np.arange(size)
    first, last = (np.searchsorted(ends, places, "right").tolist() for ends in (stops, starts))
    return tuple(first), tuple(last)
