"""Elementwise functions by kernels, or by fewer calls of NumPy."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import numpy as np

from gradient.backends import small_calls
from gradient.backends.array_api import FLOAT32
from gradient.backends.base import LARGE
from gradient.backends.composed.activation import ActivationDefaults
from gradient.backends.numpy import direct, kernels, threads, workspace
from gradient.backends.numpy.kernels import contiguous
from gradient.backends.numpy.turned_arrays import TurnedArrays
from gradient.dtypes import HALF_PRECISION, bfloat16

MANY_EXP, MANY_TANH = kernels.MIN_SIZE, 1 << 14
"""Elements from which kernels compute `exp` and `tanh` of float32 quicker than NumPy, whose `tanh`
takes 0.7 of a kernel's time in one thread."""

EVERY_FLOAT = (*kernels.FLOATS, *HALF_PRECISION)

FUNCTIONS = {"exp": "exp_of", "tanh": "tanh_of"}
"""Their kernels."""

exp, tanh = np.exp, np.tanh  # a faster look-up

CHUNK_OF_COMPLEX = 1 << 13
"""Complex numbers whose exponentials a thread computes at a time."""

FEW = 4
"""Times `MIN_SIZE`: elements up to which one call of NumPy is as quick as a kernel."""


EXP = direct.Direct("elementwise", "exp_of", lambda x: (x, x))
RELU = direct.Direct("elementwise", "relu", lambda x: (x, x))


P = ParamSpec("P")
Method = Callable[Concatenate[Any, P], np.ndarray]


def _of_large(a: Any, b: Any, out: np.ndarray) -> np.ndarray:
    """The complex numbers a ** b, where `out` is infinite or NaN from e^(b log a): NumPy multiplies
    for whole b, and so gets NaN from infinities. As in PyTorch, so it is for 2, 3 and -2."""
    if type(b) is not np.ndarray and b in (1, 2, 3, -2):
        return out
    if type(a) is not np.ndarray and a == 1:
        return np.ones_like(out)
    kind = out.dtype
    return np.where(np.isfinite(out), out, np.exp(b * np.log(np.asarray(a, kind)))).astype(kind)


def _by_kernel(default: Method[P], family: str) -> Method[P]:
    """Override a method by the kernel of its name, which takes arrays (for a gradient two) and
    numbers."""
    name = default.__name__
    count = 2 if name.endswith("_grad") else 1

    @functools.wraps(default)
    def method(self: Any, *given: Any, **options: Any) -> np.ndarray:
        arrays, numbers = given[:count], given[count:]
        if options or not kernels.supports(*reversed(arrays)):
            return default(self, *given, **options)
        kernel = getattr(kernels.load(family), name)
        return _each(kernel, *arrays, scalars=tuple(map(float, numbers)))

    return method


SMALL_CLAMP: Any = ActivationDefaults.clamp

GELU_GRADS = {"none": "gelu_grad", "tanh": "gelu_tanh_grad"}
"""Kernels, by the approximation."""


class ElementwiseKernels(TurnedArrays):
    """Overrides of `composed.elementwise` and `composed.activation`."""

    # Small arrays come here, too: their size is checked before anything else.

    def exp(self, x: np.ndarray) -> np.ndarray:
        if x.size < MANY_EXP:
            return exp(x)
        if x.dtype.char == "f" and (kernel := EXP.of(x)) is not None:
            return _at_once(kernel, x)
        if takes_complex_exp(x):
            return complex_exp(x, np.empty(x.shape, x.dtype))
        if _are_halves(x):
            return self.astype(self.exp(self.astype(x, FLOAT32)), x.dtype)
        return _function("exp", x) if takes_function("exp", x) else super().exp(x)

    def tanh(self, x: np.ndarray) -> np.ndarray:
        if x.size < MANY_TANH:
            return tanh(x)
        if _are_halves(x):
            return self.astype(self.tanh(self.astype(x, FLOAT32)), x.dtype)
        return _function("tanh", x) if takes_function("tanh", x) else super().tanh(x)

    def where(self, condition: np.ndarray, a: Any, b: Any) -> np.ndarray:
        if type(condition) is not np.ndarray or condition.size < kernels.MIN_SIZE:
            if not _says_rows(condition, b):
                return np.where(condition, a, b)
            condition = np.array(np.broadcast_to(condition, b.shape))
        if type(a) is float and type(b) is np.ndarray and b.dtype in EVERY_FLOAT:
            a = np.array(a, b.dtype)
        elif type(b) is float and type(a) is np.ndarray and a.dtype in EVERY_FLOAT:
            b = np.array(b, a.dtype)
        if not takes_where(condition, a, b):
            return super().where(condition, a, b)
        out = np.empty(condition.shape, a.dtype)
        threads.parallel_for(*where_launch(condition, a, b, out))
        return out

    def power(self, a: Any, b: Any) -> np.ndarray:
        out = a**b
        if out.dtype.kind == "c":
            return out if np.isfinite(out).all() else _of_large(a, b, out)
        if b.dtype.kind == "f" and (b == 0.5).any():  # NumPy may compute sqrt if an exponent is 0.5
            return np.where((b == 0.5) & ((a == 0) | np.isinf(a)), np.abs(out.dtype.type(a)), out)
        return out

    def relu(self, x: np.ndarray) -> np.ndarray:
        if (kernel := RELU.of(x)) is not None:
            return _at_once(kernel, x)
        if (
            type(x) is np.ndarray
            and x.dtype.char in "fd"
            and x.size < FEW * kernels.MIN_SIZE
            and not small_calls.are_repeated()
        ):
            return np.maximum(0, x)  # one call, as fast as starting a kernel
        if not (kernels.supports(x) or _are_halves(x)):
            return super().relu(x)
        return _each(kernels.load("elementwise").relu, x)

    def relu_grad(self, g: np.ndarray, out: np.ndarray) -> np.ndarray:
        if not (kernels.supports(out, g) or _are_halves(out, g)):
            return super().relu_grad(g, out)
        return _each(kernels.load("elementwise").relu_grad, g, out)

    def sigmoid(self, x: np.ndarray) -> np.ndarray:
        if not kernels.supports_rows(x):
            return super().sigmoid(x)
        return _each(kernels.load("elementwise").sigmoid_of, x)

    def sigmoid_grad(self, g: np.ndarray, out: np.ndarray) -> np.ndarray:
        if not kernels.supports(out, g):
            return super().sigmoid_grad(g, out)
        return _each(kernels.load("elementwise").sigmoid_grad, g, out)

    logsigmoid = _by_kernel(TurnedArrays.logsigmoid, "elementwise")
    logsigmoid_grad = _by_kernel(TurnedArrays.logsigmoid_grad, "elementwise")

    def hardtanh(self, x: np.ndarray, low: float, high: float) -> np.ndarray:
        if not kernels.supports(x):
            return super().hardtanh(x, low, high)
        return _each(kernels.load("piecewise").clamp, x, scalars=(float(low), float(high)))

    def clamp(self, x: np.ndarray, low: float | None, high: float | None) -> np.ndarray:
        if x.size < kernels.MIN_SIZE and not small_calls.are_repeated():
            return SMALL_CLAMP(self, x, low, high)
        bounds = _bounds(x, low, high)
        if bounds is None:
            return super().clamp(x, low, high)
        if x.itemsize == 2:
            bounds = float(x.dtype.type(bounds[0])), float(x.dtype.type(bounds[1]))
        return _each(kernels.load("piecewise").clamp, x, scalars=bounds)

    def clamp_grad(
        self, g: np.ndarray, x: np.ndarray, low: float | None, high: float | None
    ) -> np.ndarray:
        if x.dtype == bfloat16.numpy:  # the bounds that `clamp` gave, for which g goes through
            low, high = (n if n is None else float(x.dtype.type(n)) for n in (low, high))
        bounds = _bounds(x, low, high)
        if bounds is None or g.dtype != x.dtype or g.shape != x.shape:
            return super().clamp_grad(g, x, low, high)
        return _each(kernels.load("piecewise").clamp_grad, g, x, scalars=bounds)

    hardtanh_grad = _by_kernel(TurnedArrays.hardtanh_grad, "piecewise")
    hardshrink = _by_kernel(TurnedArrays.hardshrink, "piecewise")
    hardshrink_grad = _by_kernel(TurnedArrays.hardshrink_grad, "piecewise")
    softshrink = _by_kernel(TurnedArrays.softshrink, "piecewise")
    leaky_relu = _by_kernel(TurnedArrays.leaky_relu, "piecewise")
    leaky_relu_grad = _by_kernel(TurnedArrays.leaky_relu_grad, "piecewise")
    hardsigmoid = _by_kernel(TurnedArrays.hardsigmoid, "piecewise")
    hardsigmoid_grad = _by_kernel(TurnedArrays.hardsigmoid_grad, "piecewise")
    hardswish = _by_kernel(TurnedArrays.hardswish, "piecewise")
    hardswish_grad = _by_kernel(TurnedArrays.hardswish_grad, "piecewise")
    elu = _by_kernel(TurnedArrays.elu, "piecewise")
    elu_grad = _by_kernel(TurnedArrays.elu_grad, "piecewise")

    def softplus(self, x: np.ndarray, beta: float = 1.0, threshold: float = 20.0) -> np.ndarray:
        if not kernels.supports(x):
            return super().softplus(x, beta, threshold)
        numbers = float(beta), float(threshold)
        return _each(kernels.load("elementwise").softplus, x, scalars=numbers)

    def softplus_grad(
        self, g: np.ndarray, x: np.ndarray, beta: float = 1.0, threshold: float = 20.0
    ) -> np.ndarray:
        if not kernels.supports(x, g):
            return super().softplus_grad(g, x, beta, threshold)
        numbers = float(beta), float(threshold)
        return _each(kernels.load("elementwise").softplus_grad, g, x, scalars=numbers)

    def silu(self, x: np.ndarray) -> np.ndarray:
        if not kernels.supports_rows(x):
            return super().silu(x)
        return _each(kernels.load("elementwise").silu, x)

    def silu_grad(self, g: np.ndarray, x: np.ndarray) -> np.ndarray:
        if not kernels.supports(x, g):
            return super().silu_grad(g, x)
        return _each(kernels.load("elementwise").silu_grad, g, x)

    def gelu(self, x: np.ndarray, approximate: str = "none") -> np.ndarray:
        if not kernels.supports(x):
            return super().gelu(x, approximate)
        elementwise = kernels.load("elementwise")

        if approximate == "tanh":
            return _each(elementwise.gelu_tanh, x)
        return _each(elementwise.gelu4 if x.itemsize == 4 else elementwise.gelu, x)

    def gelu_grad(self, g: np.ndarray, x: np.ndarray, approximate: str = "none") -> np.ndarray:
        if not kernels.supports(x, g):
            return super().gelu_grad(g, x, approximate)
        return _each(getattr(kernels.load("elementwise"), GELU_GRADS[approximate]), g, x)


def gelu_grad_launch(
    g: np.ndarray, x: np.ndarray, approximate: str, out: np.ndarray
) -> tuple[Any, ...]:
    """The arguments of `parallel_for` for the gradient of contiguous arrays in `out`, which may be
    g."""
    family, name = kernels.load("elementwise"), GELU_GRADS[approximate]
    if out.ctypes.data == g.ctypes.data:
        kernel = getattr(family, name + "_in_place")
        return kernel, out.size, family.CHUNK, x.ravel(), out.ravel()
    return getattr(family, name), out.size, family.CHUNK, g.ravel(), x.ravel(), out.ravel()


def takes_function(name: str, x: Any) -> bool:
    """Whether the kernel of one of FUNCTIONS takes an array: a large one of float32, of which they
    give numbers at most one from the nearest."""
    many = MANY_EXP if name == "exp" else MANY_TANH
    return x.size >= many and x.dtype.char == "f" and kernels.supports(x)


def takes_complex_exp(x: Any) -> bool:
    """Whether `complex_exp` computes e^x: of a large array of complex64, of which NumPy computes
    one number after another."""
    return x.size >= MANY_EXP and x.dtype.char == "F" and kernels.available()


def complex_exp(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """e^x of complex64 numbers in a contiguous `out`, each part to 1.5 ulp, as NumPy's. Those that
    the kernel does not take are computed by NumPy."""
    x = np.array(x, order="C") if np.may_share_memory(x, out) else contiguous(x)
    family, far = kernels.load("complex_exponential"), np.zeros(1, np.int64)
    threads.parallel_for(
        *(family.exp_of_complex, x.size, CHUNK_OF_COMPLEX),
        *(x.reshape(-1).view(np.float32), far, out.reshape(-1).view(np.float32)),
    )
    if far[0]:
        taken = abs(x.real) <= family.LARGEST_REAL
        taken &= abs(x.imag) <= family.LARGEST_IMAGINARY
        out[~taken] = exp(x[~taken])
    return out


def function_launch(name: str, x: np.ndarray, out: np.ndarray) -> tuple[Any, ...]:
    """The arguments of `parallel_for` for one of FUNCTIONS, into a contiguous `out`."""
    family = kernels.load("elementwise")
    kernel = getattr(family, FUNCTIONS[name])
    return kernel, out.size, family.CHUNK, contiguous(x).ravel(), out.ravel()


def _function(name: str, x: np.ndarray) -> np.ndarray:
    out = np.empty(x.shape, x.dtype)
    threads.parallel_for(*function_launch(name, x, out))
    return out


def _says_rows(condition: Any, x: Any) -> bool:
    """Whether a condition is one of whole rows of a large array: for NumPy each is a loop."""
    return (
        type(x) is np.ndarray
        and x.size >= LARGE
        and type(condition) is np.ndarray
        and condition.ndim == x.ndim
        and condition.shape[-1] == 1
        and all(m in (1, n) for m, n in zip(condition.shape[::-1], x.shape[::-1], strict=False))
    )


def takes_where(condition: Any, a: Any, b: Any) -> bool:
    """Whether the kernel computes `where`: for arrays of one shape; one may be a number."""
    shape = condition.shape
    if condition.dtype.char != "?" or not condition.flags.c_contiguous:
        return False
    if type(a) is not np.ndarray or a.shape != shape:
        a, b = b, a  # the number last
        if type(a) is not np.ndarray or a.shape != shape:
            return False
    if type(b) is np.ndarray and b.shape == shape:
        return b.flags.c_contiguous and (kernels.supports(a, b) or _are_halves(a, b))
    if not isinstance(b, (np.ndarray, np.generic)) or b.shape:
        return False
    return kernels.supports(a, b) or _are_halves(a, b)


def where_launch(condition: Any, a: Any, b: Any, out: np.ndarray) -> tuple[Any, ...]:
    """The arguments of `parallel_for` for `where` into a contiguous `out`."""
    family = kernels.load("elementwise")
    flat = [contiguous(a).ravel(), contiguous(b).ravel(), out.ravel()]
    if out.itemsize == 2:
        flat = list(map(kernels.load("half_precision").stored, flat))
    return (family.where, out.size, family.CHUNK, contiguous(condition).ravel(), *flat)


def _bounds(x: Any, low: float | None, high: float | None) -> tuple[float, float] | None:
    """The bounds for the kernels that clamp x; None if these do not take it. (`maximum` of a number
    and NaN is NaN.) float16 is compared with rounded bounds, as by NumPy."""
    if not (kernels.supports(x) or _are_halves(x)):
        return None
    least, most = -math.inf if low is None else low, math.inf if high is None else high
    if x.dtype.char == "e":
        least, most = x.dtype.type(least), x.dtype.type(most)
    return None if least != least or most != most else (float(least), float(most))


def _are_halves(x: Any, *others: Any) -> bool:
    """Whether kernels take these arrays of one 16-bit float dtype: the first is large and in
    row-major order."""
    return (
        type(x) is np.ndarray
        and x.itemsize == 2
        and x.size >= kernels.MIN_SIZE
        and x.dtype in HALF_PRECISION
        and x.flags.c_contiguous
        and all(other.dtype == x.dtype for other in others)
        and kernels.computes(x.dtype)
    )


def _at_once(kernel: Callable[..., None], x: np.ndarray) -> np.ndarray:
    """As `_each`, by the kernel that `Direct.of` returns for x."""
    out = np.empty(x.shape, x.dtype)
    kernel(0, x.size, x.ravel(), out.ravel())
    return out


def _each(
    kernel: Callable[..., None], *arrays: np.ndarray, scalars: tuple[float, ...] = ()
) -> np.ndarray:
    """Apply the kernel to every element of arrays of one shape; scalars: its options."""
    first = arrays[0]
    out = workspace.result(first.shape, first.dtype)
    flat = [workspace.contiguous(a).ravel() for a in arrays]
    flat.append(out.ravel())
    if out.itemsize == 2:
        flat = list(map(kernels.load("half_precision").stored, flat))
    threads.parallel_for(kernel, out.size, kernels.load("elementwise").CHUNK, *flat, *scalars)
    return out
