"""int4_group: 4-bit codes; each group of 64 neighbours has a scale and a zero point. 4.38 bits.

    weight = scale * (code - zero)          codes and zero 0 .. 15

A group of weights is seldom symmetric: its largest and its smallest differ in size. With a zero
point all sixteen codes cover just what is there. That is 4 % less error than -8 .. 7 around zero on
normal weights, 15 % on ones with heavy tails (Student's t of 4 degrees); GPTQ and AWQ files have
one, and what they choose can be stored here as it is. It is an integer, not a minimum in floating
point (which would gain 2 % and cost 8 bits a group), so that zero is a code: pruned weights, and
the padding of odd sizes, stay exactly zero.

64 is the usual middle (a scale for each 32 costs a quarter of a bit more; 128 is what most GPTQ and
AWQ files have): `int4_group32` and `int4_group128` are the same with other groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.dtypes.packed.base import PackedDType, Part
from gradient.dtypes.packed.blocks import FLOAT16, FLOAT32, UINT8, inverse, to_float32
from gradient.errors import ArgumentError


class Int4Group(PackedDType):
    """Parts: `codes` uint8 (..., N, K / 2), weight 2 i in the low half of byte i and 2 i + 1 in the
    high half; `scales` float16 and `zeros` uint8 (..., N, K / group)."""

    part_names = ("codes", "scales", "zeros")

    def __init__(self, name: str, group: int, fallback: str):
        self.name, self.block_size, self.fallback = name, group, fallback

    def parts_of(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        self.check(shape)
        *rows, k = shape
        groups = (*rows, k // self.block_size)
        return ((*rows, k // 2), UINT8), (groups, FLOAT16), (groups, UINT8)

    def pack(self, values: np.ndarray) -> tuple[np.ndarray, ...]:
        (code_shape, _), (group_shape, _), _ = self.parts_of(values.shape)
        x = np.ascontiguousarray(values, FLOAT32).reshape(*group_shape, self.block_size)
        # Zero is within the range, so that the zero point is one of the codes.
        low = np.minimum(x.min(-1, keepdims=True, initial=0), 0)
        high = np.maximum(x.max(-1, keepdims=True, initial=0), 0)
        with np.errstate(divide="ignore", over="ignore"):
            scales = ((high - low) / 15).astype(FLOAT16)
            if not np.isfinite(scales).all():
                raise ArgumentError(
                    f"quantize: {self.name} keeps its scales in 16 bits, up to 65504; the weights "
                    f"reach from {float(low.min()):g} to {float(high.max()):g}"
                )
            inv = inverse(scales.astype(FLOAT32))
            zeros = np.rint(-low * inv).clip(0, 15)
            codes = np.rint(x * inv + zeros).clip(0, 15).astype(UINT8)
        return (
            (codes[..., ::2] | codes[..., 1::2] << 4).reshape(code_shape),
            scales[..., 0],
            zeros[..., 0].astype(UINT8),
        )

    def unpack(self, be: Any, parts: tuple[Any, ...]) -> Any:
        codes, scales, zeros = parts
        shape = (*codes.shape[:-1], 2 * codes.shape[-1])
        codes = be.stack([codes & 15, codes >> 4], -1)
        codes = be.reshape(codes, (*scales.shape, self.block_size))
        scales = be.reshape(to_float32(be, scales), (*scales.shape, 1))
        zeros = be.reshape(to_float32(be, zeros), (*zeros.shape, 1))
        return be.reshape(scales * (to_float32(be, codes) - zeros), shape)


int4_group = Int4Group("int4_group", 64, "int4_group32")
int4_group32 = Int4Group("int4_group32", 32, "int8_channel")
int4_group128 = Int4Group("int4_group128", 128, "int4_group")
