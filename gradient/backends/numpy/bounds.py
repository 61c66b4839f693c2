"""Checks of indices, divisors and probabilities. They are cheap on the host; other devices do not
check, as they would have to wait.

NumPy counts negative indices from the end, but a class or token is never negative: a target of -1
would silently train the last class. And NumPy returns 0 for integers divided by 0.
"""

from __future__ import annotations

import numpy as np

from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.numpy import along, kernels
from gradient.backends.numpy.expanded_index import each_once
from gradient.backends.numpy.kernels import INT64
from gradient.errors import ArgumentError, out_of_bounds, sentence

MANY = 1 << 16
"""Indices from which a kernel on several threads looks at them quicker than NumPy."""

UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
"""Unsigned integers by their bytes."""


class CheckedIndices(AttentionDefaults[np.ndarray]):
    """Overrides for `NumpyBackend`: methods whose indices must be positions, not negative."""

    def check_indices(self, index: np.ndarray, axis: int, size: int) -> None:
        if not index.size:
            return
        index = each_once(index)
        if (
            index.size >= MANY
            and index.dtype == INT64
            and index.flags.carray
            and kernels.available()
            and along.are_within(index, size)
        ):
            return
        # As unsigned integers, negative numbers are large: one pass finds both kinds.
        if index.dtype.kind == "i":
            unsigned = index.view(UNSIGNED[index.dtype.itemsize])
            if np.maximum.reduce(unsigned, None) < size:
                return
        lowest, highest = index.min(), index.max()
        if lowest < 0 or highest >= size:
            wrong = lowest if lowest < 0 else highest
            raise IndexError(out_of_bounds(wrong, axis, size))

    def check_range(self, x: np.ndarray, low: float, high: float, op: str, name: str) -> None:
        if not x.size or (x.min() >= low and x.max() <= high):
            return
        wrong = x[~((x >= low) & (x <= high))][0]
        raise ArgumentError(sentence(op, f"{name} from {low:g} to {high:g}", f"{float(wrong):g}"))

    def has_zero(self, x: np.ndarray) -> bool:
        return bool((x == 0).any())

    looks_along = True

    # Required methods, by NumPy, which itself raises for indices that are too large.

    def take_along(self, x: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
        refuse_negative(index, axis, x.shape[axis])
        return super().take_along(x, index, axis)

    def put_along(
        self, x: np.ndarray, index: np.ndarray, value: np.ndarray, axis: int, add: bool
    ) -> np.ndarray:
        refuse_negative(index, axis, x.shape[axis])
        return super().put_along(x, index, value, axis, add)


def refuse_negative(index: np.ndarray, axis: int, size: int) -> None:
    """Raise IndexError for an index below zero, which NumPy would accept."""
    index = each_once(index)
    if index.size and index.dtype.kind == "i" and (lowest := np.minimum.reduce(index, None)) < 0:
        raise IndexError(out_of_bounds(int(lowest), axis, size))
