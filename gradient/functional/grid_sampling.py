"""Images and volumes read at places that need not be whole (Jaderberg et al. 2015, "Spatial
Transformer Networks")."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from gradient.autograd.autocast import autocasts
from gradient.dtypes import bool_
from gradient.errors import ArgumentError, ShapeError, sentence
from gradient.functional.arguments import composite, floats, one_dtype, rounded_once
from gradient.functional.vision import cubic_weights
from gradient.ops import pooling
from gradient.tensor import Tensor
from gradient.tensor.creation import linspace, ones
from gradient.tensor.creation_like import ones_like
from gradient.tensor.joining import stack, where

__all__ = ["affine_grid", "grid_sample"]


@composite
def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The places that an affine map takes pixels to, for `grid_sample`.

    theta (N, 2, 3) and size (N, C, H, W) give (N, H, W, 2), of x and y; theta (N, 3, 4) and size
    (N, C, D, H, W) give (N, D, H, W, 3). Places run from -1 to 1: from the centre of the first
    pixel to that of the last with `align_corners`, else from edge to edge.
    """
    spatial = len(size) - 2
    expected = (size[0], spatial, spatial + 1) if spatial in (2, 3) else ()
    if tuple(floats("affine_grid", theta).shape) != expected:
        wanted = "theta (N, 2, 3) for a size of 4 numbers, or (N, 3, 4) for one of 5"
        got = f"{tuple(theta.shape)} and {tuple(size)}"
        raise ShapeError(sentence("affine_grid", wanted, got))
    if min(size) < 1:
        raise ArgumentError(sentence("affine_grid", "a size of positive numbers", tuple(size)))
    axes = []
    for place, n in enumerate(size[2:]):
        edge = 1.0 if align_corners else (n - 1) / n
        line = linspace(-edge, edge, n, dtype=theta.dtype, device=theta.device)
        if n == 1:
            line = line * 0.0
        axes.append(line.reshape(*(-1 if i == place else 1 for i in range(spatial))))
    one = ones(size[2:], dtype=theta.dtype, device=theta.device)
    base = stack([*(axis * one for axis in reversed(axes)), one], -1)  # (..., spatial + 1)
    grid = base.reshape(1, -1, spatial + 1) @ theta.transpose(1, 2)
    return grid.reshape(size[0], *size[2:], spatial)


@autocasts("float32_on_cpu", "widest_on_gpu")
@composite
def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """`input` (N, C, H, W) at the places `grid` (N, H_out, W_out, 2): (N, C, H_out, W_out).

    Or (N, C, D, H, W) at (N, D_out, H_out, W_out, 3). Places are x, y (and z), from -1 to 1 as
    `affine_grid` says. `mode`: "bilinear" (of volumes trilinear), "nearest", "bicubic" (of images,
    Keys' (1981) kernel with a = -0.75). `padding_mode` says what is outside: "zeros", "border" (the
    nearest pixel) or "reflection" (about the edge, or about the last pixel's centre with
    `align_corners`).
    """
    op, spatial = "grid_sample", input.ndim - 2
    if spatial not in (2, 3) or grid.ndim != input.ndim or grid.shape[-1] != spatial:
        expected = "an input (N, C, H, W) with a grid (N, H, W, 2), or one dimension more"
        raise ShapeError(sentence(op, expected, f"{tuple(input.shape)} and {tuple(grid.shape)}"))
    if grid.shape[0] != input.shape[0] or min(input.shape[2:]) < 1:
        expected = "input and grid of one batch size, and at least one pixel"
        raise ShapeError(sentence(op, expected, f"{tuple(input.shape)} and {tuple(grid.shape)}"))
    modes = ("bilinear", "nearest", "bicubic")
    if mode not in modes or (mode == "bicubic" and spatial == 3):
        raise ArgumentError(sentence(op, f"mode in {modes}, bicubic of images alone", repr(mode)))
    paddings = ("zeros", "border", "reflection")
    if padding_mode not in paddings:
        raise ArgumentError(sentence(op, f"padding_mode in {paddings}", repr(padding_mode)))
    one_dtype(op, floats(op, input), grid=grid)

    def sampled(input: Tensor, grid: Tensor) -> Tensor:
        return _sampled(input, grid, mode, padding_mode, bool(align_corners))

    return rounded_once(sampled, input, grid)


def _sampled(input: Tensor, grid: Tensor, mode: str, padding: str, align_corners: bool) -> Tensor:
    sizes = tuple(input.shape[2:])
    places = []  # in pixels, of each dimension in the order of `input`
    for axis, size in zip(reversed(range(len(sizes))), sizes, strict=True):
        place = grid[..., axis].flatten(1)
        place = (place + 1) / 2 * (size - 1) if align_corners else ((place + 1) * size - 1) / 2
        if mode != "bicubic":
            place = _inside(place, size, padding, align_corners)
        places.append(place)
    if mode == "bilinear" and len(sizes) == 2:
        values = pooling.bilinear_sample(input, stack(places[::-1], -1))
        return values.reshape(*input.shape[:2], *grid.shape[1:-1])
    taps = []  # of each dimension: pairs of whole places and their weights
    for place, size in zip(places, sizes, strict=True):
        if mode == "nearest":
            # A weight of 1, for a gradient by the grid that is 0.
            taps.append(
                [(place.detach().round(), place.masked_fill(ones_like(place, dtype=bool_), 1))]
            )
            continue
        low = place.detach().floor()
        after = place - low
        if mode == "bilinear":
            taps.append([(low, (low + 1) - place), (low + 1, after)])
            continue
        taps.append([
            (_inside(low + shift, size, padding, align_corners), weight)
            for shift, weight in zip((-1, 0, 1, 2), cubic_weights(after), strict=True)
        ])  # fmt: skip
    flat = input.flatten(2)  # (N, C, pixels)
    total = flat.new_zeros((*input.shape[:2], places[0].shape[1]))
    for chosen in itertools.product(*taps):
        index: Tensor | int = 0
        inside: Tensor | bool = True
        weight: Tensor | int = 1
        for (place, share), size in zip(chosen, sizes, strict=True):
            there = (place >= 0) & (place < size)
            index = index * size + where(there, place, 0).long()
            inside, weight = there & inside, share * weight
        assert not isinstance(index, int) and not isinstance(inside, bool)
        assert not isinstance(weight, int)
        shape = (index.shape[0], input.shape[1], index.shape[1])
        values = flat.gather(2, index.unsqueeze(1).expand(shape))
        values = values.masked_fill(~inside.unsqueeze(1), 0)
        total = total + values * weight.unsqueeze(1)
    return total.reshape(*input.shape[:2], *grid.shape[1:-1])


def _inside(place: Tensor, size: int, padding: str, align_corners: bool) -> Tensor:
    """Places outside as `padding` has them; at the border and beyond they have no gradient."""
    if padding == "zeros":
        return place
    if padding == "reflection":
        first, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
        if span == 0:
            return place * 0
        place = place - first
        place = where(place < 0, -place, place)
        turns = (place.detach() / span).floor()
        extra = place - turns * span
        place = where(turns % 2 == 0, extra, span - extra) + first
    kept = where(place.detach() > 0, place.detach().clamp(max=size - 1), 0)  # of NaN 0, as PyTorch
    return where((place > 0) & (place < size - 1), place, kept)
