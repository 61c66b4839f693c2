"""Depthwise convolutions, with few channels in a group (`depthwise.cu`)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.convolution import ConvolutionDefaults
from gradient.backends.cuda.launching import DIVISOR, EACH, KernelLauncher, computed_in, divisor
from gradient.backends.cuda.windows import CACHED, slide_of
from gradient.backends.options import ConvolutionOptions
from gradient.backends.required import Shape

FEW_OUTPUTS, FEW_INPUTS = 4, 8
"""Outputs of a channel up to which a convolution of one channel a group is depthwise; and inputs of
a group up to which strips take less time for a gradient by the input than tiles that are mostly
empty."""
FILLING = 512
"""Blocks that keep a GPU busy: a gradient by the weight is divided into parts up to so many."""
TAPS = 9
"""Numbers of a depthwise weight for which a block adds up."""
STRIP_THREADS, STRIPS_OF_THREAD = 128, 2
"""Threads of a block that goes down strips, and strips of each in a gradient by the weight."""
SIZES, ROWS = (3, 5, 7), {1: 8, 2: 4}
"""Of kernels, and the windows of a strip for a stride, of which `depthwise.cu` has strips."""
MOST_STRIPS = 1 << 31
STRIPS = np.dtype(
    [(name, DIVISOR) for name in ("columns", "strips", "planes")] + [("count", np.uint32)]
)
"""`Strips` of `depthwise.cu`."""


def is_depthwise(weight: Shape, options: ConvolutionOptions) -> bool:
    return weight[1] == 1 and weight[0] <= FEW_OUTPUTS * options.groups


class DepthwiseKernels(KernelLauncher, ConvolutionDefaults[Array]):
    """Depthwise convolutions of one to three dimensions, of contiguous arrays."""

    def depthwise(
        self, x: Array, weight: Array, bias: Array | None, out: Array, options: ConvolutionOptions
    ) -> Array:
        given = x, weight, bias, out, slide_of(x.shape, weight.shape, options)
        if not self._by_strips("", out, weight.shape, options, given, *out.shape[-2:]):
            self.launch_numbers("depthwise", "depthwise", out, *given)
        return out

    def depthwise_input_grad(
        self, g: Array, weight: Array, gx: Array, options: ConvolutionOptions
    ) -> Array:
        if not self.input_grad_by_strips(g, weight, gx, options):
            told = slide_of(gx.shape, weight.shape, options)
            self.launch_numbers("depthwise", "depthwise_input_grad", gx, g, weight, gx, told)
        return gx

    def input_grad_by_strips(
        self, g: Array, weight: Array, gx: Array, options: ConvolutionOptions
    ) -> bool:
        """Fill `gx`, for any number of inputs in a group; return False if no strips kernel can."""
        rows, columns = gx.shape[-2:]
        if options.stride[-1] == 2:  # from a place on that the first window's number 0, 2 ... meets
            (above, _), (ahead, _) = ((0, 0), *options.padding)[-2:]
            rows, columns = rows + above % 2, (columns + ahead % 2 + 1) // 2
        given = g, weight, gx, slide_of(gx.shape, weight.shape, options)
        return self._by_strips("_input_grad", gx, weight.shape, options, given, rows, columns)

    def depthwise_weight_grad(
        self, g: Array, x: Array, gw: Array, options: ConvolutionOptions
    ) -> Array:
        shape, images = gw.shape, g.shape[0]
        told = slide_of(x.shape, shape, options)
        named = strips_of(shape, options, g.dtype)
        if named is None:
            threads = min(-(-math.prod(g.shape[2:]) // 32) * 32, EACH)
            grid = shape[0], -(-math.prod(shape[2:]) // TAPS)
            parts = FILLING * EACH // (math.prod(grid) * threads)
            return self.in_parts(
                "depthwise", "depthwise_weight_grad", grid, threads, g, x, gw, told, images, parts
            )
        name, rows = named
        of_image = -(-g.shape[-2] // rows)
        all_strips = images * of_image * g.shape[-1]
        threads = min(-(-all_strips // (STRIPS_OF_THREAD * 32)) * 32, STRIP_THREADS)
        parts = min(
            FILLING * EACH // (shape[0] * threads), all_strips // (STRIPS_OF_THREAD * threads)
        )
        return self.in_parts(
            "depthwise", f"depthwise_{name}_weight_grad", (shape[0], 1), threads, g, x, gw, told,
            images * of_image, parts, [strips_told(g.shape[-1], of_image, images)],
        )  # fmt: skip

    def in_parts(
        self, family: str, kernel: str, grid: tuple[int, ...], threads: int, g: Array, x: Array,
        gw: Array, told: np.ndarray, count: int, parts: int, after: Sequence[np.ndarray] = (),
    ) -> Array:  # fmt: skip
        """The gradient for the weight: `grid` blocks for each of `parts` parts of `count` windows,
        images or rows of strips; then a second kernel adds the partial sums in order."""
        of_part = -(-count // max(parts, 1))
        parts = -(-count // of_part)
        sums = self.empty((parts, gw.size), np.dtype(computed_in(g))) if parts > 1 else None
        *plane, depth = (*grid, 1)[:3]
        self.launch(
            family, kernel, g, (*plane, depth * parts), threads,
            g, x, gw if sums is None else None, sums, told, of_part, *after,
        )  # fmt: skip
        if sums is not None:
            self.launch_numbers("convolution", "convolution_join", gw, sums, gw, parts, gw.size)
        return gw

    def _by_strips(
        self, kernel: str, out: Array, weight: Shape, options: ConvolutionOptions,
        given: tuple[Any, ...], rows: int, columns: int,
    ) -> bool:  # fmt: skip
        """Fill `out`, with planes of `rows` x `columns` threads; return False if no strips kernel
        can."""
        named = strips_of(weight, options, out.dtype)
        if named is None:
            return False
        name, of_strip = named
        strips = strips_told(columns, -(-rows // of_strip), out.shape[1], out.shape[0])
        count = int(strips["count"][0])
        if count == MOST_STRIPS:
            return False
        self.launch(
            "depthwise", f"depthwise_{name}{kernel}", out, (-(-count // STRIP_THREADS),),
            STRIP_THREADS, *given, strips,
        )  # fmt: skip
        return True


@functools.lru_cache(CACHED)
def strips_of(
    weight: Shape, options: ConvolutionOptions, dtype: np.dtype
) -> tuple[str, int] | None:
    """The part of the strips kernels' name for this case, and the rows of a strip; None if there
    are no such kernels."""
    kernel, stride = weight[2:], options.stride
    is_square = (
        len(kernel) == 2 and len({*kernel}) == len({*stride}) == len({*options.dilation}) == 1
    )
    if (
        dtype.itemsize > 4
        or not is_square
        or options.dilation[0] > 1
        or kernel[0] not in SIZES
        or stride[0] not in ROWS
    ):
        return None
    return f"{kernel[0]}_{stride[0]}", ROWS[stride[0]]


@functools.lru_cache(CACHED)
def strips_told(columns: int, strips: int, planes: int, images: int = 1) -> np.ndarray:
    """A kernel's struct argument, passed by value; it is shared and must not be written to."""
    told = np.zeros(1, STRIPS)
    for name, count in zip(STRIPS.names or (), (columns, strips, planes), strict=False):
        told[name] = divisor(count)
    told["count"] = min(columns * strips * planes * images, MOST_STRIPS)
    return told
