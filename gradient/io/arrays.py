"""Between tensors and the NumPy arrays that files hold."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from gradient.tensor import Tensor


def to_numpy(value: Tensor | np.ndarray) -> np.ndarray:
    """The numbers of a tensor (any device) as an array; shares memory where they are on the CPU."""
    if isinstance(value, np.ndarray):
        return value
    return np.asarray(value.backend.to_numpy(value.array))


def tensor_of(array: np.ndarray) -> Tensor:
    """A CPU tensor on the array's memory."""
    from gradient.backends import get

    return Tensor._wrap(array, get("cpu"))


def has_room(shape: Sequence[int], itemsize: int) -> bool:
    """Whether an array of this shape can exist; NumPy asks that of one without elements, too."""
    return prod(max(size, 1) for size in shape) * itemsize < 1 << 62


def nbytes(value: Tensor | np.ndarray) -> int:
    """Bytes of a tensor's elements, or of its blocks."""
    return value.nbytes
