"""Makes a batch from a list of samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradient.dtypes import BY_NUMPY, float64, get_default_dtype, int64
from gradient.errors import ArgumentError, ShapeError, TypeMismatch, sentence
from gradient.io.arrays import tensor_of
from gradient.tensor import Tensor
from gradient.tensor.joining import stack

__all__ = ["default_collate", "default_convert"]


def default_collate(batch: Sequence[Any]) -> Any:
    """Stack the samples of a batch along a new first dimension, in any nested structure.

    Tensors and NumPy arrays of shape S become a tensor of shape (B, *S); numbers a tensor of shape
    (B,), float64 for floats, int64 for ints (the default dtype for floats after an int); strings
    and bytes stay a list. Tuples and lists are collated element by element, dicts key by key.

    Raises:
        ShapeError: tensors of different shapes; pad them in your own `collate_fn`.
        TypeMismatch: a type that cannot be collated.
    """
    if not isinstance(batch, Sequence) or not batch:
        raise ArgumentError(sentence("default_collate", "a list of samples", repr(batch)))
    first = batch[0]
    if isinstance(first, Tensor | np.ndarray):
        return _stack(batch)
    if isinstance(first, np.generic):
        return _stack([np.asarray(item) for item in batch])
    if isinstance(first, bool | int | float):
        return _numbers(batch)
    if isinstance(first, str | bytes):
        return list(batch)
    if isinstance(first, Mapping):
        return _like(first, {key: default_collate([item[key] for item in batch]) for key in first})
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(default_collate(column) for column in _columns(batch)))
    if isinstance(first, Sequence):
        # A list for tuples too, as in PyTorch.
        return [default_collate(column) for column in _columns(batch)]
    raise TypeMismatch(
        "default_collate: expected tensors, arrays, numbers, strings, dicts, tuples or lists, got "
        f"{type(first).__module__}.{type(first).__qualname__}; give the DataLoader a collate_fn"
    )


def default_convert(data: Any) -> Any:
    """Convert NumPy arrays in a sample to tensors; keep the rest. For loaders without batching."""
    return each_leaf(_converted, data)


def _converted(item: Any) -> Any:
    if isinstance(item, np.ndarray | np.generic) and np.asarray(item).dtype in BY_NUMPY:
        return tensor_of(np.asarray(item))
    return item


def each_leaf(function: Callable[[Any], Any], data: Any) -> Any:
    """Apply `function` to all leaves of nested dicts, lists and tuples; tuples become lists."""
    if isinstance(data, Mapping):
        return _like(data, {key: each_leaf(function, value) for key, value in data.items()})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(each_leaf(function, value) for value in data))
    if isinstance(data, list | tuple):
        return [each_leaf(function, value) for value in data]
    return function(data)


def _numbers(batch: Sequence[Any]) -> Tensor:
    kinds = set(map(type, batch))
    if kinds == {int}:
        return tensor_of(np.asarray(batch, int64.numpy))
    if kinds <= {bool}:
        return tensor_of(np.asarray(batch, np.bool_))
    if all(isinstance(item, int) for item in batch):
        return tensor_of(np.asarray(batch, int64.numpy))
    # PyTorch takes float64 if the first is a float.
    dtype = float64 if isinstance(batch[0], float) else get_default_dtype()
    return tensor_of(np.asarray(batch, dtype.numpy))


def _stack(batch: Sequence[Any]) -> Tensor:
    arrays = [item.array if isinstance(item, Tensor) else item for item in batch]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise ShapeError(
            "default_collate: the samples of a batch have different shapes, "
            f"{', '.join(map(str, sorted(shapes)[:4]))}; make them equal in the dataset, or pad "
            "them in a collate_fn"
        )
    tensors = [item for item in batch if isinstance(item, Tensor)]
    nodes, devices = {item.node for item in tensors}, {item.backend.device for item in tensors}
    if not (nodes <= {None} and devices <= {"cpu"}):
        return stack([item if isinstance(item, Tensor) else _as_tensor(item) for item in batch], 0)
    # The usual case, without one differentiable op for each sample.
    (shape,) = shapes
    joined = np.concatenate(arrays) if shape else np.stack(arrays)  # the faster one
    return _as_tensor(joined.reshape(len(arrays), *shape))


def _as_tensor(array: np.ndarray) -> Tensor:
    if array.dtype not in BY_NUMPY:
        raise TypeMismatch(f"default_collate: an array of dtype {array.dtype} cannot be a tensor")
    return tensor_of(array)


def _columns(batch: Sequence[Any]) -> list[tuple[Any, ...]]:
    lengths = {len(item) for item in batch}
    if len(lengths) > 1:
        raise ArgumentError(
            f"default_collate: the samples of a batch have {sorted(lengths)} elements; each must "
            "have as many"
        )
    return list(zip(*batch, strict=True))


def _like(example: Mapping[Any, Any], values: dict[Any, Any]) -> Any:
    kind: Any = type(example)
    try:
        return kind(values)
    except TypeError:  # a mapping type with another constructor
        return values
