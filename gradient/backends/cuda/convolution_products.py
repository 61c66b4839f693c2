"""Large convolutions as matrix products by cuBLAS, of windows that a kernel lays out as columns.

With W of outputs x (channels, taps), and X the columns of an image's windows:

    out[n] = W @ X[n],    gW = G @ X.T over the windows of all images

With stride 1, the gradient for the input is the convolution of g with the flipped weight. Columns
are written and read once more; with many outputs, cuBLAS saves more than this costs. Their memory
is bounded: a few images at a time, or some lines of one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from gradient.backends.array_api import Array
from gradient.backends.composed.convolution import ConvolutionDefaults
from gradient.backends.cuda.launching import EACH, LOAD, MAX_GRID, KernelLauncher
from gradient.backends.cuda.windows import slide_of, windows_of
from gradient.backends.options import ConvolutionOptions
from gradient.backends.required import Shape

LEAST_OUTPUTS = 48
"""For which columns are worth their bytes: with fewer, the kernels that read windows where they lie
take less time."""
LEAST_MULTIPLIED = 1 << 27
"""Products of two numbers in a convolution, which hide three launches."""
COLUMN_BYTES = 1 << 29
"""Of columns that are laid out at a time."""


def is_pointwise(weight: Shape, options: ConvolutionOptions) -> bool:
    """Whether a convolution is a product with the weight as a matrix (1 x 1, stride 1)."""
    return (
        math.prod(weight[2:]) == math.prod(options.stride) == options.groups == 1
        and not any(map(any, options.padding))
    )  # fmt: skip


def turned_round(weight: Array, options: ConvolutionOptions) -> tuple[Array, ConvolutionOptions]:
    """The flipped weight, as a view, and the options of the convolution of g that is the gradient
    for the input of a convolution with stride 1, without groups."""
    kernel = weight.shape[2:]
    reach = [d * (k - 1) for d, k in zip(options.dilation, kernel, strict=True)]
    padding = tuple((r - a, r - b) for r, (a, b) in zip(reach, options.padding, strict=True))
    back = (slice(None), slice(None), *[slice(None, None, -1)] * len(kernel))
    swapped = weight[back].transpose((1, 0, *range(2, weight.ndim)))
    return swapped, ConvolutionOptions(options.stride, padding, options.dilation)


def _pieces(
    x: Array, weight: Shape, options: ConvolutionOptions
) -> Iterator[tuple[slice, slice, ConvolutionOptions]]:
    """Split images, and lines of their windows along the first axis, into pieces whose columns take
    at most `COLUMN_BYTES`; each with options that select these lines."""
    windows = windows_of(x.shape, weight, options)
    of_line = math.prod(weight[1:]) * math.prod(windows[1:]) * x.itemsize
    lines = min(windows[0], max(1, COLUMN_BYTES // of_line))
    images = max(1, COLUMN_BYTES // (of_line * windows[0]))
    stride, (before, _) = options.stride[0], options.padding[0]
    reach = options.dilation[0] * (weight[2] - 1) + 1
    for image, line in itertools.product(range(0, x.shape[0], images), range(0, windows[0], lines)):
        some = min(lines, windows[0] - line)
        ahead = before - line * stride
        behind = (some - 1) * stride + reach - x.shape[2] - ahead
        of_lines = options._replace(padding=((ahead, behind), *options.padding[1:]))
        yield slice(image, image + images), slice(line, line + some), of_lines


def _depth(x: Array, weight: Shape, options: ConvolutionOptions) -> int:
    """The number of rows of the columns matrix: channels and taps, padded by zeros if tensor cores
    need multiples of 16 bytes (`products.PADDING_PAYS`): the first layer of an image network has 27
    or 147. It is of the whole convolution: some pieces of it may be pointwise, others not."""
    rows, each = math.prod(weight[1:]), LOAD // x.itemsize
    return rows if x.itemsize > 2 or is_pointwise(weight, options) else -(-rows // each) * each


class ConvolutionProducts(KernelLauncher, ConvolutionDefaults[Array]):
    """Convolutions without groups, by products."""

    _multiply: Any
    _padded: Any
    """Those of `Products`."""

    def is_large_product(self, x: Shape, weight: Shape, options: ConvolutionOptions) -> bool:
        """Whether cuBLAS is faster than a kernel that reads windows in place."""
        windows = windows_of(x, weight, options)
        multiplied = x[0] * math.prod(windows) * math.prod(weight)
        return options.groups == 1 and weight[0] >= LEAST_OUTPUTS and multiplied >= LEAST_MULTIPLIED

    def convolution_product(
        self, x: Array, weight: Array, bias: Array | None, options: ConvolutionOptions
    ) -> Array:
        windows = windows_of(x.shape, weight.shape, options)
        x, images, outputs = self.contiguous(x), x.shape[0], weight.shape[0]
        rows = self.contiguous(weight).reshape((outputs, -1))
        depth = _depth(x, weight.shape, options)
        if depth > rows.shape[1]:
            rows = self._padded(rows, outputs, depth)
        out = self.empty((images, outputs, *windows), x.dtype)
        for some, lines, of_lines in _pieces(x, weight.shape, options):
            of_images, made = x[some], out[some, :, lines]
            count = math.prod(made.shape[2:])
            if made.flags.c_contiguous and count * x.itemsize % LOAD == 0:
                columns = self._image_columns(of_images, weight.shape, of_lines, depth)
                self._multiply(rows[None], columns, made.reshape((-1, outputs, count)))
                continue
            # For tensor cores, cuBLAS needs rows aligned to 16 bytes, in all images.
            columns = self._columns_of_images(of_images, weight.shape, of_lines, depth)
            product = self.matmul(rows, columns)
            side_by_side = product[:, : made.size // outputs]
            side_by_side = side_by_side.reshape((outputs, made.shape[0], *made.shape[2:]))
            self.assign(made, ..., side_by_side.swapaxes(0, 1))
        if bias is not None:
            out += bias.reshape((-1, *(1,) * len(windows)))
        return out

    def convolution_input_product(
        self, g: Array, weight: Array, options: ConvolutionOptions
    ) -> Array | None:
        """The gradient for the input; None if it is not a large convolution of g."""
        if math.prod(options.stride) > 1 or options.groups > 1:
            return None
        weight, options = turned_round(weight, options)
        if not self.is_large_product(g.shape, weight.shape, options):
            return None
        return self.convolution_product(g, self.contiguous(weight), None, options)

    def convolution_weight_product(
        self, g: Array, x: Array, shape: Shape, options: ConvolutionOptions
    ) -> Array | None:
        """The gradient for the weight; None if columns would take too much memory: in pieces, sums
        in 16 bits would be rounded in between."""
        x, outputs = self.contiguous(x), g.shape[1]
        pieces = [*_pieces(x, shape, options)]
        if len(pieces) > 1 and x.dtype.itemsize < 4:
            return None
        depth, total = _depth(x, shape, options), None
        for some, lines, of_lines in pieces:
            of_g = g[some, :, lines]
            windows = of_g.size // outputs
            columns = self._columns_of_images(x[some], shape, of_lines, depth)
            rows = self.empty((outputs, columns.shape[1]), g.dtype)
            side_by_side = rows[:, :windows].reshape((outputs, of_g.shape[0], *of_g.shape[2:]))
            self.assign(side_by_side, ..., of_g.swapaxes(0, 1))
            part = self.matmul(rows[:, :windows], columns[:, :windows].T)
            total = part if total is None else total + part
        assert total is not None
        return self.contiguous(total[:, : math.prod(shape[1:])]).reshape(shape)

    def _image_columns(
        self, x: Array, weight: Shape, options: ConvolutionOptions, rows: int
    ) -> Array:  # fmt: skip
        """The windows of each image: (images, channels and taps, windows)."""
        if rows == x.shape[1] and is_pointwise(weight, options):
            return x.reshape((*x.shape[:2], -1))
        count = math.prod(windows_of(x.shape, weight, options))
        out = self.empty((x.shape[0], rows, count), x.dtype)
        self._lay_out(x, weight, options, out, rows, count, rows * count)
        return out

    def _columns_of_images(
        self, x: Array, weight: Shape, options: ConvolutionOptions, rows: int
    ) -> Array:  # fmt: skip
        """The windows of all images, image after image: (channels and taps, windows), padded by
        columns of zeros so that rows are aligned to 16 bytes."""
        count = math.prod(windows_of(x.shape, weight, options))
        windows, each = x.shape[0] * count, max(1, LOAD // x.itemsize)
        pitch = -(-windows // each) * each
        out = self.empty((rows, pitch), x.dtype)
        if pitch > windows:
            self.assign(out, (slice(None), slice(windows, None)), 0)
        self._lay_out(x, weight, options, out, rows, pitch, count)
        return out

    def _lay_out(
        self, x: Array, weight: Shape, options: ConvolutionOptions, out: Array, rows: int,
        pitch: int, image_step: int,
    ) -> None:  # fmt: skip
        packs = -(-math.prod(windows_of(x.shape, weight, options)) // (LOAD // x.itemsize))
        grid = (-(-packs // EACH), min(rows, MAX_GRID), min(x.shape[0], MAX_GRID))
        self.launch(
            "columns", "columns", x, grid, EACH, x, out, slide_of(x.shape, weight, options),
            rows, pitch, image_step,
        )  # fmt: skip
