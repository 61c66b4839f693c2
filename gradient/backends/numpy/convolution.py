"""Convolutions by kernels that never store the windows of the whole input.

Convolutions of one and two dimensions are treated as three, with leading sizes of 1. The gradient
for the input is also a convolution: of the gradient, with the weight reversed. If the stride is
above 1, inputs with different remainders modulo the stride use different numbers of the weight. So
each remainder (a phase) is a separate convolution with a part of the weight and stride 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradient.backends.composed.convolution import ConvolutionDefaults
from gradient.backends.composed.precision import in_float32
from gradient.backends.numpy import (
    depthwise,
    direct_convolution,
    gemm,
    kernels,
    split_convolution,
    threads,
    winograd,
    workspace,
)
from gradient.backends.numpy.direct_convolution import Panels
from gradient.backends.numpy.phases import phases_of
from gradient.backends.numpy.reductions import sum_of_parts
from gradient.backends.numpy.windows import PLANES, Windows, out_strides, three, windows_of
from gradient.backends.options import ConvolutionOptions
from gradient.backends.required import Shape
from gradient.dtypes import float32

FEW_PRODUCTS = 1 << 18
"""Multiplications below which NumPy is quick enough not to wake numba for."""

FEW_OUTPUTS = 4
"""Outputs of a channel up to which a convolution of one channel a group is depthwise."""

FILLED = 0.75
"""Of the columns in the vectors of a product, how many must be there."""

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
            x = workspace.contiguous(_strided(x, options))
            y = self.convolution(
                _flattened(x), _flattened(weight), bias, _pointwise_options(options)
            )
            return y.reshape(*y.shape[:2], *x.shape[2:])
        if _of_channels(weight.shape, options) and _takes_product(weight[:, :, 0], x):
            out = workspace.result((x.shape[0], weight.shape[0], x.shape[2]), x.dtype)
            threads.parallel_for(*gemm.launch(weight[:, :, 0], x, bias, out, upright=True))
            return out
        count = options.windows(x.shape[2:], weight.shape[2:])
        if not _supported(math.prod(count) * x.shape[0] * weight.size, x, weight, bias):
            return super().convolution(x, weight, bias, options)
        out = workspace.result((x.shape[0], weight.shape[0], *count), x.dtype, on_lines=True)
        if split_convolution.takes(x.shape, weight.shape, count, options):
            windows = windows_of(x.shape, weight.shape[2:], count, options)
            place = out_strides(weight.shape[0], count, (1,) * len(count), (0,) * len(count))
            panels = Panels.of_outputs(weight, 1)
            split_convolution.convolve(x, [(windows, place)], *panels.places(), bias, out)
            return out
        if winograd.takes(weight.shape[2:], options, x.shape, out.shape):
            _convolve_by_winograd(x, Panels.of_outputs(weight, 1), NINE, options, bias, out)
            return out
        if depthwise.takes(weight.shape, options):
            before = tuple(before for before, _ in options.padding)
            depthwise.convolve(x, weight, bias, out, before, options.stride[0])
            return out
        o = weight.shape[0] // options.groups
        windows = windows_of(x.shape, weight.shape[2:], count, options)
        place = out_strides(weight.shape[0], count, (1,) * len(count), (0,) * len(count))
        if direct_convolution.takes(o, windows.channels * len(windows.taps)):
            x = windows.pad(x, exact=direct_convolution.in_tiles(windows))
            panels = Panels.of_outputs(weight, options.groups)
            direct_convolution.convolve(x, windows, panels, bias, out, place)
        else:
            rows = weight.reshape(options.groups, o, -1)
            _convolve(windows.pad(x), windows, rows, bias, out, math.prod(count), place)
        return out

    @in_float32
    def convolution_input_grad(
        self, g: np.ndarray, weight: np.ndarray, shape: Shape, options: ConvolutionOptions
    ) -> np.ndarray:
        if _pointwise(weight.shape, options):
            row = *shape[:2], math.prod(g.shape[2:])
            gx = self.convolution_input_grad(
                _flattened(g), _flattened(weight), row, _pointwise_options(options)
            ).reshape(*shape[:2], *g.shape[2:])
            if math.prod(options.stride) == 1:
                return gx
            out = workspace.result(shape, gx.dtype)
            out.fill(0)
            _strided(out, options)[...] = gx
            return out
        if _of_channels(weight.shape, options) and _takes_product(weight[:, :, 0].T, g):
            out = workspace.result(shape, g.dtype)
            threads.parallel_for(*gemm.launch(weight[:, :, 0].T, g, None, out))
            return out
        shape = tuple(shape)
        if _do_not_overlap(weight.shape, options):
            matrix, windows_of_g = weight.reshape(weight.shape[0], -1).T, _flattened(g)
            if _takes_product(matrix, windows_of_g):
                sizes = g.shape[2:], weight.shape[2:]
                return _col2im(matrix, windows_of_g, *sizes, shape)
        if not _supported(g.size // max(1, g.shape[1]) * weight.size, g, weight):
            return super().convolution_input_grad(g, weight, shape, options)
        if split_convolution.takes_input_grad(g.shape, weight.shape, shape, options):
            out = workspace.result(shape, g.dtype, on_lines=True)
            phases = phases_of(g.shape, weight.shape[2:], shape, options)
            if not phases.whole:
                out.fill(0)
            panels = Panels.of_inputs(weight, 1)
            split_convolution.convolve(g, phases.each, *panels.places(), None, out)
            return out
        if winograd.takes(weight.shape[2:], options, g.shape, shape):
            out = workspace.result(shape, g.dtype, on_lines=True)
            mirrored = options._replace(padding=tuple((2 - b, 0) for b, _ in options.padding))
            panels = Panels.of_inputs(weight, 1)
            _convolve_by_winograd(g, panels, NINE[::-1], mirrored, None, out)
            return out
        if depthwise.takes_input_grad(weight.shape, options, g.shape, shape):
            out = workspace.result(shape, g.dtype, on_lines=True)
            depthwise.input_grad(g, weight, out, options)
            return out
        phases = phases_of(g.shape, weight.shape[2:], shape, options)
        out = workspace.result(shape, g.dtype, on_lines=True)
        if not phases.whole:
            out.fill(0)
        if phases.windows is None:
            return out
        groups, o, c = options.groups, weight.shape[0] // options.groups, weight.shape[1]
        if direct_convolution.takes(c, o * math.prod(weight.shape[2:])):
            g = phases.windows.pad(
                g, exact=all(direct_convolution.in_tiles(w) for w, _ in phases.each)
            )
            panels = Panels.of_inputs(weight, groups)
            for windows, place in phases.each:
                direct_convolution.convolve(g, windows, panels, None, out, place)
            return out
        g = phases.windows.pad(g)
        transposed = np.swapaxes(weight.reshape(groups, o, c, -1), 1, 2)
        for windows, place in phases.each:
            rows = transposed[..., windows.numbers].reshape(groups, c, -1)
            _convolve(g, windows, rows, None, out, math.prod(shape[2:]), place)
        return out

    @in_float32
    def convolution_weight_grad(
        self, g: np.ndarray, x: np.ndarray, shape: Shape, options: ConvolutionOptions
    ) -> np.ndarray:
        if _pointwise(shape, options):
            row = *shape[:2], 1
            return self.convolution_weight_grad(
                _flattened(g),
                _flattened(workspace.contiguous(_strided(x, options))),
                row,
                _pointwise_options(options),
            ).reshape(shape)
        if (
            _of_channels(shape, options)
            and x.shape[2] >= direct_convolution.LONG_SUMS
            and _takes_product(g, x.swapaxes(1, 2))
        ):
            out = workspace.empty((x.shape[0], shape[0], shape[1]), x.dtype)
            threads.parallel_for(*gemm.launch(g, x.swapaxes(1, 2), None, out))
            return sum_of_parts(out).reshape(shape)
        if not _supported(g.size // max(1, g.shape[1]) * math.prod(shape), g, x):
            return super().convolution_weight_grad(g, x, shape, options)
        shape = tuple(shape)
        if split_convolution.takes_weight_grad(g.shape, x.shape, shape, options):
            windows = windows_of(x.shape, shape[2:], g.shape[2:], options)
            parts_of_grad = split_convolution.weight_grad(g, x, windows, shape)
            return parts_of_grad[0] if len(parts_of_grad) == 1 else sum_of_parts(parts_of_grad)
        if depthwise.takes(shape, options):
            out = workspace.result(shape, x.dtype)
            depthwise.weight_grad(g, x, out, options)
            return out
        family = kernels.load("convolution_weight")
        groups, o = options.groups, shape[0] // options.groups
        windows = windows_of(x.shape, shape[2:], g.shape[2:], options)
        if _depthwise(windows, groups, o):
            out = workspace.result(shape, x.dtype)
            threads.parallel_for(
                kernels.load("depthwise").weight_grad, shape[0], 1, windows.pad(x),
                *windows.places(), windows.images, workspace.contiguous(g).reshape(-1), groups, o,
                out.reshape(-1),
            )  # fmt: skip
            return out
        k = windows.channels * len(windows.taps)
        pair = family.PAIR if o > family.SOME else family.SOME
        ranges, panels = -(-k // family.COLUMNS), -(-o // pair)
        lines, pixels = windows.lines, windows.pixels
        width = pixels // len(lines)
        g_panels = workspace.empty((groups * panels * pixels * pair,), g.dtype)
        threads.parallel_for(
            family.to_panels, windows.images * groups * panels,
            max(1, PLANES // (pixels // windows.images * pair)),
            workspace.contiguous(g).reshape(-1), pixels // windows.images, groups, o, pair,
            g_panels,
        )  # fmt: skip
        items = ranges * groups * panels
        chunks = -(-len(lines) // max(1, family.PIXELS // width))
        parts = min(chunks, -(-ITEMS // items))
        out = workspace.empty((parts, *shape), x.dtype)
        threads.parallel_for(
            family.weight_grad, items * parts, 1, windows.pad(x, exact=True),
            windows.channels * windows.channel, windows.columns, lines, width, g_panels, pair,
            groups, o, parts, ranges, out.reshape(-1),
        )  # fmt: skip
        return out[0] if parts == 1 else sum_of_parts(out)


def _col2im(
    matrix: np.ndarray, g: np.ndarray, windows: Shape, kernel: Shape, shape: Shape
) -> np.ndarray:
    """The gradient for an input (N, C, *) of adjacent windows, whose numbers are matrix
    (C * kernel, O) @ g."""
    parts = workspace.empty((g.shape[0], matrix.shape[0], g.shape[2]), g.dtype)
    threads.parallel_for(*gemm.launch(matrix, g, None, parts))
    out = workspace.result(shape, g.dtype, on_lines=True)
    plane = math.prod(shape[2:])
    threads.parallel_for(
        kernels.load("convolution").col2im, shape[0] * shape[1], max(1, PLANES // plane),
        parts.reshape(-1), three(windows, 1), three(kernel, 1), three(shape[2:], 1),
        out.reshape(-1),
    )  # fmt: skip
    return out


def _convolve_by_winograd(
    x: np.ndarray,
    weight: Panels,
    taps: np.ndarray,
    options: ConvolutionOptions,
    bias: np.ndarray | None,
    out: np.ndarray,
) -> None:
    """Convolve x with these taps of a weight by Winograd's method (`winograd.takes`)."""
    windows = windows_of(x.shape, (3, 3), winograd.whole_tiles(out.shape[2:]), options)
    winograd.convolve(
        windows.pad(x), windows.padded, weight.array, weight.strides, taps, bias, out,
        windows.channels,
    )  # fmt: skip


def _convolve(
    x: np.ndarray,
    windows: Windows,
    rows: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray,
    plane: int,
    place: np.ndarray,
) -> None:
    """Write rows (groups, O / groups, K) @ columns of a padded x to `out` at `place`
    (`out_strides`), with `plane` numbers per channel."""
    family = kernels.load("convolution")
    groups, outputs = rows.shape[:2]
    added = np.empty(0, out.dtype) if bias is None else workspace.contiguous(bias)
    if _depthwise(windows, groups, outputs):
        rows = workspace.contiguous(rows)
        threads.parallel_for(
            kernels.load("depthwise").convolve, windows.images * groups * outputs,
            max(1, PLANES // plane), x, *windows.places(), rows.reshape(-1),
            rows.shape[1] * rows.shape[2], rows.shape[2], groups, outputs, added, out.reshape(-1),
            place,
        )  # fmt: skip
        return
    rows = _padded_weight(rows)
    items = groups * -(-windows.pixels // family.PIXELS) * -(-outputs // family.OUTPUTS)
    threads.parallel_for(
        family.convolve, items, 1, x, *windows.places(), windows.pixels, windows.channels,
        rows.reshape(-1), rows.shape[2], groups, outputs, added, out.reshape(-1), place,
    )  # fmt: skip


def _depthwise(windows: Windows, groups: int, outputs: int) -> bool:
    """Whether each group has one channel of the input and a few outputs: matrix products would have
    only a row or so."""
    return windows.channels == 1 and groups > 1 and outputs <= FEW_OUTPUTS


def _padded_weight(weight: np.ndarray) -> np.ndarray:
    """weight (groups, O, K) with rows padded to a multiple of 4, and strides that are not powers of
    two."""
    groups, rows, k = weight.shape
    if rows % 4 == 0 and k % 256 and weight.flags.carray:
        return weight
    shape = groups, -(-rows // 4) * 4, k + (16 if k % 256 == 0 else 0)
    out = workspace.zeros(shape, weight.dtype)
    out[:, :rows, :k] = weight
    return out


def _pointwise(weight: Shape, options: ConvolutionOptions) -> bool:
    """Whether each output depends on one position of the input, and rows can be joined."""
    return (
        (len(weight) > 3 or (len(weight) == 3 and options.stride[0] > 1))
        and math.prod(weight[2:]) == 1
        and not any(before or after for before, after in options.padding)
    )


def _of_channels(weight: Shape, options: ConvolutionOptions) -> bool:
    """Whether a 1-D convolution is a product of the weight with each image."""
    return (
        len(weight) == 3
        and weight[2] == options.groups == options.stride[0] == 1
        and options.padding[0] == (0, 0)
    )


def _do_not_overlap(weight: Shape, options: ConvolutionOptions) -> bool:
    """Whether windows cover every position once, except a rest at the end."""
    return (
        options.groups == 1
        and tuple(weight[2:]) == tuple(options.stride)
        and all(d == 1 for d in options.dilation)
        and not any(before or after for before, after in options.padding)
    )


def _takes_product(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether a matrix product is faster than a convolution: its tiles are filled."""
    if not gemm.takes(a, b):
        return False
    pair, columns = kernels.load("gemm").PAIR, b.shape[-1]
    return columns >= FILLED * (-(-columns // pair) * pair)


def _strided(x: np.ndarray, options: ConvolutionOptions) -> np.ndarray:
    """A view of the positions of x that windows of size 1 read."""
    places: tuple[Any, ...] = tuple(slice(None, None, step) for step in options.stride)
    return x[..., *places]


def _flattened(x: np.ndarray) -> np.ndarray:
    return x.reshape(*x.shape[:2], -1 if x.size else math.prod(x.shape[2:]))


def _pointwise_options(options: ConvolutionOptions) -> ConvolutionOptions:
    return ConvolutionOptions((1,), ((0, 0),), (1,), options.groups)


def _supported(products: int, *arrays: np.ndarray | None) -> bool:
    """Whether kernels take a convolution of these arrays with so many multiplications."""
    return (
        products >= min(FEW_PRODUCTS, kernels.MIN_SIZE << 6)
        and all(a is None or (type(a) is np.ndarray and a.dtype == float32.numpy) for a in arrays)
        and kernels.available()
    )
