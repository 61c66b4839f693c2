"""Convolution and its transpose, whose gradients are convolutions too."""

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
