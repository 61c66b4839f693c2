"""Q5_0 and Q5_1: as Q4_0 and Q4_1, with a fifth bit for each of the 32 weights kept apart.

Q5_0, symmetric, 5.5 bits a weight:

    byte 0   1   2    5   6          21
        [ scale ][ high ][ 16 bytes ]            weight = scale * (q - 16)

Q5_1, affine, 6 bits a weight:

    byte 0   1   2   3   4    7   8          23
        [ scale ][  min  ][ high ][ 16 bytes ]   weight = scale * q + min

Bit i of the 32-bit number `high` is bit 4 of weight i's code; the low four bits lie as in Q4_0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.dtypes.packed.blocks import (
    UINT8,
    BlockDType,
    bytes_at,
    float16_at,
    nibbles,
    pack_nibbles,
    to_float16,
    to_float32,
)
from gradient.dtypes.packed.q4 import affine_codes, affine_range, signed_largest, symmetric_codes


class Q5_0(BlockDType):  # noqa: N801 (the format's name)
    """5-bit codes, symmetric, in blocks of 32; see the module's docstring."""

    name = "q5_0"
    block_size = 32
    block_bytes = 22
    file_type = 8

    def pack_blocks(self, x: np.ndarray) -> np.ndarray:
        scale = signed_largest(x) / np.float32(-16)
        high, low = split_fifth_bit(symmetric_codes(x, scale, 16))
        return np.concatenate([to_float16(scale, self), high, low], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        return float16_at(be, blocks, 0) * (to_float32(be, five_bits(be, blocks, 2)) - 16)


class Q5_1(BlockDType):  # noqa: N801
    """5-bit codes, affine, in blocks of 32; see the module's docstring."""

    name = "q5_1"
    block_size = 32
    block_bytes = 24
    file_type = 9

    def pack_blocks(self, x: np.ndarray) -> np.ndarray:
        scale, minimum = affine_range(x, 31)
        high, low = split_fifth_bit(affine_codes(x, scale, minimum, 31))
        return np.concatenate([to_float16(scale, self), to_float16(minimum, self), high, low], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        codes = to_float32(be, five_bits(be, blocks, 4))
        return float16_at(be, blocks, 0) * codes + float16_at(be, blocks, 2)


def five_bits(be: Any, blocks: Any, start: int) -> Any:
    """The codes 0 .. 31 of blocks whose `high` begins at byte `start`: uint8 (..., 32)."""
    high = bytes_at(be, blocks, start, 4)
    bit = be.arange(0, 8, 1, UINT8)
    fifth = be.reshape(high, (*high.shape, 1)) >> bit & 1  # (..., 4, 8): byte, bit within it
    fifth = be.reshape(fifth, (*high.shape[:-1], 32))
    return nibbles(be, bytes_at(be, blocks, start + 4, 16)) | fifth << 4


def split_fifth_bit(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes (blocks, 32) as `high` (blocks, 4) and the bytes of their low halves (blocks, 16)."""
    high = np.packbits(codes >> 4, axis=1, bitorder="little")
    return high, pack_nibbles(codes & 15)


q5_0 = Q5_0()
q5_1 = Q5_1()
