"""Formats whose codes and scales lie apart: int8_channel, int4_group and nf4.

int8_channel: a signed byte for each weight, one scale for each row. 8 bits a weight.

    weight[n, k] = scale[n] * code[n, k]          codes -127 .. 127

A row of a weight makes one output channel, so its scale comes out of the sum:

    y[n] = sum_k x[k] weight[n, k] = scale[n] * sum_k x[k] code[n, k]

and the sum can run in integers on hardware that multiplies bytes fast, once x is in int8 too. One
outlier coarsens its whole row; formats with small blocks do not have that (see q8_0).

int4_group: 4-bit codes; each group of 64 neighbours has a scale and a zero point. 4.38 bits.

    weight = scale * (code - zero)          codes and zero 0 .. 15

A group of weights is seldom symmetric: its largest and its smallest differ in size. With a zero
point all sixteen codes cover just what is there. That is 4 % less error than -8 .. 7 around zero on
normal weights, 15 % on ones with heavy tails (Student's t of 4 degrees); GPTQ and AWQ files have
one, and what they choose can be stored here as it is. It is an integer, not a minimum in floating
point (which would gain 2 % and cost 8 bits a group), so that zero is a code: pruned weights, and
the padding of odd sizes, stay exactly zero.

64 is the usual middle (a scale for each 32 costs a quarter of a bit more; 128 is what most GPTQ and
AWQ files have): `int4_group32` and `int4_group128` are the same with other groups.

nf4: 4-bit codes for a table of sixteen numbers, spaced as normal weights are. 4.25 bits.

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
from gradient.dtypes.packed.blocks import FLOAT16, FLOAT32, INT8, UINT8, inverse, to_float32
from gradient.errors import ArgumentError

__all__ = ["int8_channel", "int4_group", "int4_group32", "int4_group128", "nf4"]


class Int8Channel(PackedDType):
    """8-bit codes, symmetric, with a scale for each row.

    Parts: `codes` int8 (..., N, K) and `scales` float32 (..., N).
    """

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


class Int4Group(PackedDType):
    """4-bit codes with a scale and a zero point for each group of a row.

    Parts: `codes` uint8 (..., N, K / 2), weight 2 i in the low half of byte i and 2 i + 1 in the
    high half; `scales` float16 and `zeros` uint8 (..., N, K / group).
    """

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
    """4-bit codes of quantiles of the normal distribution, with a scale for each 64 weights.

    Parts: `codes` uint8 (..., N, K / 2), weight 2 i in the low half of byte i and 2 i + 1 in the
    high half; `absmax` float16 (..., N, K / 64).
    """

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
