"""Elementwise functions by kernels, also for 16-bit floats, for which CuPy has few."""

from __future__ import annotations

from gradient.backends.array_api import Array
from gradient.backends.composed.activation import ActivationDefaults
from gradient.backends.cuda.launching import KernelLauncher

BLOCK = 256
BYTES_PER_THREAD = 64
"""Four loads of 16 bytes each, so that a thread has several under way."""


class ElementwiseKernels(KernelLauncher, ActivationDefaults[Array]):
    """Overrides of `composed.elementwise` and `composed.activation`, and required methods."""

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
        out = self.empty(arrays[0].shape, arrays[0].dtype)
        blocks = -(-out.nbytes // (BLOCK * BYTES_PER_THREAD))
        flat = map(self.contiguous, arrays)
        self.launch("elementwise", kernel, out, (blocks,), BLOCK, *flat, out, out.size)
        return out
