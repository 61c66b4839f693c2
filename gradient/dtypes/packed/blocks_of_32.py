"""Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: 32 weights share a scale (and a minimum).

Q4_0, symmetric, 4.5 bits a weight:

    byte 0   1   2          17
        [ scale ][ 16 bytes ]                    weight = scale * (q - 8)

Q4_1, affine, 5 bits a weight:

    byte 0   1   2   3   4          19
        [ scale ][  min  ][ 16 bytes ]           weight = scale * q + min

Byte i of the 16 holds weight i in its low half and weight i + 16 in its high half: so a vector
register of 16 bytes gives two of consecutive weights by one AND and one shift.

Sixteen codes cannot be symmetric around zero: -8 .. 7. In Q4_0 the weight of the largest magnitude
gets the code -8; the scale is negative if that weight is positive.

Q5_0 and Q5_1 have a fifth bit for each of the 32 weights, stored separately: 5.5 and 6 bits a
weight.

    byte 0   1   2    5   6          21
        [ scale ][ high ][ 16 bytes ]            weight = scale * (q - 16)

    byte 0   1   2   3   4    7   8          23
        [ scale ][  min  ][ high ][ 16 bytes ]   weight = scale * q + min

Bit i of the 32-bit number `high` is bit 4 of weight i's code; the low four bits lie as in Q4_0.

Q8_0 has one signed byte for each weight: 8.5 bits.

    byte 0   1   2   3               33
        [ scale ][ q0 ][ q1 ] ... [ q31 ]        weight = scale * q

Its scale is the largest magnitude / 127, so codes fill -127 .. 127 and the error is at most half a
scale: for normally distributed weights about 0.5 % in the root mean square. In practice a model in
Q8_0 cannot be distinguished from its original.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.dtypes.packed.blocks import (
    INT8,
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

__all__ = ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1"]


class _Few(BlockDType):
    """Codes of 4 or 5 bits in blocks of 32; see the module's docstring."""

    block_size = 32

    def __init__(self, name: str, code_bits: int, block_bytes: int, file_type: int) -> None:
        self.name, self.code_bits = name, code_bits
        self.block_bytes, self.file_type = block_bytes, file_type

    def _pack_codes(self, codes: np.ndarray) -> np.ndarray:
        """Codes (blocks, 32) as `high`, if they have a fifth bit, and the bytes of their halves."""
        if self.code_bits == 4:
            return pack_nibbles(codes)
        high = np.packbits(codes >> 4, axis=1, bitorder="little")
        return np.concatenate([high, pack_nibbles(codes & 15)], 1)

    def _codes(self, be: Any, blocks: Any, start: int) -> Any:
        """The codes of blocks, which begin at byte `start`, as float32 (..., 32)."""
        if self.code_bits == 4:
            return to_float32(be, nibbles(be, bytes_at(be, blocks, start, 16)))
        return to_float32(be, five_bits(be, blocks, start))


class _Symmetric(_Few):
    """Codes of 4 or 5 bits in blocks of 32 with a scale: scale * (code - middle)."""

    def pack_blocks(self, x: np.ndarray) -> np.ndarray:
        zero = 2 ** (self.code_bits - 1)
        scale = signed_largest(x) / np.float32(-zero)
        rounded = np.floor(x * inverse(scale) + np.float32(zero + 0.5))
        codes = rounded.clip(0, 2 * zero - 1).astype(UINT8)
        return np.concatenate([to_float16(scale, self), self._pack_codes(codes)], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        return float16_at(be, blocks, 0) * (self._codes(be, blocks, 2) - 2 ** (self.code_bits - 1))


class _Affine(_Few):
    """Codes of 4 or 5 bits in blocks of 32 with a scale and a minimum: scale * code + minimum."""

    def pack_blocks(self, x: np.ndarray) -> np.ndarray:
        highest = 2**self.code_bits - 1
        low, high = x.min(1, keepdims=True), x.max(1, keepdims=True)
        scale = (high - low) / np.float32(highest)
        rounded = np.floor((x - low) * inverse(scale) + np.float32(0.5))
        codes = self._pack_codes(rounded.clip(0, highest).astype(UINT8))
        return np.concatenate([to_float16(scale, self), to_float16(low, self), codes], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        return float16_at(be, blocks, 0) * self._codes(be, blocks, 4) + float16_at(be, blocks, 2)


def signed_largest(x: np.ndarray) -> np.ndarray:
    """Return the number of the largest magnitude in each block, with its sign: (blocks, 1)."""
    return np.take_along_axis(x, np.abs(x).argmax(1, keepdims=True), 1)


def five_bits(be: Any, blocks: Any, start: int) -> Any:
    """The codes 0 .. 31 of blocks whose `high` begins at byte `start`: uint8 (..., 32)."""
    high = bytes_at(be, blocks, start, 4)
    bit = be.arange(0, 8, 1, UINT8)
    fifth = be.reshape(high, (*high.shape, 1)) >> bit & 1  # (..., 4, 8): byte, bit within it
    fifth = be.reshape(fifth, (*high.shape[:-1], 32))
    return nibbles(be, bytes_at(be, blocks, start + 4, 16)) | fifth << 4


q4_0 = _Symmetric("q4_0", 4, 18, 2)
q4_1 = _Affine("q4_1", 4, 20, 3)
q5_0 = _Symmetric("q5_0", 5, 22, 8)
q5_1 = _Affine("q5_1", 5, 24, 9)


class Q8_0(BlockDType):  # noqa: N801 (the format's name)
    """8-bit codes, symmetric, in blocks of 32; see the module's docstring."""

    name = "q8_0"
    block_size = 32
    block_bytes = 34
    file_type = 7

    def pack_blocks(self, x: np.ndarray) -> np.ndarray:
        scale = np.abs(x).max(1, keepdims=True) / np.float32(127)
        codes = round_half_away(x * inverse(scale)).astype(INT8)
        return np.concatenate([to_float16(scale, self), codes.view(UINT8)], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        codes = be.bitcast(bytes_at(be, blocks, 2, 32), INT8)
        return to_float32(be, codes) * float16_at(be, blocks, 0)


def round_half_away(x: np.ndarray) -> np.ndarray:
    """Round to the nearest integer, halves away from zero, like C's roundf in the reference."""
    size = np.abs(x)
    down = np.floor(size)
    return np.sign(x) * (down + np.floor(2 * (size - down)))


q8_0 = Q8_0()
