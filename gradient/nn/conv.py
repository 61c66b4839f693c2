"""Convolutions of one, two and three dimensions, and their transposes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradient import functional as F
from gradient.dtypes import DType
from gradient.errors import ArgumentError
from gradient.functional.conv import Padding, Size, same_widths, sizes
from gradient.nn import init
from gradient.nn.parameter import Parameter
from gradient.nn.printing import changed
from gradient.nn.spatial import SpatialModule
from gradient.tensor import Tensor
from gradient.tensor.arguments import size_argument
from gradient.tensor.creation import empty
from gradient.tensor.device import DeviceLike

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(SpatialModule):
    """Base of all convolutions: options, parameters and `repr`."""

    transposed = False
    bias: Parameter  # or None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size,
        padding: Padding,
        dilation: Size,
        groups: int,
        bias: bool,
        padding_mode: str,
        output_padding: Size,
        device: DeviceLike,
        dtype: DType | None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        for label, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if groups < 1 or size_argument(name, label, channels) % groups:
                raise ArgumentError(
                    f"{name}: {label} {channels} is not divisible by groups {groups}"
                )
        if padding_mode not in _PADDING_MODES:
            raise ArgumentError(
                f"{name}: padding_mode must be one of {_PADDING_MODES}, got {padding_mode!r}"
            )
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ArgumentError(
                f"{name}: padding must be numbers, 'same' or 'valid', got {padding!r}"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = sizes(name, "kernel_size", kernel_size, self.spatial, 0)
        self.stride = sizes(name, "stride", stride, self.spatial)
        self.dilation = sizes(name, "dilation", dilation, self.spatial)
        self.output_padding = sizes(name, "output_padding", output_padding, self.spatial)
        self.padding = (
            padding if isinstance(padding, str) else sizes(name, "padding", padding, self.spatial)
        )
        if padding == "same" and any(s != 1 for s in self.stride):
            raise ArgumentError(f"{name}: padding='same' needs a stride of 1, got {self.stride}")
        self.groups, self.padding_mode = groups, padding_mode
        first, second = out_channels, in_channels // groups
        if self.transposed:
            first, second = in_channels, out_channels // groups
        shape = (first, second, *self.kernel_size)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        given = Parameter(empty(out_channels, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", given)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias uniformly from [-b, b], b = `1 / sqrt(fan_in)`."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
        if self.bias is not None and fan_in:
            bound = 1 / math.sqrt(fan_in)
            init.uniform_(self.bias, -bound, bound)

    def _padded(self, input: Tensor) -> tuple[Tensor, Padding]:
        """The input padded by `padding_mode`, and the padding with zeros that `_op` has to do."""
        if self.padding_mode == "zeros":
            return input, self.padding
        if self.padding == "valid":
            return input, 0
        if self.padding == "same":
            widths = same_widths(self.kernel_size, self.dilation)
        else:
            widths = [p for p in reversed(self.padding) for _ in range(2)]
        return F.pad(input, widths, self.padding_mode), 0

    def extra_repr(self) -> str:
        none, ones = (0,) * self.spatial, (1,) * self.spatial
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"]
        parts += [f"stride={self.stride}", *changed(self, padding=none, dilation=ones)]
        parts += changed(self, output_padding=none, groups=1)
        parts += [] if self.bias is not None else ["bias=False"]
        return ", ".join([*parts, *changed(self, padding_mode="zeros")])


class _ForwardConv(_Conv):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: DeviceLike = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            padding_mode, 0, device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        input, padding = self._padded(input)
        return self._op(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )


class Conv1d(_ForwardConv, spatial=1, op=F.conv1d):
    """`y[n, o] = bias[o] + sum_c weight[o, c] * x[n, c]`: (N, C, L) or (C, L) to (N, O, L').

    Here * is a cross-correlation, and the weight is (O, C / groups, K). See `Conv2d`.
    """


class Conv2d(_ForwardConv, spatial=2, op=F.conv2d):
    """`y[n, o] = bias[o] + sum_c weight[o, c] * x[n, c]`: (N, C, H, W) or (C, H, W) to
    (N, O, H', W').

    Here * is a cross-correlation, the weight is (O, C / groups, Kh, Kw), and
    `H' = (H + 2 padding - dilation (Kh - 1) - 1) // stride + 1`.

    Args:
        padding: Elements added on both sides, "valid" (none) or "same" (keeps the size).
        groups: The channels are split into this many groups, each convolved on its own.
        padding_mode: "zeros", "reflect", "replicate" or "circular".

    Raises:
        ArgumentError: `groups` does not divide the channels; an unknown padding or padding_mode;
            "same" with a stride above 1.
    """


class Conv3d(_ForwardConv, spatial=3, op=F.conv3d):
    """A cross-correlation of (N, C, D, H, W) or (C, D, H, W): see `Conv2d`."""


class _TransposedConv(_Conv):
    transposed = True
    padding: tuple[int, ...]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: DeviceLike = None,
        dtype: DType | None = None,
    ) -> None:
        if padding_mode != "zeros":
            raise ArgumentError(
                f"{type(self).__name__}: only padding_mode 'zeros' is defined, got {padding_mode!r}"
            )
        padding = sizes(type(self).__name__, "padding", padding, self.spatial)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            padding_mode, output_padding, device, dtype,
        )  # fmt: skip

    def _output_padding(self, input: Tensor, output_size: Sequence[int] | None) -> tuple[int, ...]:
        """The padding on one side that makes the result have `output_size`."""
        if output_size is None:
            return self.output_padding
        wanted = tuple(output_size)[-self.spatial :]
        smallest = [
            (size - 1) * s - 2 * p + d * (k - 1) + 1
            for size, s, p, d, k in zip(
                input.shape[-self.spatial :], self.stride, self.padding, self.dilation,
                self.kernel_size, strict=True,
            )
        ]  # fmt: skip
        extra = tuple(want - low for want, low in zip(wanted, smallest, strict=True))
        if any(not 0 <= e < s for e, s in zip(extra, self.stride, strict=True)):
            largest = [low + s - 1 for low, s in zip(smallest, self.stride, strict=True)]
            raise ArgumentError(
                f"{type(self).__name__}: output_size must be between {smallest} and {largest}, "
                f"got {wanted}"
            )
        return extra

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        extra = self._output_padding(input, output_size)
        return self._op(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups,
            self.dilation,
        )  # fmt: skip


class ConvTranspose1d(_TransposedConv, spatial=1, op=F.conv_transpose1d):
    """The transpose of `Conv1d`: (N, C, L) or (C, L) to (N, O, L'). See `ConvTranspose2d`."""


class ConvTranspose2d(_TransposedConv, spatial=2, op=F.conv_transpose2d):
    """The transpose of `Conv2d` (its gradient with respect to the input): (N, C, H, W) or
    (C, H, W) to (N, O, H', W').

    The weight is (C, O / groups, Kh, Kw), and
    `H' = (H - 1) stride - 2 padding + dilation (Kh - 1) + output_padding + 1`. `forward` also takes
    an `output_size`, one of the sizes that a convolution would reduce to the input's.

    Raises:
        ArgumentError: as `Conv2d`; a padding_mode other than "zeros"; an impossible output_size.
    """


class ConvTranspose3d(_TransposedConv, spatial=3, op=F.conv_transpose3d):
    """The transpose of `Conv3d`: (N, C, D, H, W) or (C, D, H, W) to (N, O, D', H', W'). See
    `ConvTranspose2d`."""
