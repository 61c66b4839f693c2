"""Attention, its gradients, and rotary positions, by kernels."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.attention import AttentionDefaults
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

ROWS, ROWS_OF_WARP, TILE, BLOCK = 16, 4, 32, 128
"""Rows that a block and a warp work on, rows of a tile in shared memory, and threads
(`attention.cuh`)."""
MAX_WIDTH = 256
ENOUGH_BLOCKS = 256
"""Blocks that keep a GPU of some 130 multiprocessors busy; with fewer the keys are divided too."""
DECODING_BLOCKS, SHORT = 3, 256
"""Blocks of few rows that a multiprocessor runs at a time, whose time is memory's; and keys up to
which one of them has all, since joining parts takes as long as reading these."""
JOINING, MOST_PARTS = 256, 512
"""Threads that join a row's parts (`join_parts`), and as many parts as they can."""


class AttentionKernels(KernelLauncher, AttentionDefaults[Array]):
    """Overrides of `composed.attention`."""

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
        number = np.dtype(computed_in(q))
        b, h, t = q.shape[:3]
        out = self._empty_result(q, k, v)
        high, log_sum = (self.empty((b, h, t, 1), number) for _ in range(2))
        self._attend(q, k, v, as_mask(self, mask, q), options, out, high, log_sum)
        return out, high, log_sum

    def _empty_result(self, q: Array, k: Array, v: Array) -> Array:
        return self.empty((*q.shape[:3], v.shape[-1]), q.dtype)

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
        """Attention into the last three, of what kernels take, with a mask of `as_mask`."""
        q, k, v = self.contiguous(q), _with_rows(self, k), _with_rows(self, v)
        b, hk, s = k.shape[:3]
        tiles = -(-(q.shape[1] // hk * q.shape[2]) // ROWS)
        parts = parts_of_keys(tiles * b * hk, s)
        partial = self._room_for_parts(parts, out, high.dtype)
        self.launch(
            "attention", f"attention_{columns_of(v.shape[-1])}", q, (tiles, b * hk, parts), BLOCK,
            q, k, v, mask, out, high, log_sum, partial, parts,
            *problem(q, k, v, mask, options),
            shared=shared_bytes(high.dtype, q.shape[-1], v.shape[-1]),
        )  # fmt: skip
        self._join(partial, out, high, log_sum)

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
        return self._attend_grad(
            g, q, k, v, out, high, log_sum, as_mask(self, mask, q), options
        )  # fmt: skip

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
        """`attention_grad` of what kernels take, with a mask of `as_mask`."""
        number = np.dtype(computed_in(q))
        g, q, out = self.contiguous(g), self.contiguous(q), self.contiguous(out)
        k, v = _with_rows(self, k), _with_rows(self, v)
        high, log_sum = self.statistic(high, number), self.statistic(log_sum, number)
        (b, h, t, d), hk, s, e = q.shape, k.shape[1], k.shape[2], v.shape[-1]
        rows = b * h * t
        delta = self.empty((rows,), number)
        self.launch(
            "attention_grad", "row_products", q, (-(-rows // 4),), BLOCK,
            g, out, delta, rows, e,
        )  # fmt: skip
        sizes = problem(q, k, v, mask, options)
        given = (g, q, k, v, mask, high, log_sum, delta)
        shared = shared_bytes(number, d, e, True)
        gq = self.empty(q.shape, q.dtype)
        self.launch(
            "attention_grad", f"attention_grad_query_{columns_of(d)}", q,
            (-(-(h // hk * t) // ROWS), b * hk), BLOCK, *given, gq, *sizes, shared=shared,
        )  # fmt: skip
        gk, gv = self.empty((b, hk, s, d), number), self.empty((b, hk, s, e), number)
        self.launch(
            "attention_grad", f"attention_grad_key_{columns_of(max(d, e))}", q,
            (-(-s // ROWS), b * hk), BLOCK, *given, gk, gv, *sizes, shared=shared,
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


def parts_of_keys(blocks: int, keys: int) -> int:
    """Into how many parts keys are divided where so many blocks attend to them."""
    return max(1, min(ENOUGH_BLOCKS // blocks, -(-keys // (4 * TILE))))


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


def as_mask(be: Any, mask: Array | None, q: Array) -> Array | None:
    """The mask with four axes, of bools, float32 or q's dtype; its memory, however broadcast."""
    if mask is None:
        return None
    if mask.dtype not in (bool, np.float32):  # which 16 bits would round, and -1e9 to infinity
        mask = be.astype(mask, q.dtype)
    return mask.reshape((1,) * (4 - mask.ndim) + mask.shape)


def columns_of(width: int) -> int:
    """The columns that a kernel was compiled for, of so many that are there."""
    return 64 if width <= 64 else 128 if width <= 128 else 256


def strides(x: Array, axes: int) -> tuple[int, ...]:
    """Strides in elements; 0 along an axis of 1, which is broadcast."""
    return _strides(x.shape, x.strides, x.itemsize, axes)


@functools.lru_cache(4096)
def _strides(shape: Shape, steps: Shape, itemsize: int, axes: int) -> tuple[int, ...]:
    both = zip(shape[:axes], steps[:axes], strict=True)
    return tuple(0 if n == 1 else step // itemsize for n, step in both)


def problem(
    q: Array, k: Array, v: Array, mask: Array | None, o: AttentionOptions
) -> tuple[Any, ...]:
    """The kernels' `PROBLEM_PARAMETERS`."""
    of_mask: tuple[int, ...] = (0, 0, 0, 0, 0)
    if mask is not None:
        kind = 1 if mask.dtype == bool else 2 if mask.dtype == q.dtype else 3
        of_mask = (kind, *strides(mask, 4))
    whole = (
        *(q.shape[1], k.shape[1], q.shape[2], k.shape[2], q.shape[3], v.shape[3]),
        *strides(k, 3), *strides(v, 3), *of_mask,
        int(o.is_causal), (o.window or 0) if o.is_causal else 0,
    )  # fmt: skip
    return *whole, np.float64(o.scale), np.float64(o.softcap or 0)
