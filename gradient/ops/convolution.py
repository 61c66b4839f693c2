"""Convolution, its transpose, and its gradient for the weight: each is bilinear, and the gradients
of each are two of the three."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gradient.autograd.op import op

if TYPE_CHECKING:
    from gradient.backends import Array, Backend
    from gradient.backends.options import ConvolutionOptions


@op(lambda g, be, weight, x_shape, options:
        be.convolution_input_grad(g, weight, x_shape, options),
    lambda g, be, x, weight_shape, options:
        be.convolution_weight_grad(g, x, weight_shape, options),
    lambda g, be: be.sum(be.sum(be.reshape(g, _one_row(g.shape)), 2), 0),
    promotion="same_dtype", autocast="lower_precision")  # fmt: skip
def convolution(
    be: Backend[Array],
    x: Array,
    weight: Array,
    bias: Array | None = None,
    /,
    *,
    options: ConvolutionOptions,
) -> Array:
    """Cross-correlation of x (N, C, *S) with weight (O, C / groups, *K), plus bias (O,)."""
    return be.convolution(x, weight, bias, options)


def _one_row(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return shape[0], shape[1], math.prod(shape[2:])


@op(lambda g, be, weight, options: be.convolution(g, weight, None, options),
    lambda g, be, x, weight_shape, options: be.convolution_weight_grad(x, g, weight_shape, options),
    promotion="same_dtype", autocast="lower_precision")  # fmt: skip
def transposed_convolution(
    be: Backend[Array],
    x: Array,
    weight: Array,
    /,
    *,
    shape: tuple[int, ...],
    options: ConvolutionOptions,
) -> Array:
    """The transpose of `convolution`: from x (N, O, *windows) to (N, C, *S), given as `shape`."""
    return be.convolution_input_grad(x, weight, shape, options)


@op(lambda g, be, x, options: be.convolution(x, g, None, options),
    lambda g, be, grad, x_shape, options: be.convolution_input_grad(grad, g, x_shape, options),
    promotion="same_dtype", public_name="convolution")  # fmt: skip
def weight_gradient(
    be: Backend[Array],
    grad: Array,
    x: Array,
    /,
    *,
    shape: tuple[int, ...],
    options: ConvolutionOptions,
) -> Array:
    """The gradient of `convolution` for its weight, which has `shape`, from that of its result, for
    derivatives of higher order."""
    return be.convolution_weight_grad(grad, x, shape, options)
