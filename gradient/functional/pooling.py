"""Pooling: the largest, or the mean, of every window."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gradient.backends.options import PoolingOptions
from gradient.dtypes import float32, iinfo
from gradient.errors import ArgumentError, ShapeError, TypeMismatch, sentence
from gradient.functional.arguments import composite
from gradient.functional.conv import Size, sizes
from gradient.functional.padding import pad
from gradient.ops import elementwise, pooling, shape
from gradient.tensor import Tensor
from gradient.tensor.arguments import flag_of
from gradient.tensor.creation import arange, ones
from gradient.tensor.joining import where

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
    """The largest of each window of (N, C, L) or (C, L); see `max_pool2d`."""
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
    """The largest of each window of (N, C, H, W) or (C, H, W).

    `stride` is the kernel size unless given. `ceil_mode` keeps a last window that sticks out.
    `return_indices` also gives each maximum's place in the flattened (H, W).
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
    """The largest of each window of (N, C, D, H, W) or (C, D, H, W); see `max_pool2d`."""
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
    # No more than any element, so that padding is never the only largest.
    least = -math.inf if input.dtype.is_floating_point else iinfo(input.dtype).min
    sides = tuple((p, p + o) for p, o in zip(window.pads, window.overhang, strict=True))
    options = PoolingOptions(window.kernel, window.strides, sides, window.dilations, least)
    output = pooling.max_pool(input, options=options)
    if not return_indices:
        return output
    # A tuple, which type checkers are not told: few ask for indices.
    return output, pooling.max_pool_indices(input, options=options)  # type: ignore[return-value]


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
    """The mean of each window of (N, C, H, W) or (C, H, W).

    `count_include_pad` counts the padding's zeros too; `divisor_override` divides by that number.
    """
    return _avg_pool(
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad,
        divisor_override,
    )  # fmt: skip


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
    columns = window.columns(input, fill=0.0)
    if divisor_override is not None:
        if divisor_override == 0:
            raise ShapeError(f"{op}: divisor_override must not be 0")
        return window.restore(_mean_of(columns, divisor_override))
    if not any(window.pads) and not any(window.overhang):
        return window.restore(_mean_of(columns, columns.shape[1]))
    # What counts in a window: the input, and its padding if that is included, never the overhang.
    whole = ones((1, 1, *window.in_sizes), dtype=input.dtype, device=input.device)
    counts = window.columns(whole, fill=float(count_include_pad))
    return window.restore(_mean_of(columns, counts.sum(1)))


def _mean_of(columns: Tensor, count: int | Tensor) -> Tensor:
    total = columns.sum(1)
    # PyTorch divides integers as C does.
    whole = not columns.dtype.is_floating_point
    return total.div(count, rounding_mode="trunc") if whole else total / count


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
        absent = stride is None or (isinstance(stride, tuple | list) and not stride)
        self.strides = sizes(op, "stride", self.kernel if absent else stride, spatial, least=1)  # type: ignore[arg-type]
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

    def columns(self, input: Tensor, fill: float) -> Tensor:
        """(N * C, K, *out_sizes): the K elements of every window, `fill` in the padding."""
        x = input.reshape(-1, 1, *self.in_sizes)
        if any(self.pads):
            x = pad(x, [p for p in reversed(self.pads) for _ in range(2)], value=fill)
        if any(self.overhang):
            outside = fill if fill < 0 else 0.0
            x = pad(x, [w for o in reversed(self.overhang) for w in (0, o)], value=outside)
        columns = shape.unfold(x, kernel=self.kernel, stride=self.strides, dilation=self.dilations)
        return columns.squeeze(1)

    def restore(self, values: Tensor) -> Tensor:
        """(N * C, *out_sizes) as (N, C, *out_sizes)."""
        return values.reshape(*self.leading, *self.out_sizes)


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


@composite
def adaptive_avg_pool3d(input: Tensor, output_size: int | Sequence[int | None]) -> Tensor:
    """The means of d times h times w windows that cover (..., D, H, W) evenly."""
    return _adaptive_avg_pool("adaptive_avg_pool3d", 3, input, output_size)


def _adaptive_avg_pool(
    op: str, spatial: int, input: Tensor, output_size: int | Sequence[int | None]
) -> Tensor:
    dims = list(_adaptive_dims(op, spatial, input, output_size))
    if all(out == 1 and input.shape[dim] for dim, out in dims):
        return input.mean([dim for dim, _ in dims], keepdim=True)
    for dim, out in dims:
        size = input.shape[dim]
        if size % out == 0:
            input = input.unflatten(dim, (out, size // out)).mean(dim + 1)
        else:
            starts, ends = _adaptive_bounds(size, out, input)
            counts = ends - starts
            steps = arange(_widest(size, out), device=input.device)
            # Shorter windows end in zeros: what lies outside of a window does not reach its mean.
            places = elementwise.minimum(starts + steps, ends - 1)
            windows = input.index_select(dim, places.flatten())
            windows = windows.unflatten(dim, tuple(places.shape))
            after = (1,) * (input.ndim - 1 - dim)
            inside = (steps < counts).reshape(*places.shape, *after)
            wide = float32 if input.dtype.itemsize < 4 else input.dtype
            total = where(inside, windows, 0.0).sum(dim + 1, dtype=wide)
            input = (total / counts.to(wide).reshape(-1, *after)).to(input.dtype)
    return input.contiguous()


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
    size = math.prod(input.shape[-spatial:])
    numbers = arange(size, device=input.device).reshape(tuple(input.shape[-spatial:]))
    numbers = numbers.expand(input.shape)
    # The last dimension first, so that of equal elements the first in memory is taken.
    for dim, out in reversed(_adaptive_dims(op, spatial, input, output_size)):
        length = input.shape[dim]
        starts, ends = _adaptive_bounds(length, out, input)
        widest = _widest(length, out)
        # Shorter windows repeat their last element, which changes no maximum.
        places = elementwise.minimum(starts + arange(widest, device=input.device), ends - 1)
        windows, sources = (
            tensor.index_select(dim, places.flatten()).unflatten(dim, (out, widest))
            for tensor in (input, numbers)
        )
        input, chosen = windows.max(dim + 1)
        numbers = sources.gather(dim + 1, chosen.unsqueeze(dim + 1)).squeeze(dim + 1)
    return (input, numbers) if return_indices else input  # type: ignore[return-value]


def _widest(size: int, out: int) -> int:
    """The most elements in a window of `_adaptive_bounds`."""
    return max((-((i + 1) * size // -out) - i * size // out for i in range(out)), default=0)


def _adaptive_dims(
    op: str, spatial: int, input: Tensor, output_size: int | Sequence[int | None]
) -> list[tuple[int, int]]:
    """(dimension, number of windows) for each pooled dimension."""
    if input.ndim not in (spatial + 1, spatial + 2):
        raise ShapeError(
            f"{op}: expected {spatial + 1} or {spatial + 2} dimensions, got {tuple(input.shape)}"
        )
    given = (output_size,) * spatial if isinstance(output_size, (int, np.integer)) else output_size
    if not isinstance(given, (tuple, list)) or any(
        not (out is None or hasattr(out, "__index__")) for out in given
    ):
        expected = f"an int or a tuple of {spatial} as output_size"
        raise TypeMismatch(sentence(op, expected, repr(output_size)))
    if len(given) != spatial:
        raise ShapeError(f"{op}: expected output_size to be one number or {spatial}, got {given}")
    if any(out is not None and out < 0 for out in given):
        raise ArgumentError(sentence(op, "output_size of at least 0", output_size))
    first = input.ndim - spatial
    return [
        (first + place, input.shape[first + place] if out is None else out)
        for place, out in enumerate(given)
    ]


def _adaptive_bounds(size: int, out: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Where each window starts and ends, both (out, 1)."""
    numbers = arange(out, device=like.device).unsqueeze(1)
    starts = numbers * size // out
    ends = ((numbers + 1) * size + out - 1) // out
    return starts, ends
