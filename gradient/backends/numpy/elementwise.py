"""Activations by kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends.numpy import kernels, threads


class ElementwiseKernels:
    """Overrides of `composed.elementwise`."""

    def silu(be: Any, x: Any) -> Any:
        if not kernels.take(x):
            return super().silu(x)  # type: ignore[misc]
        elementwise = kernels.load("elementwise")

        return _each(elementwise.silu, x)

    def silu_grad(be: Any, g: Any, x: Any) -> Any:
        if not kernels.take(x, g):
            return super().silu_grad(g, x)  # type: ignore[misc]
        elementwise = kernels.load("elementwise")

        return _each(elementwise.silu_grad, g, x)

    def gelu(be: Any, x: Any, approximate: str = "none") -> Any:
        if not kernels.take(x):
            return super().gelu(x, approximate)  # type: ignore[misc]
        elementwise = kernels.load("elementwise")

        return _each(elementwise.gelu_tanh if approximate == "tanh" else elementwise.gelu, x)

    def gelu_grad(be: Any, g: Any, x: Any, approximate: str = "none") -> Any:
        if not kernels.take(x, g):
            return super().gelu_grad(g, x, approximate)  # type: ignore[misc]
        e = kernels.load("elementwise")

        return _each(e.gelu_tanh_grad if approximate == "tanh" else e.gelu_grad, g, x)


def _each(kernel: Any, *arrays: np.ndarray) -> np.ndarray:
    """The kernel's result for every element of arrays of one shape."""
    out = np.empty(arrays[0].shape, arrays[0].dtype)
    flat = [kernels.plain(a).reshape(-1) for a in arrays]
    threads.rows(kernel, out.size, kernels.load("elementwise").CHUNK, *flat, out.reshape(-1))
    return out
