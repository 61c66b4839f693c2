"""Convolutions, and the windows of an input as columns of a matrix."""

from __future__ import annotations

import functools
import operator
from numbers import Integral
from typing import Any, Literal

from gradient.autograd.autocast import autocasts
from gradient.backends.options import ConvolutionOptions
from gradient.errors import ArgumentError, ShapeError, TypeMismatch, sentence
from gradient.functional.arguments import composite, one_dtype
from gradient.functional.padding import pad
from gradient.ops import convolution, shape
from gradient.tensor import Tensor
from gradient.tensor.arguments import int_of

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "fold",
    "unfold",
]

Size = int | tuple[int, ...]
Padding = Size | Literal["same", "valid"]


@composite
def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of (N, C, L) or (C, L) with weight (O, C / groups, K); see `conv2d`."""
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


@composite
def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of (N, C, H, W) or (C, H, W) with weight (O, C / groups, Kh, Kw).

    `y[n, o] = bias[o] + sum_c weight[o, c] * x[n, c]`, of size
    `(H + 2 padding - dilation (Kh - 1) - 1) // stride + 1`. `padding` is zeros on both sides;
    "valid" is none, "same" keeps the size (stride 1 only). With `groups`, the channels are cut into
    groups, each convolved on its own.
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


@composite
def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of (N, C, D, H, W) with weight (O, C / groups, Kd, Kh, Kw); as `conv2d`."""
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


@autocasts("lower_precision")
def _conv(
    op: str,
    spatial: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Padding,
    dilation: Size,
    groups: int,
) -> Tensor:
    int_of(op, "groups", groups)
    one_dtype(op, input, bias=bias)
    find = _options_of if _are_ints(stride, padding, dilation, groups) else _options_of.__wrapped__
    shapes = input.array.shape, weight.array.shape, None if bias is None else bias.array.shape
    options = find(op, spatial, *shapes, stride, padding, dilation, groups)
    batched = input.ndim == spatial + 2
    x = input if batched else input.unsqueeze(0)
    output = convolution.convolution(x, weight, bias, options=options)
    return output if batched else output.squeeze(0)


@functools.lru_cache(maxsize=1 << 10)
def _options_of(
    op: str,
    spatial: int,
    shape: tuple[int, ...],
    weight: tuple[int, ...],
    bias: tuple[int, ...] | None,
    stride: Size,
    padding: Padding,
    dilation: Size,
    groups: int,
) -> ConvolutionOptions:
    """The options of the op, after all checks of shapes, which take as long as a small kernel."""
    _check_shapes(op, spatial, shape, weight, bias, groups, transposed=False)
    kernel = tuple(weight[2:])
    strides = sizes(op, "stride", stride, spatial, least=1)
    dilations = sizes(op, "dilation", dilation, spatial, least=1)
    widths = _pad_widths(op, padding, kernel, strides, dilations)
    pads = tuple(zip(widths[-2::-2], widths[-1::-2], strict=True))
    spans = _spans(kernel, dilations)
    padded = tuple(size + a + b for size, (a, b) in zip(shape[-spatial:], pads, strict=True))
    if any(size < span for size, span in zip(padded, spans, strict=True)):
        raise ShapeError(
            f"{op}: the kernel {kernel} with dilation {dilations} spans {spans}, more than the "
            f"padded input {padded}"
        )
    return ConvolutionOptions(strides, pads, dilations, groups)


def _are_ints(*options: Any) -> bool:
    """Whether options are ints or tuples of them: True == 1 would find what is kept for 1."""
    for each in options:
        if type(each) is not int and (
            type(each) is not tuple or [n for n in each if type(n) is not int]
        ):
            return False
    return True


@composite
def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """The transpose of `conv1d`: (N, C, L) with weight (C, O / groups, K) gives (N, O, L')."""
    options = stride, padding, output_padding, groups, dilation
    return _conv_transpose("conv_transpose1d", 1, input, weight, bias, *options)


@composite
def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """The transpose of `conv2d`: (N, C, H, W) with weight (C, O / groups, Kh, Kw).

    The size is `(H - 1) stride - 2 padding + dilation (Kh - 1) + output_padding + 1`.
    """
    options = stride, padding, output_padding, groups, dilation
    return _conv_transpose("conv_transpose2d", 2, input, weight, bias, *options)


@composite
def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """The transpose of `conv3d`: (N, C, D, H, W) with weight (C, O / groups, Kd, Kh, Kw)."""
    options = stride, padding, output_padding, groups, dilation
    return _conv_transpose("conv_transpose3d", 3, input, weight, bias, *options)


@autocasts("lower_precision")
def _conv_transpose(
    op: str,
    spatial: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size,
    output_padding: Size,
    groups: int,
    dilation: Size,
) -> Tensor:
    int_of(op, "groups", groups)
    one_dtype(op, input, bias=bias)
    shapes = input.array.shape, weight.array.shape, None if bias is None else bias.array.shape
    _check_shapes(op, spatial, *shapes, groups, transposed=True)
    batched = input.ndim == spatial + 2
    x = input if batched else input.unsqueeze(0)
    kernel = tuple(weight.shape[2:])
    strides = sizes(op, "stride", stride, spatial, least=1)
    pads = sizes(op, "padding", padding, spatial, least=0)
    dilations = sizes(op, "dilation", dilation, spatial, least=1)
    extra = sizes(op, "output_padding", output_padding, spatial, least=0)
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        raise ShapeError(
            f"{op}: output_padding {extra} must be smaller than stride {strides} or dilation "
            f"{dilations}"
        )

    out_sizes = tuple(
        (size - 1) * s - 2 * p + d * (k - 1) + e + 1
        for size, s, p, d, k, e in zip(
            x.shape[2:], strides, pads, dilations, kernel, extra, strict=True
        )
    )
    # What the padding cuts off behind is less by `extra`: a convolution back finds x's windows.
    sides = tuple((p, p - e) for p, e in zip(pads, extra, strict=True))
    output = convolution.transposed_convolution(
        x, weight, shape=(x.shape[0], weight.shape[1] * groups, *out_sizes),
        options=ConvolutionOptions(strides, sides, dilations, groups),
    )  # fmt: skip
    output = _add_bias(output, bias)
    return output if batched else output.squeeze(0)


@composite
def unfold(
    input: Tensor, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> Tensor:
    """Every window of (N, C, H, W) or (C, H, W) as a column: (N, C * Kh * Kw, L) (im2col)."""
    if input.ndim not in (3, 4):
        raise ShapeError(f"unfold: expected (N, C, H, W) or (C, H, W), got {tuple(input.shape)}")
    if 0 in input.shape[-3:]:
        expected = "sizes above 0 but for that of the batch"
        raise ShapeError(sentence("unfold", expected, tuple(input.shape)))
    options = _options("unfold", kernel_size, dilation, stride)
    pads = sizes("unfold", "padding", padding, 2, least=0)
    x = input if input.ndim == 4 else input.unsqueeze(0)
    x = pad(x, _both_sides(pads)) if any(pads) else x
    spans = _spans(options["kernel"], options["dilation"])
    if any(size < span for size, span in zip(x.shape[2:], spans, strict=True)):
        raise ShapeError(
            sentence("unfold", f"a padded input of at least {spans}", tuple(x.shape[2:]))
        )
    columns = shape.unfold(x, **options).flatten(3).flatten(1, 2)
    return columns if input.ndim == 4 else columns.squeeze(0)


@composite
def fold(
    input: Tensor,
    output_size: Size,
    kernel_size: Size,
    dilation: Size = 1,
    padding: Size = 0,
    stride: Size = 1,
) -> Tensor:
    """Put columns (N, C * Kh * Kw, L) back into (N, C, H, W); overlapping elements are added."""
    out = sizes("fold", "output_size", output_size, 2)
    pads = sizes("fold", "padding", padding, 2, least=0)
    options = _options("fold", kernel_size, dilation, stride)
    kernel = options["kernel"]
    full = [size + 2 * p for size, p in zip(out, pads, strict=True)]
    windows = [
        (size - d * (k - 1) - 1) // s + 1
        for size, k, d, s in zip(full, kernel, options["dilation"], options["stride"], strict=True)
    ]
    elements = kernel[0] * kernel[1]
    fits = input.ndim in (2, 3) and input.shape[-2] % elements == 0
    if not fits or input.shape[-1] != windows[0] * windows[1]:
        raise ShapeError(
            f"fold: expected (N, C * {elements}, {windows[0] * windows[1]}) for output_size {out}, "
            f"got {tuple(input.shape)}"
        )
    x = input if input.ndim == 3 else input.unsqueeze(0)
    batch, channels = x.shape[0], x.shape[1] // elements
    columns = x.reshape(batch, channels, elements, *windows)
    output = shape.fold(columns, shape=(batch, channels, *full), **options)
    output = pad(output, [-p for p in _both_sides(pads)]) if any(pads) else output
    return output if input.ndim == 3 else output.squeeze(0)


def _spans(kernel: tuple[int, ...], dilations: tuple[int, ...]) -> tuple[int, ...]:
    """The size of each window, including its dilation."""
    return tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True))


def _options(
    op: str, kernel_size: Size, dilation: Size, stride: Size
) -> dict[str, tuple[int, ...]]:
    return {
        "kernel": sizes(op, "kernel_size", kernel_size, 2, least=1),
        "dilation": sizes(op, "dilation", dilation, 2, least=1),
        "stride": sizes(op, "stride", stride, 2, least=1),
    }


def sizes(op: str, name: str, value: Size, count: int, least: int | None = None) -> tuple[int, ...]:
    """Return an option, given once for all dimensions or once for each, as a tuple of `count`
    numbers; raise an error if one is below `least`."""
    if isinstance(value, (int, Integral)) and not isinstance(value, bool):
        each = (value,) * count
    elif isinstance(value, tuple | list) and all(
        hasattr(v, "__index__") and not isinstance(v, bool) for v in value
    ):
        once = len(value) == 1 and name != "kernel_size"  # a weight has each of its sizes
        each = tuple(value) * count if once else tuple(value)
    else:
        raise TypeMismatch(sentence(op, f"an int or a tuple of {count} as {name}", repr(value)))
    if len(each) != count:
        raise ArgumentError(sentence(op, f"an int or a tuple of {count} as {name}", each))
    if least is not None and min(each) < least:
        raise ArgumentError(sentence(op, f"{name} of at least {least}", value))
    return tuple(map(operator.index, each))


def _both_sides(pads: tuple[int, ...]) -> list[int]:
    """Paddings of each dimension as `pad` takes them: the last dimension first, two sides each."""
    return [p for p in reversed(pads) for _ in range(2)]


def _pad_widths(
    op: str,
    padding: Padding,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> list[int]:
    if not isinstance(padding, str):
        return _both_sides(sizes(op, "padding", padding, len(kernel), least=0))
    if padding == "valid":
        return [0] * (2 * len(kernel))
    if padding != "same":
        raise ArgumentError(f"{op}: padding must be numbers, 'same' or 'valid', got {padding!r}")
    if any(s != 1 for s in strides):
        raise ShapeError(f"{op}: padding='same' needs a stride of 1, got {strides}")
    return same_widths(kernel, dilations)


def same_widths(kernel: tuple[int, ...], dilations: tuple[int, ...]) -> list[int]:
    """What keeps the size at stride 1, for `pad`: an odd width is greater on the right."""
    totals = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
    return [side for total in reversed(totals) for side in (total // 2, total - total // 2)]


def _add_bias(output: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return output
    return output + bias.reshape(-1, *(1,) * (output.ndim - 2))


def _check_shapes(
    op: str,
    spatial: int,
    shape: tuple[int, ...],
    weight: tuple[int, ...],
    bias: tuple[int, ...] | None,
    groups: int,
    transposed: bool,
) -> None:
    places = ", ".join("DHW"[3 - spatial :]) if spatial > 1 else "L"
    if len(shape) not in (spatial + 1, spatial + 2) or len(weight) != spatial + 2:
        raise ShapeError(
            f"{op}: expected an input (N, C, {places}) or (C, {places}) and a weight of "
            f"{spatial + 2} dimensions, got {tuple(shape)} and {tuple(weight)}"
        )
    channels = shape[-spatial - 1]
    expected = weight[0] if transposed else weight[1] * groups
    if channels != expected:
        raise ShapeError(
            f"{op}: the weight {tuple(weight)} with groups={groups} takes {expected} "
            f"channels, the input {tuple(shape)} has {channels}"
        )
    out_channels = weight[1] * groups if transposed else weight[0]
    if groups < 1 or out_channels % groups or channels % groups:
        raise ShapeError(
            f"{op}: {channels} input and {out_channels} output channels do not divide into "
            f"{groups} groups"
        )
    if bias is not None and tuple(bias) != (out_channels,):
        raise ShapeError(f"{op}: expected bias of shape ({out_channels},), got {tuple(bias)}")
