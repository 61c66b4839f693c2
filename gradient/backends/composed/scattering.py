"""Products and extremes of the elements that are scattered to one position along an axis, their
gradients, and their counts."""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.composed.precision import in_float32
from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.required import Array, Shape
from gradient.dtypes import HALF_PRECISION, float32, int64


class ScatteringDefaults(ShapeDefaults[Array]):
    """Methods of `Backend` under scatter_reduce and index_reduce."""

    def count_along(self, index: Array, shape: Shape, axis: int, dtype: np.dtype) -> Array:
        """Count how often an index along `axis` names each position of an array of that shape."""
        ones = self.ones(tuple(index.shape), int64.numpy)
        count = self.put_along(self.zeros(shape, int64.numpy), index, ones, axis, True)
        return self.astype(count, dtype)

    def reduce_along(
        self, x: Array, index: Array, src: Array, axis: int, combine: str, identity: float
    ) -> Array:
        """Combine each element of x with the elements of `src` that are scattered to it. `combine`
        is "multiply", "maximum" or "minimum", and `identity` its identity element. Products of
        16-bit floats are computed in float32, and rounded once."""
        if combine == "multiply" and x.dtype in HALF_PRECISION:
            wide = self.astype(x, float32.numpy), index, self.astype(src, float32.numpy)
            return self.astype(self.reduce_along(*wide, axis, combine, identity), x.dtype)
        n, length = index.shape[axis], x.shape[axis]
        order = self.argsort(index, axis)
        places, values = self.take_along(index, order, axis), self.take_along(src, order, axis)
        values = self._joined_in_order(places, values, axis, combine, identity)
        last = self._sliced(places, axis, 0, 1) == self._sliced(places, axis, 0, 1)
        if n > 1:
            ends = self._sliced(places, axis, 1, n) != self._sliced(places, axis, 0, n - 1)
            last = self.concatenate([ends, last], axis)
        # What is no total yet goes to a place beyond the others.
        room = (*x.shape[:axis], length + 1, *x.shape[axis + 1 :])
        blank = self.full(room, identity, src.dtype)
        places = self.where(last, places, self.full((), length, places.dtype))
        totals = self.put_along(blank, places, values, axis, False)
        return self._both(combine, x, self._sliced(totals, axis, 0, length))

    @in_float32
    def reduce_along_grad(
        self,
        g: Array,
        x: Array,
        index: Array,
        src: Array,
        out: Array,
        axis: int,
        combine: str,
        include_self: bool,
    ) -> tuple[Array, Array]:
        """The gradients of x and src. Elements equal to an extreme get equal shares of its
        gradient; x only with `include_self`, or if nothing was scattered there. For NaN they are
        NaN."""
        if combine == "multiply":
            return self._product_along_grad(g, x, index, src, axis)
        at = self.take_along(out, index, axis)
        wins, src_wins = x == out, src == at
        if not include_self:
            wins = wins & (self.count_along(index, tuple(x.shape), axis, int64.numpy) == 0)
        own, others = self.astype(wins, int64.numpy), self.astype(src_wins, int64.numpy)
        ties = self.put_along(own, index, others, axis, True)
        share = g / self.astype(self.maximum(ties, self.full((), 1, int64.numpy)), g.dtype)
        share = self.where(out == out, share, self.full((), math.nan, g.dtype))
        nothing = self.full((), 0, g.dtype)
        grad = self.where(wins | (out != out), share, nothing)
        src_share = self.take_along(share, index, axis)
        return grad, self.where(src_wins | (at != at), src_share, nothing)

    def _product_along_grad(
        self, g: Array, x: Array, index: Array, src: Array, axis: int
    ) -> tuple[Array, Array]:
        """A factor's gradient is the product of all others: of those before times those after it.
        A division would give NaN beside a 0."""
        order = self.argsort(index, axis)
        places, values = self.take_along(index, order, axis), self.take_along(src, order, axis)
        before = self._product_of_earlier(places, values, axis)
        back = self.flip(places, (axis,)), self.flip(values, (axis,))
        after = self.flip(self._product_of_earlier(*back, axis), (axis,))
        others = before * after * self.take_along(x, places, axis)
        sorted_grad = others * self.take_along(g, places, axis)
        blank = self.zeros(tuple(src.shape), g.dtype)
        ones = self.ones(tuple(x.shape), src.dtype)
        grad = g * self.reduce_along(ones, index, src, axis, "multiply", 1.0)
        return grad, self.put_along(blank, order, sorted_grad, axis, False)

    def _product_of_earlier(self, places: Array, values: Array, axis: int) -> Array:
        """For each value the product of the earlier ones of its position, in sorted order."""
        n = values.shape[axis]
        totals = self._joined_in_order(places, values, axis, "multiply", 1.0)
        same = self._sliced(places, axis, 1, n) == self._sliced(places, axis, 0, n - 1)
        one = self.full((), 1, values.dtype)
        earlier = self.where(same, self._sliced(totals, axis, 0, n - 1), one)
        first = self.ones(tuple(self._sliced(places, axis, 0, 1).shape), values.dtype)
        return self.concatenate([first, earlier], axis)

    def _joined_in_order(
        self, places: Array, values: Array, axis: int, combine: str, identity: float
    ) -> Array:
        """Combine each value with the earlier ones of its position, in sorted order, by doubling
        (Hillis and Steele 1986), in memory of the size of `values`. It always takes log2(n) steps:
        to stop earlier, the host would have to wait for values."""
        n, step = places.shape[axis], 1
        neutral = self.full((), identity, values.dtype)
        while step < n:
            same = self._sliced(places, axis, step, n) == self._sliced(places, axis, 0, n - step)
            # No product of other places: NaN times a gradient of 0 is NaN.
            earlier = self.where(same, self._sliced(values, axis, 0, n - step), neutral)
            both = self._both(combine, self._sliced(values, axis, step, n), earlier)
            start = self._sliced(values, axis, 0, step)
            values, step = self.concatenate([start, both], axis), 2 * step
        return values

    def _both(self, combine: str, a: Array, b: Array) -> Array:
        both: Array = a * b if combine == "multiply" else getattr(self, combine)(a, b)
        return both

    def _sliced(self, x: Array, axis: int, start: int, stop: int) -> Array:
        return self.getitem(x, (*(slice(None),) * axis, slice(start, stop)))
