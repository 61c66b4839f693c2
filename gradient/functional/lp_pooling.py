"""Power-average pooling: between the mean of every window and its largest element."""

from __future__ import annotations

import math
from collections.abc import Callable

from gradient.functional.activation import relu
from gradient.functional.arguments import composite
from gradient.functional.conv import Size, sizes
from gradient.functional.pooling import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from gradient.tensor import Tensor

__all__ = [
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
]


@composite
def lp_pool1d(
    input: Tensor,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """`(sum x^p)^(1/p)` of each window of (N, C, L) or (C, L), p = `norm_type`."""
    if math.isinf(norm_type):
        return _extreme(max_pool1d, input, norm_type, kernel_size, stride, ceil_mode)
    mean = avg_pool1d(input**norm_type, kernel_size, stride, 0, ceil_mode)
    return _root("lp_pool1d", 1, mean, norm_type, kernel_size)


@composite
def lp_pool2d(
    input: Tensor,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """`(sum x^p)^(1/p)` of each window of (N, C, H, W) or (C, H, W), p = `norm_type`."""
    if math.isinf(norm_type):
        return _extreme(max_pool2d, input, norm_type, kernel_size, stride, ceil_mode)
    mean = avg_pool2d(input**norm_type, kernel_size, stride, 0, ceil_mode)
    return _root("lp_pool2d", 2, mean, norm_type, kernel_size)


@composite
def lp_pool3d(
    input: Tensor,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """`(sum x^p)^(1/p)` of each window of (N, C, D, H, W) or (C, D, H, W), p = `norm_type`."""
    if math.isinf(norm_type):
        return _extreme(max_pool3d, input, norm_type, kernel_size, stride, ceil_mode)
    mean = avg_pool3d(input**norm_type, kernel_size, stride, 0, ceil_mode)
    return _root("lp_pool3d", 3, mean, norm_type, kernel_size)


def _extreme(
    pool: Callable[..., Tensor],
    input: Tensor,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None,
    ceil_mode: bool,
) -> Tensor:
    """The largest |x|, or for -inf the least."""
    sign = math.copysign(1.0, norm_type)
    return pool(input.abs() * sign, kernel_size, stride, ceil_mode=ceil_mode) * sign


def _root(op: str, spatial: int, mean: Tensor, norm_type: float, kernel_size: Size) -> Tensor:
    """The p-th root of the sum, 0 of a sum below 0, which an odd p may give, as in PyTorch."""
    count = math.prod(sizes(op, "kernel_size", kernel_size, spatial, least=1))
    return (mean.sign() * relu(mean.abs()) * count) ** (1 / norm_type)
