"""Fractional max-pooling: windows of random places, to any size (Graham 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradient.autograd.autocast import autocasts
from gradient.errors import ArgumentError, ShapeError, sentence
from gradient.functional.arguments import composite
from gradient.functional.conv import Size, sizes
from gradient.random import rand
from gradient.tensor import Tensor
from gradient.tensor.creation import arange
from gradient.tensor.joining import cat

__all__ = [
    "fractional_max_pool2d",
    "fractional_max_pool2d_with_indices",
    "fractional_max_pool3d",
    "fractional_max_pool3d_with_indices",
]

Ratio = float | Sequence[float]


@autocasts("float32_on_cpu")
@composite
def fractional_max_pool2d(
    input: Tensor,
    kernel_size: Size,
    output_size: Size | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Tensor:
    """The largest of each of `output_size` windows of (N, C, H, W) or (C, H, W), which start at
    pseudo-random places: `floor(alpha (i + u)) - floor(alpha u)` (Graham 2014, section 2).

    Args:
        output_size: of the result; or `output_ratio`, between 0 and 1, of it to the input's.
        return_indices: also give each maximum's place in the flattened (H, W).
        _random_samples: u, (N, C, 2), for W and H; drawn uniformly unless given.
    """
    found: Any = _pool(  # annotated as one Tensor: few callers ask for indices
        "fractional_max_pool2d", 2, input, kernel_size, output_size, output_ratio, _random_samples
    )
    return found if return_indices else found[0]


@autocasts("float32_on_cpu")
@composite
def fractional_max_pool3d(
    input: Tensor,
    kernel_size: Size,
    output_size: Size | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Tensor:
    """As `fractional_max_pool2d`, of (N, C, T, H, W) or (C, T, H, W); u is (N, C, 3)."""
    found: Any = _pool(  # annotated as one Tensor: few callers ask for indices
        "fractional_max_pool3d", 3, input, kernel_size, output_size, output_ratio, _random_samples
    )
    return found if return_indices else found[0]


@autocasts("float32_on_cpu")
def fractional_max_pool2d_with_indices(
    input: Tensor,
    kernel_size: Size,
    output_size: Size | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Tensor:
    """`fractional_max_pool2d(..., return_indices=True)`; the argument of that name is ignored."""
    return fractional_max_pool2d(
        input, kernel_size, output_size, output_ratio, True, _random_samples
    )


@autocasts("float32_on_cpu")
def fractional_max_pool3d_with_indices(
    input: Tensor,
    kernel_size: Size,
    output_size: Size | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Tensor:
    """`fractional_max_pool3d(..., return_indices=True)`; the argument of that name is ignored."""
    return fractional_max_pool3d(
        input, kernel_size, output_size, output_ratio, True, _random_samples
    )


def _pool(
    op: str,
    spatial: int,
    input: Tensor,
    kernel_size: Size,
    output_size: Size | None,
    output_ratio: Ratio | None,
    samples: Tensor | None,
) -> tuple[Tensor, Tensor]:
    if input.ndim not in (spatial + 1, spatial + 2):
        expected = f"{spatial + 1} or {spatial + 2} dimensions"
        raise ShapeError(sentence(op, expected, tuple(input.shape)))
    x = input if input.ndim == spatial + 2 else input.unsqueeze(0)
    lengths = tuple(x.shape[2:])
    kernel = sizes(op, "kernel_size", kernel_size, spatial, least=1)
    if output_size is None:
        if output_ratio is None:
            raise ArgumentError(sentence(op, "an output_size or an output_ratio", "neither"))
        ratios = (
            (output_ratio,) * spatial if isinstance(output_ratio, (int, float)) else output_ratio
        )
        output_size = tuple(int(n * r) for n, r in zip(lengths, ratios, strict=True))
    outs = sizes(op, "output_size", output_size, spatial, least=1)
    if any(out + k - 1 > n for out, k, n in zip(outs, kernel, lengths, strict=True)):
        expected = f"an input of at least output_size {outs} + kernel_size {kernel} - 1"
        raise ShapeError(sentence(op, expected, lengths))
    if samples is None:
        samples = rand(*x.shape[:2], spatial, dtype=x.dtype, device=x.device)
    else:
        given, wanted = tuple(samples.shape), (*x.shape[:2], spatial)
        if len(given) != 3 or given[1:] != wanted[1:] or given[0] < wanted[0]:
            expected = f"_random_samples of shape {wanted}, or of a larger batch"
            raise ShapeError(sentence(op, expected, given))
        samples = samples[: x.shape[0]]

    # Where every element of every window lies in the flattened image: (N, C, outs..., kernel...).
    places: Tensor | None = None
    for axis in range(spatial):
        # PyTorch gives the width the first number in two dimensions, and the last one in three.
        u = samples.select(2, spatial - 1 - axis if spatial == 2 else axis)
        starts = _starts(lengths[axis], kernel[axis], outs[axis], u)
        index = starts.unsqueeze(-1) + arange(kernel[axis], device=x.device)  # (N, C, out, k)
        shape = [1] * (2 * spatial)
        shape[axis], shape[spatial + axis] = outs[axis], kernel[axis]
        index = index.reshape(*x.shape[:2], *shape)
        places = index if places is None else places * lengths[axis] + index
    assert places is not None
    places = places.flatten(2 + spatial)  # (N, C, outs..., K)
    values = x.flatten(2).gather(2, places.flatten(2)).reshape(places.shape)
    largest, chosen = values.max(-1)
    indices = places.gather(-1, chosen.unsqueeze(-1)).squeeze(-1).clone()  # a view of nothing
    if input.ndim == spatial + 1:
        return largest.squeeze(0), indices.squeeze(0)
    return largest, indices


def _starts(length: int, kernel: int, out: int, u: Tensor) -> Tensor:
    """Where the windows of one dimension start, (N, C, out); the last one ends at the border."""
    last = u.new_full((*u.shape, 1), length - kernel).long()
    if out == 1:
        return last
    alpha = (length - kernel) / (out - 1)
    u = u.unsqueeze(-1)
    steps = arange(out - 1, dtype=u.dtype, device=u.device)
    return cat([((steps + u) * alpha).long() - (u * alpha).long(), last], -1)
