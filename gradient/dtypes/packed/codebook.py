"""IQ4_NL, IQ4_XS and MXFP4: 4-bit codes for a table of sixteen numbers, with a scale a block.

IQ4_NL, 4.5 bits a weight, and MXFP4, 4.25, have blocks of 32:

    byte 0   1   2          17          byte 0    1          16
        [ scale ][ 16 bytes ]               [ exp ][ 16 bytes ]

    weight = scale * IQ4[q]                 weight = 2^(exp - 128) * FP4[q]

IQ4_XS, 4.25 bits, has blocks of 256, in eight parts of 32, each with a multiple of the scale:

    byte 0   1   2    3   4          7   8         135
        [ scale ][ high ][ 4 bytes low ][ 128 bytes ]     weight = scale * (m - 32) * IQ4[q]

A multiple has six bits: the low four of part i are half i % 2 of low byte i // 2, the two above
are the bits 2 i and 2 i + 1 of the 16-bit integer `high`.

Of each 16 bytes, byte i holds weight i in its low half and weight i + 16 in its high half.

Trained weights are roughly normal, so the numbers of IQ4 lie closer together near 0 (llama.cpp's
"non-linear" quants). Those of MXFP4 are twice the floats of 4 bits (one for the sign, two for the
exponent, one for the mantissa) of the OCP Microscaling Formats specification 1.0, section 5.3.3,
and its scale is a power of two: GPT-OSS was trained to be stored so.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.dtypes.dtype import int32, int64
from gradient.dtypes.packed.blocks import (
    FLOAT32,
    UINT8,
    BlockDType,
    bytes_at,
    fields,
    float16_at,
    inverse,
    nibbles,
    pack_fields,
    pack_nibbles,
    to_float16,
    to_float32,
)
from gradient.dtypes.packed.blocks_of_32 import signed_largest

__all__ = ["iq4_nl", "iq4_xs", "mxfp4"]

IQ4 = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], FLOAT32
)  # fmt: skip
FP4 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], FLOAT32)
ENDS = np.array([-133, -130, -127, -124, -121, 113], FLOAT32)
"""Which number of IQ4 the largest weight may become, in the candidates for a scale."""


class IQ4_NL(BlockDType):  # noqa: N801 (the format's name)
    """Codes for `IQ4` in blocks of 32; see the module's docstring."""

    name = "iq4_nl"
    block_size = 32
    block_bytes = 18
    file_type = 25

    def pack_blocks(self, x: np.ndarray) -> np.ndarray:
        from gradient.dtypes.packed.search import as_half

        scale = as_half(fit_scale(x))
        return np.concatenate([to_float16(scale, self), pack_nibbles(nearest(x, scale))], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        codes = nibbles(be, bytes_at(be, blocks, 2, 16))
        return float16_at(be, blocks, 0) * looked_up(be, IQ4, codes)


class IQ4_XS(BlockDType):  # noqa: N801
    """Codes for `IQ4` in blocks of 256; see the module's docstring."""

    name = "iq4_xs"
    block_size = 256
    block_bytes = 136
    file_type = 30
    fallback = "iq4_nl"

    def pack_blocks(self, x: np.ndarray) -> np.ndarray:
        from gradient.dtypes.packed.search import half_beyond

        parts = x.reshape(-1, 32)
        wanted = fit_scale(parts).reshape(-1, 8)
        scale = half_beyond(signed_largest(wanted) / np.float32(-32))
        multiples = np.rint(wanted * inverse(scale)).clip(-32, 31)
        codes = nearest(parts, (scale * multiples).reshape(-1, 1))
        sixes = (multiples + 32).astype(UINT8)
        low, high = sixes & 15, pack_fields((sixes >> 4).reshape(-1, 2, 4, 1), 2)
        low = low[:, ::2] | low[:, 1::2] << 4
        codes = pack_nibbles(codes).reshape(-1, 128)
        return np.concatenate([to_float16(scale, self), high.reshape(-1, 2), low, codes], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        rows = blocks.shape[:-1]
        low = nibbles(be, be.reshape(bytes_at(be, blocks, 4, 4), (*rows, 4, 1)))
        high = fields(be, be.reshape(bytes_at(be, blocks, 2, 2), (*rows, 2, 1)), 2)
        multiples = be.reshape(low, (*rows, 8)) | be.reshape(high, (*rows, 8)) << 4
        scales = float16_at(be, blocks, 0) * (to_float32(be, multiples) - 32)
        codes = nibbles(be, be.reshape(bytes_at(be, blocks, 8, 128), (*rows, 8, 16)))
        return be.reshape(scales, (*rows, 8, 1)) * looked_up(be, IQ4, codes)


class MXFP4(BlockDType):
    """Codes for `FP4` in blocks of 32 with a power of two; see the module's docstring."""

    name = "mxfp4"
    block_size = 32
    block_bytes = 17
    file_type = 38

    def pack_blocks(self, x: np.ndarray) -> np.ndarray:
        # The largest weight, m * 2^e with m in 1/2 .. 1, becomes a number from 4 to 8 of twice 8.
        largest = np.abs(x).max(1, keepdims=True)
        exponent = np.frexp(largest)[1] - 3 + 127
        exponent = np.where(largest > 0, exponent, 0).clip(0, 254)
        # In float64, as 2^-128 is too small for float32's inverse.
        magnitudes = np.abs(x) * np.exp2(128.0 - exponent)
        codes = np.searchsorted((FP4[1:8] + FP4[:7]) / 2, magnitudes).astype(UINT8)
        codes |= ((x < 0) & (codes > 0)).astype(UINT8) << 3
        return np.concatenate([exponent.astype(UINT8), pack_nibbles(codes)], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        exponent = be.astype(bytes_at(be, blocks, 0, 1), int32.numpy)
        # The bits of 2^(exponent - 128), of which the two smallest are subnormal.
        bits = be.where(exponent < 2, (exponent + 1) << 21, (exponent - 1) << 23)
        codes = nibbles(be, bytes_at(be, blocks, 1, 16))
        return be.bitcast(bits, FLOAT32) * looked_up(be, FP4, codes)


def looked_up(be: Any, table: np.ndarray, codes: Any) -> Any:
    """The table's numbers for codes of 4 bits."""
    return be.getitem(be.asarray(table), (be.astype(codes, int64.numpy),))


def nearest(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The code of `IQ4` nearest to each x / scale."""
    return np.searchsorted((IQ4[1:] + IQ4[:-1]) / 2, x * inverse(scale)).astype(UINT8)


def fit_scale(x: np.ndarray) -> np.ndarray:
    """Each row's scale for codes of `IQ4`, (rows, 1): of those that make its largest weight one of
    `ENDS`, the one whose codes fit best, and then of least squared error for these codes."""
    from gradient.dtypes.packed.search import bounded, importance

    x = bounded(x)
    w, edge = importance(x.T).T, signed_largest(x)
    best, gain = np.zeros_like(edge), np.zeros_like(edge)
    for end in ENDS:
        numbers = IQ4[nearest(x, edge / end)]
        xq = np.sum(w * x * numbers, 1, keepdims=True)
        inv = inverse(np.sum(w * numbers * numbers, 1, keepdims=True))
        # The error is sum w x^2 - xq^2 / qq, where the scale is xq / qq.
        better = xq * xq * inv > gain
        gain = np.where(better, xq * xq * inv, gain)
        best = np.where(better, xq * inv, best)
    return best


iq4_nl = IQ4_NL()
iq4_xs = IQ4_XS()
mxfp4 = MXFP4()
