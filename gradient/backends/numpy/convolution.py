"""Convolutions by kernels that never have the windows of the whole input in memory.

One, two and three dimensions are all three, the first of size 1. The gradient by the input is a
convolution, too: of the gradient, with the weight turned about. Where the stride is above 1, inputs
that leave different remainders by it meet different numbers of the weight, so that each remainder
(a phase) is a convolution of its own, with a part of the weight and a stride of 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradient.backends.composed.convolution import ConvolutionDefaults
from gradient.backends.composed.precision import in_float32
from gradient.backends.numpy import kernels, threads, winograd
from gradient.backends.numpy.phases import phases_of
from gradient.backends.options import ConvolutionOptions
from gradient.backends.required import Shape
from gradient.dtypes import float32

FEW_PRODUCTS = 1 << 18
"""Multiplications below which NumPy is quick enough not to wake numba for."""

FEW_OUTPUTS = 4
"""Outputs of a channel up to which a convolution of one channel a group is depthwise."""

FILLED = 0.75
"""Of the outputs in the vectors of a direct convolution, how many must be there."""

LONG_SUMS = 64
"""Products in a sum from which turning a tile of outputs about is a small part of its time."""

PLANES = 1 << 15
"""Numbers of whole planes that a thread copies at a time."""

NINE = np.arange(9)
"""The numbers of a kernel of 3 x 3."""

ITEMS = 8
"""Items of work below which the gradient by a weight is added up in parts."""


class ConvolutionKernels(ConvolutionDefaults[np.ndarray]):
    """Overrides of `composed.convolution`."""

    @in_float32
    def convolution(
        self,
        x: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray | None,
        options: ConvolutionOptions,
    ) -> np.ndarray:
        if _pointwise(weight.shape, options):
            x = _met(x, options)
            y = self.convolution(_in_a_row(x), _in_a_row(weight), bias, _one_by_one(options))
            return y.reshape(*y.shape[:2], *x.shape[2:])
        windows = options.windows(x.shape[2:], weight.shape[2:])
        if not _supported(math.prod(windows) * x.shape[0] * weight.size, x, weight, bias):
            return super().convolution(x, weight, bias, options)
        out = np.empty((x.shape[0], weight.shape[0], *windows), x.dtype)
        if winograd.takes(weight.shape[2:], options, x.shape, out.shape):
            _convolve_by_winograd(x, _Panels.of_outputs(weight, 1), NINE, options, bias, out)
            return out
        o = weight.shape[0] // options.groups
        slide = _Slide(x, weight.shape[2:], windows, options)
        place = _out_strides(out, windows, (1,) * len(windows), (0,) * len(windows))
        if _direct(o, slide.channels * len(slide.taps)):
            panels = _Panels.of_outputs(weight, options.groups)
            _convolve_direct(slide, panels, np.arange(len(slide.taps)), bias, out, place)
        else:
            rows = weight.reshape(options.groups, o, -1)
            _convolve(slide, rows, bias, out, math.prod(windows), place)
        return out

    @in_float32
    def convolution_input_grad(
        self, g: np.ndarray, weight: np.ndarray, shape: Shape, options: ConvolutionOptions
    ) -> np.ndarray:
        if _pointwise(weight.shape, options):
            row = *shape[:2], math.prod(g.shape[2:])
            gx = self.convolution_input_grad(
                _in_a_row(g), _in_a_row(weight), row, _one_by_one(options)
            ).reshape(*shape[:2], *g.shape[2:])
            if math.prod(options.stride) == 1:
                return gx
            out = np.zeros(shape, gx.dtype)
            _met(out, options)[...] = gx
            return out
        if not _supported(g.size // max(1, g.shape[1]) * weight.size, g, weight):
            return super().convolution_input_grad(g, weight, shape, options)
        if winograd.takes(weight.shape[2:], options, g.shape, shape):
            out = np.empty(shape, g.dtype)
            mirrored = options._replace(padding=tuple((2 - b, 0) for b, _ in options.padding))
            panels = _Panels.of_inputs(weight, 1)
            _convolve_by_winograd(g, panels, NINE[::-1], mirrored, None, out)
            return out
        phases = phases_of(weight.shape[2:], shape[2:], options)
        whole = all(taps for phase in phases for taps, _ in phase.dims)
        out = (np.empty if whole else np.zeros)(shape, g.dtype)
        phases = [p for p in phases if all(taps and n for taps, n in p.dims)]
        if not phases:
            return out
        offsets = [[o for p in phases for o in p.offsets[axis]] for axis in range(g.ndim - 2)]
        before = [max(0, -min(o)) for o in offsets]
        padding = tuple((b, 0) for b in before)
        groups, o, c = options.groups, weight.shape[0] // options.groups, weight.shape[1]
        direct = _direct(c, o * math.prod(weight.shape[2:]))
        if direct:
            panels = _Panels.of_inputs(weight, groups)
        else:
            turned = np.swapaxes(weight.reshape(groups, o, c, *weight.shape[2:]), 1, 2)
        # All phases read one copy of g, with zeros about it up to the furthest window of any.
        reach = tuple(
            max(n[1] - 1 + max(p.offsets[axis]) for p in phases for n in [p.dims[axis]]) + b + 1
            for axis, b in enumerate(before)
        )
        ones = (1,) * len(before)
        slide = _Slide(g, ones, reach, ConvolutionOptions(ones, padding, ones, groups))
        for phase in phases:
            taps = [taps for taps, _ in phase.dims]
            windows = tuple(n for _, n in phase.dims)
            slide.taps = slide.offsets(
                [[o + b for o in each] for each, b in zip(phase.offsets, before, strict=True)]
            )
            slide.windows = three(windows, 1)
            place = _out_strides(out, shape[2:], options.stride, phase.first)
            if direct:
                numbers = np.ravel_multi_index(np.ix_(*taps), weight.shape[2:]).reshape(-1)
                # From the first address to the last: backwards it takes up to twice the time.
                slide.taps, numbers = slide.taps[::-1].copy(), numbers[::-1].copy()
                _convolve_direct(slide, panels, numbers, None, out, place)
            else:
                rows = turned[(slice(None),) * 3 + np.ix_(*taps)].reshape(groups, c, -1)
                _convolve(slide, rows, None, out, math.prod(shape[2:]), place)
        return out

    @in_float32
    def convolution_weight_grad(
        self, g: np.ndarray, x: np.ndarray, shape: Shape, options: ConvolutionOptions
    ) -> np.ndarray:
        if _pointwise(shape, options):
            row = *shape[:2], 1
            return self.convolution_weight_grad(
                _in_a_row(g), _in_a_row(_met(x, options)), row, _one_by_one(options)
            ).reshape(shape)
        if not _supported(g.size // max(1, g.shape[1]) * math.prod(shape), g, x):
            return super().convolution_weight_grad(g, x, shape, options)
        family = kernels.load("convolution_weight")
        groups, o = options.groups, shape[0] // options.groups
        slide = _Slide(x, shape[2:], g.shape[2:], options)
        if _depthwise(slide, groups, o):
            out = np.empty(shape, x.dtype)
            threads.parallel_for(
                kernels.load("depthwise").weight_grad, shape[0], 1, *slide.places(), slide.images,
                kernels.contiguous(g).reshape(-1), groups, o, out.reshape(-1),
            )  # fmt: skip
            return out
        k = slide.channels * len(slide.taps)
        ranges, panels = -(-k // family.COLUMNS), -(-o // family.PAIR)
        lines = slide.lines()
        width = slide.pixels // len(lines)
        turned = np.empty(groups * panels * slide.pixels * family.PAIR, g.dtype)
        threads.parallel_for(
            family.to_panels, slide.images * groups * panels,
            max(1, PLANES // (slide.pixels // slide.images * family.PAIR)),
            kernels.contiguous(g).reshape(-1), slide.pixels // slide.images, groups, o, turned,
        )  # fmt: skip
        columns = slide.columns()
        columns = np.pad(columns, (0, -len(columns) % 4), "edge")
        items = ranges * groups * panels
        chunks = -(-len(lines) // max(1, family.PIXELS // width))
        parts = min(chunks, -(-ITEMS // items))
        out = np.empty((parts, *shape), x.dtype)
        threads.parallel_for(
            family.weight_grad, items * parts, 1, slide.x, slide.channels * slide.channel,
            columns, lines, width, turned, groups, o, parts, ranges,
            out.reshape(-1),
        )  # fmt: skip
        return out[0] if parts == 1 else out.sum(0)


class _Slide:
    """An input between its zeros, and where its windows and their numbers are."""

    def __init__(
        self, x: np.ndarray, kernel: Shape, windows: Shape, options: ConvolutionOptions
    ) -> None:
        family = kernels.load("convolution")
        sizes, count = three(x.shape[2:], 1), three(windows, 1)
        before = three([b for b, _ in options.padding], 0)
        stride, dilation = three(options.stride, 1), three(options.dilation, 1)
        padded = three(options.reach(windows, kernel), 1)
        self.step = int(stride[2])
        padded[2] = -(-padded[2] // self.step) * self.step
        planes, size = x.shape[0] * x.shape[1], math.prod(padded.tolist())
        self.x = np.empty(planes * size + family.SLACK, x.dtype)
        self.x[planes * size :] = 0
        threads.parallel_for(
            family.surround, planes, max(1, PLANES // size),
            kernels.contiguous(x).reshape(-1), sizes, before, padded, self.step, self.x,
        )  # fmt: skip
        self.channel, self.padded, self.windows = size, padded, count
        self.before, self.sizes = before, sizes
        self.channels, self.images = x.shape[1] // options.groups, x.shape[0]
        row, plane = int(padded[2]), int(padded[1] * padded[2])
        self.strides = np.array([x.shape[1] * size, plane * stride[0], row * stride[1]])
        self.taps = self.offsets(
            [[i * d for i in range(k)] for k, d in zip(three(kernel, 1), dilation, strict=True)]
        )

    @property
    def pixels(self) -> int:
        return self.images * math.prod(self.windows.tolist())

    def offsets(self, places: Sequence[Sequence[int]]) -> np.ndarray:
        """Where the numbers of a window are, from its first, that are at these places."""
        _, height, width = self.padded.tolist()
        part = width // self.step
        places = [[0]] * (3 - len(places)) + [list(p) for p in places]
        return np.array([
            (d * height + h) * width + w % self.step * part + w // self.step
            for d, h, w in itertools.product(*places)
        ])  # fmt: skip

    def lines(self) -> np.ndarray:
        """Where rows of windows that are side by side begin, those of an image after another."""
        image, plane, row = self.strides
        depth, height, _ = self.windows
        n, d, h = np.ogrid[: self.images, :depth, :height]
        return (n * image + d * plane + h * row).reshape(-1)

    def bounds(self) -> np.ndarray:
        """For each row of windows of an image, the first tap that is not in rows of zeros, and the
        one after the last: (rows, 2)."""
        row, plane = int(self.padded[2]), math.prod(self.padded[1:].tolist())
        depth = np.arange(self.windows[0])[:, None] * self.strides[1] // plane + self.taps // plane
        height = np.arange(self.windows[1])[:, None] * self.strides[2] // row
        height = height + self.taps % plane // row
        inside = [
            (places >= before) & (places < before + size)
            for places, before, size in zip((depth, height), self.before, self.sizes, strict=False)
        ]
        used = (inside[0][:, None] & inside[1]).reshape(-1, len(self.taps))
        last = len(self.taps) - used[:, ::-1].argmax(1)
        return np.stack([used.argmax(1), np.where(used.any(1), last, 0)], 1)

    def columns(self) -> np.ndarray:
        """Where a window's numbers are, of all channels of a group, from its first: (K,)."""
        return (np.arange(self.channels)[:, None] * self.channel + self.taps).reshape(-1)

    def arguments(self) -> tuple[object, ...]:
        """What kernels are given of it."""
        return *self.places(), self.pixels, self.channels

    def places(self) -> tuple[object, ...]:
        """The input, and where its windows and their numbers are."""
        return self.x, self.channel, self.strides, self.taps, self.windows


class _Panels:
    """A weight with two vectors of outputs side by side, for `_convolve_direct`.

    strides: from a group, a panel and a channel to the next; a tap is PAIR after the one before.
    """

    def __init__(self, weight: np.ndarray, items: tuple[int, int, int], taps: int) -> None:
        """items: images, groups and outputs as `to_panels` has them."""
        family = kernels.load("convolution_weight")
        images, groups, self.outputs = items
        self.count = -(-self.outputs // family.PAIR)
        plane = weight.size // math.prod(items)
        self.array = np.empty(images * groups * self.count * plane * family.PAIR, weight.dtype)
        self.groups = groups
        self.strides = np.array([self.count * plane, plane, taps]) * family.PAIR
        threads.parallel_for(
            family.to_panels, images * groups * self.count, max(1, PLANES // (plane * family.PAIR)),
            kernels.contiguous(weight).reshape(-1), plane, groups, self.outputs, self.array,
        )  # fmt: skip

    @classmethod
    def of_outputs(cls, weight: np.ndarray, groups: int) -> _Panels:
        """Of a convolution."""
        return cls(weight, (1, groups, weight.shape[0] // groups), math.prod(weight.shape[2:]))

    @classmethod
    def of_inputs(cls, weight: np.ndarray, groups: int) -> _Panels:
        """Of the gradient by the input: its outputs are the convolution's channels."""
        o, c = weight.shape[:2]
        panels = cls(weight, (o, 1, c), math.prod(weight.shape[2:]))
        panels.groups = groups
        panels.strides[:2] = o // groups * panels.strides[2], o * panels.strides[2]
        return panels


def _convolve_direct(
    slide: _Slide,
    weight: _Panels,
    taps: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray,
    place: np.ndarray,
) -> None:
    """out at `place` (`_out_strides`) = the convolution of a slide with these taps of a weight."""
    family = kernels.load("convolution_direct")
    pair, lines, width = family.PAIR, slide.lines(), int(slide.windows[2])
    together = max(1, family.TOGETHER // width)
    per_item = -(-max(1, family.PIXELS // width) // together) * together
    added = np.zeros((weight.groups, weight.count * pair), out.dtype)
    if bias is not None:
        added[:, : weight.outputs] = bias.reshape(weight.groups, -1)
    threads.parallel_for(
        family.convolve, weight.groups * weight.count * -(-len(lines) // per_item), 1,
        per_item, slide.x, slide.channel, lines, slide.bounds(), slide.taps, slide.windows,
        slide.channels,
        weight.array, weight.strides, taps * pair, weight.groups, weight.outputs, added.reshape(-1),
        out.reshape(-1), place,
    )  # fmt: skip


def _convolve_by_winograd(
    x: np.ndarray,
    weight: _Panels,
    taps: np.ndarray,
    options: ConvolutionOptions,
    bias: np.ndarray | None,
    out: np.ndarray,
) -> None:
    """out = the convolution of x with these taps of a weight (`winograd.takes`)."""
    slide = _Slide(x, (3, 3), winograd.whole_tiles(out.shape[2:]), options)
    winograd.convolve(
        slide.x, slide.padded, weight.array, weight.strides, taps, bias, out, slide.channels
    )


def _out_strides(out: np.ndarray, sizes: Shape, step: Shape, first: Shape) -> np.ndarray:
    """Of an output (N, O, *sizes): from an image and a channel to the next, and from a window to
    the next in depth, height and width if they are `step` apart; and where the first is."""
    _, height, width = three(sizes, 1).tolist()
    plane = math.prod(sizes)
    steps, begins = three(step, 1), three(first, 0)
    return np.array([
        out.shape[1] * plane, plane,
        height * width * steps[0], width * steps[1], steps[2],
        (begins[0] * height + begins[1]) * width + begins[2],
    ])  # fmt: skip


def _convolve(
    slide: _Slide,
    rows: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray,
    plane: int,
    place: np.ndarray,
) -> None:
    """out at `place` (`_out_strides`), of `plane` numbers a channel, = rows (groups, O / groups, K)
    @ columns of the slide."""
    family = kernels.load("convolution")
    groups, outputs = rows.shape[:2]
    added = np.empty(0, out.dtype) if bias is None else kernels.contiguous(bias)
    if _depthwise(slide, groups, outputs):
        rows = kernels.contiguous(rows)
        threads.parallel_for(
            kernels.load("depthwise").convolve, slide.images * groups * outputs,
            max(1, PLANES // plane), *slide.places(), rows.reshape(-1),
            rows.shape[1] * rows.shape[2], rows.shape[2], groups, outputs, added, out.reshape(-1),
            place,
        )  # fmt: skip
        return
    rows = _padded_weight(rows)
    items = groups * -(-slide.pixels // family.PIXELS) * -(-outputs // family.OUTPUTS)
    threads.parallel_for(
        family.convolve, items, 1, *slide.arguments(), rows.reshape(-1), rows.shape[2], groups,
        outputs, added, out.reshape(-1), place,
    )  # fmt: skip


def _direct(outputs: int, k: int) -> bool:
    """Whether outputs fill the vectors of `_convolve_direct`, and sums are long beside what it
    takes to write them."""
    pair = kernels.load("convolution_weight").PAIR
    return k >= LONG_SUMS and outputs >= FILLED * (-(-outputs // pair) * pair)


def _depthwise(slide: _Slide, groups: int, outputs: int) -> bool:
    """Whether each group is one channel of the slide, for a few outputs: products of matrices
    would have a row or so."""
    return slide.channels == 1 and groups > 1 and outputs <= FEW_OUTPUTS


def _padded_weight(weight: np.ndarray) -> np.ndarray:
    """weight (groups, O, K) with rows up to a multiple of 4, that are no power of two apart."""
    groups, rows, k = weight.shape
    if rows % 4 == 0 and k % 256 and weight.flags.carray:
        return weight
    out = np.zeros((groups, -(-rows // 4) * 4, k + (16 if k % 256 == 0 else 0)), weight.dtype)
    out[:, :rows, :k] = weight
    return out


def three(numbers: Sequence[int], missing: int) -> np.ndarray:
    """A number for each of three dimensions."""
    return np.array([missing] * (3 - len(numbers)) + list(numbers), np.int64)


def _pointwise(weight: Shape, options: ConvolutionOptions) -> bool:
    """Whether each output is of one place of the input, and there are rows to put together."""
    return (
        (len(weight) > 3 or (len(weight) == 3 and options.stride[0] > 1))
        and math.prod(weight[2:]) == 1
        and not any(before or after for before, after in options.padding)
    )


def _met(x: np.ndarray, options: ConvolutionOptions) -> np.ndarray:
    """A view of the places of x that a window of one number meets."""
    places: tuple[Any, ...] = tuple(slice(None, None, step) for step in options.stride)
    return x[..., *places]


def _in_a_row(x: np.ndarray) -> np.ndarray:
    return x.reshape(*x.shape[:2], -1 if x.size else math.prod(x.shape[2:]))


def _one_by_one(options: ConvolutionOptions) -> ConvolutionOptions:
    return ConvolutionOptions((1,), ((0, 0),), (1,), options.groups)


def _supported(products: int, *arrays: np.ndarray | None) -> bool:
    """Whether kernels take a convolution of as many multiplications."""
    return (
        products >= min(FEW_PRODUCTS, kernels.MIN_SIZE << 4)
        and all(a is None or (type(a) is np.ndarray and a.dtype == float32.numpy) for a in arrays)
        and kernels.available()
    )
