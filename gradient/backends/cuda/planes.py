"""Packed blocks in planes, for GPUs: each field of all blocks is stored contiguously.

Blocks of 34, 210 or 17 bytes are not aligned, so their codes could only be read by one or two bytes
at a time. Split into planes, when a weight comes to the device, codes are aligned to the loads of a
lane (`packed.cuh`). The bytes are the same in another order; files and other devices get the
blocks.
"""

from __future__ import annotations

from typing import Any

from gradient.backends.packed import PackedArray
from gradient.backends.required import Shape
from gradient.dtypes import PackedDType
from gradient.dtypes.packed import iq4_nl, mxfp4, q4_0, q6_k, q8_0
from gradient.dtypes.packed.base import Part


class Planes:
    """A planar layout of a block format: `pieces` has the first byte and the size of each part's
    field in a block."""

    def __init__(self, dtype: PackedDType, *pieces: tuple[int, int]):
        self._dtype, self._pieces = dtype, pieces

    def parts_of(self, shape: Shape) -> tuple[Part, ...]:
        ((stored, kind),) = self._dtype.parts_of(shape)
        return tuple(((*stored[:-1], size), kind) for _, size in self._pieces)

    def arranged(self, be: Any, x: PackedArray) -> PackedArray:
        """The same weights in this layout."""
        (blocks,) = x.parts
        parts = tuple(
            be.contiguous(blocks[..., start : start + size]) for start, size in self._pieces
        )
        return PackedArray(x.dtype, x.shape, parts, x.float_dtype, self)

    def stored(self, be: Any, parts: tuple[Any, ...]) -> tuple[Any, ...]:
        """Restore the blocks from parts in this layout."""
        by_place = sorted(zip(self._pieces, parts, strict=True), key=lambda each: each[0])
        return (be.concatenate([part for _, part in by_place], -1),)


LAYOUTS = {
    "q8_0": Planes(q8_0, (2, 32), (0, 2)),
    "q4_0": Planes(q4_0, (2, 16), (0, 2)),
    "iq4_nl": Planes(iq4_nl, (2, 16), (0, 2)),
    "mxfp4": Planes(mxfp4, (1, 16), (0, 1)),
    "q6_k": Planes(q6_k, (0, 128), (192, 18), (128, 64)),
}
"""By format: its codes, their scales, and of Q6_K the high bits. Blocks of other formats are of
whole words, or read by few lanes."""
