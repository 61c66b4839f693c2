"""Find scales for the k-quants: least squares over candidates, then over the storable numbers.

The codes of a block and its scale depend on each other: given the scale, the best codes are the
nearest ones; given the codes, the best scale is a weighted mean. A scale from the block's range is
one solution, but a poor one for few bits, because it depends only on the largest weight. So

1. several scales near the range's are tried for every sub-block; for each the codes are rounded
   and the scale (and minimum) of least squared error computed for these codes; the best stays;
2. the scales of a block are themselves rounded to a few bits; then, for the integers stored, the
   codes are rounded again, neighbours of each integer are tried, and the two numbers that all share
   are fitted once more.

Errors count by weight, `importance`: large weights a little more, as they meet activations that the
model relies on. (llama.cpp's K-quants, by Iwan Kawrakow, search in this spirit; the code is ours.)

Inside, arrays are float32 with the blocks last, (weights of a sub-block, sub-blocks, blocks), so
that NumPy runs along many blocks at a time; what a sub-block has once is (sub-blocks, blocks).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gradient.dtypes.packed.blocks import inverse

Array = np.ndarray

CANDIDATES = np.linspace(-1.2, 1.2, 7, dtype=np.float32)
"""By how many codes the range is stretched (or, below 0, cut) in the candidates of step 1."""
TOO_LARGE = np.float32(1e10)
"""Larger than all weights that can be stored."""
ROUNDS = 1
"""How often step 2 fits the shared numbers. A second fit gains 0.1 % and costs a third more."""


def importance(x: Array) -> Array:
    """Return the weight of each error: the magnitude plus the sub-block's typical magnitude."""
    return np.abs(x) + np.sqrt(np.mean(x * x, 0))


def dot(a: Array, b: Array) -> Array:
    """The sum of a b over each sub-block."""
    return np.add.reduce(a * b, 0)


def nearest(x: Array, low: int, high: int) -> Array:
    """The nearest integers within limits; overwrites x."""
    np.rint(x, out=x)
    np.maximum(x, low, out=x)
    return np.minimum(x, high, out=x)


# Symmetric: weight = scale * code ----------------------------------------------------------------


class Symmetric(NamedTuple):
    """The stored numbers of blocks of a symmetric format: weight = d * scale * code."""

    d: Array  # (blocks, 1), a 16-bit float's value
    scales: Array  # (blocks, sub-blocks)
    codes: Array  # (blocks, sub-blocks, weights)


def symmetric(x: Array, half: int, most: int) -> Symmetric:
    """The best for x (blocks, sub-blocks, weights): codes -half .. half - 1, scales -most ..
    most - 1."""
    x = bounded(x.T)
    w = importance(x)

    def weighted_error(step: Array) -> Array:
        error = x - step * nearest(x * inverse(step), -half, half - 1)
        return dot(w * error, error)

    wanted = fit_scale(x, w, half)
    edge = np.take_along_axis(wanted, np.abs(wanted).argmax(0)[None], 0)[0]
    d = half_beyond(edge / -most)  # the largest scale is -most, the longer side
    scales = nearest(wanted * inverse(d), -most, most - 1)
    for last in (False,) * ROUNDS + (True,):
        scales = _best_neighbour(scales, -most, most - 1, lambda s: weighted_error(d * s))  # noqa: B023
        codes = nearest(x * inverse(d * scales), -half, half - 1)
        if not last:
            stored = scales * codes
            num, den = dot(w * x, stored).sum(0), dot(w * stored, stored).sum(0)
            fitted = as_half(num * inverse(den))
            d = np.where((den > 0) & (fitted != 0), fitted, d)
    return Symmetric(d[:, None], scales.T, codes.T)


def fit_scale(x: Array, w: Array, half: int) -> Array:
    """Each sub-block's scale for codes -half .. half - 1."""
    # The largest weight becomes code -half, the longer side.
    edge = np.take_along_axis(x, np.abs(x).argmax(0)[None], 0)[0]
    best, gain = np.zeros_like(edge), np.zeros_like(edge)
    wx = w * x
    for stretch in CANDIDATES:
        codes = nearest(x * inverse(edge / -(half + stretch)), -half, half - 1)
        xq, inv = dot(wx, codes), inverse(dot(w * codes, codes))
        # The error is sum w x^2 - xq^2 / qq, where the scale is xq / qq.
        better = xq * xq * inv > gain
        gain = np.where(better, xq * xq * inv, gain)
        best = np.where(better, xq * inv, best)
    return best


# Affine: weight = scale * code - minimum ---------------------------------------------------------


class Affine(NamedTuple):
    """The stored numbers of blocks of an affine format: weight = d * scale * code - dmin * min."""

    d: Array  # (blocks, 1), a 16-bit float's value
    dmin: Array  # (blocks, 1), a 16-bit float's value
    scales: Array  # (blocks, sub-blocks)
    mins: Array  # (blocks, sub-blocks)
    codes: Array  # (blocks, sub-blocks, weights)


def affine(x: Array, highest: int, most: int) -> Affine:
    """The best for x (blocks, sub-blocks, weights): codes to `highest`, all scales to `most`."""
    x = bounded(x.T)
    w = importance(x)

    def weighted_error(scales: Array, mins: Array) -> Array:
        step, error = d * scales, x + dmin * mins
        error -= step * nearest(error * inverse(step), 0, highest)
        return dot(w * error, error)

    slopes, offsets = fit_line(x, w, highest)
    d, dmin = half_beyond(slopes.max(0) / most), half_beyond(offsets.max(0) / most)
    scales = nearest(slopes * inverse(d), 0, most)
    mins = nearest(offsets * inverse(dmin), 0, most)
    for last in (False,) * ROUNDS + (True,):
        scales = _best_neighbour(scales, 0, most, lambda s: weighted_error(s, mins))  # noqa: B023
        mins = _best_neighbour(mins, 0, most, lambda m: weighted_error(scales, m))  # noqa: B023
        codes = nearest((x + dmin * mins) * inverse(d * scales), 0, highest)
        if not last:
            d, dmin = _fit_shared(x, w, scales * codes, mins, d, dmin)
    return Affine(d[:, None], dmin[:, None], scales.T, mins.T, codes.T)


def fit_line(x: Array, w: Array, highest: int) -> tuple[Array, Array]:
    """Each sub-block's scale and minimum, neither below 0, for codes 0 .. highest."""
    low = np.minimum(x.min(0), 0)
    width = x.max(0) - low
    above, wx = x - low, w * x
    sw, sx, sxx = w.sum(0), wx.sum(0), dot(wx, x)
    scale, minimum = width / highest, -low
    left = above - scale * nearest(above * inverse(scale), 0, highest)
    error = dot(w * left, left)
    for stretch in CANDIDATES:
        codes = nearest(above * inverse(width / (highest + stretch)), 0, highest)
        sq, sqq, sqx = dot(w, codes), dot(w * codes, codes), dot(wx, codes)
        det = sw * sqq - sq * sq
        inv = inverse(det)
        slope, offset = (sw * sqx - sq * sx) * inv, (sq * sqx - sqq * sx) * inv
        # A minimum below 0 cannot be stored: then the line goes through 0.
        through = (offset < 0) | (det <= 0)
        slope = np.where(through, sqx * inverse(sqq), slope)
        offset = np.where(through, 0, offset)
        # sum w (slope q - offset - x)^2, multiplied out.
        weighted_error = (
            slope * slope * sqq + offset * offset * sw + sxx
            - 2 * (slope * offset * sq + slope * sqx - offset * sx)
        )  # fmt: skip
        better = (weighted_error < error) & (slope >= 0)
        scale = np.where(better, slope, scale)
        minimum = np.where(better, offset, minimum)
        error = np.where(better, weighted_error, error)
    return scale, minimum


def _fit_shared(
    x: Array, w: Array, stored: Array, mins: Array, d: Array, dmin: Array
) -> tuple[Array, Array]:
    """The d and dmin of least error for a block's integers; the old ones if one is < 0."""
    ss, sx = dot(w * stored, stored).sum(0), dot(w * stored, x).sum(0)
    sm, mx = (mins * dot(w, stored)).sum(0), (mins * dot(w, x)).sum(0)
    mm = (mins * mins * w.sum(0)).sum(0)
    det = ss * mm - sm * sm
    inv = inverse(det)
    new_d = as_half((sx * mm - sm * mx) * inv)
    new_dmin = as_half((sm * sx - ss * mx) * inv)
    good = (det > 0) & (new_d > 0) & (new_dmin >= 0)
    return np.where(good, new_d, d), np.where(good, new_dmin, dmin)


# Shared ------------------------------------------------------------------------------------------


def as_half(x: Array) -> Array:
    """Round float32 numbers to 16 bits."""
    return x.astype(np.float16).astype(np.float32)


def half_beyond(x: Array) -> Array:
    """Round float32 numbers to 16 bits, away from 0.

    Scales of small weights have few digits left in 16 bits (below 6e-5, multiples of 6e-8). One
    that was rounded down would not reach the sub-block of the largest weights.
    """
    half = x.astype(np.float16)
    further = np.nextafter(half, np.copysign(np.float16(np.inf), half))
    return np.where(np.abs(half) < np.abs(x), further, half).astype(np.float32)


def bounded(x: Array) -> Array:
    """Return a copy without numbers whose powers overflow. Scales for these are too large for 16
    bits anyway, and raise an error when they are stored."""
    return np.clip(x, -TOO_LARGE, TOO_LARGE)


def _best_neighbour(
    integers: Array, low: int, high: int, error_of: Callable[[Array], Array]
) -> Array:
    """Return for each integer the one with the smallest error of it and its two neighbours."""
    best, error = integers, error_of(integers)
    for step in (-1, 1):
        tried = (integers + step).clip(low, high)
        other = error_of(tried)
        best = np.where(other < error, tried, best)
        error = np.minimum(other, error)
    return best
