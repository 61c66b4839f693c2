"""Attention, its gradients, and rotary positions, by kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.cuda.attention_problem import (
    BLOCK,
    TILE,
    Kernel,
    Problem,
    Result,
    as_mask,
    parts_of_keys,
    strides,
)
from gradient.backends.cuda.launching import (
    EACH,
    FLOATS,
    LOAD,
    MAX_GRID,
    KernelLauncher,
    computed_in,
)
from gradient.backends.options import AttentionOptions
from gradient.backends.required import Shape

ROWS, ROWS_OF_WARP = 16, 4
"""Rows that a block and a warp work on (`attention.cuh`)."""
MAX_WIDTH = 256
DECODING_BLOCKS, SHORT = 3, 256
"""Blocks of few rows that a multiprocessor runs at a time, whose time is memory's; and keys up to
which one of them has all, since joining parts takes as long as reading these."""
JOINING, MOST_PARTS = 256, 512
"""Threads that join a row's parts (`join_parts`), and as many parts as they can."""


class AttentionKernels(KernelLauncher, AttentionDefaults[Array]):
    """Overrides of `composed.attention`. Subclasses have kernels for some of what these here take:
    they override `_attend` and `_attend_grad`, and leave the rest to them."""

    def attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        mask: Array | None = None,
        options: AttentionOptions = AttentionOptions(),  # noqa: B008 (frozen)
    ) -> tuple[Array, Array, Array]:
        if not self._has_attention_kernel(q, k, v, mask):
            return super().attention(q, k, v, mask, options)
        p = Problem(q, k, v, as_mask(self, mask, q), options)
        number, rows = np.dtype(computed_in(q)), (*q.shape[:3], 1)
        made = Result(self._empty_result(p), self.empty(rows, number), self.empty(rows, number))
        self._attend(p, made)
        return made.out, made.high, made.log_sum

    def _empty_result(self, p: Problem) -> Array:
        return self.empty((*p.q.shape[:3], p.v.shape[-1]), p.q.dtype)

    def _attend(self, p: Problem, made: Result) -> None:
        """Write the result of what kernels take."""
        d, e = p.widths
        shared = shared_bytes(made.high.dtype, d, e)
        kernel = Kernel("attention", f"attention_{columns_of(e)}", ROWS, shared)
        p = p._replace(q=self.contiguous(p.q), k=_with_rows(self, p.k), v=_with_rows(self, p.v))
        self._launch_attention(kernel, parts_of_keys, p, (), made, ())

    def _launch_attention(
        self,
        kernel: Kernel,
        parts_of: Callable[[int, int], int],
        p: Problem,
        of_q: tuple[int, ...],
        made: Result,
        of_out: tuple[int, ...],
    ) -> None:
        """By a kernel that takes these strides of q and of the result, over keys in parts."""
        grid = self._grid(kernel, parts_of, p.rows, p.groups, p.keys)
        partial = self._room_for_parts(grid[2], made.out, made.high.dtype)
        self.launch(
            kernel.family, kernel.name, p.q, grid, BLOCK,
            p.q, *of_q, p.k, p.v, p.mask, made.out, *of_out, made.high, made.log_sum,
            partial, grid[2], *p.parameters(), shared=kernel.shared,
        )  # fmt: skip
        self._join(partial, *made)

    def _grid(
        self, kernel: Kernel, parts_of: Callable[[int, int], int], rows: int, groups: int, keys: int
    ) -> tuple[int, int, int]:
        """A block for each tile of a group's rows, each group, and each part of the keys."""
        blocks = kernel.blocks(rows)
        return blocks, groups, parts_of(blocks * groups, keys)

    def attention_grad(
        self,
        g: Array,
        q: Array,
        k: Array,
        v: Array,
        out: Array,
        high: Array,
        log_sum: Array,
        mask: Array | None = None,
        options: AttentionOptions = AttentionOptions(),  # noqa: B008 (frozen)
    ) -> tuple[Array, Array, Array]:
        if not self._has_attention_kernel(q, k, v, mask, True) or not self.has_kernel(q, g, out):
            return super().attention_grad(g, q, k, v, out, high, log_sum, mask, options)
        number = computed_in(q)
        made = Result(out, self.statistic(high, number), self.statistic(log_sum, number))
        return self._attend_grad(g, Problem(q, k, v, as_mask(self, mask, q), options), made)

    def _attend_grad(self, g: Array, p: Problem, made: Result) -> tuple[Array, Array, Array]:
        """The gradients for q, k and v of what kernels take."""
        number = made.high.dtype
        g, out = self.contiguous(g), self.contiguous(made.out)
        p = p._replace(q=self.contiguous(p.q), k=_with_rows(self, p.k), v=_with_rows(self, p.v))
        (b, h, t, d), (hk, s), e = p.q.shape, p.k.shape[1:3], p.v.shape[-1]
        rows = b * h * t
        delta = self.empty((rows,), number)
        self.launch(
            "attention_grad", "row_products", p.q, (-(-rows // 4),), BLOCK,
            g, out, delta, rows, e,
        )  # fmt: skip
        sizes, shared = p.parameters(), shared_bytes(number, d, e, True)
        given = (g, p.q, p.k, p.v, p.mask, made.high, made.log_sum, delta)
        gq = self.empty(p.q.shape, p.q.dtype)
        self.launch(
            "attention_grad", f"attention_grad_query_{columns_of(d)}", p.q,
            (-(-p.rows // ROWS), p.groups), BLOCK, *given, gq, *sizes, shared=shared,
        )  # fmt: skip
        gk, gv = self.empty((b, hk, s, d), number), self.empty((b, hk, s, e), number)
        self.launch(
            "attention_grad", f"attention_grad_key_{columns_of(max(d, e))}", p.q,
            (-(-s // ROWS), p.groups), BLOCK, *given, gk, gv, *sizes, shared=shared,
        )  # fmt: skip
        return gq, gk, gv

    def rope(self, x: Array, cos: Array, sin: Array, interleaved: bool = False) -> Array:
        if not (
            self.has_kernel(x, cos, sin)
            and x.ndim == 4
            and cos.shape == sin.shape
            and 0 < 2 * cos.shape[-1] <= x.shape[-1]
            and _broadcasts_to(x.shape[:3], cos.shape[:-1])
        ):
            return super().rope(x, cos, sin, interleaved)
        x, cos, sin = _with_rows(self, x), self.contiguous(cos), self.contiguous(sin)
        cos, sin = (a.reshape((1,) * (4 - a.ndim) + a.shape) for a in (cos, sin))
        b, h, t, d = x.shape
        out = self.empty(x.shape, x.dtype)
        half, steps, pack = cos.shape[-1], (*strides(x, 3), *strides(cos, 3)), LOAD // x.itemsize
        in_packs = all(n % pack == 0 for n in (half, d, *steps)) and all(
            self.runtime.address(each) % LOAD == 0 for each in (x, cos, sin, out)
        )
        threads = b * h * t * (d - half) // (pack if in_packs else 1)
        sizes = (b * h * t, h, t, d, half, *steps, int(interleaved), int(in_packs))
        given = x, cos, sin, out, *sizes
        self.launch("rope", "rope", x, (-(-threads // EACH),), EACH, *given)
        return out

    def _room_for_parts(self, parts: int, out: Array, number: Any) -> Array | None:
        """Where the results of parts of the keys go: nowhere if there is one."""
        if parts == 1:
            return None
        (*rows, width) = out.shape
        return self.empty((parts, math.prod(rows), width + 2), number)

    def _join(
        self, partial: Array | None, out: Array, high: Array | None, log_sum: Array | None
    ) -> None:
        """The results of parts of the keys, if there are parts, as those of all (`join_parts`)."""
        if partial is None:
            return
        rows = out.size // out.shape[-1]
        self.launch(
            "attention", "join_parts", out, (rows,), JOINING, partial, out, high, log_sum,
            partial.shape[0], rows, out.shape[-1], early=True,
        )  # fmt: skip

    def _has_attention_kernel(
        self, q: Array, k: Array, v: Array, mask: Array | None, grad: bool = False
    ) -> bool:
        number, d, e = np.dtype(computed_in(q)), q.shape[-1], v.shape[-1]
        return (
            self.has_kernel(q, k, v)
            and k.size > 0
            and v.size > 0
            and max(d, e) <= MAX_WIDTH
            and self.fits_block(number, d, e, grad)
            and q.shape[0] * k.shape[1] <= MAX_GRID
            and (mask is None or mask.dtype == bool or mask.dtype in FLOATS)
        )

    def fits_block(self, number: np.dtype, d: int, e: int, grad: bool = False) -> bool:
        """Whether a block has shared memory enough for its tiles."""
        weights = BLOCK * ROWS_OF_WARP * number.itemsize  # `add_rows` declares them
        most: int = self.runtime.max_shared
        return shared_bytes(number, d, e, grad) + weights <= most

    def parts_of_decoding(self, blocks: int, keys: int) -> int:
        """`parts_of_keys` of few rows."""
        if keys <= SHORT:
            return 1
        at_once = min(DECODING_BLOCKS * self.runtime.multiprocessors, MOST_PARTS)
        return max(1, min(at_once // blocks, -(-keys // (4 * TILE))))


def _broadcasts_to(shape: Shape, smaller: Shape) -> bool:
    return len(smaller) <= len(shape) and all(
        n in (1, whole) for n, whole in zip(smaller[::-1], shape[::-1], strict=False)
    )


def shared_bytes(number: np.dtype, d: int, e: int, grad: bool = False) -> int:
    """Of a block's tiles in shared memory: queries, keys, values; gradients of the output."""
    if grad:
        return number.itemsize * (ROWS * (d + e) + TILE * ((d | 1) + (e | 1)))
    return number.itemsize * (ROWS * d + TILE * (d | 1) + TILE * e)


def _with_rows(be: Any, x: Array) -> Array:
    """x, whose rows of numbers have no gaps; the rows may lie anywhere, as in a cache."""
    return x if x.strides[-1] == x.itemsize else be.contiguous(x)


def columns_of(width: int) -> int:
    """The columns that a kernel was compiled for, of so many that are there."""
    return 64 if width <= 64 else 128 if width <= 128 else 256
