"""Quantise weights to k-quants, with kernels for the search of scales."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradient.backends.composed.packed import PackedDefaults
from gradient.backends.numpy import kernels
from gradient.dtypes import PackedDType

if TYPE_CHECKING:  # at run time they are imported when weights are packed
    from gradient.dtypes.packed.k_quants import AffineBlocks, SymmetricBlocks
    from gradient.dtypes.packed.search import Affine, Symmetric


class PackingKernels(PackedDefaults[np.ndarray]):
    """Override of `composed.packed`, with the same bits."""

    def pack(self, values: np.ndarray, dtype: PackedDType) -> tuple[np.ndarray, ...]:
        from gradient.dtypes.packed.k_quants import AffineBlocks, SymmetricBlocks

        if not (
            isinstance(dtype, AffineBlocks | SymmetricBlocks)
            and values.size >= kernels.MIN_SIZE
            and values.size > dtype.block_size
            and kernels.available()
            and kernels.load("linear").converts_float16()
        ):
            return super().pack(values, dtype)
        ((shape, _),) = dtype.parts_of(values.shape)
        x = np.ascontiguousarray(values, np.float32).reshape(-1)
        with np.errstate(over="ignore"):
            if isinstance(dtype, AffineBlocks):
                return (dtype.store(_affine(x, dtype)).reshape(shape),)
            return (dtype.store(_symmetric(x, dtype)).reshape(shape),)


def _affine(x: np.ndarray, dtype: AffineBlocks) -> Affine:
    """`search.affine` of the blocks of x."""
    from gradient.dtypes.packed.search import Affine

    blocks, (parts, width) = x.size // dtype.block_size, dtype.sub_blocks
    d, dmin = np.empty((2, blocks, 1), np.float32)
    scales, mins = np.empty((2, blocks, parts), np.uint8)
    codes = np.empty((blocks, parts, width), np.uint8)
    found = (each.reshape(-1) for each in (d, dmin, scales, mins, codes))
    kernels.load("scale_search").affine(0, blocks, x, width, dtype.highest, dtype.most, *found)
    return Affine(d, dmin, scales, mins, codes)


def _symmetric(x: np.ndarray, dtype: SymmetricBlocks) -> Symmetric:
    """`search.symmetric` of the blocks of x."""
    from gradient.dtypes.packed.search import Symmetric

    blocks, (parts, width) = x.size // dtype.block_size, dtype.sub_blocks
    d = np.empty((blocks, 1), np.float32)
    scales = np.empty((blocks, parts), np.float32)
    codes = np.empty((blocks, parts, width), np.int8)
    found = (each.reshape(-1) for each in (d, scales, codes))
    kernels.load("scale_search").symmetric(0, blocks, x, width, dtype.half, dtype.most, *found)
    return Symmetric(d, scales, codes)
