"""Q2_K, Q4_K, Q5_K: 256 weights in sub-blocks, each with a scale and a minimum of a few bits.

A scale for every 16 or 32 weights follows them closely, and costs much if it is a 16-bit float. So
a block of 256 weights has two such floats, d and dmin, and a sub-block only small integers a and b:

    weight = (d * a) * q - (dmin * b)

    format   sub-blocks   bits of a, b   bits of q   bytes   bits a weight
    Q2_K     16 of 16          4             2          84       2.625
    Q4_K      8 of 32          6             4         144       4.5
    Q5_K      8 of 32          6             5         176       5.5

Q4_K takes the bits of Q4_1 less half a bit, with a smaller error: its scales are better used.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.dtypes.packed import search
from gradient.dtypes.packed.blocks import (
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


class AffineBlocks(BlockDType):
    """A format of 256 weights in sub-blocks, found by `search.affine`.

    Subclasses say how many sub-blocks of how many weights, the highest code and the highest a and
    b, and how `store` lays out what was found.
    """

    block_size = 256
    sub_blocks: tuple[int, int]
    highest: int
    most: int

    def pack_blocks(self, x: np.ndarray) -> np.ndarray:
        return self.store(search.affine(x.reshape(-1, *self.sub_blocks), self.highest, self.most))

    def store(self, best: search.Affine) -> np.ndarray:
        """The numbers found for blocks as uint8 (blocks, block_bytes)."""
        raise NotImplementedError


class Q2_K(AffineBlocks):  # noqa: N801 (the format's name)
    """2-bit codes in sub-blocks of 16: 2.625 bits a weight.

        byte 0            16            80  81  82  83
            [ a, b  x 16 ][  64 bytes  ][  d  ][ dmin ]

    Byte j of the first 16 holds a of sub-block j in its low half, b in its high half. Byte i of the
    64, i < 32, holds weights i, i + 32, i + 64, i + 96 in 2 bits each, lowest first; the other 32
    bytes the second 128 weights.
    """

    name = "q2_k"
    block_bytes = 84
    sub_blocks, highest, most = (16, 16), 3, 15

    def store(self, best: search.Affine) -> np.ndarray:
        a, b = best.a.astype(UINT8), best.b.astype(UINT8)
        codes = pack_fields(best.codes.astype(UINT8).reshape(-1, 2, 4, 32), 2).reshape(-1, 64)
        scales = to_float16(best.scale, self), to_float16(best.minimum, self)
        return np.concatenate([a | b << 4, codes, *scales], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        ab = bytes_at(be, blocks, 0, 16)
        codes = be.reshape(bytes_at(be, blocks, 16, 64), (*blocks.shape[:-1], 2, 32))
        codes = be.reshape(fields(be, codes, 2), (*blocks.shape[:-1], 16, 16))
        scale, minimum = float16_at(be, blocks, 80), float16_at(be, blocks, 82)
        return affine(be, scale, ab & 15, codes, minimum, ab >> 4)


class Q4_K(AffineBlocks):  # noqa: N801
    """4-bit codes in sub-blocks of 32: 4.5 bits a weight.

        byte 0   1   2   3   4        16                 143
            [  d  ][ dmin ][ a, b  x 8 ][   128 bytes   ]

    Each 32 bytes hold two sub-blocks: one in the low halves, the next in the high halves.
    """

    name = "q4_k"
    block_bytes = 144
    sub_blocks, highest, most = (8, 32), 15, 63

    def store(self, best: search.Affine) -> np.ndarray:
        codes = pack_nibbles(best.codes.astype(UINT8).reshape(-1, 4, 64)).reshape(-1, 128)
        scales = to_float16(best.scale, self), to_float16(best.minimum, self)
        head = [*scales, twelve_bytes(best.a, best.b)]
        return np.concatenate([*head, codes], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        a, b = six_bits(be, bytes_at(be, blocks, 4, 12))
        codes = be.reshape(bytes_at(be, blocks, 16, 128), (*blocks.shape[:-1], 4, 32))
        codes = be.reshape(nibbles(be, codes), (*blocks.shape[:-1], 8, 32))
        return affine(be, float16_at(be, blocks, 0), a, codes, float16_at(be, blocks, 2), b)


class Q5_K(AffineBlocks):  # noqa: N801
    """5-bit codes in sub-blocks of 32: 5.5 bits a weight.

        byte 0   1   2   3   4        16           48                 175
            [  d  ][ dmin ][ a, b  x 8 ][ 32 bytes ][   128 bytes   ]

    The 128 bytes hold four bits of each weight as in Q4_K. The fifth of weight i of sub-block j is
    bit j of byte i of the 32.
    """

    name = "q5_k"
    block_bytes = 176
    sub_blocks, highest, most = (8, 32), 31, 63

    def store(self, best: search.Affine) -> np.ndarray:
        codes = best.codes.astype(UINT8)
        high = pack_fields(codes >> 4, 1)
        low = pack_nibbles((codes & 15).reshape(-1, 4, 64)).reshape(-1, 128)
        scales = to_float16(best.scale, self), to_float16(best.minimum, self)
        head = [*scales, twelve_bytes(best.a, best.b)]
        return np.concatenate([*head, high, low], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        a, b = six_bits(be, bytes_at(be, blocks, 4, 12))
        codes = be.reshape(bytes_at(be, blocks, 48, 128), (*blocks.shape[:-1], 4, 32))
        codes = be.reshape(nibbles(be, codes), (*blocks.shape[:-1], 8, 32))
        codes = codes | fields(be, bytes_at(be, blocks, 16, 32), 1) << 4
        return affine(be, float16_at(be, blocks, 0), a, codes, float16_at(be, blocks, 2), b)


def affine(be: Any, d: Any, a: Any, codes: Any, dmin: Any, b: Any) -> Any:
    """(d a) codes - (dmin b): d, dmin (..., 1), a, b (..., sub-blocks), codes (..., weights)."""
    scale, minimum = d * to_float32(be, a), dmin * to_float32(be, b)
    per_weight = (*a.shape, 1)
    return be.reshape(scale, per_weight) * to_float32(be, codes) - be.reshape(minimum, per_weight)


def six_bits(be: Any, packed: Any) -> tuple[Any, Any]:
    """The eight a and eight b (..., 8) in 12 bytes.

    The first four of each lie in the low six bits of bytes 0-3 and 4-7. Of the other four, bytes
    8-11 hold the low four bits (a below, b above) and the top of bytes 0-3 and 4-7 the high two.
    """
    first, second, third = (bytes_at(be, packed, start, 4) for start in (0, 4, 8))
    a = be.concatenate([first & 63, third & 15 | first >> 2 & 48], -1)
    b = be.concatenate([second & 63, third >> 4 | second >> 2 & 48], -1)
    return a, b


def twelve_bytes(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The inverse of `six_bits`: (blocks, 12)."""
    a, b = a.astype(UINT8), b.astype(UINT8)
    first = a[:, :4] | a[:, 4:] >> 4 << 6
    second = b[:, :4] | b[:, 4:] >> 4 << 6
    third = a[:, 4:] & 15 | b[:, 4:] << 4
    return np.concatenate([first, second, third], 1)


q2_k = Q2_K()
q4_k = Q4_K()
q5_k = Q5_K()
