"""int8_channel: a signed byte for each weight, one scale for each row. 8 bits a weight.

    weight[n, k] = scale[n] * code[n, k]          codes -127 .. 127

A row of a weight makes one output channel, so its scale comes out of the sum:

    y[n] = sum_k x[k] weight[n, k] = scale[n] * sum_k x[k] code[n, k]

and the sum can run in integers on hardware that multiplies bytes fast, once x is in int8 too. One
outlier coarsens its whole row; formats with small blocks do not have that (see q8_0).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.dtypes.packed.base import PackedDType, Part
from gradient.dtypes.packed.blocks import FLOAT32, INT8, inverse, to_float32


class Int8Channel(PackedDType):
    """Parts: `codes` int8 (..., N, K) and `scales` float32 (..., N)."""

    name = "int8_channel"
    block_size = 1
    part_names = ("codes", "scales")

    def parts_of(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        self.check(shape)
        return (tuple(shape), INT8), (tuple(shape[:-1]), FLOAT32)

    def pack(self, values: np.ndarray) -> tuple[np.ndarray, ...]:
        largest = np.abs(values).max(-1, keepdims=True, initial=0)
        with np.errstate(divide="ignore", over="ignore"):
            scales = (largest / 127).astype(FLOAT32)
            codes = np.rint(values * inverse(scales)).clip(-127, 127)
        return codes.astype(INT8), scales[..., 0]

    def unpack(self, be: Any, parts: tuple[Any, ...]) -> Any:
        codes, scales = parts
        return to_float32(be, codes) * be.reshape(scales, (*scales.shape, 1))


int8_channel = Int8Channel()
