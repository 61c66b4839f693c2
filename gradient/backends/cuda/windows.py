"""How kernels are told of windows that move over images: `Slide` of `windows.cuh`."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from gradient.backends.options import ConvolutionOptions
from gradient.backends.required import Shape

THREE = ("size", "windows", "kernel", "stride", "dilation", "before")
SLIDE = np.dtype(
    [(name, np.int32) for name in ("images", "channels", "outputs", "groups")]
    + [(name, np.int32, 3) for name in THREE]
)
COUNTED = 1 << 30
"""Numbers of an image, and windows in all images, that kernels can count in 32 bits."""


def slide(counts: tuple[int, int, int, int], **sizes: Sequence[int]) -> np.ndarray:
    """An argument by value: images, channels, outputs and groups, and what `THREE` names, in one to
    three dimensions."""
    told = np.zeros(1, SLIDE)
    for name, count in zip(SLIDE.names or (), counts, strict=False):
        told[name] = count
    for name in THREE:
        given = sizes[name]
        missing = 0 if name == "before" else 1
        told[name] = [missing] * (3 - len(given)) + list(given)
    return told


def counts_in_32_bits(images: int, sizes: Shape, windows: Shape, *channels: int) -> bool:
    """Whether kernels can count these, in up to three dimensions; and there are windows at all."""
    largest = max(*sizes, *windows)
    numbers = (
        max(channels) * math.prod(sizes),
        max(images, *channels) * math.prod(windows),
        images * math.prod(sizes),
    )
    return 0 < len(sizes) <= 3 and min(windows) > 0 and max(largest, *numbers) < COUNTED


CACHED = 4096
"""Convolutions of which is kept what follows from their shapes: it takes as long as three launches
to find."""


@functools.lru_cache(CACHED)
def windows_of(x: Shape, weight: Shape, options: ConvolutionOptions) -> Shape:
    """How many windows there are, in each dimension."""
    return options.windows(x[2:], weight[2:])


@functools.lru_cache(CACHED)
def slide_of(x: Shape, weight: Shape, options: ConvolutionOptions) -> np.ndarray:
    """What kernels are told of a convolution of these shapes; nobody writes to it."""
    return slide(
        (x[0], x[1], weight[0], options.groups), size=x[2:],
        windows=windows_of(x, weight, options), kernel=weight[2:], stride=options.stride,
        dilation=options.dilation, before=tuple(before for before, _ in options.padding),
    )  # fmt: skip
