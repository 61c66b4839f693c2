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
    if type(dim) is not int:
        try:
            dim = operator.index(dim)
        except TypeError:
            raise TypeMismatch(f"dim: expected an int, got {dim!r}") from None
    n = ndim or 1
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
    if not isinstance(dim, (tuple, list)):
        raise TypeMismatch(f"dim: expected an int or a tuple of ints, got {dim!r}")
    axes = tuple(axis_of(d, ndim) for d in dim)
    if len(set(axes)) != len(axes):
        raise ShapeError(f"dim {axes[0]} appears multiple times in the list of dims {tuple(dim)}")
    return axes if axes and ndim else None


def shape_of(size: Sequence[Any]) -> tuple[int, ...]:
    """The shape meant by `f(2, 3)`, `f((2, 3))` or `f([2, 3])`."""
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = size[0]
    for n in size:
        if type(n) is not int:
            break
    else:
        return tuple(size)
    try:
        return tuple(map(operator.index, size))
    except TypeError:
        raise TypeMismatch(f"size: expected ints, got {tuple(size)!r}") from None


def size_of(size: Sequence[Any]) -> tuple[int, ...]:
    """As `shape_of`, of a tensor to be made: no size may be negative."""
    shape = shape_of(size)
    if shape and min(shape) < 0:
        raise ShapeError(f"size: expected sizes of at least 0, got {shape}")
    return shape


def tensor_of(caller: str, value: Any) -> Any:
    """`value`, if it is a tensor."""
    if not isinstance(value, Variable):
        raise TypeMismatch(f"{caller}(): expected a Tensor, got {type(value).__name__}")
    return value


def int_of(caller: str, name: str, value: Any) -> int:
    """`value`, if it is an int, or an integer tensor of one element."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeMismatch(f"{caller}(): expected an int as {name}, got {value!r}") from None


def ints_of(caller: str, name: str, value: Any) -> list[int]:
    """An int, or a sequence of them, as a list."""
    try:
        return [value] if isinstance(value, int) else [operator.index(v) for v in value]
    except TypeError:
        raise TypeMismatch(
            f"{caller}(): expected an int or a sequence of ints as {name}, got {value!r}"
        ) from None


def number_of(caller: str, name: str, value: Any) -> Any:
    """`value`, if it is a number; that of a tensor of one element."""
    value = value.item() if isinstance(value, Variable) else value  # type: ignore[attr-defined]
    if not isinstance(value, (bool, int, float, np.number, np.bool_)):
        raise TypeMismatch(f"{caller}(): expected a number as {name}, got {value!r}")
    return value


def index_of(key: Any, tensor: Any) -> tuple[Any, ...]:
    """An index expression as `Backend.getitem` takes it.

    Tensors become arrays, lists and NumPy arrays too; bools and uint8 masks must fit.
    """
    if type(key) is int:
        return key, Ellipsis
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
