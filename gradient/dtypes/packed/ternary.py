"""TQ1_0 and TQ2_0: 256 weights, each -1, 0 or 1, share a scale (BitNet b1.58, arXiv:2402.17764).

TQ2_0, 2.0625 bits a weight, in fields of two bits:

    byte 0          31   32         63   64  65
        [   128 codes  ][  128 codes  ][ scale ]        weight = scale * (q - 1)

Of each 32 bytes, byte i holds weights i, i + 32, i + 64 and i + 96, the lowest bits first.

TQ1_0, 1.6875 bits, in digits of base three:

    byte 0         31   32      47   48    51   52  53
        [  160 codes  ][ 80 codes ][ 16 codes ][ scale ]

Of a run of n bytes, byte i holds the weights i, i + n, i + 2 n, ... of that run, five of them, and
four in the last run. With q_0 the first, a byte is the fraction 0.q_0 q_1 q_2 q_3 q_4 of base three
in 256ths, rounded up: times 3^t, its lower eight bits are the fraction that begins with q_t, whose
integer part, times 3 again, is q_t. So a digit takes two multiplications and no division.

The scale is the largest magnitude of the block: weights that are ternary already are kept to
float16's rounding of the scale; others are quantized coarsely.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.dtypes.dtype import int32
from gradient.dtypes.packed.blocks import (
    UINT8,
    BlockDType,
    bytes_at,
    fields,
    float16_at,
    inverse,
    pack_fields,
    to_float16,
    to_float32,
)

__all__ = ["tq1_0", "tq2_0"]

RUNS = ((0, 32, 5), (32, 16, 5), (48, 4, 4))
"""The runs of TQ1_0: first byte, bytes, digits a byte."""


class TQ1_0(BlockDType):  # noqa: N801 (the format's name)
    """Ternary codes, five in a byte, in blocks of 256; see the module's docstring."""

    name = "tq1_0"
    block_size = 256
    block_bytes = 54
    file_type = 36
    fallback = "q4_0"

    def pack_blocks(self, x: np.ndarray) -> np.ndarray:
        scale, codes = ternary_codes(x)
        runs, start = [], 0
        for _, size, digits in RUNS:
            run = codes[:, start : start + size * digits].reshape(-1, digits, size)
            powers = 3 ** np.arange(4, 4 - digits, -1)[:, None]
            fraction = np.sum(run * powers, 1)  # in 243rds
            runs.append(((fraction * 256 + 242) // 243).astype(UINT8))
            start += size * digits
        return np.concatenate([*runs, to_float16(scale, self)], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        fractions = []
        for start, size, digits in RUNS:
            run = be.astype(bytes_at(be, blocks, start, size), int32.numpy)
            fractions += [run * 3**t & 255 for t in range(digits)]
        codes = be.concatenate(fractions, -1) * 3 >> 8
        return float16_at(be, blocks, 52) * (to_float32(be, codes) - 1)


class TQ2_0(BlockDType):  # noqa: N801
    """Ternary codes, four in a byte, in blocks of 256; see the module's docstring."""

    name = "tq2_0"
    block_size = 256
    block_bytes = 66
    file_type = 37
    fallback = "q4_0"

    def pack_blocks(self, x: np.ndarray) -> np.ndarray:
        scale, codes = ternary_codes(x)
        fours = pack_fields(codes.reshape(-1, 2, 4, 32), 2).reshape(-1, 64)
        return np.concatenate([fours, to_float16(scale, self)], 1)

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        rows = blocks.shape[:-1]
        codes = fields(be, be.reshape(bytes_at(be, blocks, 0, 64), (*rows, 2, 32)), 2)
        return float16_at(be, blocks, 64) * (be.reshape(to_float32(be, codes), (*rows, 256)) - 1)


def ternary_codes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each block's largest magnitude (blocks, 1), and round(x / that) + 1, halves away from 0."""
    scale = np.abs(x).max(1, keepdims=True)
    rounded = np.trunc(2 * (x * inverse(scale))).clip(-1, 1)
    return scale, (rounded + 1).astype(UINT8)


tq1_0 = TQ1_0()
tq2_0 = TQ2_0()
