"""nf4: 4-bit codes for a table of sixteen numbers, spaced as normal weights are. 4.25 bits.

    weight = absmax * TABLE[code]          one absmax for each 64 weights

Trained weights are roughly normal, so even steps waste codes on the rare large ones. The table's
numbers are quantiles of the normal distribution, scaled to -1 .. 1, with an exact zero: each code
is about equally often used (Dettmers et al. 2023, "QLoRA", section 3). The paper then quantises the
absmax too; here it is a 16-bit float, which saves about as much and needs no second table.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.dtypes.dtype import int64
from gradient.dtypes.packed.base import PackedDType, Part
from gradient.dtypes.packed.blocks import FLOAT16, FLOAT32, UINT8, inverse, to_float32
from gradient.errors import ArgumentError

TABLE = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ],
    FLOAT32,
)  # fmt: skip
"""The paper's appendix E."""
_MIDDLES = (TABLE[1:] + TABLE[:-1]) / 2


class NF4(PackedDType):
    """Parts: `codes` uint8 (..., N, K / 2), weight 2 i in the low half of byte i and 2 i + 1 in the
    high half; `absmax` float16 (..., N, K / 64)."""

    name = "nf4"
    fallback = "int8_channel"
    block_size = 64
    part_names = ("codes", "absmax")

    def parts_of(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        self.check(shape)
        *rows, k = shape
        return ((*rows, k // 2), UINT8), ((*rows, k // self.block_size), FLOAT16)

    def pack(self, values: np.ndarray) -> tuple[np.ndarray, ...]:
        (code_shape, _), (block_shape, _) = self.parts_of(values.shape)
        x = np.ascontiguousarray(values, FLOAT32).reshape(*block_shape, self.block_size)
        largest = np.abs(x).max(-1, keepdims=True, initial=0)
        with np.errstate(divide="ignore", over="ignore"):
            absmax = largest.astype(FLOAT16)
            if not np.isfinite(absmax).all():
                raise ArgumentError(
                    f"quantize: nf4 keeps the largest magnitude of 64 weights in 16 bits, up to "
                    f"65504; it is {float(largest.max()):g}"
                )
            codes = np.searchsorted(_MIDDLES, x * inverse(absmax.astype(FLOAT32)))
        codes = codes.astype(UINT8)
        return (codes[..., ::2] | codes[..., 1::2] << 4).reshape(code_shape), absmax[..., 0]

    def unpack(self, be: Any, parts: tuple[Any, ...]) -> Any:
        codes, absmax = parts
        shape = (*codes.shape[:-1], 2 * codes.shape[-1])
        codes = be.stack([codes & 15, codes >> 4], -1)
        codes = be.astype(be.reshape(codes, (*absmax.shape, self.block_size)), int64.numpy)
        values = be.getitem(be.asarray(TABLE), (codes,))
        return be.reshape(be.reshape(to_float32(be, absmax), (*absmax.shape, 1)) * values, shape)


nf4 = NF4()
