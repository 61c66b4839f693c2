"""Attention and its gradients by kernels that load tiles in pieces of 16 bytes: the parts that the
kernels of float32 and of 16-bit floats share. Their own files choose the kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.cuda.attention import AttentionKernels
from gradient.backends.cuda.attention_problem import (
    BLOCK,
    Kernel,
    Problem,
    Result,
    parts_of_keys,
    strides,
)
from gradient.backends.cuda.launching import LOAD
from gradient.backends.required import Shape

FEW_ROWS = 16
"""Rows of a group up to which blocks have few of them, and their warps share out the keys."""
MOST = 1 << 30
"""Of rows and of keys, which kernels count in 32 bits."""
ONE_TILE = 64
"""Rows of a group that the largest tile has, of one head. Of so few, those of all heads are taken
for one head's, if they can be; and for the gradient of q the keys are divided."""
ROWS_AT_ONCE = 16
"""Of which a block makes statistics (`attention_statistics.cu`)."""


class TiledAttentionKernels(AttentionKernels):
    """Overrides of `composed.attention`, over the kernels that take every width and dtype."""

    def _forward_kernel(self, p: Problem) -> Kernel | None:
        """The kernel that takes the problem, if one does."""
        return None

    def _gradient_kernels(self, p: Problem) -> tuple[Kernel, Kernel] | None:
        """Those of the gradients for q, and for k and v."""
        return None

    def _attend(self, p: Problem, made: Result) -> None:
        kernel = self._forward_kernel(p)
        if kernel is None:
            super()._attend(p, made)
            return
        p = p.placed(self._in_pieces)
        of_out = strides(made.out, 3) if kernel.places_rows else ()
        self._launch_attention(kernel, self._division_of_keys(p), p, strides(p.q, 3), made, of_out)

    def _attend_grad(self, g: Array, p: Problem, made: Result) -> tuple[Array, Array, Array]:
        """All three in the inputs' dtype, to which the engine would round them."""
        kernels = self._gradient_kernels(p)
        if kernels is None:
            return super()._attend_grad(g, p, made)
        of_query, of_key = kernels
        gq, gk, gv = self._empty_gradients(p)
        g, p = self._in_pieces(g), p.placed(self._in_pieces)
        statistics, shape = self._row_statistics(g, p, made), p.q.shape
        joined = p.with_one_head() if p.rows <= ONE_TILE and p.rows > shape[2] else None
        if joined is not None and (shape[2] == 1 or g.strides[1] == shape[2] * g.strides[2]):
            p, g, gq = joined, g.reshape(*joined.q.shape[:3], -1), gq.reshape(joined.q.shape)
        given = (g, *strides(g, 3), p.q, *strides(p.q, 3), p.k, p.v, p.mask, statistics)
        sizes = p.parameters()
        blocks, parts = of_query.blocks(p.rows), 1
        if p.rows <= ONE_TILE:
            parts = parts_of_keys(blocks * p.groups, p.keys)
        partial = None if parts == 1 else self.empty((parts, *p.q.shape), np.dtype(np.float32))
        self.launch(
            of_query.family, of_query.name, p.q, (blocks, p.groups, parts), BLOCK,
            *given, gq, *strides(gq, 3), partial, *sizes, shared=of_query.shared,
        )  # fmt: skip
        if partial is not None:
            gq = self.astype(self.sum(partial, (0,)), p.q.dtype)
        self.launch(
            of_key.family, of_key.name, p.q,
            (of_key.blocks(p.keys), p.groups, of_key.sharing), BLOCK,
            *given, gk, *strides(gk, 3), gv, *strides(gv, 3), *sizes, shared=of_key.shared,
        )  # fmt: skip
        return gq if gq.shape == shape else gq.reshape(shape), gk, gv

    def _row_statistics(self, g: Array, p: Problem, made: Result) -> Array:
        """What gradients need of each row of queries, 16 bytes each."""
        (b, h, t), e, out = p.q.shape[:3], p.v.shape[-1], self._in_pieces(made.out)
        rows = b * h * t
        statistics: Array = self.empty((rows, 4), np.dtype(np.float32))
        self.launch(
            "attention_statistics", "row_statistics", p.q, (-(-rows // ROWS_AT_ONCE),), BLOCK,
            g, *strides(g, 3), out, *strides(out, 3), made.high, made.log_sum, statistics,
            h, t, rows, e,
        )  # fmt: skip
        return statistics

    def _division_of_keys(self, p: Problem) -> Callable[[int, int], int]:
        return self.parts_of_decoding if p.rows <= FEW_ROWS else parts_of_keys

    def _fits_tiles(self, p: Problem) -> bool:
        """Whether rows are of whole pieces, and few enough to be counted. (Copies in the background
        are as old as these tensor cores.)"""
        rows, piece = p.q.size // p.q.shape[-1], LOAD // p.q.itemsize
        return (
            self.runtime.has_tensor_cores
            and all(width % piece == 0 for width in p.widths)
            and max(p.rows, p.keys, rows) < MOST
        )

    def _empty_result(self, p: Problem) -> Array:
        """With heads side by side where those of q are, for the product that follows; parts are
        joined without gaps."""
        kernel = self._forward_kernel(p)
        if kernel is None or not kernel.places_rows:
            return super()._empty_result(p)
        if self._grid(kernel, self._division_of_keys(p), p.rows, p.groups, p.keys)[2] > 1:
            return super()._empty_result(p)
        return self._empty_heads((*p.q.shape[:3], p.v.shape[-1]), p.q)

    def _empty_gradients(self, p: Problem) -> tuple[Array, Array, Array]:
        """They lie as q, k and v do: side by side in one array, where these are, which nothing has
        to be copied to."""
        b, h, t, d = p.q.shape
        if _are_thirds([self.runtime.address(x) for x in (p.q, p.k, p.v)], p.q, p.k, p.v):
            whole = self.empty((b, t, 3, h, d), p.q.dtype)
            gq, gk, gv = (whole[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
            return gq, gk, gv
        gq, gk, gv = (self._empty_heads(x.shape, x) for x in (p.q, p.k, p.v))
        return gq, gk, gv

    def _empty_heads(self, shape: Shape, like: Array) -> Array:
        """An array (B, H, T, D) without gaps, in memory (B, T, H, D) if `like` has heads side by
        side."""
        b, h, t, d = shape
        if not 0 < like.strides[1] < like.strides[2]:
            return self.empty(shape, like.dtype)
        return self.empty((b, t, h, d), like.dtype).transpose(0, 2, 1, 3)

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


def _are_thirds(places: list[int], q: Array, k: Array, v: Array) -> bool:
    """Whether these are the three thirds (B, H, T, D) of an array (B, T, 3, H, D)."""
    (h, t, d), step = q.shape[1:], q.itemsize
    third, (at_q, at_k, at_v) = h * d * step, places
    return (
        q.shape == k.shape == v.shape
        and q.strides == k.strides == v.strides == (3 * t * third, d * step, 3 * third, step)
        and at_k - at_q == at_v - at_k == third
    )
