"""Large convolutions as matrix products by cuBLAS, of windows that a kernel lays out as columns.

With W of outputs x (channels, taps), and X the columns of an image's windows:

    out[n] = W @ X[n],    gW = G @ X.T over the windows of all images

The gradient for the input is, with a stride of 1, the convolution of g with the weight turned
round. Columns are written and read once more, which costs less than cuBLAS saves where there are
many outputs; their memory is bounded by taking a few images at a time.
"""

from __future__ import annotations

import math
from typing import Any

from gradient.backends.array_api import Array
from gradient.backends.composed.convolution import ConvolutionDefaults
from gradient.backends.cuda.launching import EACH, LOAD, MAX_GRID, KernelLauncher
from gradient.backends.cuda.windows import slide_of
from gradient.backends.options import ConvolutionOptions
from gradient.backends.required import Shape

LEAST_OUTPUTS = 48
"""For which columns are worth their bytes: with fewer, the kernels that read windows where they lie
take less time."""
LEAST_MULTIPLIED = 1 << 27
"""Products of two numbers in a convolution, which hide three launches."""
COLUMN_BYTES = 1 << 29
"""Of columns that are laid out at a time."""


def turned_round(weight: Array, options: ConvolutionOptions) -> tuple[Array, ConvolutionOptions]:
    """The weight, as a view, and the options with which a convolution of g is the gradient for the
    input of one with a stride of 1, without groups."""
    kernel = weight.shape[2:]
    reach = [d * (k - 1) for d, k in zip(options.dilation, kernel, strict=True)]
    padding = tuple((r - a, r - b) for r, (a, b) in zip(reach, options.padding, strict=True))
    back = (slice(None), slice(None), *[slice(None, None, -1)] * len(kernel))
    swapped = weight[back].transpose((1, 0, *range(2, weight.ndim)))
    return swapped, ConvolutionOptions(options.stride, padding, options.dilation)


class ConvolutionProducts(KernelLauncher, ConvolutionDefaults[Array]):
    """Convolutions without groups, by products."""

    _multiply: Any
    """`Products._multiply`."""

    def is_large_product(self, x: Shape, weight: Shape, options: ConvolutionOptions) -> bool:
        """Whether cuBLAS takes less time than a kernel that reads windows where they lie."""
        windows = options.windows(x[2:], weight[2:])
        multiplied = x[0] * math.prod(windows) * math.prod(weight)
        return options.groups == 1 and weight[0] >= LEAST_OUTPUTS and multiplied >= LEAST_MULTIPLIED

    def convolution_product(
        self, x: Array, weight: Array, bias: Array | None, options: ConvolutionOptions
    ) -> Array:
        windows = options.windows(x.shape[2:], weight.shape[2:])
        images, outputs, count = x.shape[0], weight.shape[0], math.prod(windows)
        rows = self.contiguous(weight).reshape((outputs, -1))
        out = self.empty((images, outputs, count), x.dtype)
        step = self._images_at_a_time(x, weight.shape, count)
        for first in range(0, images, step):
            some, made = x[first : first + step], out[first : first + step]
            if count * x.itemsize % LOAD == 0:
                self._multiply(rows[None], self._image_columns(some, weight.shape, options), made)
                continue
            # cuBLAS needs rows that begin at 16 bytes for its tensor cores: those of all images.
            product = self.matmul(rows, self._columns_of_images(some, weight.shape, options))
            side_by_side = product[:, : some.shape[0] * count].reshape((outputs, -1, count))
            self.assign(made, ..., side_by_side.transpose((1, 0, 2)))
        if bias is not None:
            out += bias.reshape((-1, 1))
        return out.reshape((images, outputs, *windows))

    def convolution_input_product(
        self, g: Array, weight: Array, options: ConvolutionOptions
    ) -> Array | None:
        """The gradient for the input; None where it is no large convolution of g."""
        if math.prod(options.stride) > 1 or options.groups > 1:
            return None
        weight, options = turned_round(weight, options)
        if not self.is_large_product(g.shape, weight.shape, options):
            return None
        return self.convolution_product(g, self.contiguous(weight), None, options)

    def convolution_weight_product(
        self, g: Array, x: Array, shape: Shape, options: ConvolutionOptions
    ) -> Array | None:
        """The gradient for the weight; None where columns would take more memory than they may: a
        sum of 16-bit floats would be rounded in between."""
        images, outputs, count = g.shape[0], g.shape[1], math.prod(g.shape[2:])
        step = self._images_at_a_time(x, shape, count)
        if step < images and x.dtype.itemsize < 4:
            return None
        total: Array | None = None
        for first in range(0, images, step):
            some = x[first : first + step]
            windows = some.shape[0] * count
            columns = self._columns_of_images(some, shape, options)
            rows = self.empty((outputs, columns.shape[1]), g.dtype)
            of_images = g[first : first + step].reshape((-1, outputs, count))
            side_by_side = rows[:, :windows].reshape((outputs, -1, count))
            self.assign(side_by_side, ..., of_images.transpose((1, 0, 2)))
            part = self.matmul(rows[:, :windows], columns[:, :windows].T)
            total = part if total is None else total + part
        assert total is not None
        return total.reshape(shape)

    def _images_at_a_time(self, x: Array, weight: Shape, count: int) -> int:
        of_image = math.prod(weight[1:]) * count * x.itemsize
        return min(x.shape[0], max(1, COLUMN_BYTES // of_image))

    def _image_columns(self, x: Array, weight: Shape, options: ConvolutionOptions) -> Array:
        """The windows of each image: (images, channels and taps, windows)."""
        rows, count = math.prod(weight[1:]), math.prod(options.windows(x.shape[2:], weight[2:]))
        out = self.empty((x.shape[0], rows, count), x.dtype)
        self._lay_out(x, weight, options, out, count, rows * count)
        return out

    def _columns_of_images(self, x: Array, weight: Shape, options: ConvolutionOptions) -> Array:
        """The windows of all images, image after image: (channels and taps, windows), with columns
        of zeros at the end, so that rows begin at 16 bytes."""
        rows, count = math.prod(weight[1:]), math.prod(options.windows(x.shape[2:], weight[2:]))
        windows, each = x.shape[0] * count, max(1, LOAD // x.itemsize)
        pitch = -(-windows // each) * each
        out = self.empty((rows, pitch), x.dtype)
        if pitch > windows:
            self.assign(out, (slice(None), slice(windows, None)), 0)
        self._lay_out(x, weight, options, out, pitch, count)
        return out

    def _lay_out(
        self, x: Array, weight: Shape, options: ConvolutionOptions, out: Array, pitch: int,
        image_step: int,
    ) -> None:  # fmt: skip
        packs = -(-math.prod(options.windows(x.shape[2:], weight[2:])) // (LOAD // x.itemsize))
        rows = math.prod(weight[1:])
        grid = (-(-packs // EACH), min(rows, MAX_GRID), min(x.shape[0], MAX_GRID))
        self.launch(
            "columns", "columns", x, grid, EACH, self.contiguous(x), out,
            slide_of(x.shape, weight, options), pitch, image_step,
        )  # fmt: skip
