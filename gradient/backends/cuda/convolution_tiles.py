"""Convolutions of 16-bit floats by tensor cores, on images in channels-last layout
(`convolution_wide.cu`)."""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.array_api import FLOAT32, Array
from gradient.backends.composed.convolution import ConvolutionDefaults
from gradient.backends.cuda.convolution_products import turned_round
from gradient.backends.cuda.grouped import TWO_BLOCKS, WIDE_TILES
from gradient.backends.cuda.launching import LOAD, KernelLauncher
from gradient.backends.cuda.windows import slide_of, windows_of
from gradient.backends.options import ConvolutionOptions
from gradient.backends.required import Shape

LEAST_ROWS, LEAST_MULTIPLIED = 32, 1 << 22
"""Of a product, from which on tiles are full enough; products of two numbers, which hide the
copies' launches."""
LEAST_TILES = 1
"""For each multiprocessor, of results that are not divided into parts."""
FILLING, WINDOWS_OF_PART = 4, 1024
"""Blocks that keep a multiprocessor busy: a gradient for the weight is divided into parts up to so
many for each; and windows of a part, at least."""
STEP, MOST_TAPS = 32, 32
"""Channels, or windows, that are added up at a time; taps of which a thread keeps a bit each."""


class ConvolutionTiles(KernelLauncher, ConvolutionDefaults[Array]):
    """Convolutions without groups, with channels in multiples of 8."""

    def has_wide_tiles(
        self, x: Shape, weight: Shape, dtype: np.dtype, options: ConvolutionOptions,
        sizes: tuple[int, int], by_eights: tuple[int, ...], in_parts: bool = False,
    ) -> bool:  # fmt: skip
        """Whether these kernels take the least time for a convolution, or a gradient of it: a
        product of so many rows and columns, whose sums may be divided into parts, with these counts
        of channels `by_eights`."""
        rows, columns = sizes
        multiplied = x[0] * math.prod(windows_of(x, weight, options)) * math.prod(weight)
        return (
            dtype.itemsize == 2
            and self.runtime.has_tensor_cores
            and self.runtime.max_shared >= TWO_BLOCKS
            and options.groups == 1
            and not any(count % 8 for count in by_eights)
            and rows >= LEAST_ROWS
            and (
                in_parts
                or _wide(rows) * _wide(columns) >= LEAST_TILES * self.runtime.multiprocessors
            )
            and math.prod(weight[2:]) <= MOST_TAPS
            and multiplied >= LEAST_MULTIPLIED
        )

    def convolution_by_tiles(
        self, x: Array, weight: Array, options: ConvolutionOptions, bias: Array | None = None
    ) -> Array:
        windows = windows_of(x.shape, weight.shape, options)
        out = self.empty((x.shape[0], weight.shape[0], *windows), x.dtype)
        tiles = _wide(x.shape[0] * math.prod(windows)) * _wide(weight.shape[0])
        self.launch(
            "convolution_wide", "convolution_wide", x, (tiles,), WIDE_TILES.threads,
            self._channels_last(x), self._taps_by_channels(weight), self.optional(bias), out,
            slide_of(x.shape, weight.shape, options), shared=WIDE_TILES.shared,
        )  # fmt: skip
        return out

    def convolution_input_grad_by_tiles(
        self, g: Array, weight: Array, shape: Shape, options: ConvolutionOptions
    ) -> Array:
        """A convolution of g, or a product for each remainder of positions modulo the stride."""
        if math.prod(options.stride) == 1:
            return self.convolution_by_tiles(g, *turned_round(weight, options))
        gx = self.empty(shape, g.dtype)
        places = math.prod(-(-n // s) for n, s in zip(shape[2:], options.stride, strict=True))
        tiles = _wide(shape[0] * places) * _wide(shape[1])
        self.launch(
            "convolution_wide", "convolution_wide_input_grad", g,
            (tiles, math.prod(options.stride)), WIDE_TILES.threads,
            self._channels_last(g), self._channels_last(weight.swapaxes(0, 1)), gx,
            slide_of(shape, weight.shape, options), shared=WIDE_TILES.shared,
        )  # fmt: skip
        return gx

    def convolution_weight_grad_by_tiles(
        self, g: Array, x: Array, shape: Shape, options: ConvolutionOptions
    ) -> Array:
        columns, windows = math.prod(shape[1:]), g.size // g.shape[1]
        grid = _wide(columns), _wide(shape[0])
        blocks = FILLING * self.runtime.multiprocessors
        parts = max(1, min(blocks // math.prod(grid), windows // WINDOWS_OF_PART))
        of_part = -(-windows // (parts * STEP)) * STEP
        parts = -(-windows // of_part)
        sums, gw = self.empty((parts, shape[0] * columns), FLOAT32), self.empty(shape, g.dtype)
        told = slide_of(x.shape, shape, options)
        self.launch(
            "convolution_wide", "convolution_wide_weight_grad", g, (*grid, parts),
            WIDE_TILES.threads, self._channels_last(g), self._channels_last(x), sums, told,
            of_part, shared=WIDE_TILES.shared,
        )  # fmt: skip
        self.launch_numbers("convolution_wide", "convolution_wide_join", gw, sums, gw, told, parts)
        return gw

    def _taps_by_channels(self, weight: Array) -> Array:
        """The weight as (outputs, taps, channels); if channels are a multiple of `STEP`, as
        (outputs, channels / STEP, taps, STEP), so that consecutive steps read nearly the same
        positions."""
        outputs, channels = weight.shape[:2]
        if channels % STEP:
            return self._channels_last(weight)
        by_steps = self.reshape(weight, (outputs, channels // STEP, STEP, -1))
        return self._aligned(self.contiguous(by_steps.transpose((0, 1, 3, 2))))

    def _channels_last(self, x: Array) -> Array:
        """The array with its second axis last, contiguous and aligned to 16 bytes; a copy unless
        its memory has this layout."""
        return self._aligned(self.contiguous(x.transpose((0, *range(2, x.ndim), 1))))

    def _aligned(self, x: Array) -> Array:
        return x.copy() if self.runtime.address(x) % LOAD else x


def _wide(count: int) -> int:
    return -(-count // WIDE_TILES.size)
