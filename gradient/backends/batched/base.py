"""What the rules of `BatchedBackend` are made of: they take arrays apart and align samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from gradient.backends.base import Backend
from gradient.backends.batched.array import REFUSAL, BatchedArray, lengthened
from gradient.backends.packed import PackedArray
from gradient.errors import BackendError

Shape = tuple[int, ...]


class Batching(Backend):
    """The samples of one `vmap`.

    inner       the backend of the values; that of the outer `vmap` if there is one
    size        the number of samples
    depth       1 for the outermost `vmap`
    randomness  whether the samples draw "different" numbers or the "same"; "error": none
    """

    name = "batched"
    reads_values = False

    def __init__(self, inner: Backend, size: int, randomness: str = "error") -> None:
        self.inner: Any = inner
        self.size, self.randomness = size, randomness
        self.device = inner.device
        self.depth: int = getattr(inner, "depth", 0) + 1
        self.looks_along, self.one_pass_from = inner.looks_along, inner.one_pass_from

    # Taking apart and putting together -----------------------------------------------------------

    def batch(self, value: Any) -> BatchedArray:
        return BatchedArray(self, value, True)

    def shared(self, value: Any) -> BatchedArray:
        return BatchedArray(self, value, False)

    def from_beneath(self, array: Any) -> Any:
        """The array for one of the inner backend, with its memory. Packed ones stay as they are."""
        if type(array) is PackedArray:
            return array
        out = self.shared(array)
        out.viewed = True
        return out

    def split(self, x: Any) -> tuple[Any, bool]:
        """The value of an array and whether it is batched. Numbers, and arrays of the backends
        below, are shared by all samples."""
        if type(x) is not BatchedArray:
            return (self._opened(x) if type(x) is PackedArray else x), False
        if x.be is self:
            return x.value, x.batched
        if x.be.depth >= self.depth:  # as an option: the op runs again on that array's backend
            raise BackendError(REFUSAL)
        return x, False

    def _opened(self, x: PackedArray) -> PackedArray:
        """A packed array with parts of the inner backend; its samples share it."""
        if type(x.parts[0]) is not BatchedArray:
            return x
        if self.is_batched(*x.parts):
            raise BackendError("vmap: packed weights must be shared by all samples")
        return x.map(lambda part: self.split(part)[0])

    def is_batched(self, *arrays: Any) -> bool:
        return any([self.split(x)[1] for x in arrays])

    def values(self, *arrays: Any) -> list[Any]:
        return [self.split(x)[0] for x in arrays]

    def whole(self, x: Any) -> Any:
        """The value with the axis of the samples, along which a shared one is repeated (a view)."""
        value, batched = self.split(x)
        if batched:
            return value
        return self.inner.broadcast_to(value, (self.size, *value.shape))

    @property
    def sharing(self) -> int:
        """How many samples share what is computed once: at least it itself has a use."""
        return max(self.size, 1)

    def own(self, x: Any) -> BatchedArray:
        """A batched array that may be written to, for an array of any backend of this chain."""
        if type(x) is not BatchedArray:
            x = self.inner.own(x)
        return self.batch(self.inner.copy(self.whole(x)))

    def aligned(self, *arrays: Any) -> tuple[list[Any], bool]:
        """Values that broadcast like the samples, and whether one is batched. Numbers stay."""
        pairs = [self.split(x) for x in arrays]
        if not any([batched for _, batched in pairs]):
            return [value for value, _ in pairs], False
        ndim = max([len(getattr(x, "shape", ())) for x in arrays])
        return [
            lengthened(x, ndim) if batched else value
            for x, (value, batched) in zip(arrays, pairs, strict=True)
        ], True

    def in_one_pass(self, function: Callable[..., Any], *operands: Any) -> BatchedArray:
        values, batched = self.aligned(*operands)
        return BatchedArray(self, self.inner.in_one_pass(function, *values), batched)

    def of_values(self, function: Callable[..., Any], *arrays: Any) -> BatchedArray:
        values, batched = self.aligned(*arrays)
        return BatchedArray(self, self.inner.of_values(function, *values), batched)

    def result(self, out: Any, batched: bool) -> Any:
        """The arrays of a method's results; those that are None stay."""
        if type(out) is tuple:
            return tuple([None if y is None else BatchedArray(self, y, batched) for y in out])
        return BatchedArray(self, out, batched)

    # Forms of rules ------------------------------------------------------------------------------

    def shifted(self, x: Any, axis: Any) -> Any:
        """The axes of a batched value for those of its samples; None is for all of them."""
        n = len(x.shape)
        if axis is None:
            return tuple(range(1, n + 1))
        if type(axis) is tuple:
            return tuple([a % n + 1 for a in axis])
        return axis % n + 1

    def merged(self, x: Any) -> Any:
        """The value with the samples in the first axis: (B, N, ...) as (B N, ...)."""
        value = self.whole(x)
        b, n, *rest = value.shape
        return self.inner.reshape(value, (b * n, *rest))

    def unmerged(self, value: Any, n: int) -> BatchedArray:
        """The inverse of `merged`."""
        return self.batch(self.inner.reshape(value, (self.size, n, *value.shape[1:])))

    def each(self, method: str, arrays: Sequence[Any], *options: Any) -> Any:
        """Call a method of the inner backend for each sample, and stack the results: for methods
        that cannot take another axis. None among the arrays stays."""
        call: Callable[..., Any] = getattr(self.inner, method)
        pairs = [self.split(x) for x in arrays]

        def sample(i: int) -> list[Any]:
            return [self.inner.getitem(v, (i, ...)) if batched else v for v, batched in pairs]

        def joined(results: Sequence[Any]) -> Any:
            if results[0] is None:
                return None
            value = self.inner.stack(list(results), 0)
            return self.batch(value if self.size else self.inner.getitem(value, (slice(0),)))

        if self.size:
            found = [call(*sample(i), *options) for i in range(self.size)]
        else:  # the results have the shapes of those of one sample, of zeros
            zeros = [self.inner.zeros(v.shape[1:], v.dtype) if batched else v
                     for v, batched in pairs]  # fmt: skip
            found = [call(*zeros, *options)]
        if type(found[0]) is not tuple:
            return joined(found)
        return tuple([joined(column) for column in zip(*found, strict=True)])


def rows_of(x: Any) -> int:
    """The number of vectors along the last axis of a sample."""
    return math.prod(x.shape[:-1])
