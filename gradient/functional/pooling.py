"""Pooling: the largest, the mean, or a power average of every window."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from functools import lru_cache
from numbers import Integral
from typing import Any

from gradient.autograd.autocast import autocasts, float32_on_cpu
from gradient.backends.options import PoolingOptions, WindowRanges, adaptive_windows
from gradient.dtypes import bool_, iinfo, int64
from gradient.errors import ArgumentError, DTypeError, ShapeError, TypeMismatch, sentence
from gradient.functional.activation import relu
from gradient.functional.arguments import composite, floats
from gradient.functional.conv import Size, sizes
from gradient.ops import pooling
from gradient.tensor import Tensor
from gradient.tensor.arguments import flag_of

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
]


@composite
def max_pool1d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The maximum of each window of (N, C, L) or (C, L); see `max_pool2d`."""
    return _max_pool(
        "max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )


@composite
def max_pool2d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The maximum of each window of (N, C, H, W) or (C, H, W): (N, C, H', W').

    `H' = (H + 2 padding - dilation (kernel_size - 1) - 1) // stride + 1`; with `ceil_mode` the
    division rounds up. `stride` is the kernel size by default. With `return_indices`, the index of
    each maximum in the flattened (H, W) is returned as well. Raises ShapeError for a kernel larger
    than the padded input, or padding of more than half the kernel size.
    """
    return _max_pool(
        "max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )


@composite
def max_pool3d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The maximum of each window of (N, C, D, H, W) or (C, D, H, W); see `max_pool2d`."""
    input = input if return_indices else float32_on_cpu(input)
    return _max_pool(
        "max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )


def _max_pool(
    op: str,
    spatial: int,
    input: Tensor,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
    return_indices: bool,
) -> Tensor:
    window = _Window(op, spatial, input, kernel_size, stride, padding, dilation, ceil_mode)
    whole = not input.dtype.is_floating_point
    if whole and (input.dtype is bool_ or (spatial == 1 and not return_indices)):
        expected = "a floating-point dtype" if spatial == 1 else "a dtype of numbers"
        raise DTypeError(sentence(op, expected, input.dtype, "cast with .float()"))
    # No more than any element, so that padding is never the only largest.
    least = iinfo(input.dtype).min if whole else -math.inf
    sides = tuple((p, p + o) for p, o in zip(window.pads, window.overhang, strict=True))
    options = PoolingOptions(window.kernel, window.strides, sides, window.dilations, least)
    output = pooling.max_pool(input, options=options)
    if not return_indices:
        return output
    # The annotation has no tuple, since few callers ask for indices.
    both: Any = (output, pooling.max_pool_indices(input, options=options))
    return both


@composite
def avg_pool1d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of (N, C, L) or (C, L); see `avg_pool2d`."""
    return _avg_pool(
        "avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None
    )


@composite
def avg_pool2d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of (N, C, H, W) or (C, H, W); sizes and errors as in `max_pool2d`.

    `count_include_pad` counts the zeros of the padding as elements; `divisor_override` divides the
    sum of a window by this number instead.
    """
    return _avg_pool(
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad,
        divisor_override,
    )  # fmt: skip


@autocasts("float32_on_cpu")
@composite
def avg_pool3d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of (N, C, D, H, W) or (C, D, H, W); see `avg_pool2d`."""
    return _avg_pool(
        "avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad,
        divisor_override,
    )  # fmt: skip


def _avg_pool(
    op: str,
    spatial: int,
    input: Tensor,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    flag_of(op, "count_include_pad", count_include_pad)
    window = _Window(op, spatial, input, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override == 0:
        raise ShapeError(f"{op}: divisor_override must not be 0")
    if not input.dtype.is_floating_point and input.dtype is not int64:
        expected = "a floating-point dtype, or int64"
        raise DTypeError(sentence(op, expected, input.dtype, "cast with .float()"))
    windows = _ranges(
        window.in_sizes, window.out_sizes, window.kernel, window.strides, window.pads,
        count_include_pad, None if divisor_override is None else operator.index(divisor_override),
    )  # fmt: skip
    return pooling.avg_pool(input, windows=windows).contiguous()


@lru_cache
def _ranges(
    sizes: tuple[int, ...],
    windows: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    count_include_pad: bool,
    divisor: int | None,
) -> WindowRanges:
    starts, stops, counts = [], [], []
    for size, n, k, s, p in zip(sizes, windows, kernel, strides, pads, strict=True):
        first = tuple(i * s - p for i in range(n))
        # What counts is the input, and its padding if that is included, never what sticks out.
        low, high = (-p, size + p) if count_include_pad else (0, size)
        starts.append(first)
        stops.append(tuple(i + k for i in first))
        counts.append(tuple(min(i + k, high) - max(i, low) for i in first))
    if divisor is not None:
        counts = [(divisor if axis == 0 else 1,) * n for axis, n in enumerate(windows)]
    return WindowRanges(tuple(starts), tuple(stops), tuple(counts))


class _Window:
    """The windows that a pooling moves over an input, and the shapes before and after."""

    def __init__(
        self,
        op: str,
        spatial: int,
        input: Tensor,
        kernel_size: Size,
        stride: Size | None,
        padding: Size,
        dilation: Size,
        ceil_mode: bool,
    ):
        flag_of(op, "ceil_mode", ceil_mode)
        if input.ndim not in (spatial + 1, spatial + 2):
            raise ShapeError(
                f"{op}: expected {spatial + 1} or {spatial + 2} dimensions, got "
                f"{tuple(input.shape)}"
            )
        self.leading = tuple(input.shape[: input.ndim - spatial])
        self.in_sizes = tuple(input.shape[-spatial:])
        if isinstance(kernel_size, tuple | list) and len(kernel_size) == 1:
            kernel_size = kernel_size[0]
        self.kernel = sizes(op, "kernel_size", kernel_size, spatial, least=1)
        # PyTorch reads an empty stride as an absent one.
        empty = isinstance(stride, tuple | list) and not stride
        steps = self.kernel if stride is None or empty else stride
        self.strides = sizes(op, "stride", steps, spatial, least=1)
        self.pads = sizes(op, "padding", padding, spatial, least=0)
        self.dilations = sizes(op, "dilation", dilation, spatial, least=1)
        if any(2 * p > k for p, k in zip(self.pads, self.kernel, strict=True)):
            raise ShapeError(
                f"{op}: padding {self.pads} must be at most half of the kernel size {self.kernel}"
            )
        out, overhang = [], []
        for size, k, s, p, d in zip(
            self.in_sizes, self.kernel, self.strides, self.pads, self.dilations, strict=True
        ):
            room = size + 2 * p - d * (k - 1) - 1
            count = (-(-room // s) if ceil_mode else room // s) + 1
            if ceil_mode and (count - 1) * s >= size + p:
                count -= 1  # a window must start inside the input or its left padding
            out.append(count)
            overhang.append(max(0, (count - 1) * s - room))
        if min(out) < 1:
            raise ShapeError(
                f"{op}: the kernel {self.kernel} is larger than the padded input {self.in_sizes} "
                f"+ 2 * {self.pads}"
            )
        self.out_sizes, self.overhang = tuple(out), tuple(overhang)


@composite
def adaptive_avg_pool1d(input: Tensor, output_size: int | Sequence[int | None]) -> Tensor:
    """The means of `output_size` windows that cover (..., L) evenly."""
    return _adaptive_avg_pool("adaptive_avg_pool1d", 1, input, output_size)


@composite
def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None]) -> Tensor:
    """The means of h times w windows that cover (..., H, W) evenly; None keeps a size.

    Window i goes from `floor(i * H / h)` up to `ceil((i + 1) * H / h)`.
    """
    return _adaptive_avg_pool("adaptive_avg_pool2d", 2, input, output_size)


@autocasts("float32_on_cpu")
@composite
def adaptive_avg_pool3d(input: Tensor, output_size: int | Sequence[int | None]) -> Tensor:
    """The means of d times h times w windows that cover (..., D, H, W) evenly."""
    return _adaptive_avg_pool("adaptive_avg_pool3d", 3, input, output_size)


def _adaptive_avg_pool(
    op: str, spatial: int, input: Tensor, output_size: int | Sequence[int | None]
) -> Tensor:
    out = _adaptive_sizes(op, spatial, input, output_size)
    if out == (1,) * spatial:
        return input.mean(tuple(range(-spatial, 0)), keepdim=True)
    own = tuple(input.shape[-spatial:])
    if 0 in own:
        raise ShapeError(sentence(op, f"an input whose last {spatial} sizes are not 0", own))
    windows = adaptive_windows(own, out)
    return pooling.avg_pool(floats(op, input), windows=windows).contiguous()


@composite
def adaptive_max_pool1d(
    input: Tensor, output_size: int | Sequence[int | None], return_indices: bool = False
) -> Tensor:
    """The largest of each of `output_size` windows that cover (..., L) evenly."""
    return _adaptive_max_pool("adaptive_max_pool1d", 1, input, output_size, return_indices)


@composite
def adaptive_max_pool2d(
    input: Tensor, output_size: int | Sequence[int | None], return_indices: bool = False
) -> Tensor:
    """The largest of each of h times w windows that cover (..., H, W) evenly; None keeps a size."""
    return _adaptive_max_pool("adaptive_max_pool2d", 2, input, output_size, return_indices)


@autocasts("float32_on_cpu")
@composite
def adaptive_max_pool3d(
    input: Tensor, output_size: int | Sequence[int | None], return_indices: bool = False
) -> Tensor:
    """The largest of each of d x h x w windows that cover (..., D, H, W) evenly."""
    return _adaptive_max_pool("adaptive_max_pool3d", 3, input, output_size, return_indices)


def _adaptive_max_pool(
    op: str,
    spatial: int,
    input: Tensor,
    output_size: int | Sequence[int | None],
    return_indices: bool,
) -> Tensor:
    out = _adaptive_sizes(op, spatial, input, output_size)
    if 0 in input.shape[1:]:
        raise ShapeError(
            sentence(op, "an input whose sizes behind the first are not 0", tuple(input.shape))
        )
    output = pooling.adaptive_max_pool(floats(op, input), out_sizes=out).contiguous()
    if not return_indices:
        return output
    both: Any = (output, pooling.adaptive_max_pool_indices(input, out_sizes=out).contiguous())
    return both


def _adaptive_sizes(
    op: str, spatial: int, input: Tensor, output_size: int | Sequence[int | None]
) -> tuple[int, ...]:
    """How many windows there are, in each pooled dimension."""
    if input.ndim not in (spatial + 1, spatial + 2):
        raise ShapeError(
            f"{op}: expected {spatial + 1} or {spatial + 2} dimensions, got {tuple(input.shape)}"
        )
    if type(output_size) is int and output_size >= 0:
        return (output_size,) * spatial
    given = (output_size,) * spatial if isinstance(output_size, (int, Integral)) else output_size
    if not isinstance(given, (tuple, list)) or any(
        not (out is None or hasattr(out, "__index__")) for out in given
    ):
        expected = f"an int or a tuple of {spatial} as output_size"
        raise TypeMismatch(sentence(op, expected, repr(output_size)))
    if len(given) != spatial:
        raise ShapeError(f"{op}: expected output_size to be one number or {spatial}, got {given}")
    if any(out is not None and out < 0 for out in given):
        raise ArgumentError(sentence(op, "output_size of at least 0", output_size))
    own = tuple(input.shape[-spatial:])
    return tuple(
        size if out is None else operator.index(out) for size, out in zip(own, given, strict=True)
    )


@composite
def lp_pool1d(
    input: Tensor,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """`(sum x^p)^(1/p)` of each window of (N, C, L) or (C, L), p = `norm_type`."""
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


@composite
def lp_pool2d(
    input: Tensor,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """`(sum x^p)^(1/p)` of each window of (N, C, H, W) or (C, H, W), p = `norm_type`."""
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


@composite
def lp_pool3d(
    input: Tensor,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """`(sum x^p)^(1/p)` of each window of (N, C, D, H, W) or (C, D, H, W), p = `norm_type`."""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


#: By the number of dimensions of a window.
POOLS = {1: (avg_pool1d, max_pool1d), 2: (avg_pool2d, max_pool2d), 3: (avg_pool3d, max_pool3d)}


def _lp_pool(
    spatial: int,
    input: Tensor,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None,
    ceil_mode: bool,
) -> Tensor:
    average, largest = POOLS[spatial]
    if math.isinf(norm_type):  # the largest |x|, or for -inf the least
        sign = math.copysign(1.0, norm_type)
        return largest(input.abs() * sign, kernel_size, stride, ceil_mode=ceil_mode) * sign
    mean = average(input**norm_type, kernel_size, stride, 0, ceil_mode)
    count = math.prod(sizes(f"lp_pool{spatial}d", "kernel_size", kernel_size, spatial, least=1))
    # A sum below 0, which an odd norm_type may give, has the root 0, as in PyTorch.
    return (mean.sign() * relu(mean.abs()) * count) ** (1 / norm_type)
