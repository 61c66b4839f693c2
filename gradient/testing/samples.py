"""Shapes and constants that rows of the op table share."""

from __future__ import annotations

from typing import Any

import numpy as np

PAIR = ((3, 4), (3, 4))
ONE = ((3, 4),)
EMPTY = ((0, 4),)
EMPTIES = ((0, 4), (0, 4))
MASK = np.array([[1, 0, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0]], bool)


def constant(x: Any, value: np.ndarray) -> Any:
    """A NumPy constant as an array of x's backend (floats in x's dtype)."""
    dtype = x.array.dtype if value.dtype.kind == "f" else None
    return x.backend.asarray(value.astype(dtype) if dtype is not None else value)
