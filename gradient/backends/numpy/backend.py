"""The CPU backend on NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends.array_api import ArrayAPIBackend
from gradient.backends.base import Array


class NumpyBackend(ArrayAPIBackend):
    """NumPy arrays on the host. Full reductions may give NumPy scalars: they are arrays too."""

    name = "numpy"
    device = "cpu"
    xp = np

    # Bound straight to the ufuncs: a method call less on the hottest path.
    exp = staticmethod(np.exp)  # type: ignore[assignment]
    log = staticmethod(np.log)  # type: ignore[assignment]
    sqrt = staticmethod(np.sqrt)  # type: ignore[assignment]
    tanh = staticmethod(np.tanh)  # type: ignore[assignment]
    sin = staticmethod(np.sin)  # type: ignore[assignment]
    cos = staticmethod(np.cos)  # type: ignore[assignment]
    maximum = staticmethod(np.maximum)  # type: ignore[assignment]
    minimum = staticmethod(np.minimum)  # type: ignore[assignment]
    where = staticmethod(np.where)  # type: ignore[assignment]

    def accumulate(be, x: Array, y: Array) -> Array:
        x += y
        return x

    def storage(be, x: Array) -> Any:
        while isinstance(getattr(x, "base", None), np.ndarray):
            x = x.base
        return x if getattr(x, "base", None) is None else x.base

    def is_view(be, x: Array) -> bool:
        return getattr(x, "base", None) is not None
