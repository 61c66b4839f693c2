"""Q8_0: 32 weights share a scale, each is one signed byte. 8.5 bits a weight.

    byte 0   1   2   3               33
        [ scale ][ q0 ][ q1 ] ... [ q31 ]        weight = scale * q

The scale is the largest magnitude / 127, so codes fill -127 .. 127 and the error is at most half a
scale: of a normal distribution's weights about 0.5 % in the root mean square. In practice a model
in Q8_0 is not told from its original.
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
    to_float16,
    to_float32,
)


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
    """To the nearest integer, halves away from zero: C's roundf, which the reference uses."""
    size = np.abs(x)
    down = np.floor(size)
    return np.sign(x) * (down + np.floor(2 * (size - down)))


q8_0 = Q8_0()
