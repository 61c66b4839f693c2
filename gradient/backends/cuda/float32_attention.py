"""Attention of float32 by kernels that keep blocks of numbers in registers."""

from __future__ import annotations

import functools

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.cuda.attention import (
    BLOCK,
    AttentionKernels,
    parts_of_keys,
    problem,
    strides,
)
from gradient.backends.cuda.launching import LOAD
from gradient.backends.options import AttentionOptions
from gradient.backends.required import Shape

FEW_ROWS = 16
"""Rows of a group up to which blocks have few of them, and their warps share out the keys."""
MOST = 1 << 30
"""Of rows and of keys, which kernels count in 32 bits."""
ROWS_AT_ONCE = 16
"""Of which a block makes statistics (`row_statistics` in `attention_tiles.cuh`)."""
PIECE_PITCH = 40
"""How far apart rows of weights lie in shared memory (`attention_float32.cuh`)."""


class Float32AttentionKernels(AttentionKernels):
    """Overrides of `composed.attention`, over the kernels that take every width and dtype."""

    def _attend(
        self,
        q: Array,
        k: Array,
        v: Array,
        mask: Array | None,
        options: AttentionOptions,
        out: Array,
        high: Array,
        log_sum: Array,
    ) -> None:
        (b, h, t), hk, s = q.shape[:3], k.shape[1], k.shape[2]
        of_group, head = h // hk * t, head_of(q.shape[-1], v.shape[-1])
        rows, keys = tiles_of(head)
        family, kernel, divide = "attention_float32", f"attention_block_{head}", parts_of_keys
        shared = tiles_bytes(head, rows + 2 * keys) + 4 * PIECE_PITCH * rows
        if of_group <= FEW_ROWS:
            rows, shared = rows_of_decoding(of_group), 0
            family, divide = "attention_decode_float32", self.parts_of_decoding
            kernel = f"attention_decode_{head}_{rows}"
        if not self._fits_blocks(q, k, v) or shared > self.runtime.max_shared:
            super()._attend(q, k, v, mask, options, out, high, log_sum)
            return
        q, k, v = (self._in_pieces(x) for x in (q, k, v))
        row_tiles = -(-of_group // rows)
        parts = divide(row_tiles * b * hk, s)
        partial = self._room_for_parts(parts, out, high.dtype)
        self.launch(
            family, kernel, q, (row_tiles, b * hk, parts), BLOCK,
            q, *strides(q, 3), k, v, mask, out, high, log_sum, partial,
            parts, *problem(q, k, v, mask, options), shared=shared,
        )  # fmt: skip
        self._join(partial, out, high, log_sum)

    def _attend_grad(
        self,
        g: Array,
        q: Array,
        k: Array,
        v: Array,
        out: Array,
        high: Array,
        log_sum: Array,
        mask: Array | None,
        options: AttentionOptions,
    ) -> tuple[Array, Array, Array]:
        (b, h, t, d), hk, s, e = q.shape, k.shape[1], k.shape[2], v.shape[-1]
        head, family = head_of(d, e), "attention_float32_grad"
        rows, others = gradient_tiles_of(head)
        shared = tiles_bytes(head, 2 * rows + 2 * others) + 4 * PIECE_PITCH * rows
        if not self._fits_blocks(q, k, v) or shared > self.runtime.max_shared:
            return super()._attend_grad(g, q, k, v, out, high, log_sum, mask, options)
        g, q, k, v = (self._in_pieces(x) for x in (g, q, k, v))
        number = np.dtype(np.float32)
        statistics = self.empty((b * h * t, 4), number)
        of_g, of_q = strides(g, 3), strides(q, 3)
        self.launch(
            family, "attention_block_statistics", q, (-(-b * h * t // ROWS_AT_ONCE),), BLOCK,
            g, *of_g, self._in_pieces(self.contiguous(out)), self.statistic(high, number),
            self.statistic(log_sum, number), statistics, h, t, b * h * t, e,
        )  # fmt: skip
        given = (g, *of_g, q, *of_q, k, v, mask, statistics)
        sizes, gq = problem(q, k, v, mask, options), self.empty(q.shape, number)
        self.launch(
            family, f"attention_block_grad_query_{head}", q, (-(-(h // hk * t) // rows), b * hk),
            BLOCK, *given, gq, *sizes, shared=shared,
        )  # fmt: skip
        gk, gv = self.empty((b, hk, s, d), number), self.empty((b, hk, s, e), number)
        self.launch(
            family, f"attention_block_grad_key_{head}", q, (-(-s // rows), b * hk), BLOCK,
            *given, gk, gv, *sizes, shared=shared,
        )  # fmt: skip
        return gq, gk, gv

    def _fits_blocks(self, q: Array, k: Array, v: Array) -> bool:
        """Float32, rows of whole pieces of 16 bytes, up to 128 columns."""
        (b, h, t, d), hk, s, e = q.shape, k.shape[1], k.shape[2], v.shape[-1]
        return (
            q.dtype == np.float32
            and self.runtime.has_tensor_cores  # and copies in the background, as old
            and d % 4 == 0
            and e % 4 == 0
            and max(d, e) <= 128
            and max(h // hk * t, s, b * h * t) < MOST
        )

    def _in_pieces(self, x: Array) -> Array:
        """x, if each of its rows of numbers lies at a multiple of 16 bytes; or a copy."""
        if self.runtime.address(x) % LOAD == 0 and _is_in_pieces(x.shape, x.strides, x.itemsize):
            return x
        copy: Array = self.runtime.xp.array(x, order="C")
        return copy


@functools.lru_cache(4096)
def _is_in_pieces(shape: Shape, strides: Shape, itemsize: int) -> bool:
    apart = zip(shape[:-1], strides[:-1], strict=True)
    return strides[-1] == itemsize and all(n == 1 or step % LOAD == 0 for n, step in apart)


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
