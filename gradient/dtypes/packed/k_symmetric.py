"""Q3_K and Q6_K: 256 weights in sixteen sub-blocks of 16, each with a scale of a few bits.

    weight = (d * s) * q          d a 16-bit float for all 256, s an integer for each 16

    format   range of s      range of q    bytes   bits a weight
    Q3_K     -32 .. 31        -4 .. 3        110      3.4375
    Q6_K    -128 .. 127      -32 .. 31       210      6.5625

Both s and q are stored without a sign, raised by their lowest value (but s of Q6_K). As s may be
negative, each sub-block can give the longer side of q, the negative one, to either sign.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.dtypes.packed import search
from gradient.dtypes.packed.blocks import (
    INT8,
    UINT8,
    BlockDType,
    bytes_at,
    fields,
    float16_at,
    nibbles,
    pack_fields,
    pack_nibbles,
    to_float16,
    to_float32,
)


class SymmetricBlocks(BlockDType):
    """A format of 256 weights in sub-blocks of 16, found by `search.symmetric`.

    Subclasses say minus the lowest code and minus the lowest scale, and how `store` lays out what
    was found.
    """

    block_size = 256
    sub_blocks = (16, 16)
    half: int
    most: int

    def pack_blocks(self, x: np.ndarray) -> np.ndarray:
        return self.store(search.symmetric(x.reshape(-1, *self.sub_blocks), self.half, self.most))

    def store(self, best: search.Symmetric) -> np.ndarray:
        """The numbers found for blocks as uint8 (blocks, block_bytes)."""
        raise NotImplementedError


class Q3_K(SymmetricBlocks):  # noqa: N801 (the format's name)
    """3-bit codes in sub-blocks of 16: 3.4375 bits a weight.

        byte 0          32           96        108 109
            [ 32 bytes ][  64 bytes  ][ s x 16 ][ d ]

    q + 4 has three bits. The low two lie in the 64 bytes, as in Q2_K. The high one of weight
    i + 32 j is bit j of byte i of the first 32.
    """

    name = "q3_k"
    block_bytes = 110
    half, most = 4, 32

    def store(self, best: search.Symmetric) -> np.ndarray:
        codes = (best.codes + 4).astype(UINT8).reshape(-1, 2, 4, 32)
        high = pack_fields((codes >> 2).reshape(-1, 8, 32), 1)
        low = pack_fields(codes & 3, 2).reshape(-1, 64)
        scales = twelve_bytes((best.multiples + 32).astype(UINT8))
        return np.concatenate([high, low, scales, to_float16(best.scale, self)], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        low = be.reshape(bytes_at(be, blocks, 32, 64), (*blocks.shape[:-1], 2, 32))
        low = be.reshape(fields(be, low, 2), (*blocks.shape[:-1], 8, 32))
        codes = low | fields(be, bytes_at(be, blocks, 0, 32), 1) << 2
        scales = to_float32(be, six_bits(be, bytes_at(be, blocks, 96, 12))) - 32
        return scaled(be, float16_at(be, blocks, 108), scales, to_float32(be, codes) - 4)


class Q6_K(SymmetricBlocks):  # noqa: N801
    """6-bit codes in sub-blocks of 16: 6.5625 bits a weight.

        byte 0            128          192        208 209
            [  128 bytes  ][ 64 bytes ][ s x 16 ][ d ]

    q + 32 has six bits. The low four lie in the 128 bytes: of each 64, the low halves hold 64
    weights and the high halves the next 64. The high two lie in the 64 bytes, as in Q2_K.
    """

    name = "q6_k"
    block_bytes = 210
    half, most = 32, 128

    def store(self, best: search.Symmetric) -> np.ndarray:
        codes = (best.codes + 32).astype(UINT8)
        low = pack_nibbles((codes & 15).reshape(-1, 2, 128)).reshape(-1, 128)
        high = pack_fields((codes >> 4).reshape(-1, 2, 4, 32), 2).reshape(-1, 64)
        scales = best.multiples.astype(INT8).view(UINT8)
        return np.concatenate([low, high, scales, to_float16(best.scale, self)], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        low = be.reshape(bytes_at(be, blocks, 0, 128), (*blocks.shape[:-1], 2, 64))
        low = be.reshape(nibbles(be, low), (*blocks.shape[:-1], 8, 32))
        high = be.reshape(bytes_at(be, blocks, 128, 64), (*blocks.shape[:-1], 2, 32))
        high = be.reshape(fields(be, high, 2), (*blocks.shape[:-1], 8, 32))
        scales = to_float32(be, be.bitcast(bytes_at(be, blocks, 192, 16), INT8))
        return scaled(be, float16_at(be, blocks, 208), scales, to_float32(be, low | high << 4) - 32)


def scaled(be: Any, d: Any, scales: Any, codes: Any) -> Any:
    """(d s) codes: d (..., 1), s (..., 16), codes (..., any shape of 256)."""
    codes = be.reshape(codes, (*scales.shape, 16))
    return be.reshape(d * scales, (*scales.shape, 1)) * codes


def six_bits(be: Any, packed: Any) -> Any:
    """The sixteen s + 32 (..., 16) in 12 bytes.

    Bytes 0-7 hold the low four bits of the first eight in their low halves, of the others in their
    high halves. The high two of s number i are field i // 4 of byte 8 + i % 4.
    """
    low = nibbles(be, bytes_at(be, packed, 0, 8))
    high = be.reshape(fields(be, bytes_at(be, packed, 8, 4), 2), low.shape)
    return low | high << 4


def twelve_bytes(scales: np.ndarray) -> np.ndarray:
    """The inverse of `six_bits`: (blocks, 12)."""
    low = pack_nibbles(scales & 15)
    return np.concatenate([low, pack_fields((scales >> 4).reshape(-1, 4, 4), 2)], 1)


q3_k = Q3_K()
q6_k = Q6_K()
