"""Power-average pooling: between the mean of every window and its largest element."""

from __future__ import annotations

import math

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
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


@composite
def lp_pool2d(
    input: Tensor,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """`(sum x^p)^(1/p)` of each window of (N, C, H, W) or (C, H, W), p = `norm_type`."""
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


@composite
def lp_pool3d(
    input: Tensor,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """`(sum x^p)^(1/p)` of each window of (N, C, D, H, W) or (C, D, H, W), p = `norm_type`."""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


#: By the number of dimensions of a window.
POOLS = {1: (avg_pool1d, max_pool1d), 2: (avg_pool2d, max_pool2d), 3: (avg_pool3d, max_pool3d)}


def _lp_pool(
    spatial: int,
    input: Tensor,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None,
    ceil_mode: bool,
) -> Tensor:
    average, largest = POOLS[spatial]
    if math.isinf(norm_type):  # the largest |x|, or for -inf the least
        sign = math.copysign(1.0, norm_type)
        return largest(input.abs() * sign, kernel_size, stride, ceil_mode=ceil_mode) * sign
    mean = average(input**norm_type, kernel_size, stride, 0, ceil_mode)
    count = math.prod(sizes(f"lp_pool{spatial}d", "kernel_size", kernel_size, spatial, least=1))
    # A sum below 0, which an odd norm_type may give, has the root 0, as in PyTorch.
    return (mean.sign() * relu(mean.abs()) * count) ** (1 / norm_type)
