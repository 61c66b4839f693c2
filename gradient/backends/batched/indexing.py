"""Rules for indexing, gather and scatter: the axis of the samples becomes a part of the index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from gradient.backends.batched.array import REFUSAL, SHARED, BatchedArray
from gradient.backends.batched.base import Batching
from gradient.dtypes import int64
from gradient.errors import BackendError

INT64 = int64.numpy
WHOLE = slice(None)
Index = tuple[Any, ...]


class Places(NamedTuple):
    """An index with arrays, without an Ellipsis.

    items     its items; arrays are values of the inner backend
    dims      the number of dimensions that the arrays broadcast to
    before    the dimensions of the result before those of the arrays
    batched   whether an array is
    """

    items: list[Any]
    dims: int
    before: int
    batched: bool


def is_array(item: Any) -> bool:
    return hasattr(item, "dtype")


def before_arrays(items: Sequence[Any]) -> int:
    """How many dimensions of the result are before those of the arrays of an index. NumPy puts
    these first if there are other items between arrays and ints."""
    at = [i for i, x in enumerate(items) if is_array(x) or isinstance(x, int)]
    return at[0] if at[-1] - at[0] == len(at) - 1 else 0


class IndexingRules(Batching):
    """getitem, assign, index_add and the like."""

    # Indices -------------------------------------------------------------------------------------

    def _places(self, index: Index, ndim: int) -> Places | None:
        """Describe an index of arrays with `ndim` dimensions; None if it has no arrays."""
        if not any([is_array(item) for item in index]):
            return None
        used, masks = 0, False
        for item in index:
            if is_array(item) and item.dtype.kind == "b":
                used, masks = used + len(item.shape), True
            elif item is not None and item is not Ellipsis:
                used += 1
        items: list[Any] = []
        for item in index:
            if item is Ellipsis:
                items += [WHOLE] * (ndim - used)
            else:
                items.append(item)
        dims = max([(1 if x.dtype.kind == "b" else len(x.shape)) for x in items if is_array(x)])
        batched = self.is_batched(*[x for x in items if is_array(x)])
        if masks and self.is_batched(*[x for x in items if is_array(x) and x.dtype.kind == "b"]):
            raise BackendError(REFUSAL)
        # A 0-d array selects in each sample, like an int (of which an index with arrays has none).
        before = before_arrays([x for x in items if not is_array(x) or x.shape]) if dims else 0
        values = self.aligned_index(items, dims) if batched else [
            self.split(x)[0] if is_array(x) else x for x in items
        ]  # fmt: skip
        return Places(values, dims, before, batched)

    def aligned_index(self, items: list[Any], dims: int) -> list[Any]:
        """The items of an index, where batched arrays have the samples' axis before `dims`."""
        out = []
        for item in items:
            value, batched = self.split(item)
            if batched:
                missing = dims - len(item.shape)
                value = self.inner.reshape(value, (value.shape[0], *(1,) * missing, *item.shape))
            out.append(value)
        return out

    def _samples(self, dims: int) -> Any:
        """The numbers of the samples, to index with: (B, 1, ..., 1)."""
        size = self.size
        numbers = self.inner.arange(0, size, 1, INT64)
        return self.inner.reshape(numbers, (size, *(1,) * dims))

    def _moved(self, value: Any, start: int, to: int, count: int = 1) -> Any:
        """Move `count` axes from `start` to `to`."""
        if start == to or not count:
            return value
        order = list(range(len(value.shape)))
        block = order[start : start + count]
        del order[start : start + count]
        order[to:to] = block
        return self.inner.permute(value, tuple(order))

    # Reading -------------------------------------------------------------------------------------

    def getitem(self, x: Any, index: Any) -> Any:
        value, batched = self.split(x)
        index = index if type(index) is tuple else (index,)
        places = self._places(index, len(x.shape))
        if places is None:
            if not batched:
                return self.shared(self.inner.getitem(value, index))
            return self.batch(self.inner.getitem(value, (WHOLE, *index)))
        items = tuple(places.items)
        if not batched and not places.batched:
            return self.shared(self.inner.getitem(value, items))
        if not places.batched:
            items = (WHOLE, *items)
            out = self.inner.getitem(value, items)
            return self.batch(out if before_arrays(items) else self._moved(out, places.dims, 0))
        if not batched:  # the samples' axis is the first one of the arrays'
            out = self.inner.getitem(value, items)
            out = self._moved(out, before_arrays(items), 0, 1 + places.dims)
            return self.batch(self._moved(out, 1, 1 + places.before, places.dims))
        out = self.inner.getitem(value, (self._samples(places.dims), *items))
        return self.batch(self._moved(out, 1, 1 + places.before, places.dims))

    def rows(self, x: Any, index: Any) -> Any:
        return self.getitem(x, (index,))

    # Writing -------------------------------------------------------------------------------------

    def _target(self, x: Any, batched: bool) -> tuple[Any, Any]:
        """The array to write to, with a place for each sample if what is written is batched, and
        its value."""
        x = x if type(x) is BatchedArray else self.shared(x)
        value, of_samples = self.split(x)
        if batched and not of_samples:
            if x.viewed or self.inner.is_view(value):
                raise BackendError(SHARED)
            x = self.own(x)
            value = x.value
        return x, value

    def _written(self, method: str, x: Any, index: Any, given: Any) -> Any:
        """Call a method (x, index, value) of the inner backend that writes to x; return x."""
        index = index if type(index) is tuple else (index,)
        places = self._places(index, len(x.shape))
        write = getattr(self.inner, method)
        of_index = places is not None and places.batched
        x, value = self._target(x, of_index or self.is_batched(given))
        if not self.is_batched(x):
            items = index if places is None else tuple(places.items)
            x.value = write(value, items, self.values(given)[0])
            return x
        if places is None:
            taken = len([i for i in index if isinstance(i, int)])
            ndim = len(x.shape) - taken + len([i for i in index if i is None])
            given = self.aligned_to(given, ndim)
            x.value = write(value, (WHOLE, *index), given)
            return x
        ndim = len(x.shape) + places.dims + self._added(places.items)
        lead = int(self.is_batched(given))
        given = self.aligned_to(given, ndim)
        if places.before and hasattr(given, "shape") and given.shape:
            # (B, before, arrays, after), as NumPy has it: (B, arrays, before, after)
            missing = ndim + lead - len(given.shape)
            given = self.inner.reshape(given, (*(1,) * missing, *given.shape))
            given = self._moved(given, lead + places.before, lead, places.dims)
        x.value = write(value, (self._samples(places.dims), *places.items), given)
        return x

    def _added(self, items: list[Any]) -> int:
        """How many dimensions more an index gives than it takes, those of the arrays aside."""
        change = 0
        for item in items:
            if is_array(item):
                change -= len(item.shape) if item.dtype.kind == "b" else 1
            elif item is None:
                change += 1
            elif isinstance(item, int):
                change -= 1
        return change

    def aligned_to(self, given: Any, ndim: int) -> Any:
        """The value of what is written to a part of `ndim` dimensions of each sample."""
        value, batched = self.split(given)
        shape = getattr(given, "shape", ())
        if batched:
            shape = tuple(shape)
            while len(shape) > ndim and shape[0] == 1:  # NumPy allows more axes of size 1
                shape = shape[1:]
            return self.inner.reshape(value, (value.shape[0], *(1,) * (ndim - len(shape)), *shape))
        return value

    def assign(self, x: Any, index: Any, value: Any) -> Any:
        return self._written("assign", x, index, value)

    def index_add(self, x: Any, index: Any, value: Any) -> Any:
        return self._written("index_add", x, index, value)

    # Along one axis ------------------------------------------------------------------------------

    def take_along(self, x: Any, index: Any, axis: int) -> Any:
        if not self.is_batched(x, index):
            return self.shared(self.inner.take_along(*self.values(x, index), axis))
        value, at = self.whole(x), self.whole(index)
        if not x.shape:
            value, at = (self.inner.reshape(v, (v.shape[0], 1)) for v in (value, at))
            out = self.inner.take_along(value, at, 1)
            return self.batch(self.inner.reshape(out, out.shape[:1]))
        return self.batch(self.inner.take_along(value, at, axis % len(x.shape) + 1))

    def pick(self, x: Any, index: Any, axis: int) -> Any:
        if not self.is_batched(x, index):
            return self.shared(self.inner.pick(*self.values(x, index), axis))
        value, at = self.whole(x), self.whole(index)
        return self.batch(self.inner.pick(value, at, axis % len(x.shape) + 1))

    def put_along(self, x: Any, index: Any, value: Any, axis: int, add: bool) -> Any:
        x, target = self._target(x, self.is_batched(x, index, value))
        if not self.is_batched(x):
            x.value = self.inner.put_along(target, *self.values(index, value), axis, add)
            return x
        at, given = self.whole(index), self.whole(value)
        if not x.shape:
            flat = [self.inner.reshape(v, (v.shape[0], 1)) for v in (target, at, given)]
            out = self.inner.put_along(*flat, 1, add)
            return self.assign(x, (), self.batch(self.inner.reshape(out, out.shape[:1])))
        x.value = self.inner.put_along(target, at, given, axis % len(x.shape) + 1, add)
        return x

    # Tables of rows ------------------------------------------------------------------------------

    def check_indices(self, index: Any, axis: int, size: int) -> None:
        self.inner.check_indices(self.values(index)[0], axis, size)

    def checked_indices(self, index: Any, axis: int, size: int) -> Any:
        value, batched = self.split(index)
        out = self.inner.checked_indices(value, axis, size)
        return index if out is value else BatchedArray(self, out, batched)

    def _flat_rows(self, indices: Any, rows: int) -> Any:
        """The indices of rows of each sample's table, in the table of all samples."""
        at = self.whole(indices)
        return at + self._samples(len(at.shape) - 1) * rows

    def embedding(self, weight: Any, indices: Any) -> Any:
        (table, of_table), (at, of_indices) = self.split(weight), self.split(indices)
        if not of_table:
            out = self.inner.embedding(table, at)
            return BatchedArray(self, out, of_indices)
        self.check_indices(indices, 0, weight.shape[0])
        size, rows = table.shape[:2]
        table = self.inner.reshape(table, (size * rows, *table.shape[2:]))
        return self.batch(self.inner.embedding(table, self._flat_rows(indices, rows)))

    def quantized_embedding(self, weight: Any, indices: Any) -> Any:
        (packed, _), (at, batched) = self.split(weight), self.split(indices)
        return BatchedArray(self, self.inner.quantized_embedding(packed, at), batched)

    def embedding_grad(self, g: Any, indices: Any, num_embeddings: int) -> Any:
        if not self.is_batched(g, indices):
            return self.shared(self.inner.embedding_grad(*self.values(g, indices), num_embeddings))
        size = self.size
        at = self._flat_rows(indices, num_embeddings)
        out = self.inner.embedding_grad(self.whole(g), at, size * num_embeddings)
        return self.batch(self.inner.reshape(out, (size, num_embeddings, *out.shape[1:])))
