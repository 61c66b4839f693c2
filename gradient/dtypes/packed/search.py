"""Finding scales for the K formats: least squares over candidates, then over what can be stored.

A block's codes and its scale depend on each other: given the scale, the best codes are the nearest;
given the codes, the best scale is a weighted mean. Rounding to the block's range is only one answer
to that, and for few bits not a good one: it lets the largest weight decide alone. So

1. several scales near the range's are tried for every sub-block; for each the codes are rounded
   and the scale (and minimum) of least squared error computed for these codes; the best stays;
2. the scales of a block are themselves rounded to a few bits; then, for the integers stored, the
   codes are rounded again, neighbours of each integer are tried, and the two numbers that all share
   are fitted once more.

Errors count by weight, `importance`: large weights a little more, as they meet activations that the
model relies on. (llama.cpp's K-quants, by Iwan Kawrakow, search in this spirit; the code is ours.)

Arrays are float32, (blocks, sub-blocks, weights of a sub-block).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gradient.dtypes.packed.blocks import inverse

Array = np.ndarray

CANDIDATES = np.linspace(-1.2, 1.2, 13, dtype=np.float32)
"""By how many codes the range is stretched (or, below 0, cut) in the candidates of step 1."""
ROUNDS = 2
"""How often step 2 goes around."""


def importance(x: Array) -> Array:
    """How much an error in each weight counts: its magnitude plus the sub-block's typical one."""
    return np.abs(x) + np.sqrt(np.mean(x * x, -1, keepdims=True))


def total(x: Array) -> Array:
    return np.sum(x, -1, keepdims=True)


# Symmetric: weight = scale * code ----------------------------------------------------------------


def fit_scale(x: Array, w: Array, half: int) -> Array:
    """Each sub-block's scale (.., .., 1) for codes -half .. half - 1."""
    at = np.abs(x).argmax(-1, keepdims=True)
    edge = np.take_along_axis(x, at, -1)  # becomes code -half, the longer side
    best, gain = np.zeros_like(edge), np.zeros_like(edge)
    for stretch in CANDIDATES:
        codes = np.rint(x * inverse(edge / -(half + stretch))).clip(-half, half - 1)
        xq, qq = total(w * x * codes), total(w * codes * codes)
        # The error is sum w x^2 - xq^2 / qq, where the scale is xq / qq.
        inv = inverse(qq)
        better = xq * xq * inv > gain
        gain = np.where(better, xq * xq * inv, gain)
        best = np.where(better, xq * inv, best)
    return best


class Symmetric(NamedTuple):
    """What a block of a symmetric format stores: weight = scale * multiples * codes."""

    scale: Array  # (blocks, 1), a 16-bit float's value
    multiples: Array  # (blocks, sub-blocks)
    codes: Array  # (blocks, sub-blocks, weights)


def symmetric(x: Array, half: int, most: int) -> Symmetric:
    """Codes -half .. half - 1, multiples -most .. most - 1."""
    w = importance(x)
    wanted = fit_scale(x, w, half)
    at = np.abs(wanted).argmax(1, keepdims=True)
    scale = as_half(np.take_along_axis(wanted, at, 1) / -most)
    multiples = np.rint(wanted * inverse(scale)).clip(-most, most - 1)
    for last in (False,) * ROUNDS + (True,):
        multiples = _nearby(
            multiples,
            (-most, most - 1),
            lambda m: total(w * (x - scale * m * rounded(x, scale * m, half)) ** 2),  # noqa: B023
        )
        codes = rounded(x, scale * multiples, half)
        if not last:
            stored = multiples * codes
            num, den = _sum_block(w * x * stored), _sum_block(w * stored * stored)
            scale = np.where(den > 0, as_half(num * inverse(den)), scale)
    return Symmetric(scale[:, :, 0], multiples[:, :, 0], codes)


def rounded(x: Array, step: Array, half: int) -> Array:
    return np.rint(x * inverse(step)).clip(-half, half - 1)


# Affine: weight = scale * code - minimum ---------------------------------------------------------


def fit_line(x: Array, w: Array, highest: int) -> tuple[Array, Array]:
    """Each sub-block's scale and minimum (.., .., 1), neither below 0, for codes 0 .. highest."""
    low = np.minimum(x.min(-1, keepdims=True), 0)
    width = x.max(-1, keepdims=True) - low
    sw, sx, sxx = total(w), total(w * x), total(w * x * x)
    scale, minimum = width / highest, -low
    error = np.full_like(low, np.inf)
    for stretch in CANDIDATES:
        codes = np.rint((x - low) * inverse(width / (highest + stretch))).clip(0, highest)
        wq = w * codes
        sq, sqq, sqx = total(wq), total(wq * codes), total(wq * x)
        det = sw * sqq - sq * sq
        inv = inverse(det)
        slope, offset = (sw * sqx - sq * sx) * inv, (sq * sqx - sqq * sx) * inv
        # A minimum below 0 cannot be stored: then the line goes through 0.
        through = (offset < 0) | (det <= 0)
        slope = np.where(through, sqx * inverse(sqq), slope)
        offset = np.where(through, 0, offset)
        # sum w (slope q - offset - x)^2, multiplied out.
        missed = (
            slope * slope * sqq + offset * offset * sw + sxx
            - 2 * (slope * offset * sq + slope * sqx - offset * sx)
        )  # fmt: skip
        better = (missed < error) & (slope >= 0)
        scale = np.where(better, slope, scale)
        minimum = np.where(better, offset, minimum)
        error = np.where(better, missed, error)
    return scale, minimum


class Affine(NamedTuple):
    """What a block of an affine format stores: weight = scale * a * codes - minimum * b."""

    scale: Array  # (blocks, 1), a 16-bit float's value
    minimum: Array  # (blocks, 1), a 16-bit float's value
    a: Array  # (blocks, sub-blocks)
    b: Array  # (blocks, sub-blocks)
    codes: Array  # (blocks, sub-blocks, weights)


def affine(x: Array, highest: int, most: int) -> Affine:
    """Codes 0 .. highest, a and b 0 .. most."""
    w = importance(x)
    slopes, offsets = fit_line(x, w, highest)
    scale = as_half(slopes.max(1, keepdims=True) / most)
    minimum = as_half(offsets.max(1, keepdims=True) / most)
    a = np.rint(slopes * inverse(scale)).clip(0, most)
    b = np.rint(offsets * inverse(minimum)).clip(0, most)

    def missed(a: Array, b: Array) -> Array:
        step, base = scale * a, minimum * b
        return total(w * (x + base - step * raised(x, step, base, highest)) ** 2)

    for last in (False,) * ROUNDS + (True,):
        a = _nearby(a, (0, most), lambda a: missed(a, b))  # noqa: B023
        b = _nearby(b, (0, most), lambda b: missed(a, b))  # noqa: B023
        codes = raised(x, scale * a, minimum * b, highest)
        if not last:
            scale, minimum = _fit_shared(x, w, a * codes, b, scale, minimum)
    return Affine(scale[:, :, 0], minimum[:, :, 0], a[:, :, 0], b[:, :, 0], codes)


def raised(x: Array, step: Array, base: Array, highest: int) -> Array:
    return np.rint((x + base) * inverse(step)).clip(0, highest)


def _fit_shared(
    x: Array, w: Array, stored: Array, b: Array, scale: Array, minimum: Array
) -> tuple[Array, Array]:
    """The scale and minimum of least error for a block's integers; the old ones if one is < 0."""
    b = np.broadcast_to(b, x.shape)
    ss, sb, bb = _sum_block(w * stored * stored), _sum_block(w * stored * b), _sum_block(w * b * b)
    sx, bx = _sum_block(w * stored * x), _sum_block(w * b * x)
    det = ss * bb - sb * sb
    inv = inverse(det)
    new_scale = as_half((sx * bb - sb * bx) * inv)
    new_minimum = as_half((sb * sx - ss * bx) * inv)
    good = (det > 0) & (new_scale > 0) & (new_minimum >= 0)
    return np.where(good, new_scale, scale), np.where(good, new_minimum, minimum)


# Shared ------------------------------------------------------------------------------------------


def as_half(x: Array) -> Array:
    """What is left of float32 numbers when stored in 16 bits."""
    return x.astype(np.float16).astype(np.float32)


def _sum_block(x: Array) -> Array:
    return np.sum(x, (1, 2), keepdims=True)


def _nearby(integers: Array, limits: tuple[int, int], missed: Callable[[Array], Array]) -> Array:
    """Each integer, or one of its two neighbours, whichever has the least error."""
    best, error = integers, missed(integers)
    for step in (-1, 1):
        tried = (integers + step).clip(*limits)
        other = missed(tried)
        best = np.where(other < error, tried, best)
        error = np.minimum(other, error)
    return best
