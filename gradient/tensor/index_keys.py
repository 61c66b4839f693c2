"""Index expressions: the keys of `x[...]`, applied in PyTorch's two steps.

First, ints, slices, None and Ellipsis give a view. Then integer and bool arrays select elements of
this view, with whole dimensions between them. (NumPy treats an int like the arrays, and
`x[0, :, [0, 1]]` then has the dimension of the list in front.)
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeGuard, Union

import numpy as np

from gradient.autograd.variable import Variable
from gradient.errors import ArgumentError, DeviceError, IndexOutOfRange, TypeMismatch, out_of_bounds
from gradient.tensor.base import TensorBase

if TYPE_CHECKING:
    from types import EllipsisType

    from gradient.backends.operators import ArrayOperators

Part = Union["int | slice | EllipsisType | ArrayOperators | None"]
"""An item of an index after `_settled`."""
Index = tuple[Any, ...]
"""An index in the form that `Backend.getitem` takes."""

INT_OR_NONE = (int, type(None))
WHOLE = slice(None)
_OF_DTYPES = "tensors used as indices must be long, int, uint8 or bool tensors, got "
LIST_AS_TUPLE_BELOW = 32
"""A list with this number of items or more is always a list of ints, as in PyTorch."""


def index_of(key: Any, tensor: Any) -> tuple[Index | None, Index | None]:
    """Split an index expression into two steps: the index of a view, and that of arrays in it.

    A step that would select everything is None.
    """
    if type(key) is int:
        return (key, Ellipsis), None
    if type(key) is slice:
        return (_slice(key),), None
    parts: tuple[Any, ...] = key if type(key) is tuple else _parts(key)
    for part in parts:
        if type(part) is slice:
            if (
                part.step is not None
                or type(part.start) not in INT_OR_NONE
                or type(part.stop) not in INT_OR_NONE
            ):
                break
        elif type(part) is not int:
            break
    else:  # the usual cases
        return (*parts, Ellipsis), None
    view: list[Any] = []
    whole = False
    for part in parts:
        kind = type(part)
        if kind is slice:
            part = _slice(part)
        elif part is Ellipsis:
            if whole:
                return index_of(_of_one_ellipsis(parts, tensor), tensor)
            whole = True
        elif part is not None and kind is not int:
            return _two_steps([_settled(part, tensor.backend) for part in parts], tensor)
        view.append(part)
    if not whole:
        view.append(Ellipsis)  # so that an index of one element gives a view, not a copy
    return tuple(view), None


def _two_steps(parts: list[Any], tensor: Any) -> tuple[Index | None, Index | None]:
    """Do the same as `index_of` for parts that may be bools and arrays."""
    ndim = len(tensor.array.shape)
    if sum(part is Ellipsis for part in parts) > 1:
        parts = list(_of_one_ellipsis(parts, tensor))
    wide = list(map(_dimensions, parts))
    left = ndim - sum(wide)
    if left < 0:
        raise IndexOutOfRange(_too_many(tensor, ndim - left))
    if not any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)
        wide.append(0)
    view: list[Any] = []
    arrays: list[Any] = []
    axis = 0
    for part, n in zip(parts, wide, strict=True):
        if part is Ellipsis:
            view += [WHOLE] * left
            arrays += [WHOLE] * left
            axis += left
            left = 0
        elif type(part) is int:
            view.append(part)
        elif part is None or type(part) is slice:
            view.append(part)
            arrays.append(WHOLE)
        elif type(part) is bool:  # a new dimension, of size 1 or 0
            view.append(None)
            arrays.append(tensor.backend.asarray(np.zeros(int(part), np.int64)))
        else:
            view += [WHOLE] * n
            arrays.append(part)
            if _is_mask(part):
                _check_mask(part, axis, tensor.array.shape)
        axis += n
    while arrays and type(arrays[-1]) is slice:
        arrays.pop()
    takes_all = arrays and all(part == WHOLE if type(part) is slice else False for part in view)
    return None if takes_all else (*view, Ellipsis), tuple(arrays) or None


def _of_one_ellipsis(parts: Sequence[Any], tensor: Any) -> tuple[Part, ...]:
    """Return the items of an index with several Ellipses, without the later ones. In PyTorch each
    Ellipsis skips all unnamed dimensions; if there are any, no item can follow the second one."""
    settled = [_settled(part, tensor.backend) for part in parts]
    places = [i for i, part in enumerate(settled) if part is Ellipsis]
    left = len(tensor.array.shape) - sum(map(_dimensions, settled))
    if left > 0 and len(places) < len(settled) - places[1] + 1:
        raise IndexOutOfRange(
            "an index can only have a single Ellipsis ('...') before its last item"
        )
    return tuple(part for i, part in enumerate(settled) if i not in places[1:])


def _parts(key: Any) -> tuple[object, ...]:
    """Return the items of an index: those of a tuple, or of a list with more than numbers."""
    if isinstance(key, tuple):
        return key
    if isinstance(key, list) and len(key) < LIST_AS_TUPLE_BELOW and any(map(_is_index, key)):
        warnings.warn(
            "x[[a, b]] with tensors, sequences, slices, None or Ellipsis in the list is taken as "
            "x[a, b], as in PyTorch; write x[a, b], or make the list a tensor",
            stacklevel=4,
        )
        return tuple(key)
    return (key,)


def _is_index(item: Any) -> bool:
    """Whether PyTorch treats a list with this item as a tuple of indices."""
    kinds = (Variable, list, tuple, range, np.ndarray, slice)
    return item is None or item is Ellipsis or isinstance(item, kinds)


def _settled(part: Any, backend: Any) -> Part:
    """Convert a part of an index to None, Ellipsis, an int, a slice, a bool or an array of
    `backend` with dimensions. A 0-d array becomes a number: its value is read."""
    if part is None or part is Ellipsis or type(part) is int:
        return part
    if type(part) is slice:
        return _slice(part)
    if isinstance(part, (bool, np.bool_)):
        return bool(part)
    if isinstance(part, Variable):
        array = part.array
        narrow = array.shape and array.dtype.char in "bh"  # a 0-d one may be of any integer dtype
        if narrow or array.dtype.kind not in "biu":
            raise IndexOutOfRange(_OF_DTYPES + str(part.dtype))
        if not part.backend.reads_values and part.backend.is_batched(array):  # type: ignore[attr-defined]
            return _mask(array, part.backend)  # of `vmap`: the samples have indices of their own
        if not array.shape:
            return _number(part.backend.to_numpy(array))
        if part.backend is not backend and part.backend.device != backend.device:
            if part.backend.device != "cpu":
                raise DeviceError(
                    "index: indices should be either on cpu or on the device of the indexed tensor "
                    f"({backend.device}), got one on {part.backend.device}; move it with .to()"
                )
            array = backend.asarray(part.backend.to_numpy(array))
        return _mask(array, backend)
    if isinstance(part, (list, tuple, np.ndarray, range)):
        found = _numbers(part)
        return _mask(backend.asarray(found), backend) if found.ndim else _number(found)
    try:
        return operator.index(part)
    except TypeError:
        kind = TypeMismatch if isinstance(part, (str, bytes)) else IndexOutOfRange
        raise kind(
            "index: expected ints, slices, Ellipsis, None, or integer or bool tensors, "
            f"got {type(part).__name__}"
        ) from None


def _number(array: Any) -> int | bool:
    """Convert a 0-d index to a number; uint8 counts as bool, as in PyTorch."""
    return bool(array) if array.dtype.kind == "b" or array.dtype == np.uint8 else int(array)


def _mask(array: Any, backend: Any) -> ArrayOperators:
    """Return an index array; uint8 is converted to a bool mask, as in PyTorch."""
    return backend.astype(array, np.dtype(bool)) if array.dtype.char == "B" else array


def _numbers(part: Any) -> np.ndarray:
    """Convert a sequence of ints or bools to an array."""
    if not isinstance(part, np.ndarray):
        part = [p.item() if isinstance(p, TensorBase) else p for p in part]
    try:
        array = np.asarray(part)
    except ValueError:
        raise ArgumentError(
            f"index: expected sequences of one length at each depth, got {part!r}"
        ) from None
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(np.int64)
    if array.dtype.kind in "fV":
        raise IndexOutOfRange(_OF_DTYPES + str(array.dtype))
    if array.dtype.kind not in "biu":
        raise TypeMismatch(f"index: expected a sequence of ints or bools, got {part!r}")
    return array


def _slice(part: slice) -> slice:
    if part.step is None and type(part.start) in INT_OR_NONE and type(part.stop) in INT_OR_NONE:
        return part
    start, stop, step = (_int(bound) for bound in (part.start, part.stop, part.step))
    if step is not None and step <= 0:
        raise ArgumentError(f"slice step must be positive, got {step}; use flip() to reverse")
    return slice(start, stop, step)


def _int(value: Any) -> int | None:
    if value is None:
        return None
    try:
        return operator.index(value)
    except TypeError:
        raise TypeMismatch(f"slice indices must be ints or None, got {value!r}") from None


def _dimensions(part: Any) -> int:
    """Return the number of dimensions of the tensor that a part indexes."""
    if part is None or part is Ellipsis or type(part) is bool:
        return 0
    return len(part.shape) if _is_mask(part) else 1


def _is_mask(part: Any) -> bool:
    return hasattr(part, "dtype") and part.dtype.kind == "b"


def _is_of_ints(part: Any) -> TypeGuard[ArrayOperators]:
    return hasattr(part, "dtype") and part.dtype.kind != "b"


def _check_mask(mask: Any, axis: int, size: Any) -> None:
    """Raise if a mask does not have the shape of the dimensions from `axis`. (NumPy would accept an
    empty one.)"""
    if tuple(mask.shape) != tuple(size[axis : axis + len(mask.shape)]):
        raise IndexOutOfRange(
            f"the shape of the mask {tuple(mask.shape)} does not match the shape of the indexed "
            f"tensor {tuple(size)} at dimension {axis}"
        )


def size_at(arrays: Index, size: Sequence[int]) -> tuple[int, ...] | None:
    """The shape of what an index of arrays, with whole dimensions between them, selects; None if
    there are masks, or the arrays do not broadcast."""
    at = [i for i, part in enumerate(arrays) if type(part) is not slice]
    if any(arrays[i].dtype.kind == "b" for i in at):
        return None
    try:
        picks = np.broadcast_shapes(*(arrays[i].shape for i in at))
    except ValueError:
        return None
    kept = [n for i, n in enumerate(size) if i not in at]
    first = at[0] if at[-1] - at[0] + 1 == len(at) else 0  # separated arrays: theirs come first
    return (*kept[:first], *picks, *kept[first:])


# Error messages -----------------------------------------------------------------------------------


def misfit(key: Any, tensor: Any) -> str:
    """Say why an index expression, which the backend refused, does not fit a tensor."""
    size = tuple(tensor.array.shape)
    parts = [_settled(part, tensor.backend) for part in _parts(key)]
    used = sum(map(_dimensions, parts))
    if used > len(size):
        return _too_many(tensor, used)
    axis = 0
    for part in parts:
        if part is Ellipsis:
            axis += len(size) - used
            continue
        wide = _dimensions(part)
        if type(part) is int or _is_of_ints(part):
            outside = _outside(part, size[axis], tensor.backend)
            if outside is not None:
                return f"{out_of_bounds(outside, axis, size[axis])} (of a tensor of shape {size})"
        axis += wide
    shapes = [tuple(p.shape) for p in parts if _is_of_ints(p)]
    return f"indexing tensors of shapes {' and '.join(map(str, shapes))} do not broadcast together"


def _outside(part: Any, size: int, backend: Any) -> int | None:
    """Return the first number of `part` that is out of range for a dimension of this size."""
    while (own := getattr(part, "be", None)) is not None:  # in `vmap`: those of all samples
        part, backend = own.split(part)[0], own.inner
    numbers = np.asarray(part if type(part) is int else backend.to_numpy(part))
    found = numbers[(numbers < -size) | (numbers >= size)]
    return int(found[0]) if found.size else None


def _too_many(tensor: Any, used: int) -> str:
    size = tuple(tensor.array.shape)
    if not size:
        return "invalid index of a 0-dim tensor; use .item() to get its number"
    return f"too many indices for tensor of dimension {len(size)}: got {used} for shape {size}"
