"""Packed dtypes: weights in 2 to 8 bits, in blocks that share scales.

>>> gradient.quantization.quantize(gradient.randn(64, 256), gradient.q4_k)
tensor(..., size=(64, 256), dtype=gradient.q4_k, bits_per_weight=4.5)

GGUF's block formats lie one file a family (`blocks_of_32`, `k_quants`, `codebook`, `ternary`), then
those with codes and scales apart (`codes_apart`). Each file explains its layout, and holds its
reference `pack` (NumPy, round to nearest) and `unpack` (any backend).
"""

from gradient.dtypes.dtype import register
from gradient.dtypes.packed.base import PackedDType
from gradient.dtypes.packed.blocks import BlockDType as BlockDType
from gradient.dtypes.packed.blocks_of_32 import q4_0, q4_1, q5_0, q5_1, q8_0
from gradient.dtypes.packed.codebook import iq4_nl, iq4_xs, mxfp4
from gradient.dtypes.packed.codes_apart import (
    int4_group,
    int4_group32,
    int4_group128,
    int8_channel,
    nf4,
)
from gradient.dtypes.packed.k_quants import q2_k, q3_k, q4_k, q5_k, q6_k
from gradient.dtypes.packed.ternary import tq1_0, tq2_0

__all__ = [
    "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k",
    "iq4_nl", "iq4_xs", "mxfp4", "tq1_0", "tq2_0",
    "int8_channel", "int4_group", "int4_group32", "int4_group128", "nf4",
]  # fmt: skip
"""The formats: what `gradient.dtypes` and `gradient` export by this list."""

PACKED: tuple[PackedDType, ...] = tuple(globals()[name] for name in __all__)
for _dtype in PACKED:
    register(_dtype)
