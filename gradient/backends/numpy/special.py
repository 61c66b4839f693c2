"""The error, gamma and Bessel functions and the normal distribution of large arrays by kernels."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from gradient.backends.base import Backend
from gradient.backends.numpy import kernels, threads, workspace
from gradient.backends.numpy.turned_arrays import in_memory_order
from gradient.dtypes import HALF_PRECISION, float32

BESSEL = {0: ("i0", "i0e"), 1: ("i1", "i1e"), 2: ("i2", "i2e")}
"""Kernels, by the order."""

POLYGAMMA = {0: "digamma", 1: "trigamma"}
"""Kernels, by the number of derivatives."""


def _by_kernel(name: str) -> Any:
    """Override the method of this name, of one array."""

    @functools.wraps(getattr(Backend, name))
    def method(self: Backend[np.ndarray], x: np.ndarray) -> np.ndarray:
        found = _computed(self, x, name)
        return getattr(super(SpecialKernels, self), name)(x) if found is None else found

    return method


def _computed(be: Backend[np.ndarray], x: np.ndarray, name: str) -> np.ndarray | None:
    """The kernel's result; None if it does not take the array."""
    if kernels.supports(x):
        return _each(name, x)
    if x.size < kernels.MIN_SIZE or type(x) is not np.ndarray or not kernels.available():
        return None
    if x.dtype in HALF_PRECISION:
        wide = _computed(be, be.astype(x, float32.numpy), name)
        return None if wide is None else be.astype(wide, x.dtype)
    if x.dtype not in kernels.FLOATS:
        return None
    return in_memory_order(functools.partial(_each, name), x)


def _each(name: str, x: np.ndarray) -> np.ndarray:
    """Apply the kernel of this name (or of it and the bytes of a number) to every element."""
    family = kernels.load("special")
    kernel = getattr(family, name, None) or getattr(family, f"{name}{x.itemsize}")
    out = workspace.result(x.shape, x.dtype)
    flat = workspace.contiguous(x).ravel()
    threads.parallel_for(kernel, out.size, kernels.load("elementwise").CHUNK, flat, out.ravel())
    return out


class SpecialKernels(Backend[np.ndarray]):
    """Overrides of `composed.special`, and of the error functions of `composed.elementwise`."""

    erf, erfc, erfinv = _by_kernel("erf"), _by_kernel("erfc"), _by_kernel("erfinv")
    erfcx, ndtr = _by_kernel("erfcx"), _by_kernel("ndtr")
    log_ndtr, ndtri = _by_kernel("log_ndtr"), _by_kernel("ndtri")
    lgamma, digamma = _by_kernel("lgamma"), _by_kernel("digamma")

    def polygamma(self, x: np.ndarray, n: int) -> np.ndarray:
        found = _computed(self, x, POLYGAMMA[n]) if n in POLYGAMMA else None
        return super().polygamma(x, n) if found is None else found

    def bessel_i(self, x: np.ndarray, order: int = 0) -> np.ndarray:
        found = _computed(self, x, BESSEL[order][0]) if order in BESSEL else None
        return super().bessel_i(x, order) if found is None else found

    def bessel_ie(self, x: np.ndarray, order: int = 0) -> np.ndarray:
        found = _computed(self, x, BESSEL[order][1]) if order in BESSEL else None
        return super().bessel_ie(x, order) if found is None else found
