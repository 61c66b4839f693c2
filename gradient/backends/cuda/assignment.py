"""Writes to CuPy arrays with NumPy's semantics, although CuPy's threads write in no order.

As in NumPy, later writes win, a value that overlaps the target is copied first, and writes to
arrays that show an element twice are refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends.array_api import FLOAT32, Array, ArrayAPIBackend
from gradient.backends.required import Index
from gradient.dtypes import HALF_PRECISION

INT32 = np.dtype(np.int32)
ADDED_AS = {np.dtype(t): INT32 for t in ("i1", "u1", "i2", "?")}
"""The integers in which CuPy adds at an index where it cannot in those of the array."""


class Assignment(ArrayAPIBackend):
    """The required methods that write to an array at an index."""

    address: Any

    def assign(self, x: Array, index: Index, value: Any) -> Array:
        picks = index is not ... and self._picks(index)
        if not x.flags.c_contiguous and repeats(x if index is ... or picks else x[index]):
            raise ValueError("assignment destination is read-only: it shows an element twice")
        if isinstance(value, self.xp.ndarray):
            if self.storage(value) is self.storage(x) and self._overlap(value, x):
                value = self.copy(value)
            if x.dtype.char == "B":
                value = self.astype(value, x.dtype)
        elif picks:
            value = self.full((), value, x.dtype)  # CuPy would copy it from the host's memory
        x[index] = value
        return x

    def assign_shared(self, x: Array, index: Index, value: Any, shown_by: list[Array]) -> bool:
        shown = x[index]
        if self.storage(shown) is not self.storage(x) or getattr(value, "size", 1) != 1:
            return False
        shown[tuple(slice(0, 1) if step == 0 else slice(None) for step in shown.strides)] = value
        return True

    def index_add(self, x: Array, index: Index, value: Array) -> Array:
        """CuPy adds atomically only in 32 and 64 bits. So 16-bit floats are added in float32, small
        integers in int32 (which wraps alike), and complex numbers as separate real and imaginary
        parts."""
        if x.dtype.kind == "c":
            for part in ("real", "imag"):
                wide = self.xp.ascontiguousarray(getattr(x, part))
                self.index_add(wide, index, getattr(value.astype(x.dtype, copy=False), part))
                setattr(x, part, wide.reshape(x.shape))
            return x
        through = FLOAT32 if x.dtype in HALF_PRECISION else ADDED_AS.get(x.dtype)
        if through is not None:
            wide = x.astype(through)
            self.xp.add.at(wide, index, value.astype(through))
            return self.assign(x, ..., wide.astype(x.dtype))
        self.xp.add.at(x, index, value)
        return x

    def _picks(self, index: Index) -> bool:
        """Whether the index contains arrays."""
        parts = index if isinstance(index, tuple) else (index,)
        return any(isinstance(part, self.xp.ndarray) for part in parts)

    def _overlap(self, x: Array, y: Array) -> bool:
        """Whether bytes between x's first and last are also y's, and x is not y."""
        (start, end), (first, last) = self._bounds(x), self._bounds(y)
        same = start == first and x.strides == y.strides and x.shape == y.shape
        return start < last and first < end and not same

    def _bounds(self, x: Array) -> tuple[int, int]:
        steps = [(n - 1) * step for n, step in zip(x.shape, x.strides, strict=True)]
        start = self.address(x)
        end = start + sum(step for step in steps if step > 0) + x.itemsize
        return start + sum(step for step in steps if step < 0), end


def repeats(x: Array) -> bool:
    """Whether two elements of an array may share memory."""
    steps = sorted((abs(step), n) for step, n in zip(x.strides, x.shape, strict=True) if n > 1)
    reach = x.itemsize
    for step, n in steps:
        if step < reach:
            return x.size > 0
        reach += (n - 1) * step
    return False
