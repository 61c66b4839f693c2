"""Direct convolutions: when, and how work is split. The weight is in panels of outputs."""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.numpy import kernels, threads, workspace
from gradient.backends.numpy.windows import PLANES, Windows

FILLED_BY_OUTPUTS = 0.6
"""Of the outputs in the vectors of a convolution, how many must be there."""

LONG_SUMS = 64
"""Products in a sum from which turning a tile of outputs about is a small part of its time."""


class Panels:
    """A weight in panels of two adjacent vectors of outputs, for `convolve` and for other methods.

    strides: from a group, a panel and a channel to the next; taps are PAIR apart.
    """

    def __init__(self, weight: np.ndarray, items: tuple[int, int, int], taps: int) -> None:
        """items: images, groups and outputs, as for `to_panels`."""
        family = kernels.load("convolution_weight")
        images, groups, self.outputs = items
        self.count = -(-self.outputs // family.PAIR)
        plane = weight.size // math.prod(items)
        size = images * groups * self.count * plane * family.PAIR
        self.array = workspace.empty((size,), weight.dtype)
        self.groups = groups
        self.strides = np.array([self.count * plane, plane, taps]) * family.PAIR
        threads.parallel_for(
            family.to_panels, images * groups * self.count, max(1, PLANES // (plane * family.PAIR)),
            workspace.contiguous(weight).reshape(-1), plane, groups, self.outputs, family.PAIR,
            self.array,
        )  # fmt: skip

    def places(self) -> tuple[np.ndarray, int, int, int]:
        """The panels of one group, the strides of panels and channels, and the outputs."""
        return self.array, int(self.strides[1]), int(self.strides[2]), self.outputs

    @classmethod
    def of_outputs(cls, weight: np.ndarray, groups: int) -> Panels:
        """The panels for a convolution."""
        return cls(weight, (1, groups, weight.shape[0] // groups), math.prod(weight.shape[2:]))

    @classmethod
    def of_inputs(cls, weight: np.ndarray, groups: int) -> Panels:
        """The panels for the gradient for the input: its outputs are the convolution's channels."""
        o, c = weight.shape[:2]
        panels = cls(weight, (o, 1, c), math.prod(weight.shape[2:]))
        panels.groups = groups
        panels.strides[:2] = o // groups * panels.strides[2], o * panels.strides[2]
        return panels


def takes(outputs: int, k: int) -> bool:
    """Whether outputs fill the vectors of `convolve`, and sums are long compared to the cost of
    writing them."""
    some = kernels.load("convolution_weight").SOME
    return k >= LONG_SUMS and outputs >= FILLED_BY_OUTPUTS * (-(-outputs // some) * some)


def in_tiles(windows: Windows) -> bool:
    """Whether rows of windows can be split into tiles of one or two vectors, without reading past
    the end."""
    return int(windows.count[2]) % 8 == 0


def convolve(
    x: np.ndarray,
    windows: Windows,
    weight: Panels,
    bias: np.ndarray | None,
    out: np.ndarray,
    place: np.ndarray,
) -> None:
    """Write the convolution of a padded x to `out` at `place` (`out_strides`)."""
    family = kernels.load("convolution_direct")
    pair, lines, width = family.PAIR, windows.lines, int(windows.count[2])
    together = max(1, family.TOGETHER // width)
    per_item = -(-max(1, family.PIXELS // width) // together) * together
    added = np.zeros((weight.groups, weight.count * pair), out.dtype)
    if bias is not None:
        added[:, : weight.outputs] = bias.reshape(weight.groups, -1)
    threads.parallel_for(
        family.convolve, weight.groups * weight.count * -(-len(lines) // per_item), 1,
        per_item, x, windows.channel, lines, windows.bounds, windows.taps, windows.count,
        windows.channels, weight.array, weight.strides, windows.numbers * pair, weight.groups,
        weight.outputs, added.reshape(-1), out.reshape(-1), place,
    )  # fmt: skip
