"""GGUF's formats: a row is a sequence of blocks, each a few bytes with codes and scales.

The layouts are those of ggml (ggml-common.h), so a GGUF file's bytes are used unchanged. A tensor
(..., N, K) has one part, `blocks`, uint8 (..., N, K / block_size, block_bytes). Numbers are
little-endian; scales are 16-bit floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.dtypes.dtype import float16, float32, int8, uint8
from gradient.dtypes.packed.base import PackedDType, Part
from gradient.errors import ArgumentError

__all__ = ["BlockDType"]

FLOAT16, FLOAT32, INT8, UINT8 = float16.numpy, float32.numpy, int8.numpy, uint8.numpy


class BlockDType(PackedDType):
    """A format of `block_size` weights in `block_bytes` bytes.

    Subclasses define `pack_blocks` and `unpack_blocks`.

    Attributes:
        block_bytes: bytes of a block.
        file_type: llama.cpp's `llama_ftype` of files that are mostly in this format, which tools
            show; of a format that comes in several mixes, that of the medium one.
    """

    block_bytes: int
    file_type: int
    part_names = ("blocks",)

    def parts_of(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        self.check(shape)
        return (((*shape[:-1], shape[-1] // self.block_size, self.block_bytes), UINT8),)

    def pack(self, values: np.ndarray) -> tuple[np.ndarray, ...]:
        ((shape, _),) = self.parts_of(values.shape)
        blocks = np.ascontiguousarray(values, FLOAT32).reshape(-1, self.block_size)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return (self.pack_blocks(blocks).reshape(shape),)

    def unpack(self, be: Any, parts: tuple[Any, ...]) -> Any:
        (blocks,) = parts
        *rows, count, _ = blocks.shape
        return be.reshape(self.unpack_blocks(be, blocks), (*rows, count * self.block_size))

    def pack_blocks(self, x: np.ndarray) -> np.ndarray:
        """Quantise float32 (blocks, block_size) to uint8 (blocks, block_bytes)."""
        raise NotImplementedError

    def unpack_blocks(self, be: Any, blocks: Any) -> Any:
        """Dequantise uint8 (..., block_bytes) to float32, with block_size numbers in the last
        axes."""
        raise NotImplementedError


# Reading -----------------------------------------------------------------------------------------


def bytes_at(be: Any, blocks: Any, start: int, size: int) -> Any:
    """Return `size` bytes of each block, from byte `start`."""
    return be.getitem(blocks, (..., slice(start, start + size)))


def float16_at(be: Any, blocks: Any, start: int) -> Any:
    """Return the 16-bit float at byte `start` of each block, as float32 (..., 1)."""
    return be.astype(be.bitcast(bytes_at(be, blocks, start, 2), FLOAT16), FLOAT32)


def nibbles(be: Any, codes: Any) -> Any:
    """Return 4-bit codes: the low halves of all bytes of the last axis, then the high halves."""
    return be.concatenate([codes & 15, codes >> 4], -1)


def fields(be: Any, codes: Any, width: int) -> Any:
    """Split bytes (..., n) into fields of `width` bits: uint8 (..., 8 / width, n), lowest first."""
    count = 8 // width
    shifts = be.reshape(be.arange(0, 8, width, UINT8), (count, 1))
    mask = (1 << width) - 1
    return be.reshape(codes, (*codes.shape[:-1], 1, codes.shape[-1])) >> shifts & mask


def to_float32(be: Any, codes: Any) -> Any:
    return be.astype(codes, FLOAT32)


# Writing (NumPy) ---------------------------------------------------------------------------------


def to_float16(scale: np.ndarray, dtype: BlockDType) -> np.ndarray:
    """Convert float32 scales (blocks, 1) to the two bytes of 16-bit floats (blocks, 2)."""
    half = scale.astype("<f2")
    if not np.isfinite(half).all():
        largest = float(np.abs(scale).max())
        raise ArgumentError(
            f"quantize: {dtype.name} keeps its scales in 16 bits, up to 65504; these weights need "
            f"one of {largest:g}. Are they finite, and of ordinary size?"
        )
    return half.view(UINT8)


def inverse(scale: np.ndarray) -> np.ndarray:
    """1 / scale, or 0 where that is not finite: all codes are then 0."""
    reciprocal = 1 / scale
    return np.where(np.isfinite(reciprocal), reciprocal, np.float32(0))


def pack_nibbles(codes: np.ndarray) -> np.ndarray:
    """The inverse of `nibbles`: codes (..., 2 n) below 16 as bytes (..., n)."""
    n = codes.shape[-1] // 2
    return codes[..., :n] | codes[..., n:] << 4


def pack_fields(codes: np.ndarray, width: int) -> np.ndarray:
    """The inverse of `fields`: codes (..., 8 / width, n) as bytes (..., n)."""
    shifts = np.arange(0, 8, width, dtype=UINT8)[:, None]
    return np.bitwise_or.reduce(codes << shifts, axis=-2)
