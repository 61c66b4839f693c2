"""Elementary functions of large arrays by kernels, which NumPy computes in one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.array_api import ArrayAPIBackend
from gradient.backends.base import LARGE
from gradient.backends.numpy import kernels, threads, workspace

MANY = LARGE
"""Elements from which kernels are quicker, by more than the time to load them in a short script."""

# Faster look-ups.
_log, _sqrt, _sin, _cos = np.log, np.sqrt, np.sin, np.cos
_floor, _ceil, _trunc, _round = np.floor, np.ceil, np.trunc, np.rint


class ElementaryKernels(ArrayAPIBackend):
    """Overrides of required methods, and of `composed.elementwise`. Small arrays come here, too:
    their size is checked before anything else."""

    def exp(self, x: np.ndarray) -> np.ndarray:
        if x.size >= MANY and x.dtype.char == "d":
            return _computed("exp_of", np.exp, x)
        return super().exp(x)

    def log(self, x: np.ndarray) -> np.ndarray:
        return _log(x) if x.size < MANY else _computed("log", _log, x)

    def sqrt(self, x: np.ndarray) -> np.ndarray:
        return _sqrt(x) if x.size < MANY else _computed("sqrt", _sqrt, x)

    def sin(self, x: np.ndarray) -> np.ndarray:
        return _sin(x) if not takes("sin", x) else _computed("sin", _sin, x)

    def cos(self, x: np.ndarray) -> np.ndarray:
        return _cos(x) if not takes("cos", x) else _computed("cos", _cos, x)

    def floor(self, x: np.ndarray) -> np.ndarray:
        return _floor(x) if x.size < MANY else _computed("floor", _floor, x)

    def ceil(self, x: np.ndarray) -> np.ndarray:
        return _ceil(x) if x.size < MANY else _computed("ceil", _ceil, x)

    def trunc(self, x: np.ndarray) -> np.ndarray:
        return _trunc(x) if x.size < MANY else _computed("trunc", _trunc, x)

    def round(self, x: np.ndarray) -> np.ndarray:
        return _round(x) if x.size < MANY else _computed("round", _round, x)

    def hypot(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.size < kernels.MIN_SIZE:
            return super().hypot(a, b)
        return _computed("hypot", super().hypot, a, b)

    def copysign(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.size < kernels.MIN_SIZE:
            return super().copysign(a, b)
        return _computed("copysign", super().copysign, a, b)

    def nextafter(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.size < kernels.MIN_SIZE:
            return super().nextafter(a, b)
        return _computed("nextafter", super().nextafter, a, b)


OF_ONE = {"exp", "log", "sqrt", "sin", "cos", "floor", "ceil", "trunc", "round"}
"""Required methods of one array that kernels compute."""
OF_FLOAT64 = {"exp", "sin", "cos"}
"""Those that NumPy computes of float32 as fast in one thread, or a kernel of `elementwise`."""


def takes(name: str, x: np.ndarray) -> bool:
    """Whether a kernel computes this method of OF_ONE."""
    if x.size < MANY or (name in OF_FLOAT64 and x.dtype.char != "d"):
        return False
    return kernels.supports(x)


def _computed(name: str, default: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """The kernel's result, of arrays of one shape in row-major order; else the default's."""
    first = arrays[0]
    if not kernels.supports(*arrays) or arrays[-1].shape != first.shape:
        out: np.ndarray = default(*arrays)
        return out
    out = workspace.result(first.shape, first.dtype)
    flat = [*(workspace.contiguous(x).ravel() for x in arrays), out.ravel()]
    if name == "nextafter":
        flat += [x.view(f"i{x.itemsize}") for x in flat]
    kernel: Any = getattr(kernels.load("elementary"), name)
    threads.parallel_for(kernel, out.size, kernels.load("elementwise").CHUNK, *flat)
    return out
