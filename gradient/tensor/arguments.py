"""How arguments are read: dimensions, shapes, index expressions."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradient.autograd.variable import Variable
from gradient.errors import ArgumentError, IndexOutOfRange, ShapeError, TypeMismatch

PLAIN = (int, type(None))


class Size(tuple[int, ...]):
    """The shape of a tensor: a tuple of ints."""

    __slots__ = ()

    def numel(self) -> int:
        """The number of elements."""
        n = 1
        for size in self:
            n *= size
        return n

    def __repr__(self) -> str:
        return f"gradient.Size({list(self)})"

    __str__ = __repr__


def axis_of(dim: int, ndim: int) -> int:
    """A dimension as an axis from 0; a 0-d tensor counts as one with one dimension."""
    n = max(ndim, 1)
    if not -n <= dim < n:
        raise IndexOutOfRange(
            f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})"
        )
    return dim % n


def axes_of(dim: int | Sequence[int] | None, ndim: int) -> Any:
    """A `dim` argument as the `axis` of a reduction: None, an int or a tuple, none negative.

    PyTorch takes an empty tuple as all dimensions.
    """
    if dim is None:
        return None
    if isinstance(dim, int):
        axis = axis_of(dim, ndim)
        return axis if ndim else None
    axes = tuple(axis_of(d, ndim) for d in dim)
    if len(set(axes)) != len(axes):
        raise ShapeError(f"dim {axes[0]} appears multiple times in the list of dims {tuple(dim)}")
    return axes if axes and ndim else None


def shape_of(size: Sequence[Any]) -> tuple[int, ...]:
    """The shape meant by `f(2, 3)`, `f((2, 3))` or `f([2, 3])`."""
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = size[0]
    try:
        return tuple(map(operator.index, size))
    except TypeError:
        raise TypeMismatch(f"size: expected ints, got {tuple(size)!r}") from None


def index_of(key: Any, tensor: Any) -> tuple[Any, ...]:
    """An index expression as `Backend.getitem` takes it.

    Tensors become arrays, lists and NumPy arrays too; bools and uint8 masks must fit.
    """
    backend = tensor.backend
    parts = key if isinstance(key, tuple) else (key,)
    result: list[Any] = []
    for part in parts:
        if part is None or part is Ellipsis or type(part) is int:
            result.append(part)
        elif type(part) is slice:
            plain = part.step is None and type(part.start) in PLAIN and type(part.stop) in PLAIN
            result.append(part if plain else _slice(part))
        elif isinstance(part, Variable):
            result.append(_array(part.array, backend))
        elif isinstance(part, (bool, np.bool_)):
            result.append(backend.asarray(np.asarray(part)))
        elif isinstance(part, (list, tuple, np.ndarray, range)):
            values = [p.item() if isinstance(p, Variable) else p for p in part]  # type: ignore[union-attr]
            array = part if isinstance(part, np.ndarray) else np.asarray(values)
            if array.size == 0 and array.dtype.kind == "f":
                array = array.astype(np.int64)
            result.append(_array(backend.asarray(array), backend))
        else:
            try:
                result.append(operator.index(part))
            except TypeError:
                raise TypeMismatch(
                    "index: expected ints, slices, Ellipsis, None, or integer or bool tensors, "
                    f"got {type(part).__name__}"
                ) from None
    if not any(part is Ellipsis for part in result):
        result.append(Ellipsis)  # so that picking one element gives a view of it, not a copy
    return tuple(result)


def _array(array: Any, backend: Any) -> Any:
    kind = array.dtype.kind
    if kind == "f" or kind == "V":
        raise IndexOutOfRange(
            f"tensors used as indices must be long, int, uint8 or bool tensors, got {array.dtype}"
        )
    if array.dtype == np.uint8:  # PyTorch still takes uint8 as a mask
        return backend.astype(array, np.dtype(bool))
    return array


def _slice(part: slice) -> slice:
    if part.step is not None and _int(part.step) <= 0:
        raise ArgumentError("slice step must be positive; use flip() to reverse")
    return slice(_int(part.start), _int(part.stop), _int(part.step))


def _int(value: Any) -> Any:
    return value if value is None else operator.index(value)
