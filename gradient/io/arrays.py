"""Between tensors and the NumPy arrays that files hold."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from gradient.backends.packed import PackedArray
from gradient.dtypes import float8_e4m3fn, float8_e5m2, uint8
from gradient.dtypes.float8 import Float8
from gradient.tensor import Tensor

_FLOAT8 = {dtype.element: dtype for dtype in (float8_e4m3fn, float8_e5m2)}


def to_numpy(value: Tensor | np.ndarray) -> np.ndarray:
    """The numbers of a tensor (any device) as an array; shares memory where they are on the CPU."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value.dtype, Float8):
        (codes,) = value.array.parts
        return np.asarray(value.backend.to_numpy(codes)).view(value.dtype.element)
    return np.asarray(value.backend.to_numpy(value.array))


def stored_dtype(value: Tensor | np.ndarray) -> np.dtype:
    """The dtype of the array that `to_numpy` gives."""
    if isinstance(value, np.ndarray):
        return value.dtype
    return value.dtype.element if isinstance(value.dtype, Float8) else value.dtype.numpy


def tensor_of(array: np.ndarray) -> Tensor:
    """A CPU tensor on the array's memory."""
    from gradient.backends import get

    if array.dtype in _FLOAT8:
        codes = array.view(uint8.numpy)
        return Tensor._wrap(PackedArray(_FLOAT8[array.dtype], array.shape, (codes,)), get("cpu"))
    return Tensor._wrap(array, get("cpu"))


def has_room(shape: Sequence[int], itemsize: int) -> bool:
    """Whether an array of this shape can exist; NumPy asks that of one without elements, too."""
    return prod(max(size, 1) for size in shape) * itemsize < 1 << 62


def nbytes(value: Tensor | np.ndarray) -> int:
    """Bytes of a tensor's elements, or of its blocks."""
    return value.nbytes
