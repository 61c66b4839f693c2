"""Convolutions by AMX tiles of float32 numbers split into bfloat16: when, and how work is split."""

from __future__ import annotations

import functools
import math

import numpy as np

from gradient.backends.numpy import kernels, threads, winograd, workspace
from gradient.backends.numpy.phases import phases_of
from gradient.backends.numpy.windows import Windows, windows_of
from gradient.backends.options import ConvolutionOptions
from gradient.backends.required import Shape

NO_BIAS = np.empty(0, np.float32)

TILE = 16
"""Pixels in a tile."""

STEP = 32
"""Pixels of a step of a gradient by the weight."""

GRADIENTS = 36
"""Taps, and panels of 32 outputs, whose sums with 32 channels are held: 144 KiB."""

SLOTS = 512
"""Pixels of an item of work, about, and the most windows of a piece of a row."""

PANELS = 4
"""The most panels of 32 outputs of an item."""

START = 30_000
"""Nanoseconds that it takes to begin."""

ITEMS = 8
"""Items of work into which a convolution is cut, if it is large enough."""


MOST_BYTES = 128 << 20
"""Of what is split, up to which there shall be memory for it."""

LEAST_GAIN = 0.85
"""Of the time of float32 vectors, up to which this is worth its memory."""


def takes(x: Shape, weight: Shape, count: Shape, options: ConvolutionOptions) -> bool:
    """Whether tiles are faster than float32 vectors for a convolution with `count` windows."""
    return _is_possible(options) and _takes(x, weight, count, options)


def takes_input_grad(g: Shape, weight: Shape, shape: Shape, options: ConvolutionOptions) -> bool:
    """The same for the gradient for an input of this shape."""
    return _is_possible(options) and _takes_input_grad(g, weight, shape, options)


def takes_weight_grad(g: Shape, x: Shape, shape: Shape, options: ConvolutionOptions) -> bool:
    """The same for the gradient for a weight of this shape."""
    return _is_possible(options) and _takes_weight_grad(g, x, shape, options)


def _is_possible(options: ConvolutionOptions) -> bool:
    return options.groups == 1 and kernels.load("cpu").PATH == "amx"


@functools.lru_cache(maxsize=1 << 10)
def _takes(x: Shape, weight: Shape, count: Shape, options: ConvolutionOptions) -> bool:
    windows = windows_of(x, weight[2:], count, options)
    out = x[0], weight[0], *count
    return _is_quicker([windows], weight[0], _by_vectors(weight, options, x, out, out))


@functools.lru_cache(maxsize=1 << 10)
def _takes_input_grad(g: Shape, weight: Shape, shape: Shape, options: ConvolutionOptions) -> bool:
    phases = phases_of(g, weight[2:], shape, options)
    each = [windows for windows, _ in phases.each]
    return bool(each) and _is_quicker(each, weight[1], _by_vectors(weight, options, g, shape, g))


@functools.lru_cache(maxsize=1 << 10)
def _takes_weight_grad(g: Shape, x: Shape, shape: Shape, options: ConvolutionOptions) -> bool:
    """As `_is_quicker`. Splitting takes 1.4 ns for a number of the input (padding included) and 0.9
    for one of the gradient; writing takes 0.3 for a number of the result."""
    layout = gradient_layout_of(windows_of(x, shape[2:], g[2:], options))
    across, steps, size = -(-shape[0] // 32), len(layout.steps), math.prod(shape)
    planes = layout.blocks * layout.room * layout.row
    products = across * (layout.room // 32) * math.prod(shape[2:])
    cost = products * (165 * steps + 300 * -(-steps // 32)) + 0.3 * size
    cost += 1.4 * planes + 0.9 * across * steps * 1024 + START
    bytes_ = 6 * (planes + across * steps * 1024)
    vectors = g[0] * math.prod(g[2:]) * size / 85
    return bytes_ <= MOST_BYTES and cost < LEAST_GAIN * vectors


def _is_quicker(each: list[Windows], outputs: int, vectors: float) -> bool:
    """Whether the convolutions of an input take clearly less time by tiles than by vectors.

    In nanoseconds of a thread: a step of a panel and two tiles takes 160, and each part of its
    steps 300 more. Splitting takes 0.5 for a number of the input (padding included) or of the
    weight; writing takes 0.2 for a number of the result.
    """
    first, across = layout_of(each[0]), -(-outputs // 32)
    layouts = [layout_of(windows, first.together) for windows in each]
    numbers = first.blocks * first.groups * first.plane * first.together * 32
    cost = START + 0.5 * numbers
    for layout in layouts:
        steps, pairs = len(layout.steps), -(-layout.tiles // 2)
        cost += across * pairs * (160 * steps + 300 * -(-steps // 24)) + 0.5 * across * steps * 1024
        cost += 0.2 * layout.tiles * TILE * outputs
    return 6 * numbers <= MOST_BYTES and cost < LEAST_GAIN * vectors


def _by_vectors(
    weight: Shape, options: ConvolutionOptions, x: Shape, out: Shape, windows: Shape
) -> float:
    """The estimated time of a convolution, or of its gradient for the input, by vectors. Winograd's
    method has a quarter of the products, but must transform input, weight and output."""
    products = windows[0] * math.prod(windows[2:]) * math.prod(weight)
    if not winograd.takes(weight[2:], options, x, out):
        return products / 70
    return products / 300 + 21 * math.prod(weight[:2]) + 0.7 * math.prod(x) + 0.5 * math.prod(out)


class Layout:
    """The memory layout of the input of some windows for `kernels.split_convolution`.

    together: images in a block, chosen to fill tiles; groups: number of groups of 32 channels;
    pieces: pieces of rows of windows; runs: tiles in each piece; beyond: how many pixels the last
    piece of a row is shorter.
    """

    def __init__(self, windows: Windows, together: int | None) -> None:
        images, width = windows.images, int(windows.count[2])
        pieces = -(-width // SLOTS)
        self.width = -(-width // pieces)
        numbers = range(1, min(images, TILE) + 1)
        self.together = together or min(
            numbers, key=lambda n: -(-images // n) * -(-self.width * n // TILE)
        )
        self.beyond = (pieces * self.width - width) * self.together
        self.runs = -(-self.width * self.together // TILE)
        self.blocks, self.groups = -(-images // self.together), -(-windows.channels // 32)
        self.plane = windows.channel
        self.places, self.inside = _places(windows)
        self.outside = np.flatnonzero(self.inside < 0)
        steps = np.arange(self.groups)[:, None] * self.plane + windows.taps
        self.steps = (steps * (self.together * 96)).reshape(-1)
        depth, height, _ = windows.count.tolist()
        d, h, w = np.mgrid[:depth, :height, : width : self.width].reshape(3, -1)
        self.begins = d * windows.strides[1] + h * windows.strides[2] + w
        self.widths = np.minimum(self.width, width - w)
        self.pieces = len(d)
        self.tiles = self.blocks * self.pieces * self.runs
        self._dhw = d, h, w
        self.full = bool((self.widths * self.together == self.runs * TILE).all())

    def targets(self, place: np.ndarray) -> tuple[np.ndarray, bool]:
        """The offsets of the outputs of each piece, in an image and a channel; and whether they are
        consecutive and fill tiles."""
        d, h, w = self._dhw
        targets = d * place[2] + h * place[3] + w * place[4] + place[5]
        joined = bool((np.diff(targets) == self.width * place[4]).all()) and self.full
        return targets, joined


@functools.lru_cache(maxsize=1 << 10)
def layout_of(windows: Windows, together: int | None = None) -> Layout:
    """The layout, with blocks of `together` images if given."""
    return Layout(windows, together)


def _places(windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """The position of each input pixel in a padded plane, or -1; and the pixel at each position of
    the plane, or -1."""
    sizes, padded, before, step = windows.sizes, windows.padded, windows.before, windows.step
    d, h, w = (
        np.arange(size).reshape([-1 if axis == i else 1 for i in range(3)]) + before[axis]
        for axis, size in enumerate(sizes)
    )
    _, height, width = padded.tolist()
    places = (d * height + h) * width + w % step * (width // step) + w // step
    is_there = True
    for at, size in zip((d, h, w), padded, strict=True):
        is_there = is_there & (at >= 0) & (at < size)
    places = np.where(is_there, places, -1).reshape(-1)
    inside = np.full(windows.channel, -1, np.int64)
    inside[places[places >= 0]] = np.flatnonzero(places >= 0)
    return places, inside


def _halves(count: int) -> np.ndarray:
    """Memory for so many bfloat16 numbers, as a float32 array, which plans can share."""
    return workspace.empty((count // 2,), np.float32)


def convolve(
    x: np.ndarray,
    each: list[tuple[Windows, np.ndarray]],
    panels: np.ndarray,
    w_panel: int,
    w_channel: int,
    outputs: int,
    bias: np.ndarray | None,
    out: np.ndarray,
) -> None:
    """out at the places (`out_strides`) of each of some windows of x = their convolution, bias
    included. panels: the weight's, as `convolution_direct` has them, with the distances of a panel
    and of a channel."""
    family, windows = kernels.load("split_convolution"), each[0][0]
    layout, images, channels = layout_of(windows), windows.images, windows.channels
    x, pixels = workspace.contiguous(x).reshape(-1), len(layout.places)
    items = layout.blocks * layout.groups
    size = items * layout.plane * layout.together
    beyond = max(layout_of(windows, layout.together).beyond for windows, _ in each)
    a = _halves((size + beyond) * family.PLACE + family.SLACK)
    a_inexact = workspace.empty((size,), np.uint8)
    some = workspace.empty((items,), np.bool_)
    threads.parallel_for(
        family.split_input, items, 1, x, images, channels, pixels, layout.together, layout.groups,
        layout.places, layout.outside, layout.plane, a, a_inexact, some,
    )  # fmt: skip
    across = -(-outputs // 32)
    items = across * layout.groups
    most = max(len(windows.taps) for windows, _ in each)
    b = _halves(items * most * family.SPLIT)
    b_inexact = workspace.empty((items,), np.int64)
    added = NO_BIAS if bias is None else workspace.contiguous(bias)
    for windows, place in each:
        part, w_taps = layout_of(windows, layout.together), windows.numbers * 32
        threads.parallel_for(
            family.split_weight, items, 1, panels, w_panel, w_channel, w_taps, channels,
            layout.groups, b, b_inexact,
        )  # fmt: skip
        lines = part.blocks * part.pieces
        per_item = min(lines, max(1, SLOTS // (part.runs * TILE)))
        bands = -(-lines // per_item)
        per_block = min(PANELS, max(1, across * bands // ITEMS))
        targets, joined = part.targets(place)
        threads.parallel_for(
            family.convolve, bands * -(-across // per_block), 1, per_item, per_block,
            x, images, channels, pixels, a, layout.together, layout.groups, layout.plane,
            layout.inside, windows.taps, part.steps, part.pieces, part.begins, part.widths,
            targets, part.runs, joined, a_inexact, some, panels, w_panel, w_channel, w_taps, b,
            b_inexact, outputs, added, out.reshape(-1), place,
        )  # fmt: skip


class GradientLayout:
    """The memory layout of the input of some windows, and of the gradient of their outputs, for
    `kernels.split_convolution_weight`."""

    def __init__(self, windows: Windows) -> None:
        images, self.width = windows.images, int(windows.count[2])
        numbers = range(1, min(images, STEP) + 1)
        self.together = min(numbers, key=lambda n: -(-images // n) * -(-self.width * n // STEP))
        self.chunks = -(-self.width * self.together // STEP)
        self.blocks, self.room = -(-images // self.together), -(-windows.channels // 32) * 32
        row = -(-(windows.channel * self.together + STEP) // STEP)
        self.row = (row + (row % 2 == 0)) * STEP  # a stride that is not a power of two
        self.places, self.inside = _places(windows)
        depth, height, _ = windows.count.tolist()
        d, h = np.mgrid[:depth, :height].reshape(2, -1)
        self.begins = d * windows.strides[1] + h * windows.strides[2]
        block, line, chunk = np.ogrid[: self.blocks, : len(self.begins), : self.chunks]
        self.steps = (
            block * (self.room * 3 * self.row)
            + self.begins[line] * self.together
            + chunk * STEP
        ).reshape(-1)  # fmt: skip


@functools.lru_cache(maxsize=1 << 10)
def gradient_layout_of(windows: Windows) -> GradientLayout:
    return GradientLayout(windows)


def weight_grad(g: np.ndarray, x: np.ndarray, windows: Windows, shape: Shape) -> np.ndarray:
    """The gradient for a weight of this shape, as partial sums: (parts, *shape)."""
    family, layout = kernels.load("split_convolution_weight"), gradient_layout_of(windows)
    outputs, channels, images = shape[0], windows.channels, windows.images
    x, g = workspace.contiguous(x).reshape(-1), workspace.contiguous(g).reshape(-1)
    a = _halves(layout.blocks * layout.room * 3 * layout.row)
    a_inexact = workspace.empty((layout.blocks * channels,), np.bool_)
    pixels, width = len(layout.places), int(windows.sizes[2])
    threads.parallel_for(
        family.split_planes, layout.blocks * channels, 1, x, images, channels, pixels, width,
        windows.step, layout.together, layout.places, layout.room, layout.row, a, a_inexact,
    )  # fmt: skip
    across, steps, lines = -(-outputs // 32), len(layout.steps), len(layout.begins)
    b = _halves(across * steps * family.SPLIT)
    b_inexact = workspace.empty((across * layout.blocks,), np.int64)
    threads.parallel_for(
        family.split_gradient, across * layout.blocks, 1, g, images, outputs, lines, layout.width,
        layout.together, layout.chunks, b, b_inexact,
    )  # fmt: skip
    taps, down = len(windows.taps), layout.room // 32
    per_block = max(1, min(across, GRADIENTS // taps, across * down // ITEMS))
    items = down * -(-across // per_block)
    shares = min(-(-steps // family.DEPTH), -(-ITEMS // items))
    out = workspace.empty((shares, *shape), x.dtype)
    threads.parallel_for(
        family.weight_grad, items * shares, 1, shares, per_block, x, images, channels, pixels, a,
        layout.together, layout.room, layout.row, layout.inside, windows.taps, layout.begins,
        layout.width, layout.chunks, layout.steps, a_inexact, g, b, b_inexact, outputs,
        out.reshape(-1),
    )  # fmt: skip
    return out
