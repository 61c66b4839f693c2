"""Attention of float32 by kernels that keep blocks of numbers in registers."""

from __future__ import annotations

import numpy as np

from gradient.backends.cuda.attention_problem import Kernel, Problem
from gradient.backends.cuda.tiled_attention import FEW_ROWS, TiledAttentionKernels

PIECE_PITCH = 40
"""How far apart rows of weights lie in shared memory (`attention_float32.cuh`)."""


class Float32AttentionKernels(TiledAttentionKernels):
    """The kernels of `attention_float32.cu`, its gradients, and `attention_decode_float32.cu`."""

    def _forward_kernel(self, p: Problem) -> Kernel | None:
        head = head_of(*p.widths)
        if p.rows <= FEW_ROWS:
            rows = rows_of_decoding(p.rows)
            name = f"attention_decode_{head}_{rows}"
            kernel = Kernel("attention_decode_float32", name, rows, 0)
        else:
            rows, keys = tiles_of(head)
            shared = tiles_bytes(head, rows + 2 * keys) + 4 * PIECE_PITCH * rows
            kernel = Kernel("attention_float32", f"attention_block_{head}", rows, shared)
        return kernel if self._fits_blocks(p, kernel) else super()._forward_kernel(p)

    def _gradient_kernels(self, p: Problem) -> tuple[Kernel, Kernel] | None:
        head, family = head_of(*p.widths), "attention_float32_grad"
        rows, others = gradient_tiles_of(head)
        shared = tiles_bytes(head, 2 * rows + 2 * others) + 4 * PIECE_PITCH * rows
        of_query, of_key = (
            Kernel(family, f"attention_block_grad_{of}_{head}", rows, shared, places_rows=True)
            for of in ("query", "key")
        )
        return (of_query, of_key) if self._fits_blocks(p, of_key) else super()._gradient_kernels(p)

    def _fits_blocks(self, p: Problem, kernel: Kernel) -> bool:
        """Float32 of up to 128 columns."""
        return (
            p.q.dtype == np.float32
            and max(p.widths) <= 128
            and self._fits_tiles(p)
            and kernel.shared <= self.runtime.max_shared
        )


def head_of(width: int, value_width: int) -> int:
    """The columns that a kernel was compiled for, of so many that are there."""
    return 64 if max(width, value_width) <= 64 else 128


def rows_of_decoding(of_group: int) -> int:
    """Rows of a block in `attention_decode_float32.cu`."""
    return 4 if of_group <= 4 else 8


def tiles_of(head: int) -> tuple[int, int]:
    """Rows of a block and keys of a tile in `attention_float32.cu`."""
    return (128, 64) if head == 64 else (64, 32)


def gradient_tiles_of(head: int) -> tuple[int, int]:
    """Rows of a block and of the other side's tile in `attention_float32_grad.cu`."""
    return 64, (64 if head == 64 else 32)


def tiles_bytes(head: int, rows: int) -> int:
    """Of tiles with so many rows in all (`attention_float32.cuh`)."""
    return 4 * (head + 4) * rows
