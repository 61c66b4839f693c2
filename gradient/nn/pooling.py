"""Pooling layers."""

from __future__ import annotations

from collections.abc import Sequence

from gradient import functional as F
from gradient.errors import ArgumentError, sentence
from gradient.functional.conv import Size, sizes
from gradient.functional.fractional_pooling import Ratio
from gradient.nn.module import Module
from gradient.nn.spatial import SpatialModule
from gradient.tensor import Tensor

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]


class _MaxPool(SpatialModule):
    _shown = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride if stride is not None else kernel_size
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        return self._op(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
            self.return_indices,
        )  # fmt: skip


class MaxPool1d(_MaxPool, op=F.max_pool1d):
    """The maximum of each window: (N, C, L) or (C, L) to (N, C, L'). See `MaxPool2d`."""


class MaxPool2d(_MaxPool, op=F.max_pool2d):
    """The maximum of each window: (N, C, H, W) or (C, H, W) to (N, C, H', W').

    `H' = (H + 2 padding - dilation (kernel_size - 1) - 1) // stride + 1`; with `ceil_mode` the
    division rounds up. `stride` is the kernel size by default. With `return_indices`, the index of
    each maximum in the flattened (H, W) is returned as well, for `MaxUnpool2d`.

    Raises:
        ShapeError: wrong number of dimensions, a kernel larger than the padded input, or padding
            of more than half the kernel size.
    """


class MaxPool3d(_MaxPool, op=F.max_pool3d):
    """The maximum of each window: (N, C, D, H, W) or (C, D, H, W). See `MaxPool2d`."""


class AvgPool1d(Module):
    """The mean of each window: (N, C, L) or (C, L) to (N, C, L'). See `AvgPool2d`."""

    _shown = ("kernel_size", "stride", "padding")

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        one = [
            value if isinstance(value, int) else value[0]
            for value in (kernel_size, kernel_size if stride is None else stride, padding)
        ]
        self.kernel_size, self.stride, self.padding = ((value,) for value in one)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad,
        )  # fmt: skip


class AvgPool2d(SpatialModule, op=F.avg_pool2d):
    """The mean of each window: (N, C, H, W) or (C, H, W) to (N, C, H', W').

    The sizes are those of `MaxPool2d`. `count_include_pad` counts the zeros of the padding as
    elements; `divisor_override` divides the sum of a window by this number instead.
    """

    _shown = ("kernel_size", "stride", "padding")

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride if stride is not None else kernel_size
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, input: Tensor) -> Tensor:
        return self._op(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad, self.divisor_override,
        )  # fmt: skip


class AvgPool3d(AvgPool2d, op=F.avg_pool3d):
    """The mean of each window: (N, C, D, H, W) or (C, D, H, W). See `AvgPool2d`."""


class _AdaptivePool(SpatialModule):
    _shown = ("output_size",)

    def __init__(self, output_size: int | Sequence[int | None]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return self._op(input, self.output_size)


class AdaptiveAvgPool1d(_AdaptivePool, op=F.adaptive_avg_pool1d):
    """The means of `output_size` windows that cover (N, C, L) evenly: (N, C, output_size)."""


class AdaptiveAvgPool2d(_AdaptivePool, op=F.adaptive_avg_pool2d):
    """The means of h x w windows that cover (N, C, H, W) evenly: (N, C, h, w). `output_size` is
    (h, w), or one number for both; None keeps the input's size."""


class AdaptiveAvgPool3d(_AdaptivePool, op=F.adaptive_avg_pool3d):
    """The means of d x h x w windows that cover (N, C, D, H, W) evenly: (N, C, d, h, w)."""


class _AdaptiveMaxPool(_AdaptivePool):
    def __init__(
        self, output_size: int | Sequence[int | None], return_indices: bool = False
    ) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Tensor:
        return self._op(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool, op=F.adaptive_max_pool1d):
    """The maxima of `output_size` windows that cover (N, C, L) evenly: (N, C, output_size)."""


class AdaptiveMaxPool2d(_AdaptiveMaxPool, op=F.adaptive_max_pool2d):
    """The maxima of h x w windows that cover (N, C, H, W) evenly: (N, C, h, w). `output_size` is
    (h, w), or one number for both; None keeps the input's size."""


class AdaptiveMaxPool3d(_AdaptiveMaxPool, op=F.adaptive_max_pool3d):
    """The maxima of d x h x w windows that cover (N, C, D, H, W) evenly: (N, C, d, h, w)."""


class _LPPool(SpatialModule):
    _shown = ("norm_type", "kernel_size", "stride", "ceil_mode")

    def __init__(
        self,
        norm_type: float,
        kernel_size: Size,
        stride: Size | None = None,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.norm_type, self.kernel_size = norm_type, kernel_size
        self.stride, self.ceil_mode = stride, ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        size = self.kernel_size
        return self._op(input, float(self.norm_type), size, self.stride, self.ceil_mode)


class LPPool1d(_LPPool, op=F.lp_pool1d):
    """`(sum x^p)^(1/p)` of each window, p = `norm_type`: (N, C, L) to (N, C, L')."""


class LPPool2d(_LPPool, op=F.lp_pool2d):
    """`(sum x^p)^(1/p)` of each window, p = `norm_type`: (N, C, H, W) to (N, C, H', W')."""


class LPPool3d(_LPPool, op=F.lp_pool3d):
    """`(sum x^p)^(1/p)` of each window, p = `norm_type`: (N, C, D, H, W) to (N, C, D', H', W')."""


class _FractionalMaxPool(SpatialModule):
    _random_samples: Tensor | None

    def __init__(
        self,
        kernel_size: Size,
        output_size: Size | None = None,
        output_ratio: Ratio | None = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if (output_size is None) == (output_ratio is None):
            got = "neither" if output_size is None else "both"
            raise ArgumentError(sentence(name, "an output_size or an output_ratio", got))
        if output_ratio is not None:
            given = output_ratio if isinstance(output_ratio, Sequence) else (output_ratio,)
            if not all(0 < ratio < 1 for ratio in given):
                raise ArgumentError(sentence(name, "output_ratio between 0 and 1", output_ratio))
        self.kernel_size, self.return_indices = kernel_size, return_indices
        self.output_size, self.output_ratio = output_size, output_ratio
        self.register_buffer("_random_samples", _random_samples)

    def forward(self, input: Tensor) -> Tensor:
        return self._op(
            input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices,
            self._random_samples,
        )  # fmt: skip


class FractionalMaxPool2d(_FractionalMaxPool, op=F.fractional_max_pool2d):
    """The maxima of windows at pseudo-random positions (Graham 2014): (N, C, H, W) to
    (N, C, *output_size), or to `output_ratio` times the input's size."""


class FractionalMaxPool3d(_FractionalMaxPool, op=F.fractional_max_pool3d):
    """The maxima of windows of (N, C, T, H, W) at pseudo-random positions; see
    `FractionalMaxPool2d`."""


class _MaxUnpool(SpatialModule):
    _shown = ("kernel_size", "stride", "padding")

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        super().__init__()
        name, spatial = type(self).__name__, self.spatial
        self.kernel_size = sizes(name, "kernel_size", kernel_size, spatial)
        self.stride = sizes(name, "stride", kernel_size if stride is None else stride, spatial)
        self.padding = sizes(name, "padding", padding, spatial)

    def forward(
        self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None
    ) -> Tensor:
        return self._op(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool1d(_MaxUnpool, spatial=1, op=F.max_unpool1d):
    """Puts maxima (N, C, L) back at the indices of `MaxPool1d`; other elements are 0."""


class MaxUnpool2d(_MaxUnpool, spatial=2, op=F.max_unpool2d):
    """Puts maxima (N, C, H, W) back at the indices of `MaxPool2d`; other elements are 0. See
    `functional.max_unpool2d`."""


class MaxUnpool3d(_MaxUnpool, spatial=3, op=F.max_unpool3d):
    """Puts maxima (N, C, D, H, W) back at the indices of `MaxPool3d`; other elements are 0."""
