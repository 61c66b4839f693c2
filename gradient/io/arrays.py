"""Conversion between tensors and the NumPy arrays in files."""

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
    """Return a tensor (on any device) as an array, which shares memory with a tensor on the CPU."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value.dtype, Float8):
        (codes,) = value.array.parts
        return np.asarray(value.backend.to_numpy(codes)).view(value.dtype.element)
    return np.asarray(value.backend.to_numpy(value.array))


def stored_dtype(value: Tensor | np.ndarray) -> np.dtype:
    """The dtype of the array from `to_numpy`."""
    if isinstance(value, np.ndarray):
        return value.dtype
    return value.dtype.element if isinstance(value.dtype, Float8) else value.dtype.numpy


def tensor_of(array: np.ndarray) -> Tensor:
    """Return a CPU tensor that shares the array's memory."""
    from gradient.backends import get

    if array.dtype in _FLOAT8:
        codes = array.view(uint8.numpy)
        return Tensor._wrap(PackedArray(_FLOAT8[array.dtype], array.shape, (codes,)), get("cpu"))
    return Tensor._wrap(array, get("cpu"))


def has_room(shape: Sequence[int], itemsize: int) -> bool:
    """Whether an array of this shape can exist; NumPy requires it even without elements."""
    return prod(max(size, 1) for size in shape) * itemsize < 1 << 62
