"""Q4_0 and Q4_1: 32 weights share a scale (and a minimum), each takes 4 bits.

Q4_0, symmetric, 4.5 bits a weight:

    byte 0   1   2          17
        [ scale ][ 16 bytes ]                    weight = scale * (q - 8)

Q4_1, affine, 5 bits a weight:

    byte 0   1   2   3   4          19
        [ scale ][  min  ][ 16 bytes ]           weight = scale * q + min

Byte i of the 16 holds weight i in its low half and weight i + 16 in its high half: so a vector
register of 16 bytes gives two of consecutive weights by one AND and one shift.

Sixteen codes cannot lie evenly around zero: -8 .. 7. Q4_0 gives the longer side to the weight of
the largest magnitude, by a scale that may be negative.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.dtypes.packed.blocks import (
    UINT8,
    BlockDType,
    bytes_at,
    float16_at,
    inverse,
    nibbles,
    pack_nibbles,
    to_float16,
    to_float32,
)


class Q4_0(BlockDType):  # noqa: N801 (the format's name)
    """4-bit codes, symmetric, in blocks of 32; see the module's docstring."""

    name = "q4_0"
    block_size = 32
    block_bytes = 18
    file_type = 2

    def pack_blocks(self, x: np.ndarray) -> np.ndarray:
        scale = signed_largest(x) / np.float32(-8)
        codes = symmetric_codes(x, scale, 8)
        return np.concatenate([to_float16(scale, self), pack_nibbles(codes)], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        codes = nibbles(be, bytes_at(be, blocks, 2, 16))
        return float16_at(be, blocks, 0) * (to_float32(be, codes) - 8)


class Q4_1(BlockDType):  # noqa: N801
    """4-bit codes, affine, in blocks of 32; see the module's docstring."""

    name = "q4_1"
    block_size = 32
    block_bytes = 20
    file_type = 3

    def pack_blocks(self, x: np.ndarray) -> np.ndarray:
        scale, low = affine_range(x, 15)
        codes = affine_codes(x, scale, low, 15)
        return np.concatenate(
            [to_float16(scale, self), to_float16(low, self), pack_nibbles(codes)], 1
        )

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        codes = to_float32(be, nibbles(be, bytes_at(be, blocks, 4, 16)))
        return float16_at(be, blocks, 0) * codes + float16_at(be, blocks, 2)


def signed_largest(x: np.ndarray) -> np.ndarray:
    """Of each block the number of the largest magnitude, with its sign: (blocks, 1)."""
    return np.take_along_axis(x, np.abs(x).argmax(1, keepdims=True), 1)


def symmetric_codes(x: np.ndarray, scale: np.ndarray, zero: int) -> np.ndarray:
    """round(x / scale) + zero, within 0 .. 2 zero - 1."""
    rounded = np.floor(x * inverse(scale) + np.float32(zero + 0.5))
    return rounded.clip(0, 2 * zero - 1).astype(UINT8)


def affine_range(x: np.ndarray, highest: int) -> tuple[np.ndarray, np.ndarray]:
    """The scale and minimum by which codes 0 .. highest span each block's range."""
    low, high = x.min(1, keepdims=True), x.max(1, keepdims=True)
    return (high - low) / np.float32(highest), low


def affine_codes(x: np.ndarray, scale: np.ndarray, low: np.ndarray, highest: int) -> np.ndarray:
    """round((x - low) / scale), within 0 .. highest."""
    rounded = np.floor((x - low) * inverse(scale) + np.float32(0.5))
    return rounded.clip(0, highest).astype(UINT8)


q4_0 = Q4_0()
q4_1 = Q4_1()
