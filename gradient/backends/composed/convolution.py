"""Convolutions and their gradients, as matrix products with the windows of the input.

`unfold` copies each window to a column (im2col). Then a convolution is `weight @ columns`, and its
gradient for the input is `fold(weight.T @ g)`, a transposed convolution.
"""

from __future__ import annotations

import math

from gradient.backends.composed.precision import in_float32
from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.options import ConvolutionOptions
from gradient.backends.required import Array, Shape


class ConvolutionDefaults(ShapeDefaults[Array]):
    """Methods of `Backend` for convolutions."""

    @in_float32
    def convolution(
        self, x: Array, weight: Array, bias: Array | None, options: ConvolutionOptions
    ) -> Array:
        """Cross-correlation of x (N, C, *S) with weight (O, C / groups, *K), plus bias (O,).

        Padding is zeros: where a window overlaps it, an infinite or NaN weight may give NaN, here
        and in the gradient for the input.
        """
        groups, out_channels = options.groups, weight.shape[0]
        windows = options.windows(x.shape[2:], weight.shape[2:])
        columns = self._columns(x, weight.shape[2:], windows, options)
        rows = self.reshape(weight, (groups, out_channels // groups, math.prod(weight.shape[1:])))
        y = self.reshape(self.matmul(rows, columns), (x.shape[0], out_channels, *windows))
        if bias is not None:
            y = y + self.reshape(bias, (-1, *(1,) * len(windows)))
        return y

    @in_float32
    def convolution_input_grad(
        self, g: Array, weight: Array, shape: Shape, options: ConvolutionOptions
    ) -> Array:
        """The gradient of `convolution` for its input of `shape`, from g (N, O, *windows)."""
        groups, kernel, windows = options.groups, weight.shape[2:], g.shape[2:]
        inputs = weight.shape[1] * math.prod(kernel)
        rows = self.reshape(weight, (groups, weight.shape[0] // groups, inputs))
        columns = self.matmul(self.matrix_transpose(rows), self._rows(g, groups))
        full = options.reach(windows, kernel)
        sums = self.fold(
            self.reshape(columns, (shape[0], shape[1], math.prod(kernel), *windows)),
            (shape[0], shape[1], *full), kernel, options.stride, options.dilation,
        )  # fmt: skip
        inside = self._cut(sums, tuple(before for before, _ in options.padding), tuple(shape[2:]))
        return inside if inside is sums else self.copy(inside)

    @in_float32
    def convolution_weight_grad(
        self, g: Array, x: Array, shape: Shape, options: ConvolutionOptions
    ) -> Array:
        """The gradient of `convolution` for its weight, which has `shape`."""
        columns = self._columns(x, tuple(shape[2:]), g.shape[2:], options)
        products = self.matmul(self._rows(g, options.groups), self.matrix_transpose(columns))
        return self.reshape(self.sum(products, 0), tuple(shape))

    def _columns(
        self, x: Array, kernel: Shape, windows: Shape, options: ConvolutionOptions
    ) -> Array:
        """A column for each window: (N, groups, C / groups * prod(kernel), prod(windows))."""
        full = options.reach(windows, kernel)
        x = self._cut(x, tuple(-before for before, _ in options.padding), full)
        if math.prod(kernel) > 1 or any(s > 1 for s in options.stride):
            x = self.unfold(x, kernel, options.stride, options.dilation)
        inputs = x.shape[1] // options.groups * math.prod(kernel)
        return self.reshape(x, (x.shape[0], options.groups, inputs, math.prod(windows)))

    def _rows(self, g: Array, groups: int) -> Array:
        """g (N, O, *windows) as (N, groups, O / groups, prod(windows))."""
        sizes = g.shape[0], groups, g.shape[1] // groups, math.prod(g.shape[2:])
        return self.reshape(g, sizes)

    def _cut(self, x: Array, starts: Shape, sizes: Shape) -> Array:
        """Slice the last axes from starts to starts + sizes; zeros outside of x."""
        inside = tuple(
            slice(max(0, start), max(0, start + size))
            for start, size in zip(starts, sizes, strict=True)
        )
        widths = tuple(
            (max(0, -start), min(size, max(0, start + size - old)))
            for start, size, old in zip(starts, sizes, x.shape[2:], strict=True)
        )
        if any(i.start > 0 or i.stop < old for i, old in zip(inside, x.shape[2:], strict=True)):
            x = self.getitem(x, (slice(None), slice(None), *inside))
        if any(before or after for before, after in widths):
            x = self.pad(x, ((0, 0), (0, 0), *widths))
        return x
