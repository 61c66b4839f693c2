"""Convolution by kernels that read windows where they lie (`convolution.cu`); large ones by
products."""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.cuda.convolution_products import ConvolutionProducts
from gradient.backends.cuda.convolution_tiles import ConvolutionTiles
from gradient.backends.cuda.grouped import TILE, TILE_THREADS
from gradient.backends.cuda.launching import EACH, MAX_GRID, computed_in
from gradient.backends.cuda.windows import counts_in_32_bits, slide_of
from gradient.backends.options import ConvolutionOptions
from gradient.backends.required import Shape

FEW_OUTPUTS = 4
"""Outputs of a channel up to which a convolution of one channel a group is depthwise."""
FILLING = 512
"""Blocks that keep a GPU busy: a gradient by the weight is divided into parts up to so many."""
PART, TAPS = 512, 9
"""Windows of a part, at least; numbers of a depthwise weight for which a block adds up."""


class ConvolutionKernels(ConvolutionTiles, ConvolutionProducts):
    """Overrides of `composed.convolution`."""

    def convolution(
        self, x: Array, weight: Array, bias: Array | None, options: ConvolutionOptions
    ) -> Array:
        if not (self.has_kernel(x, weight, bias) and _fit(x.shape, weight.shape, options)):
            return super().convolution(x, weight, bias, options)
        if bias is None and _is_pointwise(weight.shape, options):
            rows = self.matmul(weight.reshape(weight.shape[:2]), x.reshape((*x.shape[:2], -1)))
            return rows.reshape((x.shape[0], weight.shape[0], *x.shape[2:]))
        outputs, inputs = weight.shape[:2]
        count = x.shape[0] * math.prod(options.windows(x.shape[2:], weight.shape[2:]))
        if self.has_wide_tiles(
            x.shape, weight.shape, x.dtype, options, (outputs, count), (inputs,)
        ):
            return self.convolution_by_tiles(x, weight, options, bias)
        if self.is_large_product(x.shape, weight.shape, options):
            return self.convolution_product(x, weight, bias, options)
        windows = options.windows(x.shape[2:], weight.shape[2:])
        out = self.empty((x.shape[0], weight.shape[0], *windows), x.dtype)
        given = self.contiguous(x), self.contiguous(weight), self.optional(bias), out
        told = slide_of(x.shape, weight.shape, options)
        if _is_depthwise(weight.shape, options):
            self.launch_numbers("convolution", "depthwise", out, *given, told)
            return out
        of_group = outputs // options.groups
        grid = _tiles(out.size // outputs), _tiles(of_group), options.groups
        self.launch("convolution", "convolution", x, grid, TILE_THREADS, *given, told)
        return out

    def convolution_input_grad(
        self, g: Array, weight: Array, shape: Shape, options: ConvolutionOptions
    ) -> Array:
        shape = tuple(shape)
        remainders = math.prod(options.stride)
        if (
            not (self.has_kernel(g, weight) and _fit(shape, weight.shape, options))
            or g.shape != _out_shape(shape, weight.shape, options)
            or options.groups * remainders > MAX_GRID
        ):
            return super().convolution_input_grad(g, weight, shape, options)
        if _is_pointwise(weight.shape, options):
            transposed = weight.reshape(weight.shape[:2]).T
            return self.matmul(transposed, g.reshape((*g.shape[:2], -1))).reshape(shape)
        outputs, inputs = weight.shape[:2]
        sizes = inputs, shape[0] * math.prod(shape[2:])
        if self.has_wide_tiles(shape, weight.shape, g.dtype, options, sizes, (outputs,)):
            return self.convolution_input_grad_by_tiles(g, weight, shape, options)
        by_product = self.convolution_input_product(g, weight, options)
        if by_product is not None:
            return by_product
        gx = self.empty(shape, g.dtype)
        told = slide_of(shape, weight.shape, options)
        given = self.contiguous(g), self.contiguous(weight), gx
        if _is_depthwise(weight.shape, options):
            self.launch_numbers("convolution", "depthwise_input_grad", gx, *given, told)
            return gx
        places = math.prod(-(-n // s) for n, s in zip(shape[2:], options.stride, strict=True))
        grid = _tiles(shape[0] * places), _tiles(weight.shape[1]), options.groups * remainders
        self.launch("convolution", "convolution_input_grad", g, grid, TILE_THREADS, *given, told)
        return gx

    def convolution_weight_grad(
        self, g: Array, x: Array, shape: Shape, options: ConvolutionOptions
    ) -> Array:
        shape = tuple(shape)
        if not (self.has_kernel(g, x) and _fit(x.shape, shape, options)) or (
            g.shape != _out_shape(x.shape, shape, options)
        ):
            return super().convolution_weight_grad(g, x, shape, options)
        sizes = shape[0], math.prod(shape[1:])
        if self.has_wide_tiles(x.shape, shape, g.dtype, options, sizes, shape[:2], in_parts=True):
            return self.convolution_weight_grad_by_tiles(g, x, shape, options)
        if self.is_large_product(x.shape, shape, options):
            by_product = self.convolution_weight_product(g, x, shape, options)
            if by_product is not None:
                return by_product
        g, x, told = self.contiguous(g), self.contiguous(x), slide_of(x.shape, shape, options)
        if _is_depthwise(shape, options):
            threads = min(-(-math.prod(g.shape[2:]) // 32) * 32, EACH)
            grid = shape[0], -(-math.prod(shape[2:]) // TAPS), 1
            parts = FILLING * EACH // (math.prod(grid) * threads)
            return self._in_parts(
                "depthwise_weight_grad", grid, threads, g, x, shape, told, g.shape[0], parts
            )
        windows = g.size // g.shape[1]
        grid = _tiles(math.prod(shape[1:])), _tiles(shape[0] // options.groups), options.groups
        parts = min(FILLING // math.prod(grid), windows // PART)
        return self._in_parts(
            "convolution_weight_grad", grid, TILE_THREADS, g, x, shape, told, windows, parts
        )

    def _in_parts(
        self, kernel: str, grid: tuple[int, int, int], threads: int, g: Array, x: Array,
        shape: Shape, told: np.ndarray, count: int, parts: int,
    ) -> Array:  # fmt: skip
        """The gradient for the weight: so many parts of `count` windows or images each launch
        `grid` blocks, and a second kernel adds them up in their order."""
        gw = self.empty(shape, g.dtype)
        of_part = -(-count // max(parts, 1))
        parts = -(-count // of_part)
        sums = self.empty((parts, gw.size), np.dtype(computed_in(g))) if parts > 1 else None
        self.launch(
            "convolution", kernel, g, (*grid[:2], grid[2] * parts), threads,
            g, x, gw if sums is None else None, sums, told, np.int64(of_part),
        )  # fmt: skip
        if sums is not None:
            self.launch_numbers(
                "convolution", "convolution_join", gw, sums, gw, *map(np.int64, (parts, gw.size))
            )
        return gw


def _out_shape(x: Shape, weight: Shape, options: ConvolutionOptions) -> Shape:
    return (x[0], weight[0], *options.windows(x[2:], weight[2:]))


def _fit(x: Shape, weight: Shape, options: ConvolutionOptions) -> bool:
    """Whether the kernels convolve arrays of these shapes."""
    return (
        len(x) == len(weight) == len(options.stride) + 2
        and min(*x, *weight) > 0
        and weight[1] * options.groups == x[1]
        and weight[0] % options.groups == 0
        and options.groups <= MAX_GRID
        and counts_in_32_bits(x[0], x[2:], options.windows(x[2:], weight[2:]), x[1], weight[0])
    )


def _is_pointwise(weight: Shape, options: ConvolutionOptions) -> bool:
    """Whether it is a product with the matrix of the weight, which cuBLAS has."""
    return (
        math.prod(weight[2:]) == math.prod(options.stride) == options.groups == 1
        and not np.any(options.padding)
    )  # fmt: skip


def _is_depthwise(weight: Shape, options: ConvolutionOptions) -> bool:
    return weight[1] == 1 and weight[0] <= FEW_OUTPUTS * options.groups


def _tiles(count: int) -> int:
    return -(-count // TILE)
