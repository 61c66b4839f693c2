"""Attention of 16-bit floats, and its gradients, by tensor cores."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.cuda.attention import parts_of_keys, problem, strides
from gradient.backends.cuda.float32_attention import MOST, ROWS_AT_ONCE, Float32AttentionKernels
from gradient.backends.options import AttentionOptions
from gradient.backends.required import Shape
from gradient.dtypes import HALF_PRECISION

BLOCK = 128
"""Threads of a block."""
HEADS = (32, 64, 96, 128, 192, 256)
"""Columns that kernels were compiled for."""
WARPGROUP_HEADS = (64, 128)
"""Those of `warpgroup_attention.cu`, for GPUs that have its instructions."""
STATISTICS = 16
"""Bytes of a row's statistics."""
FEW_ROWS = 16
"""Rows of a group up to which one block has them all, whose warps share out the keys instead."""


class Tiling(NamedTuple):
    """The family of a kernel, the rows of its blocks, and their shared memory."""

    family: str
    rows: int
    shared: int


class FlashAttentionKernels(Float32AttentionKernels):
    """Overrides of `composed.attention`, over the kernels that take other widths and dtypes."""

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
        if not self._fits_tensor_cores(q, k, v):
            super()._attend(q, k, v, mask, options, out, high, log_sum)
            return
        h, t = q.shape[1:3]
        b, hk, s = k.shape[:3]
        head, family, rows = _head(q, v), "decode_attention", FEW_ROWS
        shared, divide = tiles_bytes(head, rows_of_decoding(head)), self.parts_of_decoding
        of_out: tuple[int, ...] = ()
        if h // hk * t > FEW_ROWS:
            divide, of_out = parts_of_keys, strides(out, 3)
            family, rows, shared = self._tiling("", head)
        q, k, v = (self._in_pieces(x) for x in (q, k, v))
        row_tiles = -(-(h // hk * t) // rows)
        parts = divide(row_tiles * b * hk, s)
        partial = self._room_for_parts(parts, out, high.dtype)
        self.launch(
            family, f"{family}_{head}", q, (row_tiles, b * hk, parts), BLOCK,
            q, *strides(q, 3), k, v, mask, out, *of_out, high, log_sum, partial,
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
        """All three in the inputs' dtype, to which the engine would round them."""
        if not self._fits_tensor_cores(q, k, v):
            return super()._attend_grad(g, q, k, v, out, high, log_sum, mask, options)
        (b, h, t), (hk, s), e = q.shape[:3], k.shape[1:3], v.shape[-1]
        head = _head(q, v)
        number = np.dtype(np.float32)
        statistics = self.empty((b * h * t, 4), number)
        gq, gk, gv = self._empty_gradients(q, k, v)
        g, q, k, v, out = (self._in_pieces(x) for x in (g, q, k, v, out))
        of_g, of_q = strides(g, 3), strides(q, 3)
        self.launch(
            "flash_attention_grad", "row_statistics", q, (-(-b * h * t // ROWS_AT_ONCE),), BLOCK,
            g, *of_g, out, *strides(out, 3), self.statistic(high, number),
            self.statistic(log_sum, number), statistics, h, t, b * h * t, e,
        )  # fmt: skip
        given = (g, *of_g, q, *of_q, k, v, mask, statistics)
        sizes = problem(q, k, v, mask, options)
        family, rows, shared = self._tiling("query", head)
        self.launch(
            family, f"{family}_query_{head}", q, (-(-(h // hk * t) // rows), b * hk), BLOCK,
            *given, gq, *strides(gq, 3), *sizes, shared=shared,
        )  # fmt: skip
        family, keys, shared = self._tiling("key", head)
        self.launch(
            family, f"{family}_key_{head}", q,
            (-(-s // keys), b * hk, 1 if head <= 128 else 2), BLOCK,
            *given, gk, *strides(gk, 3), gv, *strides(gv, 3), *sizes, shared=shared,
        )  # fmt: skip
        return gq, gk, gv

    def _empty_result(self, q: Array, k: Array, v: Array) -> Array:
        """With heads side by side where those of q are, for the product that follows."""
        (b, h, t), (hk, s), e = q.shape[:3], k.shape[1:3], v.shape[-1]
        if not (self._fits_tensor_cores(q, k, v) and h // hk * t > FEW_ROWS):
            return super()._empty_result(q, k, v)
        row_tiles = -(-(h // hk * t) // self._tiling("", _head(q, v)).rows)
        if parts_of_keys(row_tiles * b * hk, s) > 1:  # which are joined without gaps
            return super()._empty_result(q, k, v)
        return self._empty_heads((b, h, t, e), q)

    def _empty_gradients(self, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
        """They lie as q, k and v do: side by side in one array, where these are, which nothing has
        to be copied to."""
        b, h, t, d = q.shape
        if _are_thirds([self.runtime.address(x) for x in (q, k, v)], q, k, v):
            whole = self.empty((b, t, 3, h, d), q.dtype)
            gq, gk, gv = (whole[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
            return gq, gk, gv
        gq, gk, gv = (self._empty_heads(x.shape, x) for x in (q, k, v))
        return gq, gk, gv

    def _empty_heads(self, shape: Shape, like: Array) -> Array:
        """An array (B, H, T, D) without gaps, in memory (B, T, H, D) if `like` has heads side by
        side."""
        b, h, t, d = shape
        if not 0 < like.strides[1] < like.strides[2]:
            return self.empty(shape, like.dtype)
        return self.empty((b, t, h, d), like.dtype).transpose(0, 2, 1, 3)

    def _tiling(self, of: str, head: int) -> Tiling:
        """Of the kernel for results, or for the gradient of "query" or "key"."""
        return _tiling(of, head, self.runtime.has_warpgroups)

    def _fits_tensor_cores(self, q: Array, k: Array, v: Array) -> bool:
        """16-bit floats, rows of whole pieces of 16 bytes."""
        (b, h, t, d), hk, s, e = q.shape, k.shape[1], k.shape[2], v.shape[-1]
        return (
            q.dtype in HALF_PRECISION
            and self.runtime.has_tensor_cores
            and d % 8 == 0
            and e % 8 == 0
            and max(h // hk * t, s, b * h * t) < MOST
        )


@functools.lru_cache(4096)
def _tiling(of: str, head: int, has_warpgroups: bool) -> Tiling:
    wide = head in WARPGROUP_HEADS and has_warpgroups
    if of == "query":
        own, other = (warpgroup_query_tiles_of if wide else query_gradient_tiles_of)(head)
    elif of == "key":
        own, other = (warpgroup_key_tiles_of if wide else key_gradient_tiles_of)(head)
    else:
        own, other = (warpgroup_tiles_of if wide else tiles_of)(head)
    rows = (2 if of else 1) * own + 4 * other  # of two tiles; of two, this one and the next
    grad = "_grad" if of else ""
    if not wide:
        return Tiling(f"flash_attention{grad}", own, tiles_bytes(head, rows))
    statistics = 2 * other * STATISTICS if of == "key" else 0
    return Tiling(f"warpgroup_attention{grad}", own, panels_bytes(head, rows) + statistics)


def _are_thirds(places: list[int], q: Array, k: Array, v: Array) -> bool:
    """Whether these are the three thirds (B, H, T, D) of an array (B, T, 3, H, D)."""
    (h, t, d), step = q.shape[1:], q.itemsize
    third, (at_q, at_k, at_v) = h * d * step, places
    return (
        q.shape == k.shape == v.shape
        and q.strides == k.strides == v.strides == (3 * t * third, d * step, 3 * third, step)
        and at_k - at_q == at_v - at_k == third
    )


def _head(q: Array, v: Array) -> int:
    return head_of(max(q.shape[-1], v.shape[-1]))


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
