"""Max pooling, by the windows of the input, and resizing."""

from __future__ import annotations

import math

from gradient.backends.composed.precision import in_float32
from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.options import PoolingOptions
from gradient.backends.required import Array, Shape
from gradient.dtypes import int64


class PoolingDefaults(ShapeDefaults[Array]):
    """Methods of `Backend` that reduce the windows of an input, or give it other sizes."""

    def max_pool(self, x: Array, options: PoolingOptions) -> tuple[Array, Array]:
        """The largest number of each window of x (..., *S), and int64 where it is in the flattened
        S: of equal ones the first. NaN is the largest, and of several the last is taken; padding is
        chosen, as -1, by windows alone that step over the whole input."""
        lead, sizes = options.split(x.shape)
        columns = self._windows(
            self.reshape(x, (math.prod(lead), 1, *sizes)), options.least, options
        )
        detached = self.detach(columns)
        places = self.argmax(detached, 1, True)
        order = self.reshape(
            self.arange(1, columns.shape[1] + 1, 1, int64.numpy), (1, -1, *(1,) * len(sizes))
        )
        last_nan = self.max(self.where(detached != detached, order, order * 0), 1, True) - 1
        places = self.where(last_nan < 0, places, last_nan)
        if any(before or after for before, after in options.padding):
            # Where all are the least, the first that is no padding.
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
        """The gradient of `max_pool` for x, of that `shape`."""
        lead, sizes = options.split(shape)
        planes = math.prod(lead), math.prod(options.split(g.shape)[1])
        zeros = self.zeros((planes[0], math.prod(sizes)), g.dtype)
        at, g = self.reshape(indices, planes), self.reshape(g, planes)
        none = self.zeros_like(at)
        g = self.where(at < 0, self.zeros_like(g), g)
        at = self.where(at < 0, none, at)
        return self.reshape(self.put_along(zeros, at, g, 1, True), tuple(shape))

    @in_float32
    def resize(self, x: Array, fraction: Array, low: Array, high: Array, axis: int) -> Array:
        """(1 - fraction) x[low] + fraction x[high] along `axis`, all three of the new size."""
        fraction = self._in_line(fraction, x, axis)
        below, above = self._slices(x, low, axis), self._slices(x, high, axis)
        return (1 - fraction) * below + fraction * above

    @in_float32
    def resize_grad(
        self, g: Array, fraction: Array, low: Array, high: Array, size: int, axis: int
    ) -> Array:
        """The gradient of `resize` for x, of that size."""
        fraction = self._in_line(fraction, g, axis)
        out = self.zeros((*g.shape[:axis], size, *g.shape[axis + 1 :]), g.dtype)
        before = (slice(None),) * axis
        out = self.index_add(out, (*before, low), (1 - fraction) * g)
        return self.index_add(out, (*before, high), fraction * g)

    def resize_fraction_grad(self, g: Array, x: Array, low: Array, high: Array, axis: int) -> Array:
        """The gradient of `resize` for the fraction."""
        slope = self._slices(x, high, axis) - self._slices(x, low, axis)
        return self.sum(g * slope, tuple(i for i in range(len(g.shape)) if i != axis))

    def _slices(self, x: Array, index: Array, axis: int) -> Array:
        return self.getitem(x, (*(slice(None),) * axis, index))

    def _in_line(self, vector: Array, x: Array, axis: int) -> Array:
        return self.reshape(vector, (-1, *(1,) * (len(x.shape) - 1 - axis)))

    def _windows(self, x: Array, fill: float, options: PoolingOptions) -> Array:
        """(N, K, *windows): the K numbers of each window of x (N, 1, *S), `fill` outside."""
        if any(before or after for before, after in options.padding):
            x = self.pad(x, ((0, 0), (0, 0), *options.padding), fill)
        return self.squeeze(self.unfold(x, options.kernel, options.stride, options.dilation), 1)
