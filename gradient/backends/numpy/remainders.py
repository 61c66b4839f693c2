"""Remainders and rounded quotients of large arrays by kernels, with NumPy's bits; of 16-bit floats
those of float32, rounded once."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from gradient.backends.array_api import FLOAT32
from gradient.backends.base import Backend
from gradient.backends.numpy import kernels, threads, workspace
from gradient.backends.numpy.turned_arrays import in_memory_order
from gradient.dtypes import HALF_PRECISION

INTEGERS = np.dtype(np.int32), np.dtype(np.int64)


class RemainderKernels(Backend[np.ndarray]):
    """Overrides `fmod`, `remainder` and `floor_divide`."""

    def fmod(self, a: Any, b: Any) -> np.ndarray:
        found = _computed("fmod", a, b) if takes(a, b) else None
        return np.fmod(a, b) if found is None else found

    def remainder(self, a: Any, b: Any) -> np.ndarray:
        found = _computed("remainder", a, b) if takes(a, b) else None
        if found is not None:
            return found
        rest: np.ndarray = a % b
        if rest.dtype.kind in "biu" or rest.all():  # no zeros, whose sign may have to change
            return rest
        return self.where(rest == 0, np.copysign(rest, a), rest)

    def floor_divide(self, a: Any, b: Any) -> np.ndarray:
        found = _computed("floor_divide", a, b) if takes(a, b) else None
        # Plans have tasks for the default's operator.
        return super().floor_divide(a, b) if found is None else found


def takes(a: Any, b: Any) -> bool:
    """Whether an operand is large enough for kernels."""
    many = kernels.MIN_SIZE
    return (type(a) is np.ndarray and a.size >= many) or (type(b) is np.ndarray and b.size >= many)


def _computed(name: str, a: Any, b: Any) -> np.ndarray | None:
    """The kernel's result; None if it does not take the operands, one of which is large; the other
    may be a number, beside 16-bit floats also one of float32."""
    x = a if type(a) is np.ndarray and a.size >= kernels.MIN_SIZE else b
    dtype = x.dtype
    if dtype in INTEGERS and name != "fmod":  # NumPy's of integers takes no longer
        name = f"integer_{name}"
    elif not kernels.computes(dtype):
        return None
    a, b = _array(a, dtype), _array(b, dtype)
    if a is None or b is None or not (a.size and b.size and kernels.available()):
        return None
    try:
        return in_memory_order(functools.partial(_each, name), a, b)
    except ValueError:  # of shapes that do not broadcast: NumPy raises the error
        return None


def _array(x: Any, dtype: np.dtype) -> np.ndarray | None:
    if type(x) is int or type(x) is float:
        if dtype.kind == "i" and (type(x) is float or not -(2**31) <= x < 2**31):
            return None
        with np.errstate(over="ignore"):
            return np.array(x, dtype)
    if not isinstance(x, (np.ndarray, np.generic)):
        return None
    is_number = x.shape == () and x.dtype == FLOAT32 and dtype in HALF_PRECISION
    return np.asarray(x) if x.dtype == dtype or is_number else None


def _each(name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    family = kernels.load("remainders")
    whole = a if a.size > 1 else b
    out = workspace.result(whole.shape, whole.dtype)
    flat = [*(workspace.contiguous(x).ravel() for x in (a, b)), out.ravel()]
    if out.itemsize == 2:
        flat = list(map(kernels.load("half_precision").stored, flat))
    kernel, chunk = getattr(family, name), kernels.load("elementwise").CHUNK
    threads.parallel_for(kernel, out.size, chunk, *flat)
    return out
