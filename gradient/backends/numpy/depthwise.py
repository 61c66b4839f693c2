"""Depthwise 3 x 3 convolutions, computed a plane at a time."""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy import kernels, threads
from gradient.backends.options import ConvolutionOptions
from gradient.backends.required import Shape

PLANES = 1 << 14
"""Numbers of whole planes that a thread takes at a time."""


def takes(weight: Shape, options: ConvolutionOptions) -> bool:
    """Whether the kernels take a convolution, and its gradient for the weight."""
    return (
        weight[1:] == (1, 3, 3)
        and weight[0] == options.groups
        and options.stride in ((1, 1), (2, 2))
        and options.dilation == (1, 1)
        and all(0 <= before <= 2 for before, _ in options.padding)
    )


def takes_input_grad(weight: Shape, options: ConvolutionOptions, g: Shape, shape: Shape) -> bool:
    """Whether they take the gradient for the input of that `shape`."""
    if not takes(weight, options) or options.stride == (1, 1):
        return takes(weight, options)
    return all(before == 1 for before, _ in options.padding) and all(
        2 * n in (size, size + 1) for n, size in zip(g[2:], shape[2:], strict=True)
    )


def convolve(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray,
    before: tuple[int, ...],
    step: int = 1,
    mirrored: bool = False,
) -> None:
    """out = bias + the convolution of x, with `before` rows and columns of zeros."""
    bias = np.empty(0, x.dtype) if bias is None else kernels.contiguous(bias)
    threads.parallel_for(
        kernels.load("depthwise_planes").convolve, x.shape[0] * x.shape[1], _chunk(x, out),
        kernels.contiguous(x).reshape(-1), *x.shape[2:], *before, step,
        kernels.contiguous(weight).reshape(-1), mirrored, x.shape[1], bias, out.reshape(-1),
        *out.shape[2:],
    )  # fmt: skip


def input_grad(
    g: np.ndarray, weight: np.ndarray, out: np.ndarray, options: ConvolutionOptions
) -> None:
    """out = the gradient for the input."""
    if options.stride == (1, 1):
        before = tuple(2 - b for b, _ in options.padding)
        convolve(g, weight, None, out, before, mirrored=True)
        return
    threads.parallel_for(
        kernels.load("depthwise_planes").input_grad_of_two, g.shape[0] * g.shape[1], _chunk(g, out),
        kernels.contiguous(g).reshape(-1), *g.shape[2:], kernels.contiguous(weight).reshape(-1),
        g.shape[1], out.reshape(-1), *out.shape[2:],
    )  # fmt: skip


def weight_grad(g: np.ndarray, x: np.ndarray, out: np.ndarray, options: ConvolutionOptions) -> None:
    """out = the gradient for the weight."""
    threads.parallel_for(
        kernels.load("depthwise_planes").weight_grad, g.shape[1],
        max(1, PLANES // max(1, x.size // x.shape[1])), kernels.contiguous(g).reshape(-1),
        *g.shape[2:], kernels.contiguous(x).reshape(-1), *x.shape[2:],
        *(before for before, _ in options.padding), options.stride[0], *x.shape[:2],
        out.reshape(-1),
    )  # fmt: skip


def _chunk(x: np.ndarray, out: np.ndarray) -> int:
    """The number of planes that a thread processes at a time."""
    plane = max(x.shape[2] * x.shape[3], out.shape[2] * out.shape[3])
    return max(1, PLANES // plane)
