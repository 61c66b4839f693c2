"""Max unpooling: a partial inverse of max pooling, which puts maxima back at their indices."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradient.autograd.autocast import autocasts
from gradient.errors import ArgumentError, ShapeError, sentence
from gradient.functional.arguments import composite
from gradient.functional.conv import Size, sizes
from gradient.tensor import Tensor

__all__ = ["max_unpool1d", "max_unpool2d", "max_unpool3d"]


@autocasts("float32_on_cpu")
@composite
def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """(N, C, L) or (C, L) put back to before `max_pool1d`; see `max_unpool2d`."""
    return _unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


@autocasts("float32_on_cpu")
@composite
def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Zeros with each number of (N, C, H, W) or (C, H, W) at its index in the flattened result.

    `indices` are what `max_pool2d(return_indices=True)` gives, `kernel_size`, `stride` (the kernel
    size unless given) and `padding` what it was given. Several sizes are pooled to the same one:
    `output_size`, with or without N and C, says which. (Zeiler et al. 2011.)
    """
    return _unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


@autocasts("float32_on_cpu")
@composite
def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """(N, C, D, H, W) or (C, D, H, W) put back to before `max_pool3d`; see `max_unpool2d`."""
    return _unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)


def _unpool(
    op: str,
    spatial: int,
    input: Tensor,
    indices: Tensor,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    output_size: Sequence[int] | None,
) -> Tensor:
    if input.ndim not in (spatial + 1, spatial + 2):
        expected = f"an input of {spatial + 1} or {spatial + 2} dimensions"
        raise ShapeError(sentence(op, expected, tuple(input.shape)))
    if tuple(indices.shape) != tuple(input.shape):
        expected = f"indices of the input's shape {tuple(input.shape)}"
        raise ShapeError(sentence(op, expected, tuple(indices.shape)))
    kernel = sizes(op, "kernel_size", kernel_size, spatial)
    strides = kernel if stride is None else sizes(op, "stride", stride, spatial)
    pads = sizes(op, "padding", padding, spatial, least=0)
    usual = [
        (n - 1) * s - 2 * p + k
        for n, s, p, k in zip(input.shape[-spatial:], strides, pads, kernel, strict=True)
    ]
    wanted = usual if output_size is None else list(output_size)[-spatial:]
    if output_size is not None:
        if len(output_size) not in (spatial, spatial + 1, spatial + 2):
            raise ArgumentError(sentence(op, f"an output_size of {spatial} numbers", output_size))
        for size, default, step in zip(wanted, usual, strides, strict=True):
            if not default - step < size < default + step:
                expected = f"an output_size within {tuple(strides)} of {tuple(usual)}"
                raise ArgumentError(sentence(op, expected, tuple(wanted)))
    leading = tuple(input.shape[:-spatial])
    flat = input.new_zeros((*leading, math.prod(wanted)))
    put = flat.scatter(-1, indices.flatten(-spatial), input.flatten(-spatial))
    return put.reshape(*leading, *wanted)
