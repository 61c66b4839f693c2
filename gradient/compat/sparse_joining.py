"""Sparse tensors joined: `cat` and its kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradient.compat.sparse_tensor import SparseTensor
from gradient.errors import NotAvailable, ShapeError, sentence
from gradient.tensor import joining
from gradient.tensor.arguments import axis_of

__all__ = ["cat", "hstack", "stack", "vstack"]


def cat(tensors: Sequence[Any], dim: int = 0) -> SparseTensor:
    """Sparse tensors one after the other along `dim`."""
    parts = _parts("cat", tensors)
    axis = axis_of(dim, parts[0].ndim)
    sizes = [[n for i, n in enumerate(each.shape) if i != axis] for each in parts]
    if any(len(each.shape) != len(parts[0].shape) or size != sizes[0]
           for each, size in zip(parts, sizes, strict=True)):  # fmt: skip
        got = " and ".join(str(tuple(each.shape)) for each in parts)
        raise ShapeError(sentence("cat", f"tensors that are of one shape but for dim {axis}", got))
    places, start = [], 0
    for each in parts:
        indices = list(each._places)
        indices[axis] = indices[axis] + start
        places.append(joining.stack(indices))
        start += each.shape[axis]
    shape = [start if i == axis else n for i, n in enumerate(parts[0].shape)]
    values = joining.cat([each._numbers for each in parts])
    return SparseTensor(joining.cat(places, 1), values, shape)


def stack(tensors: Sequence[Any], dim: int = 0) -> SparseTensor:
    """Sparse tensors of one shape along a new dimension `dim`."""
    parts = _parts("stack", tensors)
    if any(each.shape != parts[0].shape for each in parts):
        got = " and ".join(str(tuple(each.shape)) for each in parts)
        raise ShapeError(sentence("stack", "tensors of one shape", got))
    axis = axis_of(dim, parts[0].ndim + 1)
    return cat([_with_axis(each, axis) for each in parts], axis)


def hstack(tensors: Sequence[Any]) -> SparseTensor:
    """Joined side by side: along dimension 1, or 0 for those of one dimension."""
    parts = _parts("hstack", tensors)
    return cat(parts, 0 if parts[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Any]) -> SparseTensor:
    """Joined one below the other: along dimension 0, those of one dimension being rows."""
    parts = _parts("vstack", tensors)
    return cat([each if each.ndim > 1 else _with_axis(each, 0) for each in parts])


def _with_axis(each: SparseTensor, axis: int) -> SparseTensor:
    indices, shape = list(each._places), list(each.shape)
    indices.insert(axis, each._places.new_zeros(each._places.shape[1]))
    shape.insert(axis, 1)
    return SparseTensor(joining.stack(indices), each._numbers, shape)


def _parts(caller: str, tensors: Sequence[Any]) -> list[SparseTensor]:
    """The tensors, if all of them are sparse, by their places."""
    parts = list(tensors)
    for i, each in enumerate(parts):
        if type(each) is not SparseTensor:
            got = "one by rows" if isinstance(each, SparseTensor) else type(each).__name__
            raise NotAvailable(sentence(caller, f"sparse tensors alone, at {i} too", got))
    return parts
