"""Indexing, gathering and scattering: methods of Tensor."""

from __future__ import annotations

import functools
from typing import Any

from gradient.autograd.variable import Variable
from gradient.errors import DTypeError, IndexOutOfRange, ShapeError
from gradient.ops import elementwise
from gradient.ops import index as ops
from gradient.tensor.arguments import axis_of, index_of
from gradient.tensor.inplace import overwrite_at
from gradient.tensor.views import view_of


def _on_vectors(method: Any) -> Any:
    """A method with a dimension, for 0-d tensors too: they count as having one of size 1."""

    @functools.wraps(method)
    def run(self: Any, dim: int, index: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(index, Variable) and not index.array.shape:
            index = index.reshape(1)  # type: ignore[attr-defined]
            scalar_index = True
        else:
            scalar_index = False
        if self.array.shape:
            return method(self, dim, index, *args, **kwargs)
        args = tuple(
            a.reshape(1) if isinstance(a, Variable) and not a.array.shape else a  # type: ignore[attr-defined]
            for a in args
        )
        out = method(self.reshape(1), axis_of(dim, 0), index, *args, **kwargs)
        picks = method.__name__ in ("gather", "index_select")
        return out.reshape(()) if scalar_index or not picks else out

    return run


class Indexing:
    """x[...], x[...] = v, gather, scatter and their like."""

    __slots__ = ()

    array: Any
    backend: Any
    node: Any

    def __getitem__(self, key: Any) -> Any:
        index = index_of(key, self)
        try:
            out = ops.getitem(self, index=index)
        except IndexOutOfRange:
            raise IndexOutOfRange(_misfit(key, self)) from None
        if not hasattr(out.array, "shape"):
            out.array = self.backend.asarray(out.array)
        if any(hasattr(i, "dtype") for i in index):
            return out
        return view_of(self, out, ops.getitem, index=index)

    def __setitem__(self, key: Any, value: Any) -> None:
        index = index_of(key, self)
        if not isinstance(value, Variable):
            value = self._wrap(self.backend.asarray(value, self.array.dtype), self.backend)  # type: ignore[attr-defined]
        try:
            overwrite_at(self, index, value)
        except IndexError:
            raise IndexOutOfRange(_misfit(key, self)) from None
        except ValueError as error:
            raise ShapeError(
                f"setitem: a value of shape {tuple(value.array.shape)} does not fit index {key!r} "
                f"of a tensor of shape {tuple(self.array.shape)} ({error})"
            ) from None

    @_on_vectors
    def index_select(self, dim: int, index: Any) -> Any:
        """The slices of `dim` at a 1-D tensor of ints."""
        axis = axis_of(dim, self.ndim)
        return ops.getitem(self, index=(slice(None),) * axis + (index.array,))

    @_on_vectors
    def gather(self, dim: int, index: Any) -> Any:
        """out[i][j] = self[index[i][j]][j] for dim 0; the index may be smaller elsewhere."""
        axis = self._checked("gather", dim, index)
        return ops.take_along(self, index=index.array, axis=axis)

    def take_along_dim(self, indices: Any, dim: int | None = None) -> Any:
        """As gather, where the index broadcasts; of the flattened tensor if `dim` is None."""
        if dim is None:
            return self.reshape(-1).gather(0, indices.reshape(-1))  # type: ignore[attr-defined]
        axis = axis_of(dim, self.ndim)
        if not self.array.shape:
            return self.gather(dim, indices)
        from gradient.tensor.joining import broadcast_shapes

        shapes = [list(self.array.shape), list(indices.array.shape)]
        own, picks = (size[:axis] + [1] + size[axis + 1 :] for size in shapes)
        size = list(broadcast_shapes(own, picks))
        wide = [*size[:axis], shapes[0][axis], *size[axis + 1 :]]
        narrow = [*size[:axis], shapes[1][axis], *size[axis + 1 :]]
        return self.expand(wide).gather(dim, indices.expand(narrow))  # type: ignore[attr-defined]

    @_on_vectors
    def scatter(self, dim: int, index: Any, src: Any, *, reduce: str | None = None) -> Any:
        """A copy with out[index[i][j]][j] = src[i][j] for dim 0; `src` a tensor or a number."""
        axis = self._checked("scatter", dim, index)
        if reduce not in (None, "add"):
            raise DTypeError(f"scatter: expected reduce None or 'add', got {reduce!r}")
        return ops.put_along(
            self, self._source(src, index), index=index.array, axis=axis, add=reduce == "add"
        )

    @_on_vectors
    def scatter_add(self, dim: int, index: Any, src: Any) -> Any:
        """A copy with src[i][j] added at out[index[i][j]][j] for dim 0."""
        axis = self._checked("scatter_add", dim, index)
        return ops.put_along(self, self._source(src, index), index=index.array, axis=axis, add=True)

    def _checked(self, caller: str, dim: int, index: Any) -> int:
        if index.array.dtype.kind not in "iu":
            raise DTypeError(f"{caller}(): expected a tensor of ints as index, got {index.dtype}")
        if index.ndim != self.ndim:
            raise ShapeError(
                f"{caller}(): the index must have as many dimensions as the input "
                f"({self.ndim}), got {index.ndim}"
            )
        return axis_of(dim, self.ndim)

    def _source(self, src: Any, index: Any) -> Any:
        if not isinstance(src, Variable):
            array = self.backend.full(index.array.shape, src, self.array.dtype)
            return self._wrap(array, self.backend)  # type: ignore[attr-defined]
        if src.array.shape == index.array.shape:
            return src
        return src[tuple(slice(0, n) for n in index.array.shape)]  # type: ignore[index]

    @_on_vectors
    def index_add(self, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Any:
        """A copy with alpha source added at the slices of `dim` at `index`."""
        axis = axis_of(dim, self.ndim)
        at = (slice(None),) * axis + (index.array,)
        return ops.index_add(self, source if alpha == 1 else source * alpha, index=at)

    @_on_vectors
    def index_copy(self, dim: int, index: Any, source: Any) -> Any:
        """A copy with the slices of `dim` at `index` replaced."""
        axis = axis_of(dim, self.ndim)
        return ops.setitem(self, source, index=(slice(None),) * axis + (index.array,))

    @_on_vectors
    def index_fill(self, dim: int, index: Any, value: Any) -> Any:
        """A copy with the slices of `dim` at `index` filled with a number."""
        axis = axis_of(dim, self.ndim)
        return ops.setitem(self, value, index=(slice(None),) * axis + (index.array,))

    def masked_select(self, mask: Any) -> Any:
        """The elements where the bool `mask` holds, as a 1-D tensor."""
        shape = self.backend.broadcast_to(self.array, self.array.shape).shape
        if tuple(mask.array.shape) != tuple(shape):
            mask, self = _broadcast(mask, self)  # noqa: PLW0642
        return ops.getitem(self, index=(mask.array,))

    def masked_scatter(self, mask: Any, source: Any) -> Any:
        """A copy with the elements where `mask` holds taken in order from `source`."""
        if mask.array.shape != self.array.shape:
            mask, self = _broadcast(mask, self)  # noqa: PLW0642
        n = int(mask.sum().item())
        return ops.setitem(self, source.reshape(-1)[:n], index=(mask.array,))

    def nonzero(self, as_tuple: bool = False) -> Any:
        """The indices (N, ndim) of the elements that are not zero, or one tensor a dimension."""
        import numpy as np

        host = np.asarray(self.backend.to_numpy(self.array))
        if not host.shape:
            count = int(host != 0)
            if as_tuple:
                return (self._wrap(self.backend.zeros((count,), np.dtype(np.int64)), self.backend),)  # type: ignore[attr-defined]
            return self._wrap(self.backend.zeros((count, 0), np.dtype(np.int64)), self.backend)  # type: ignore[attr-defined]
        found = np.nonzero(host)
        columns = [self._wrap(self.backend.asarray(c), self.backend) for c in found]  # type: ignore[attr-defined]
        if as_tuple:
            return tuple(columns)
        stacked = np.stack(found, 1) if found else np.zeros((1, 0), np.int64)
        return self._wrap(self.backend.asarray(stacked), self.backend)  # type: ignore[attr-defined]

    def argwhere(self) -> Any:
        """The indices (N, ndim) of the elements that are not zero."""
        return self.nonzero()

    def take(self, index: Any) -> Any:
        """Elements of the flattened tensor."""
        return ops.getitem(self.reshape(-1), index=(index.array,))  # type: ignore[attr-defined]

    def searchsorted(
        self, values: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None
    ) -> Any:
        """Where `values` would go in this tensor, sorted along its last dimension."""
        if not isinstance(values, Variable):
            values = self._wrap(self.backend.asarray(values, self.array.dtype), self.backend)  # type: ignore[attr-defined]
        before = elementwise.le if right or side == "right" else elementwise.lt
        own = self if len(self.array.shape) == 1 else self.unsqueeze(-2)  # type: ignore[attr-defined]
        found = before(own, values.unsqueeze(-1)).sum(-1)
        return found.to("int32") if out_int32 else found


def _broadcast(a: Any, b: Any) -> tuple[Any, Any]:
    from gradient.tensor.joining import broadcast_tensors

    a, b = broadcast_tensors(a, b)
    return a, b


def _misfit(key: Any, tensor: Any) -> str:
    return f"index {key!r} does not fit a tensor of shape {tuple(tensor.array.shape)}"
