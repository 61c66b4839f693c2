"""Convolution by kernels that read windows in place (`convolution.cu`); large ones by matrix
products."""

from __future__ import annotations

import functools
import math

from gradient.backends.array_api import Array
from gradient.backends.cuda.convolution_products import ConvolutionProducts, is_pointwise
from gradient.backends.cuda.convolution_tiles import ConvolutionTiles
from gradient.backends.cuda.depthwise import FEW_INPUTS, FILLING, DepthwiseKernels, is_depthwise
from gradient.backends.cuda.grouped import TILE, TILE_THREADS
from gradient.backends.cuda.launching import LOAD, MAX_GRID
from gradient.backends.cuda.windows import CACHED, counts_in_32_bits, slide_of, windows_of
from gradient.backends.options import ConvolutionOptions
from gradient.backends.required import Shape

PART = 512
"""Windows of a part, at least."""


class ConvolutionKernels(ConvolutionTiles, ConvolutionProducts, DepthwiseKernels):
    """Overrides of `composed.convolution`."""

    def convolution(
        self, x: Array, weight: Array, bias: Array | None, options: ConvolutionOptions
    ) -> Array:
        if not (self.has_kernel(x, weight, bias) and _fit(x.shape, weight.shape, options)):
            return super().convolution(x, weight, bias, options)
        outputs, inputs = weight.shape[:2]
        count = x.shape[0] * math.prod(windows_of(x.shape, weight.shape, options))
        has_tiles = self.has_wide_tiles(
            x.shape, weight.shape, x.dtype, options, (outputs, count), (inputs,)
        )
        if (
            bias is None
            and is_pointwise(weight.shape, options)
            and not (has_tiles and not _begins_at_loads(x.shape, x.itemsize))
        ):
            rows = self.matmul(weight.reshape(weight.shape[:2]), x.reshape((*x.shape[:2], -1)))
            return rows.reshape((x.shape[0], weight.shape[0], *x.shape[2:]))
        if has_tiles:
            return self.convolution_by_tiles(x, weight, options, bias)
        if self.is_large_product(x.shape, weight.shape, options):
            return self.convolution_product(x, weight, bias, options)
        out = self.empty(_out_shape(x.shape, weight.shape, options), x.dtype)
        given = self.contiguous(x), self.contiguous(weight), self.optional(bias), out
        if is_depthwise(weight.shape, options):
            return self.depthwise(*given, options)
        told = slide_of(x.shape, weight.shape, options)
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
        outputs, inputs = weight.shape[:2]
        sizes = inputs, shape[0] * math.prod(shape[2:])
        has_tiles = self.has_wide_tiles(shape, weight.shape, g.dtype, options, sizes, (outputs,))
        if is_pointwise(weight.shape, options) and not (
            has_tiles and not _begins_at_loads(g.shape, g.itemsize)
        ):
            transposed = weight.reshape(weight.shape[:2]).T
            return self.matmul(transposed, g.reshape((*g.shape[:2], -1))).reshape(shape)
        if has_tiles:
            return self.convolution_input_grad_by_tiles(g, weight, shape, options)
        by_product = self.convolution_input_product(g, weight, options)
        if by_product is not None:
            return by_product
        gx = self.empty(shape, g.dtype)
        given = self.contiguous(g), self.contiguous(weight), gx
        if is_depthwise(weight.shape, options):
            return self.depthwise_input_grad(*given, options)
        if inputs <= FEW_INPUTS and self.input_grad_by_strips(*given, options):
            return gx
        told = slide_of(shape, weight.shape, options)
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
        g, x, gw = self.contiguous(g), self.contiguous(x), self.empty(shape, g.dtype)
        if is_depthwise(shape, options):
            return self.depthwise_weight_grad(g, x, gw, options)
        windows = g.size // g.shape[1]
        grid = _tiles(math.prod(shape[1:])), _tiles(shape[0] // options.groups), options.groups
        parts = min(FILLING // math.prod(grid), windows // PART)
        return self.in_parts(
            "convolution", "convolution_weight_grad", grid, TILE_THREADS, g, x, gw,
            slide_of(x.shape, shape, options), windows, parts,
        )  # fmt: skip


def _out_shape(x: Shape, weight: Shape, options: ConvolutionOptions) -> Shape:
    return (x[0], weight[0], *windows_of(x, weight, options))


@functools.lru_cache(CACHED)
def _fit(x: Shape, weight: Shape, options: ConvolutionOptions) -> bool:
    """Whether the kernels convolve arrays of these shapes, with offsets that fit in 32 bits."""
    padded = tuple(
        n + max(0, a) + max(0, b) for n, (a, b) in zip(x[2:], options.padding, strict=False)
    )
    return (
        len(x) == len(weight) == len(options.stride) + 2
        and min(*x, *weight) > 0
        and weight[1] * options.groups == x[1]
        and weight[0] % options.groups == 0
        and options.groups <= MAX_GRID
        and counts_in_32_bits(x[0], padded, windows_of(x, weight, options), x[1], weight[0])
    )


def _begins_at_loads(x: Shape, itemsize: int) -> bool:
    """Whether all planes are aligned to 16 bytes: otherwise cuBLAS reaches a sixth of the tensor
    cores' speed (`products.PADDING_PAYS`)."""
    return math.prod(x[2:]) * itemsize % LOAD == 0


def _tiles(count: int) -> int:
    return -(-count // TILE)
