"""Offsets of the windows of a convolution in its input, and of the elements in a window.

They depend only on shapes and options, so they are computed once for each layer of a network.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from gradient.backends.numpy import kernels, threads, workspace
from gradient.backends.options import ConvolutionOptions
from gradient.backends.required import Shape

PLANES = 1 << 15
"""Numbers of whole planes that a thread copies at a time."""


class Windows:
    """Windows of a zero-padded input (N, C, *S), in the form that kernels need.

    The arrays are shared and must not be written to.
    """

    def __init__(
        self, shape: Shape, kernel: Shape, windows: Shape, options: ConvolutionOptions
    ) -> None:
        sizes, count = three(shape[2:], 1), three(windows, 1)
        before = three([b for b, _ in options.padding], 0)
        stride, dilation = three(options.stride, 1), three(options.dilation, 1)
        padded = three(options.reach(windows, kernel), 1)
        self.step = int(stride[2])
        padded[2] = -(-padded[2] // self.step) * self.step
        self.channel = math.prod(padded.tolist())
        self.padded, self.count, self.before, self.sizes = padded, count, before, sizes
        self.planes, self.images = shape[0] * shape[1], shape[0]
        self.channels = shape[1] // options.groups
        row, plane = int(padded[2]), int(padded[1] * padded[2])
        image = shape[1] * self.channel
        self.strides = np.array([image, plane * stride[0], row * stride[1]])
        self.taps = self.offsets(
            [[i * d for i in range(k)] for k, d in zip(three(kernel, 1), dilation, strict=True)]
        )
        self.numbers = np.arange(len(self.taps))
        self.bare = self.step == 1 and not before.any() and bool((padded == sizes).all())

    def pad(self, x: np.ndarray, exact: bool = False) -> np.ndarray:
        """x, flat and zero-padded, followed by memory that kernels may read.

        exact: nothing after it will be read, so that x needs no copy if there is no padding.
        """
        x = workspace.contiguous(x).reshape(-1)
        if exact and self.bare:
            return x
        family = kernels.load("convolution")
        out = workspace.empty((self.planes * self.channel + family.SLACK,), x.dtype)
        out[self.planes * self.channel :] = 0
        threads.parallel_for(
            family.pad, self.planes, max(1, PLANES // self.channel), x, self.sizes,
            self.before, self.padded, self.step, out,
        )  # fmt: skip
        return out

    @property
    def pixels(self) -> int:
        return self.images * math.prod(self.count.tolist())

    def offsets(self, places: Sequence[Sequence[int]]) -> np.ndarray:
        """The offsets, from a window's first element, of its elements at these positions."""
        _, height, width = self.padded.tolist()
        part = width // self.step
        places = [[0]] * (3 - len(places)) + [list(p) for p in places]
        return np.array([
            (d * height + h) * width + w % self.step * part + w // self.step
            for d, h, w in itertools.product(*places)
        ])  # fmt: skip

    def others(self, windows: Shape, taps: np.ndarray, numbers: np.ndarray) -> Windows:
        """Other windows of the same input; numbers: the element of the weight for each tap."""
        found = copy.copy(self)
        for name in ("lines", "bounds", "columns"):
            found.__dict__.pop(name, None)
        found.count, found.taps, found.numbers = three(windows, 1), taps, numbers
        return found

    @functools.cached_property
    def lines(self) -> np.ndarray:
        """The offsets of rows of adjacent windows, image by image."""
        image, plane, row = self.strides
        depth, height, _ = self.count
        n, d, h = np.ogrid[: self.images, :depth, :height]
        return (n * image + d * plane + h * row).reshape(-1)

    @functools.cached_property
    def bounds(self) -> np.ndarray:
        """For each row of windows of an image, the first tap outside of the padding's rows, and the
        last one plus 1: (rows, 2)."""
        row, plane = int(self.padded[2]), math.prod(self.padded[1:].tolist())
        depth = np.arange(self.count[0])[:, None] * self.strides[1] // plane + self.taps // plane
        height = np.arange(self.count[1])[:, None] * self.strides[2] // row
        height = height + self.taps % plane // row
        inside = [
            (places >= before) & (places < before + size)
            for places, before, size in zip((depth, height), self.before, self.sizes, strict=False)
        ]
        used = (inside[0][:, None] & inside[1]).reshape(-1, len(self.taps))
        last = len(self.taps) - used[:, ::-1].argmax(1)
        return np.stack([used.argmax(1), np.where(used.any(1), last, 0)], 1)

    @functools.cached_property
    def columns(self) -> np.ndarray:
        """The offsets of a window's elements in all channels of a group: (K,), padded to a multiple
        of 4 by the last one."""
        columns = (np.arange(self.channels)[:, None] * self.channel + self.taps).reshape(-1)
        return np.pad(columns, (0, -len(columns) % 4), "edge")

    def places(self) -> tuple[object, ...]:
        """The arguments of kernels after the input."""
        return self.channel, self.strides, self.taps, self.count


windows_of = functools.lru_cache(maxsize=1 << 10)(Windows)


@functools.lru_cache(maxsize=1 << 10)
def out_strides(channels: int, sizes: Shape, step: Shape, first: Shape) -> np.ndarray:
    """The strides of an output (N, channels, *sizes): of images and channels, and of windows in
    depth, height and width that are `step` apart; and the offset of the first window."""
    _, height, width = three(sizes, 1).tolist()
    plane = math.prod(sizes)
    steps, begins = three(step, 1), three(first, 0)
    return np.array([
        channels * plane, plane,
        height * width * steps[0], width * steps[1], steps[2],
        (begins[0] * height + begins[1]) * width + begins[2],
    ])  # fmt: skip


def three(numbers: Sequence[int], missing: int) -> np.ndarray:
    """Numbers for three dimensions, with `missing` for absent leading ones."""
    return np.array([missing] * (3 - len(numbers)) + list(numbers), np.int64)
