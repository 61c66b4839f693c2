"""Attention of 16-bit floats, and its gradients, by tensor cores."""

from __future__ import annotations

import functools

from gradient.backends.cuda.attention_problem import Kernel, Problem
from gradient.backends.cuda.float32_attention import Float32AttentionKernels
from gradient.backends.cuda.tiled_attention import FEW_ROWS
from gradient.dtypes import HALF_PRECISION

HEADS = (32, 64, 96, 128, 192, 256)
"""Columns that kernels were compiled for."""
WARPGROUP_HEADS = (64, 128)
"""Those of `warpgroup_attention.cu`, for GPUs that have its instructions."""
STATISTICS = 16
"""Bytes of a row's statistics."""


class FlashAttentionKernels(Float32AttentionKernels):
    """The kernels of `flash_attention.cu`, `warpgroup_attention.cu`, their gradients, and
    `decode_attention.cu`."""

    def _forward_kernel(self, p: Problem) -> Kernel | None:
        if not self._fits_tensor_cores(p):
            return super()._forward_kernel(p)
        head = head_of(max(p.widths))
        if p.rows <= FEW_ROWS:  # which a block has all, and whose warps share out the keys
            return _decoding_kernel(head)
        return _kernel("", head, self.runtime.has_warpgroups)

    def _gradient_kernels(self, p: Problem) -> tuple[Kernel, Kernel] | None:
        if not self._fits_tensor_cores(p):
            return super()._gradient_kernels(p)
        head, has_warpgroups = head_of(max(p.widths)), self.runtime.has_warpgroups
        return _kernel("query", head, has_warpgroups), _kernel("key", head, has_warpgroups)

    def _fits_tensor_cores(self, p: Problem) -> bool:
        return p.q.dtype in HALF_PRECISION and self._fits_tiles(p)


@functools.lru_cache(4096)
def _kernel(of: str, head: int, has_warpgroups: bool) -> Kernel:
    """The kernel for results, or for the gradient of "query" or "key"."""
    by_warpgroups = head in WARPGROUP_HEADS and has_warpgroups
    if of == "query":
        own, other = (warpgroup_query_tiles_of if by_warpgroups else query_gradient_tiles_of)(head)
    elif of == "key":
        own, other = (warpgroup_key_tiles_of if by_warpgroups else key_gradient_tiles_of)(head)
    else:
        own, other = (warpgroup_tiles_of if by_warpgroups else tiles_of)(head)
    rows = (2 if of else 1) * own + 4 * other  # of two tiles; of two, this one and the next
    family = ("warpgroup" if by_warpgroups else "flash") + "_attention" + ("_grad" if of else "")
    name = f"{family}_{of}_{head}" if of else f"{family}_{head}"
    if by_warpgroups:
        statistics = 2 * other * STATISTICS if of == "key" else 0
        return Kernel(family, name, own, panels_bytes(head, rows) + statistics, places_rows=True)
    return Kernel(
        family, name, own, tiles_bytes(head, rows), places_rows=True,
        sharing=2 if of == "key" and head > 128 else 1,
    )  # fmt: skip


@functools.lru_cache(4096)
def _decoding_kernel(head: int) -> Kernel:
    family, shared = "decode_attention", tiles_bytes(head, rows_of_decoding(head))
    return Kernel(family, f"{family}_{head}", FEW_ROWS, shared)


@functools.lru_cache(4096)
def head_of(width: int) -> int:
    """The columns that a kernel was compiled for, of so many that are there."""
    return next(head for head in HEADS if width <= head)


def rows_of_decoding(head: int) -> int:
    """Of the tiles of a block in `decode_attention.cu`: queries; of each warp keys and values, and
    the next ones."""
    return FEW_ROWS + 4 * (16 + 16) * (2 if head <= 128 else 1)


def tiles_of(head: int) -> tuple[int, int]:
    """Rows of a block and keys of a tile in `flash_attention.cu`."""
    return (128 if head <= 128 else 64), (64 if head <= 64 else 32 if head <= 192 else 16)


def query_gradient_tiles_of(head: int) -> tuple[int, int]:
    """Rows of a block and keys of a tile in `flash_attention_grad.cu`."""
    return (128 if head <= 64 else 64), (32 if head <= 128 else 16)


def key_gradient_tiles_of(head: int) -> tuple[int, int]:
    """Keys of a block and rows of a tile there."""
    return 64, (64 if head <= 64 else 32 if head <= 128 else 16)


def warpgroup_tiles_of(head: int) -> tuple[int, int]:
    """Rows of a block and keys of a tile in `warpgroup_attention.cu`."""
    return 64, (128 if head <= 64 else 64)


def warpgroup_query_tiles_of(head: int) -> tuple[int, int]:
    """The same in `warpgroup_attention_grad.cu`."""
    return 64, 64


def warpgroup_key_tiles_of(head: int) -> tuple[int, int]:
    """Keys of a block and rows of a tile there."""
    return 64, 64


def panels_bytes(head: int, rows: int) -> int:
    """Of tiles with so many rows in all (`warpgroup_tiles.cuh`)."""
    return 2 * head * rows


def tiles_bytes(head: int, rows: int) -> int:
    """Of tiles with so many rows in all (`attention_tiles.cuh`)."""
    return 2 * (head + 8) * rows
