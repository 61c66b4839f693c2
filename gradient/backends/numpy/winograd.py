"""3 x 3 convolutions by Winograd's method: when, and how work is split."""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.numpy import kernels, threads, workspace
from gradient.backends.options import ConvolutionOptions
from gradient.backends.required import Shape

FEW_TILES = 32
"""Tiles below which reading the weight at its 36 points takes the time that is won."""

WASTE = 1.4
"""Outputs of whole tiles, of those that there are, up to which it pays."""

ITEM_TILES, ITEM_NUMBERS = 48, 6 << 10
"""Tiles of an item of work, about, and their channels' numbers at a point: 36 times as many should
stay in the second cache."""

ITEMS = 8
"""Items of work into which a convolution is cut, if it is large enough."""


def takes(kernel: Shape, options: ConvolutionOptions, x: Shape, out: Shape) -> bool:
    """Whether the method takes a convolution with an input of shape `x` and a result of shape
    `out`, or its gradient for the input (a convolution of the gradient)."""
    if kernel != (3, 3) or options.stride != (1, 1) or options.dilation != (1, 1):
        return False
    pair, size = kernels.load("winograd").PAIR, out[2:]
    whole = math.prod(whole_tiles(size))
    return (
        options.groups == 1
        and x[1] % pair == out[1] % pair == 0
        and out[0] * whole >= FEW_TILES * 16
        and whole <= WASTE * math.prod(size)
        and all(before <= 2 for before, _ in options.padding)
    )


def whole_tiles(size: Shape) -> Shape:
    """The size of output images, rounded up to whole tiles."""
    return tuple(-(-n // 4) * 4 for n in size)


def convolve(
    x: np.ndarray,
    padded: np.ndarray,
    weight: np.ndarray,
    strides: np.ndarray,
    taps: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray,
    channels: int,
) -> None:
    """out (N, O, H, W) = the convolution of x, bias included.

    x: flat, zero-padded to whole tiles, with planes of size `padded`; weight: panels, as in
    `convolution_direct`, with strides of groups, panels and channels; taps: for each of the 3 x 3,
    its element in a panel's kernel.
    """
    family = kernels.load("winograd")
    images, outputs, height, width = out.shape
    panels, point = outputs // family.PAIR, outputs * channels + family.APART
    factors = workspace.empty((family.SIDE**2 * point,), x.dtype)
    taps = taps * family.PAIR
    w_panel, w_channel = int(strides[1]), int(strides[2])
    threads.parallel_for(
        family.weight, panels * channels, max(1, (1 << 10) // family.PAIR), weight, w_panel,
        w_channel, taps, channels, factors, point,
    )  # fmt: skip
    down, across = -(-height // 4), -(-width // 4)
    lines = images * down
    tiles = min(ITEM_TILES, max(1, ITEM_NUMBERS // channels), -(-lines * across // ITEMS))
    tiles = -(-tiles // family.ROWS) * family.ROWS
    per_item = max(1, tiles // across)
    added = np.zeros(outputs, x.dtype) if bias is None else kernels.contiguous(bias)
    threads.parallel_for(
        family.convolve, -(-lines // per_item), 1, per_item, x, math.prod(padded.tolist()),
        int(padded[2]), images, channels, factors, point, weight, w_panel, w_channel, taps, panels,
        added, out.reshape(-1), height, width,
    )  # fmt: skip
