"""Changing the resolution of images, and moving pixels between space and channels."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from numbers import Real

from gradient.dtypes import HALF_PRECISION, bool_, float64, int64, uint8
from gradient.errors import ArgumentError, DTypeError, ShapeError, TypeMismatch, sentence
from gradient.functional.arguments import composite
from gradient.functional.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
)
from gradient.ops import elementwise, pooling
from gradient.tensor import Tensor
from gradient.tensor.arguments import int_of
from gradient.tensor.creation import arange
from gradient.tensor.joining import stack
from gradient.tensor.views import in_order

__all__ = [
    "channel_shuffle",
    "interpolate",
    "pixel_shuffle",
    "pixel_unshuffle",
    "upsample",
    "upsample_bilinear",
    "upsample_nearest",
]

_LINEAR = {"linear": 3, "bilinear": 4, "trilinear": 5}  # mode: dimensions of its input


@composite
def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resize the spatial dimensions of (N, C, ...) to `size`, or by `scale_factor`.

    Modes: "nearest", "nearest-exact", "linear" (N, C, L), "bilinear" and "bicubic" (N, C, H, W),
    "trilinear" (N, C, D, H, W), "area". `align_corners` (linear and cubic modes) aligns the centres
    of the corner pixels. `antialias` ("bilinear", "bicubic" and "lanczos", which needs it) averages
    all pixels that a pixel of a smaller image covers, as PIL does.
    """
    spatial = input.ndim - 2
    if spatial < 1:
        raise ShapeError(f"interpolate: expected (N, C, ...), got {tuple(input.shape)}")
    kind = input.dtype
    rounds = spatial == 2 and mode in _COVERED
    if not (kind.is_floating_point or (kind is uint8 and (rounds or mode.startswith("nearest")))):
        expected = f"a floating-point dtype for mode {mode!r}"
        raise DTypeError(sentence("interpolate", expected, kind.name, "cast with .float()"))
    out_sizes, scales = _target(
        input, size, scale_factor, bool(recompute_scale_factor), 0 if mode == "area" else 1
    )
    if align_corners is not None and mode not in (*_LINEAR, *_COVERED):
        raise ArgumentError(f"interpolate: align_corners has no meaning for mode {mode!r}")
    if antialias and (spatial != 2 or mode not in _COVERED):
        expected = "mode bilinear, bicubic or lanczos of images (N, C, H, W) with antialias"
        raise ArgumentError(sentence("interpolate", expected, f"{mode!r}, {input.ndim}-d"))
    if mode == "lanczos" and not (antialias and not align_corners):
        expected = "antialias, and no align_corners, with mode 'lanczos'"
        raise ArgumentError(sentence("interpolate", expected, f"{antialias=}, {align_corners=}"))
    if mode == "area" and spatial <= 3:
        pools = adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
        return pools[spatial - 1](input, out_sizes)
    if mode in ("nearest", "nearest-exact"):
        centre = 0.5 if mode == "nearest-exact" else 0.0
        for place, (out, scale) in enumerate(zip(out_sizes, scales, strict=True)):
            size = input.shape[2 + place]
            if spatial == 2 and mode == "nearest" and out in (size, 2 * size):
                scale = size / out  # as PyTorch has it, of images alone, whatever `scale_factor`
            input = _nearest(input, 2 + place, out, scale, centre)
        return input
    if kind in HALF_PRECISION:
        wide = interpolate(input.float(), size, scale_factor, mode, align_corners,
            recompute_scale_factor, antialias)  # fmt: skip
        return wide.to(kind)
    between = _cubic if mode == "bicubic" and spatial == 2 else _linear
    if antialias or between is _cubic or _LINEAR.get(mode) == input.ndim:
        if antialias:
            between = _COVERED[mode]
        if kind is uint8:
            return _of_bytes(input, between, out_sizes, scales, bool(align_corners))
        output = input
        for place, (out, scale) in enumerate(zip(out_sizes, scales, strict=True)):
            output = between(output, 2 + place, out, scale, bool(align_corners))
        return output.clone() if output is input else output
    raise ArgumentError(
        f"interpolate: mode {mode!r} is not available for an input of {input.ndim} dimensions; "
        "expected nearest, nearest-exact, area, linear (3), bilinear or bicubic (4), trilinear (5)"
    )


@composite
def upsample(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """The old name of `interpolate`."""
    return interpolate(input, size, scale_factor, mode, align_corners)


@composite
def upsample_nearest(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
) -> Tensor:
    """The old name of `interpolate(mode="nearest")`."""
    return interpolate(input, size, scale_factor, "nearest")


@composite
def upsample_bilinear(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
) -> Tensor:
    """The old name of `interpolate(mode="bilinear", align_corners=True)`."""
    return interpolate(input, size, scale_factor, "bilinear", True)


def _target(
    input: Tensor,
    size: int | Sequence[int] | None,
    scale_factor: float | Sequence[float] | None,
    recompute: bool,
    least: int,
) -> tuple[list[int], list[float]]:
    """Sizes of the result, each `least` or more, and how many input pixels one output pixel is."""
    in_sizes = input.shape[2:]
    if (size is None) == (scale_factor is None):
        got = "neither" if size is None else "both"
        raise ArgumentError(sentence("interpolate", "either size or scale_factor", got))
    given = size if size is not None else scale_factor
    if not isinstance(given, int | float | Real | tuple | list):
        raise TypeMismatch(sentence("interpolate", "numbers as size or scale_factor", repr(given)))
    each = [given] * len(in_sizes) if isinstance(given, int | float | Real) else list(given)
    if len(each) != len(in_sizes):
        name = "scale_factor" if size is None else "size"
        expected = f"a {name} of one number, or {len(in_sizes)} for {tuple(input.shape)}"
        raise ArgumentError(sentence("interpolate", expected, tuple(each)))
    if not all(isinstance(number, int | float | Real) for number in each):
        raise TypeMismatch(sentence("interpolate", "numbers as size or scale_factor", repr(given)))
    if size is not None:
        out_sizes = [int_of("interpolate", "size", out) for out in each]
    else:
        out_sizes = [math.floor(n * factor) for n, factor in zip(in_sizes, each, strict=True)]
    if min(out_sizes) < least:
        expected = f"an output of at least {least}"
        raise ArgumentError(sentence("interpolate", expected, tuple(out_sizes)))
    if size is None and not recompute:
        return out_sizes, [1.0 / factor for factor in each]
    return out_sizes, [n / out if out else 0.0 for n, out in zip(in_sizes, out_sizes, strict=True)]


def _nearest(input: Tensor, dim: int, out: int, scale: float, centre: float) -> Tensor:
    times = out // input.shape[dim] if input.shape[dim] else 0
    if times in (2, 4, 8) and times * input.shape[dim] == out and times * scale == 1:
        # Each pixel some times: a gradient is then a sum of slices, with no places to look up.
        shape = (*input.shape[:dim], out, *input.shape[dim + 1 :])
        return stack([input] * times, dim + 1).reshape(shape)
    places = arange(out, dtype=float64, device=input.device)
    places = ((places + centre) * scale).floor().long().clamp(max=input.shape[dim] - 1)
    return input.index_select(dim, places)


def _sources(
    input: Tensor, dim: int, out: int, scale: float, align_corners: bool, lowest: float
) -> tuple[Tensor, Tensor]:
    """For each result, the input pixel at or below its place, and how far it lies beyond that."""
    places = arange(out, dtype=float64, device=input.device)
    if align_corners:
        source = places * ((input.shape[dim] - 1) / (out - 1) if out > 1 else 0.0)
    else:
        source = ((places + 0.5) * scale - 0.5).clamp(min=lowest)
    low = source.floor()
    fraction = (source - low).to(input.dtype).reshape(-1, *(1,) * (input.ndim - 1 - dim))
    return low.long(), fraction


def _of_bytes(
    input: Tensor,
    between: Callable[[Tensor, int, int, float, bool], Tensor],
    out_sizes: list[int],
    scales: list[float],
    align_corners: bool,
) -> Tensor:
    """An image of uint8: rounded to whole numbers within 0 and 255 after each dimension, of which
    PyTorch takes the last one first."""
    for place in reversed(range(len(out_sizes))):
        if out_sizes[place] != input.shape[2 + place]:
            wide = between(input.float(), 2 + place, out_sizes[place], scales[place], align_corners)
            input = (wide + 0.5).floor().clamp(0, 255).to(uint8)
    return input.clone()


def _linear(input: Tensor, dim: int, out: int, scale: float, align_corners: bool) -> Tensor:
    """Each result lies between two neighbours: `(1 - f) * x[low] + f * x[low + 1]`. A dimension
    that keeps its size is left as it is, also where `scale_factor` is not 1."""
    if out == input.shape[dim]:
        return input
    low, fraction = _sources(input, dim, out, scale, align_corners, lowest=0.0)
    high = (low + 1).clamp(max=input.shape[dim] - 1)
    fraction = fraction.reshape(-1)
    return in_order(pooling.resize(input, fraction, low=low.array, high=high.array, axis=dim))


def _cubic(input: Tensor, dim: int, out: int, scale: float, align_corners: bool) -> Tensor:
    """Each result is a sum of four neighbours, by `cubic_weights`."""
    low, f = _sources(input, dim, out, scale, align_corners, lowest=-math.inf)
    taps = [(low + shift).clamp(0, input.shape[dim] - 1).array for shift in (-1, 0, 1, 2)]
    weights = stack(cubic_weights(f.reshape(-1)))
    return in_order(pooling.weighted_taps(input, weights, places=tuple(taps), axis=dim))


def _linear_covered(input: Tensor, dim: int, out: int, scale: float, align_corners: bool) -> Tensor:
    return _covered(input, dim, out, scale, align_corners, 1.0, lambda t: 1 - t)


def _cubic_covered(input: Tensor, dim: int, out: int, scale: float, align_corners: bool) -> Tensor:
    """By Keys' (1981) kernel with a = -0.5, as PIL has it."""

    def kernel(t: float) -> float:
        near = (1.5 * t - 2.5) * t * t + 1
        return near if t < 1 else ((-0.5 * t + 2.5) * t - 4) * t + 2

    return _covered(input, dim, out, scale, align_corners, 2.0, kernel)


def _lanczos_covered(
    input: Tensor, dim: int, out: int, scale: float, align_corners: bool
) -> Tensor:
    """By sinc, within three pixels, under a wider one (Duchon 1979)."""

    def sinc(t: float) -> float:
        return math.sin(math.pi * t) / (math.pi * t) if t else 1.0

    return _covered(input, dim, out, scale, align_corners, 3.0, lambda t: sinc(t) * sinc(t / 3))


_COVERED = {
    "bilinear": _linear_covered, "bicubic": _cubic_covered, "lanczos": _lanczos_covered,
}  # fmt: skip
"""What resizes an image with `antialias`, by mode."""


def _covered(
    input: Tensor,
    dim: int,
    out: int,
    scale: float,
    align_corners: bool,
    radius: float,
    kernel: Callable[[float], float],
) -> Tensor:
    """Each result is a sum of the pixels within `radius` pixels of the result, by their distance
    from its centre in such pixels."""
    size = input.shape[dim]
    if align_corners:
        scale = (size - 1) / (out - 1) if out > 1 else 0.0
    step = max(scale, 1.0)  # of a larger image, the input's pixels
    windows = []
    for place in range(out):
        centre = scale * (place + 0.5)
        first = max(int(centre - radius * step + 0.5), 0)
        last = min(int(centre + radius * step + 0.5), size)
        distances = [abs(i - centre + 0.5) / step for i in range(first, last)]
        weights = [kernel(t) if t < radius else 0.0 for t in distances]
        total = sum(weights) or 1.0
        windows.append((first, [weight / total for weight in weights]))
    # Pixel by pixel of the windows: a product with a matrix of all weights would multiply what is
    # not finite elsewhere with 0.
    behind = (1,) * (input.ndim - 1 - dim)

    def share(tap: int) -> Tensor:
        places = [first + min(tap, len(weights) - 1) for first, weights in windows]
        factors = [weights[tap] if tap < len(weights) else 0.0 for _, weights in windows]
        beyond = [tap >= len(weights) for _, weights in windows]
        pixels = input.index_select(dim, input.new_tensor(places, dtype=int64))
        part = pixels * input.new_tensor(factors).reshape(out, *behind)
        if not any(beyond):
            return part
        return part.masked_fill(input.new_tensor(beyond, dtype=bool_).reshape(out, *behind), 0)

    taps = range(max(len(weights) for _, weights in windows))
    return elementwise.contiguous(functools.reduce(operator.add, map(share, taps)))


def cubic_weights(t: Tensor) -> tuple[Tensor, ...]:
    """Of the four pixels about a place that is t after the second (Keys 1981, a = -0.75)."""
    a = -0.75

    def near(t: Tensor) -> Tensor:  # 0 <= t <= 1
        return ((a + 2) * t - (a + 3)) * t * t + 1

    def far(t: Tensor) -> Tensor:  # 1 <= t <= 2
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a

    return far(t + 1), near(t), near(1 - t), far(2 - t)


@composite
def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(..., C r^2, H, W) to (..., C, H r, W r): channels become pixels (Shi et al. 2016)."""
    r = _factor("pixel_shuffle", "upscale_factor", upscale_factor, input)
    *leading, channels, height, width = input.shape
    if channels % (r * r):
        raise ShapeError(f"pixel_shuffle: {channels} channels are not divisible by {r} * {r}")
    n = len(leading)
    split = input.reshape(*leading, channels // (r * r), r, r, height, width)
    split = split.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    whole = elementwise.contiguous(split)
    return whole.reshape(*leading, channels // (r * r), height * r, width * r)


def _factor(op: str, name: str, factor: int, input: Tensor) -> int:
    factor = int_of(op, name, factor)
    if factor < 1:
        raise ArgumentError(sentence(op, f"{name} of at least 1", factor))
    if input.ndim < 3:
        raise ShapeError(sentence(op, "an input (..., C, H, W)", tuple(input.shape)))
    return factor


@composite
def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(..., C, H r, W r) to (..., C r^2, H, W): the inverse of `pixel_shuffle`."""
    r = _factor("pixel_unshuffle", "downscale_factor", downscale_factor, input)
    *leading, channels, height, width = input.shape
    if height % r or width % r:
        raise ShapeError(f"pixel_unshuffle: {height} x {width} pixels are not divisible by {r}")
    n = len(leading)
    split = input.reshape(*leading, channels, height // r, r, width // r, r)
    split = split.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3)
    whole = elementwise.contiguous(split)
    return whole.reshape(*leading, channels * r * r, height // r, width // r)


@composite
def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Shuffle the channels of (N, C, ...): split into (groups, C / groups), transpose and flatten
    (Zhang et al. 2017, ShuffleNet)."""
    if int_of("channel_shuffle", "groups", groups) < 1:
        raise ArgumentError(sentence("channel_shuffle", "groups of at least 1", groups))
    if input.ndim < 3:
        raise ShapeError(sentence("channel_shuffle", "an input (N, C, ...)", tuple(input.shape)))
    batch, channels, *rest = input.shape
    if channels % groups:
        raise ShapeError(f"channel_shuffle: {channels} channels do not divide into {groups} groups")
    split = input.reshape(batch, groups, channels // groups, *rest)
    return elementwise.contiguous(split.transpose(1, 2)).reshape(input.shape)
