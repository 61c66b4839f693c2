"""The k-quants Q2_K to Q6_K: 256 weights in sub-blocks, each with a scale of a few bits.

A scale for every 16 or 32 weights follows them closely, and costs much if it is a 16-bit float. So
a block of 256 weights has one such float, d, and a sub-block only a small integer, its scale. The
affine formats have a minimum besides, of as many bits, and a second float for those, dmin:

    affine:     weight = (d * scale) * q - (dmin * min)
    symmetric:  weight = (d * scale) * q

    format   sub-blocks   scales            codes q       bytes   bits a weight
    Q2_K     16 of 16     0 .. 15, mins     0 .. 3          84       2.625
    Q3_K     16 of 16     -32 .. 31         -4 .. 3        110       3.4375
    Q4_K      8 of 32     0 .. 63, mins     0 .. 15        144       4.5
    Q5_K      8 of 32     0 .. 63, mins     0 .. 31        176       5.5
    Q6_K     16 of 16     -128 .. 127       -32 .. 31      210       6.5625

Q4_K takes the bits of Q4_1 less half a bit, with a smaller error: its scales are better used. The
symmetric formats store codes and scales without a sign, raised by their lowest value (but Q6_K's
scales). As a scale may be negative, each sub-block can give the longer side of q, the negative one,
to either sign.

In the drawings `qs` are the codes, or their low bits where `qh` has the high ones, as in ggml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

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

if TYPE_CHECKING:  # needed where weights are packed, not to read them
    from gradient.dtypes.packed import search

__all__ = ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k"]

# Affine ------------------------------------------------------------------------------------------


class AffineBlocks(BlockDType):
    """A format of 256 weights in sub-blocks, found by `search.affine`.

    Subclasses say how many sub-blocks of how many weights, the highest code, the highest scale and
    minimum, and how `store` lays out what was found.
    """

    block_size = 256
    sub_blocks: tuple[int, int]
    highest: int
    most: int

    def pack_blocks(self, x: np.ndarray) -> np.ndarray:
        from gradient.dtypes.packed import search

        return self.store(search.affine(x.reshape(-1, *self.sub_blocks), self.highest, self.most))

    def store(self, best: search.Affine) -> np.ndarray:
        """The numbers found for blocks as uint8 (blocks, block_bytes)."""
        raise NotImplementedError


class Q2_K(AffineBlocks):  # noqa: N801 (the format's name)
    """2-bit codes in sub-blocks of 16: 2.625 bits a weight.

        byte 0                    16         80     82  83
            [ scales, mins x 16 ][ qs x 64 ][  d  ][ dmin ]

    Byte j of the first 16 holds the scale of sub-block j in its low half, its minimum in the high
    half. Byte i of the 64, i < 32, holds weights i, i + 32, i + 64, i + 96 in 2 bits each, lowest
    first; the other 32 bytes the second 128 weights.
    """

    name = "q2_k"
    block_bytes = 84
    file_type = 10
    fallback = "q4_0"
    sub_blocks, highest, most = (16, 16), 3, 15

    def store(self, best: search.Affine) -> np.ndarray:
        scales_mins = best.scales.astype(UINT8) | best.mins.astype(UINT8) << 4
        qs = pack_fields(best.codes.astype(UINT8).reshape(-1, 2, 4, 32), 2).reshape(-1, 64)
        return np.concatenate(
            [scales_mins, qs, to_float16(best.d, self), to_float16(best.dmin, self)], 1
        )

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        scales_mins = bytes_at(be, blocks, 0, 16)
        codes = be.reshape(bytes_at(be, blocks, 16, 64), (*blocks.shape[:-1], 2, 32))
        codes = be.reshape(fields(be, codes, 2), (*blocks.shape[:-1], 16, 16))
        d, dmin = float16_at(be, blocks, 80), float16_at(be, blocks, 82)
        return affine(be, d, scales_mins & 15, codes, dmin, scales_mins >> 4)


class Q4_K(AffineBlocks):  # noqa: N801
    """4-bit codes in sub-blocks of 32: 4.5 bits a weight.

        byte 0      2       4                   16     143
            [  d  ][ dmin ][ scales, mins x 8 ][ qs x 128 ]

    Each 32 bytes of codes hold two sub-blocks: one in the low halves, the next in the high halves.
    """

    name = "q4_k"
    block_bytes = 144
    file_type = 15
    fallback = "q5_0"
    sub_blocks, highest, most = (8, 32), 15, 63

    def store(self, best: search.Affine) -> np.ndarray:
        qs = pack_nibbles(best.codes.astype(UINT8).reshape(-1, 4, 64)).reshape(-1, 128)
        return np.concatenate([pack_scales_mins(best, self), qs], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        scales, mins = unpack_scales_mins(be, bytes_at(be, blocks, 4, 12))
        codes = be.reshape(bytes_at(be, blocks, 16, 128), (*blocks.shape[:-1], 4, 32))
        codes = be.reshape(nibbles(be, codes), (*blocks.shape[:-1], 8, 32))
        return affine(be, float16_at(be, blocks, 0), scales, codes, float16_at(be, blocks, 2), mins)


class Q5_K(AffineBlocks):  # noqa: N801
    """5-bit codes in sub-blocks of 32: 5.5 bits a weight.

        byte 0      2       4                   16         48     175
            [  d  ][ dmin ][ scales, mins x 8 ][ qh x 32 ][ qs x 128 ]

    The 128 bytes hold four bits of each weight as in Q4_K. The fifth of weight i of sub-block j is
    bit j of byte i of the 32.
    """

    name = "q5_k"
    block_bytes = 176
    file_type = 17
    fallback = "q5_1"
    sub_blocks, highest, most = (8, 32), 31, 63

    def store(self, best: search.Affine) -> np.ndarray:
        codes = best.codes.astype(UINT8)
        qh = pack_fields(codes >> 4, 1)
        qs = pack_nibbles((codes & 15).reshape(-1, 4, 64)).reshape(-1, 128)
        return np.concatenate([pack_scales_mins(best, self), qh, qs], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        scales, mins = unpack_scales_mins(be, bytes_at(be, blocks, 4, 12))
        codes = be.reshape(bytes_at(be, blocks, 48, 128), (*blocks.shape[:-1], 4, 32))
        codes = be.reshape(nibbles(be, codes), (*blocks.shape[:-1], 8, 32))
        codes = codes | fields(be, bytes_at(be, blocks, 16, 32), 1) << 4
        return affine(be, float16_at(be, blocks, 0), scales, codes, float16_at(be, blocks, 2), mins)


def affine(be: Any, d: Any, scales: Any, codes: Any, dmin: Any, mins: Any) -> Any:
    """(d scales) codes - (dmin mins).

    d, dmin (..., 1), scales, mins (..., sub-blocks), codes (..., sub-blocks, weights).
    """
    slope, minimum = d * to_float32(be, scales), dmin * to_float32(be, mins)
    per_weight = (*scales.shape, 1)
    return be.reshape(slope, per_weight) * to_float32(be, codes) - be.reshape(minimum, per_weight)


def unpack_scales_mins(be: Any, packed: Any) -> tuple[Any, Any]:
    """The eight scales and eight minimums (..., 8) of 6 bits in 12 bytes.

    The first four of each lie in the low six bits of bytes 0-3 and 4-7. Of the other four, bytes
    8-11 hold the low four bits (scales below, minimums above) and the top of bytes 0-3 and 4-7 the
    high two.
    """
    first, second, third = (bytes_at(be, packed, start, 4) for start in (0, 4, 8))
    scales = be.concatenate([first & 63, third & 15 | first >> 2 & 48], -1)
    mins = be.concatenate([second & 63, third >> 4 | second >> 2 & 48], -1)
    return scales, mins


def pack_scales_mins(best: search.Affine, dtype: BlockDType) -> np.ndarray:
    """d, dmin, and the inverse of `unpack_scales_mins`: the first 16 bytes of Q4_K and Q5_K."""
    scales, mins = best.scales.astype(UINT8), best.mins.astype(UINT8)
    first = scales[:, :4] | scales[:, 4:] >> 4 << 6
    second = mins[:, :4] | mins[:, 4:] >> 4 << 6
    third = scales[:, 4:] & 15 | mins[:, 4:] << 4
    d, dmin = to_float16(best.d, dtype), to_float16(best.dmin, dtype)
    return np.concatenate([d, dmin, first, second, third], 1)


# Symmetric ---------------------------------------------------------------------------------------


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
        from gradient.dtypes.packed import search

        return self.store(search.symmetric(x.reshape(-1, *self.sub_blocks), self.half, self.most))

    def store(self, best: search.Symmetric) -> np.ndarray:
        """The numbers found for blocks as uint8 (blocks, block_bytes)."""
        raise NotImplementedError


class Q3_K(SymmetricBlocks):  # noqa: N801
    """3-bit codes in sub-blocks of 16: 3.4375 bits a weight.

        byte 0          32         96             108 109
            [ qh x 32 ][ qs x 64 ][ scales x 16 ][  d   ]

    q + 4 has three bits. The low two lie in the 64 bytes, as in Q2_K. The high one of weight
    i + 32 j is bit j of byte i of the first 32.
    """

    name = "q3_k"
    block_bytes = 110
    file_type = 12
    fallback = "q4_0"
    half, most = 4, 32

    def store(self, best: search.Symmetric) -> np.ndarray:
        codes = (best.codes + 4).astype(UINT8).reshape(-1, 2, 4, 32)
        qh = pack_fields((codes >> 2).reshape(-1, 8, 32), 1)
        qs = pack_fields(codes & 3, 2).reshape(-1, 64)
        scales = pack_scales((best.scales + 32).astype(UINT8))
        return np.concatenate([qh, qs, scales, to_float16(best.d, self)], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        low = be.reshape(bytes_at(be, blocks, 32, 64), (*blocks.shape[:-1], 2, 32))
        low = be.reshape(fields(be, low, 2), (*blocks.shape[:-1], 8, 32))
        codes = low | fields(be, bytes_at(be, blocks, 0, 32), 1) << 2
        scales = to_float32(be, unpack_scales(be, bytes_at(be, blocks, 96, 12))) - 32
        return scaled(be, float16_at(be, blocks, 108), scales, to_float32(be, codes) - 4)


class Q6_K(SymmetricBlocks):  # noqa: N801
    """6-bit codes in sub-blocks of 16: 6.5625 bits a weight.

        byte 0           128        192            208 209
            [ qs x 128 ][ qh x 64 ][ scales x 16 ][  d   ]

    q + 32 has six bits. The low four lie in the 128 bytes: of each 64, the low halves hold 64
    weights and the high halves the next 64. The high two lie in the 64 bytes, as in Q2_K.
    """

    name = "q6_k"
    block_bytes = 210
    file_type = 18
    fallback = "q8_0"
    half, most = 32, 128

    def store(self, best: search.Symmetric) -> np.ndarray:
        codes = (best.codes + 32).astype(UINT8)
        qs = pack_nibbles((codes & 15).reshape(-1, 2, 128)).reshape(-1, 128)
        qh = pack_fields((codes >> 4).reshape(-1, 2, 4, 32), 2).reshape(-1, 64)
        scales = best.scales.astype(INT8).view(UINT8)
        return np.concatenate([qs, qh, scales, to_float16(best.d, self)], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        low = be.reshape(bytes_at(be, blocks, 0, 128), (*blocks.shape[:-1], 2, 64))
        low = be.reshape(nibbles(be, low), (*blocks.shape[:-1], 8, 32))
        high = be.reshape(bytes_at(be, blocks, 128, 64), (*blocks.shape[:-1], 2, 32))
        high = be.reshape(fields(be, high, 2), (*blocks.shape[:-1], 8, 32))
        scales = to_float32(be, be.bitcast(bytes_at(be, blocks, 192, 16), INT8))
        return scaled(be, float16_at(be, blocks, 208), scales, to_float32(be, low | high << 4) - 32)


def scaled(be: Any, d: Any, scales: Any, codes: Any) -> Any:
    """(d scales) codes: d (..., 1), scales (..., 16), codes (..., any shape of 256)."""
    codes = be.reshape(codes, (*scales.shape, 16))
    return be.reshape(d * scales, (*scales.shape, 1)) * codes


def unpack_scales(be: Any, packed: Any) -> Any:
    """The sixteen scales + 32 (..., 16) of 6 bits in 12 bytes.

    Bytes 0-7 hold the low four bits of the first eight in their low halves, of the others in their
    high halves. The high two of scale i are field i // 4 of byte 8 + i % 4.
    """
    low = nibbles(be, bytes_at(be, packed, 0, 8))
    high = be.reshape(fields(be, bytes_at(be, packed, 8, 4), 2), low.shape)
    return low | high << 4


def pack_scales(scales: np.ndarray) -> np.ndarray:
    """The inverse of `unpack_scales`: (blocks, 12)."""
    low = pack_nibbles(scales & 15)
    return np.concatenate([low, pack_fields((scales >> 4).reshape(-1, 4, 4), 2)], 1)


q2_k = Q2_K()
q3_k = Q3_K()
q4_k = Q4_K()
q5_k = Q5_K()
q6_k = Q6_K()
