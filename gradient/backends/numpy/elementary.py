"""Elementary functions of large arrays on all threads: by kernels, or parts by NumPy's function.

16-bit floats, which NumPy converts one after another, are computed in float32 and rounded once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.array_api import ArrayAPIBackend
from gradient.backends.base import LARGE
from gradient.backends.numpy import kernels, threads, workspace
from gradient.backends.numpy.turned_arrays import in_memory_order
from gradient.dtypes import HALF_PRECISION, bfloat16, float16

MANY = LARGE
"""Elements from which kernels are quicker, by more than the time to load them in a short script."""

# Faster look-ups.
_log, _sqrt, _sin, _cos = np.log, np.sqrt, np.sin, np.cos
_floor, _ceil, _trunc, _round = np.floor, np.ceil, np.trunc, np.rint
_abs, _maximum, _minimum = np.abs, np.maximum, np.minimum

INFINITY = {float16.numpy: np.uint16(0x7C00), bfloat16.numpy: np.uint16(0x7F80)}
"""The bits of inf, above which there are only NaNs."""

PART = 1 << 15
"""Elements that a thread computes at a time by NumPy's function."""


def _by_kernel_or_parts(name: str) -> Any:
    """Override the method of this name of UP_TO_FLOAT32, which is one function of NumPy."""
    function = getattr(np, name)

    @functools.wraps(getattr(ArrayAPIBackend, name))
    def method(self: Any, x: np.ndarray) -> np.ndarray:
        if x.size < MANY or not takes(name, x):
            return function(x)
        if x.itemsize != 8:
            return _computed(name, function, x)
        return in_memory_order(functools.partial(_on_threads, function), x)

    return method


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
        return _sin(x) if x.size < MANY else _computed("sin", _sin, x)

    def cos(self, x: np.ndarray) -> np.ndarray:
        return _cos(x) if x.size < MANY else _computed("cos", _cos, x)

    tan, exp2 = _by_kernel_or_parts("tan"), _by_kernel_or_parts("exp2")
    log1p, expm1 = _by_kernel_or_parts("log1p"), _by_kernel_or_parts("expm1")
    log2, log10 = _by_kernel_or_parts("log2"), _by_kernel_or_parts("log10")
    arcsin, arccos = _by_kernel_or_parts("arcsin"), _by_kernel_or_parts("arccos")
    arctan = _by_kernel_or_parts("arctan")
    sinh, cosh = _by_kernel_or_parts("sinh"), _by_kernel_or_parts("cosh")
    arcsinh, arccosh = _by_kernel_or_parts("arcsinh"), _by_kernel_or_parts("arccosh")
    arctanh = _by_kernel_or_parts("arctanh")

    def floor(self, x: np.ndarray) -> np.ndarray:
        return _floor(x) if x.size < MANY else _computed("floor", _floor, x)

    def ceil(self, x: np.ndarray) -> np.ndarray:
        return _ceil(x) if x.size < MANY else _computed("ceil", _ceil, x)

    def trunc(self, x: np.ndarray) -> np.ndarray:
        return _trunc(x) if x.size < MANY else _computed("trunc", _trunc, x)

    def round(self, x: np.ndarray) -> np.ndarray:
        return _round(x) if x.size < MANY else _computed("round", _round, x)

    def sign(self, x: np.ndarray) -> np.ndarray:
        of_numpy = super().sign

        def sign(x: np.ndarray) -> np.ndarray:
            out = of_numpy(x)
            return out + out.dtype.type(0) if out.dtype == bfloat16.numpy else out  # -0 as 0

        return sign(x) if x.size < MANY else _computed("sign", sign, x)

    def abs(self, x: np.ndarray) -> np.ndarray:
        if x.size < MANY or x.itemsize != 2:
            return super().abs(x)
        return _computed("magnitude", _abs, x)

    def isnan(self, x: np.ndarray) -> np.ndarray:
        return _sizes(x) > INFINITY[x.dtype] if _are_halves(x, x) else super().isnan(x)

    def isfinite(self, x: np.ndarray) -> np.ndarray:
        return _sizes(x) < INFINITY[x.dtype] if _are_halves(x, x) else super().isfinite(x)

    def maximum(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return _computed("larger", _maximum, a, b) if _are_halves(a, b) else _maximum(a, b)

    def minimum(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return _computed("smaller", _minimum, a, b) if _are_halves(a, b) else _minimum(a, b)

    def arctan2(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return _computed("arctan2", np.arctan2, a, b) if takes_pair(a, b) else np.arctan2(a, b)

    def power(self, a: Any, b: Any) -> np.ndarray:
        if takes_pair(a, b):
            return in_memory_order(functools.partial(_each, "power"), *_alike(a, b))
        out: np.ndarray = a**b
        if out.dtype.kind == "c":
            return out if np.isfinite(out).all() else _of_large(a, b, out)
        if isinstance(b, (int, float)) or b.dtype.kind != "f" or not (b == 0.5).any():
            return out
        # NumPy may compute sqrt if an exponent is 0.5.
        return np.where((b == 0.5) & ((a == 0) | np.isinf(a)), np.abs(out.dtype.type(a)), out)

    def hypot(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if _few(a, b):
            return super().hypot(a, b)
        return _computed("hypot", super().hypot, a, b)

    def copysign(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if _few(a, b):
            return super().copysign(a, b)
        return _computed("copysign", super().copysign, a, b)

    def nextafter(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if _few(a, b):
            return super().nextafter(a, b)
        return _computed("nextafter", super().nextafter, a, b)


OF_ONE = {"exp", "log", "sqrt", "sin", "cos", "floor", "ceil", "trunc", "round"}
"""Methods of one array that kernels compute."""
UP_TO_FLOAT32 = {
    *("log1p", "expm1", "log2", "log10", "exp2", "sinh", "cosh", "arcsinh", "arctanh", "tan"),
    *("arcsin", "arccos", "arctan", "arccosh"),
}
"""Those that kernels compute, in float64, of narrower floats; of float64 NumPy in parts."""
EVERY = OF_ONE | UP_TO_FLOAT32


def takes(name: str, x: Any) -> bool:
    """Whether kernels or several threads compute a method of EVERY of this array."""
    if x.size < MANY or type(x) is not np.ndarray:
        return False
    if name == "exp":  # of others, a kernel of `elementwise`
        return x.dtype.char == "d" and kernels.available()
    return kernels.computes(x.dtype)


def takes_pair(a: Any, b: Any) -> bool:
    """Whether kernels compute `arctan2` and `power` of these: arrays of one dtype up to float32, of
    which one is large and the other may be a number."""
    x = a if type(a) is np.ndarray and (type(b) is not np.ndarray or a.size >= b.size) else b
    if type(x) is not np.ndarray or x.size < MANY or x.itemsize == 8:
        return False
    other = b if x is a else a
    if not isinstance(other, (int, float)) and (
        getattr(other, "dtype", None) != x.dtype or not other.size
    ):
        return False
    return kernels.computes(x.dtype)


def _alike(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays, of one dtype."""
    dtype = a.dtype if type(a) is np.ndarray else b.dtype
    with np.errstate(over="ignore"):
        return np.asarray(a, dtype), np.asarray(b, dtype)


def _few(a: Any, b: Any) -> bool:
    return max(a.size, b.size) < kernels.MIN_SIZE


def _are_halves(a: Any, b: Any) -> bool:
    """Whether a kernel takes two operands: large arrays of one 16-bit float dtype."""
    return (
        type(a) is type(b) is np.ndarray
        and max(a.size, b.size) >= MANY
        and a.dtype in HALF_PRECISION
        and a.dtype == b.dtype
    )


def _sizes(x: np.ndarray) -> np.ndarray:
    """The bits of 16-bit floats but for the sign."""
    bits: np.ndarray = x.view(np.uint16) & np.uint16(0x7FFF)
    return bits


def _on_threads(function: Any, x: np.ndarray) -> np.ndarray:
    """NumPy's function of an array in row-major order. Each number has the same bits at any place,
    so they do not depend on the parts."""
    out = workspace.result(x.shape, x.dtype)
    flat, result = x.reshape(-1), out.reshape(-1)

    def part(i: int) -> None:
        with np.errstate(all="ignore"):
            function(flat[i * PART : (i + 1) * PART], result[i * PART : (i + 1) * PART])

    threads.run(-(-x.size // PART), part)
    return out


def _computed(name: str, default: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """The kernel's result, of large arrays of one dtype that broadcast; else the default's."""
    first = arrays[0]
    if (
        not all(type(x) is np.ndarray and x.dtype == first.dtype and x.size for x in arrays)
        or not kernels.computes(first.dtype)
        or (first.itemsize == 2 and name in ONLY_WIDE)
    ):
        out: np.ndarray = default(*arrays)
        return out
    if any(x.size == 1 for x in arrays):
        shape = np.broadcast_shapes(*(x.shape for x in arrays))
        arrays = tuple(np.broadcast_to(x, shape) if x.size == 1 else x for x in arrays)
    return in_memory_order(functools.partial(_each, name), *arrays)


def _each(name: str, *arrays: np.ndarray) -> np.ndarray:
    """Apply the kernel of this name to every element of arrays of one shape in row-major order, or
    of one element for `power`."""
    whole = max(arrays, key=lambda x: x.size)
    out = workspace.result(whole.shape, whole.dtype)
    flat = [*(workspace.contiguous(x).ravel() for x in arrays), out.ravel()]
    if out.itemsize == 2:
        flat = list(map(kernels.load("half_precision").stored, flat))
    if name == "nextafter":
        flat += [x.view(f"i{x.itemsize}") for x in flat]
    kernel: Any = getattr(kernels.load("elementary"), name)
    threads.parallel_for(kernel, out.size, kernels.load("elementwise").CHUNK, *flat)
    return out


ONLY_WIDE = {"nextafter"}
"""Kernels that do not take 16-bit floats."""


def _of_large(a: Any, b: Any, out: np.ndarray) -> np.ndarray:
    """The complex numbers a ** b, where `out` is infinite or NaN from e^(b log a): NumPy multiplies
    for whole b, and so gets NaN from infinities. As in PyTorch, so it is for 2, 3 and -2."""
    if type(b) is not np.ndarray and b in (1, 2, 3, -2):
        return out
    if type(a) is not np.ndarray and a == 1:
        return np.ones_like(out)
    kind = out.dtype
    return np.where(np.isfinite(out), out, np.exp(b * np.log(np.asarray(a, kind)))).astype(kind)
