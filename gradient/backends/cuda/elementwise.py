"""Elementwise functions by kernels, also for 16-bit floats, for which CuPy has few."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.activation import ActivationDefaults
from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.cuda.launching import FLOATS, KernelLauncher
from gradient.backends.required import Shape
from gradient.dtypes import bfloat16

BFLOAT16 = bfloat16.numpy
NUMBERS = (float, int, bool)


class ElementwiseKernels(KernelLauncher, ActivationDefaults[Array], ShapeDefaults[Array]):
    """Overrides of `composed.elementwise`, `composed.activation` and `composed.shape`, and required
    methods.

    Python's operators on arrays are kernels too: see `cuda.arithmetic`.
    """

    runtime: Any
    xp: Any
    empty: Any
    assign: Any

    def zeros(self, shape: Shape, dtype: np.dtype) -> Array:
        y: Array = self.empty(shape, dtype)
        self.runtime.clear(y)
        return y

    def full(self, shape: Shape, value: Any, dtype: np.dtype) -> Array:
        if type(value) in NUMBERS and dtype in FLOATS:
            y: Array = self.empty(shape, dtype)
            if self.runtime.arithmetic.fill(y, value):
                return y
        return super().full(shape, value, dtype)

    def accumulate(self, x: Array, y: Array) -> Array:
        done = self.runtime.arithmetic.add_to(x, y)
        return super().accumulate(x, y) if done is None else done

    def maximum(self, a: Array, b: Array) -> Array:
        y = self.runtime.arithmetic.maximum(a, b)
        return super().maximum(a, b) if y is None else y

    def minimum(self, a: Array, b: Array) -> Array:
        y = self.runtime.arithmetic.minimum(a, b)
        return super().minimum(a, b) if y is None else y

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        y: Array | None = self.runtime.arithmetic.where(condition, a, b)
        if y is not None:
            return y
        a, b = (  # where one is a number
            self.full((), x, like.dtype) if isinstance(x, (bool, int, float, complex)) else x
            for x, like in ((a, b), (b, a))
        )
        if a.dtype == b.dtype == BFLOAT16:  # of which CuPy has no function: it gives float32
            return self.xp.where(condition, _bits(a), _bits(b)).view(BFLOAT16)
        return super().where(condition, a, b)

    def exp(self, x: Array) -> Array:
        return self._map("exp", x) if self.has_kernel(x) else super().exp(x)

    def log(self, x: Array) -> Array:
        return self._map("log", x) if self.has_kernel(x) else super().log(x)

    def sqrt(self, x: Array) -> Array:
        return self._map("sqrt", x) if self.has_kernel(x) else super().sqrt(x)

    def sin(self, x: Array) -> Array:
        return self._map("sin", x) if self.has_kernel(x) else super().sin(x)

    def cos(self, x: Array) -> Array:
        return self._map("cos", x) if self.has_kernel(x) else super().cos(x)

    def tan(self, x: Array) -> Array:
        return self._map("tan", x) if self.has_kernel(x) else super().tan(x)

    def tanh(self, x: Array) -> Array:
        return self._map("tanh", x) if self.has_kernel(x) else super().tanh(x)

    def expm1(self, x: Array) -> Array:
        return self._map("expm1", x) if self.has_kernel(x) else super().expm1(x)

    def log1p(self, x: Array) -> Array:
        return self._map("log1p", x) if self.has_kernel(x) else super().log1p(x)

    def floor(self, x: Array) -> Array:
        return self._map("floor", x) if self.has_kernel(x) else super().floor(x)

    def ceil(self, x: Array) -> Array:
        return self._map("ceil", x) if self.has_kernel(x) else super().ceil(x)

    def erf(self, x: Array) -> Array:
        return self._map("erf", x) if self.has_kernel(x) else super().erf(x)

    def sigmoid(self, x: Array) -> Array:
        return self._map("sigmoid", x) if self.has_kernel(x) else super().sigmoid(x)

    def logsigmoid(self, x: Array) -> Array:
        return self._map("logsigmoid", x) if self.has_kernel(x) else super().logsigmoid(x)

    def relu(self, x: Array) -> Array:
        return self._map("relu", x) if self.has_kernel(x) else super().relu(x)

    def relu_grad(self, g: Array, out: Array) -> Array:
        if not self._has_kernel_of_two(g, out):
            return super().relu_grad(g, out)
        return self._map("relu_grad", g, out)

    def silu(self, x: Array) -> Array:
        return self._map("silu", x) if self.has_kernel(x) else super().silu(x)

    def silu_grad(self, g: Array, x: Array) -> Array:
        if not self._has_kernel_of_two(g, x):
            return super().silu_grad(g, x)
        return self._map("silu_grad", g, x)

    def gelu(self, x: Array, approximate: str = "none") -> Array:
        if not self.has_kernel(x):
            return super().gelu(x, approximate)
        return self._map("gelu_tanh" if approximate == "tanh" else "gelu", x)

    def gelu_grad(self, g: Array, x: Array, approximate: str = "none") -> Array:
        if not self._has_kernel_of_two(g, x):
            return super().gelu_grad(g, x, approximate)
        return self._map("gelu_tanh_grad" if approximate == "tanh" else "gelu_grad", g, x)

    def _has_kernel_of_two(self, g: Array, x: Array) -> bool:
        return self.has_kernel(g, x) and g.shape == x.shape

    def _map(self, kernel: str, *arrays: Array) -> Array:
        """Apply the kernel to every element of arrays of one shape."""
        apply = self.runtime.arithmetic.unary(kernel)
        y: Array = apply(*map(self.contiguous, arrays))
        return y


def _bits(x: Array) -> Array:
    return x.view(np.dtype(np.uint16))
