"""Changing the resolution of images, and moving pixels between space and channels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradient.dtypes import float64
from gradient.errors import ArgumentError, ShapeError
from gradient.functional.pooling import adaptive_avg_pool1d, adaptive_avg_pool2d
from gradient.tensor import Tensor
from gradient.tensor.creation import arange

_LINEAR = {"linear": 3, "bilinear": 4, "trilinear": 5}  # mode: dimensions of its input


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
) -> Tensor:
    """Resize the spatial dimensions of (N, C, ...) to `size`, or by `scale_factor`.

    Modes: "nearest", "nearest-exact", "linear" (N, C, L), "bilinear" (N, C, H, W), "trilinear"
    (N, C, D, H, W), "area".
    `align_corners` (linear modes) makes the corner pixels' centres keep their values.
    """
    spatial = input.ndim - 2
    if spatial < 1:
        raise ShapeError(f"interpolate: expected (N, C, ...), got {tuple(input.shape)}")
    out_sizes, scales = _target(input, size, scale_factor, bool(recompute_scale_factor))
    if align_corners is not None and mode not in _LINEAR:
        raise ArgumentError(f"interpolate: align_corners has no meaning for mode {mode!r}")
    if mode == "area" and spatial <= 2:
        return (adaptive_avg_pool1d if spatial == 1 else adaptive_avg_pool2d)(input, out_sizes)
    if mode in ("nearest", "nearest-exact"):
        centre = 0.5 if mode == "nearest-exact" else 0.0
        for place, (out, scale) in enumerate(zip(out_sizes, scales, strict=True)):
            input = _nearest(input, 2 + place, out, scale, centre)
        return input
    if _LINEAR.get(mode) == input.ndim:
        for place, (out, scale) in enumerate(zip(out_sizes, scales, strict=True)):
            input = _linear(input, 2 + place, out, scale, bool(align_corners))
        return input
    raise ArgumentError(
        f"interpolate: mode {mode!r} is not available for an input of {input.ndim} dimensions; "
        "expected nearest, nearest-exact, area, linear (3), bilinear (4) or trilinear (5)"
    )


def _target(
    input: Tensor,
    size: int | Sequence[int] | None,
    scale_factor: float | Sequence[float] | None,
    recompute: bool,
) -> tuple[list[int], list[float]]:
    """Sizes of the result, and how many input pixels one output pixel is."""
    in_sizes = input.shape[2:]
    if (size is None) == (scale_factor is None):
        raise ArgumentError("interpolate: expected either size or scale_factor")
    given = size if size is not None else scale_factor
    each = [given] * len(in_sizes) if isinstance(given, int | float) else list(given)  # type: ignore[arg-type]
    if len(each) != len(in_sizes):
        raise ArgumentError(
            f"interpolate: expected one number or {len(in_sizes)}, got {tuple(each)}"
        )
    if size is not None:
        out_sizes = [int(out) for out in each]
    else:
        out_sizes = [math.floor(n * factor) for n, factor in zip(in_sizes, each, strict=True)]
    if size is None and not recompute:
        return out_sizes, [1.0 / factor for factor in each]
    return out_sizes, [n / out for n, out in zip(in_sizes, out_sizes, strict=True)]


def _nearest(input: Tensor, dim: int, out: int, scale: float, centre: float) -> Tensor:
    places = arange(out, dtype=float64, device=input.device)
    places = ((places + centre) * scale).floor().long().clamp(max=input.shape[dim] - 1)
    return input.index_select(dim, places)


def _linear(input: Tensor, dim: int, out: int, scale: float, align_corners: bool) -> Tensor:
    """Each result lies between two neighbours: `(1 - f) * x[low] + f * x[low + 1]`."""
    last = input.shape[dim] - 1
    places = arange(out, dtype=float64, device=input.device)
    if align_corners:
        source = places * (last / (out - 1) if out > 1 else 0.0)
    else:
        source = ((places + 0.5) * scale - 0.5).clamp(min=0.0)
    low = source.floor().clamp(max=last)
    fraction = (source - low).to(input.dtype).reshape(-1, *(1,) * (input.ndim - 1 - dim))
    low = low.long()
    below, above = input.index_select(dim, low), input.index_select(dim, (low + 1).clamp(max=last))
    return below + fraction * (above - below)


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(..., C r^2, H, W) to (..., C, H r, W r): channels become pixels (Shi et al. 2016)."""
    r = upscale_factor
    *leading, channels, height, width = input.shape
    if channels % (r * r):
        raise ShapeError(f"pixel_shuffle: {channels} channels are not divisible by {r} * {r}")
    n = len(leading)
    split = input.reshape(*leading, channels // (r * r), r, r, height, width)
    split = split.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return split.reshape(*leading, channels // (r * r), height * r, width * r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(..., C, H r, W r) to (..., C r^2, H, W): the inverse of `pixel_shuffle`."""
    r = downscale_factor
    *leading, channels, height, width = input.shape
    if height % r or width % r:
        raise ShapeError(f"pixel_unshuffle: {height} x {width} pixels are not divisible by {r}")
    n = len(leading)
    split = input.reshape(*leading, channels, height // r, r, width // r, r)
    split = split.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return split.reshape(*leading, channels * r * r, height // r, width // r)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Channels of (N, C, ...) dealt round the groups (Zhang et al. 2017)."""
    batch, channels, *rest = input.shape
    if channels % groups:
        raise ShapeError(f"channel_shuffle: {channels} channels do not divide into {groups} groups")
    split = input.reshape(batch, groups, channels // groups, *rest)
    return split.transpose(1, 2).reshape(input.shape)
