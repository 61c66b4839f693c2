"""The arguments of attention's kernels: a problem, the arrays of its results, and a kernel's
division of it into blocks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.options import AttentionOptions
from gradient.backends.required import Shape

BLOCK = 128
"""Threads of a block."""
TILE = 32
"""Keys of a tile of `attention.cuh`: parts of the keys have four or more."""
ENOUGH_BLOCKS = 256
"""Blocks that keep a GPU of some 130 multiprocessors busy; with fewer the keys are divided too."""

MOST_KEYS = 1 << 30
"""Kernels count keys in 32 bits, and add two such numbers."""


def window_of(options: AttentionOptions) -> int:
    """As kernels take it: 0 is none, and a wider one than there are keys, such as `sys.maxsize`,
    is no wider than these."""
    return min(options.window or 0, MOST_KEYS)


class Problem(NamedTuple):
    """Queries (B, H, T, D) in groups of H / Hk heads that share keys (B, Hk, S, D) and values
    (B, Hk, S, E), and what they see of these (`Problem` of `attention.cuh`)."""

    q: Array
    k: Array
    v: Array
    mask: Array | None
    options: AttentionOptions

    @property
    def rows(self) -> int:
        """Queries of a group, of all its heads."""
        h, t = self.q.shape[1:3]
        return h // self.k.shape[1] * t

    @property
    def groups(self) -> int:
        b, hk = self.k.shape[:2]
        return b * hk

    @property
    def keys(self) -> int:
        return self.k.shape[2]

    @property
    def widths(self) -> tuple[int, int]:
        return self.q.shape[-1], self.v.shape[-1]

    def placed(self, place: Callable[[Array], Array]) -> Problem:
        """The same of arrays that lie as a kernel takes them."""
        return self._replace(q=place(self.q), k=place(self.k), v=place(self.v))

    def with_one_head(self) -> Problem | None:
        """The same with a group's rows as the queries of one head: kernels that take tiles of one
        head's rows then take as few as there can be. None where a row sees what its place among its
        head's queries says, or where rows do not lie evenly apart."""
        (b, h, t, d), hk, mask = self.q.shape, self.k.shape[1], self.mask
        of_head, of_row = self.q.strides[1:3]
        if self.options.is_causal or (t > 1 and of_head != t * of_row):
            return None
        if mask is not None and mask.shape[1:3] != (1, 1):
            if t > 1:
                return None
            mask = mask.reshape(mask.shape[0], hk, h // hk, mask.shape[-1])
        return self._replace(q=self.q.reshape(b, hk, h // hk * t, d), mask=mask)

    def parameters(self) -> tuple[Any, ...]:
        """The kernels' `PROBLEM_PARAMETERS`."""
        q, k, v, mask, o = self
        of_mask: tuple[int, ...] = (0, 0, 0, 0, 0)
        if mask is not None:
            kind = 1 if mask.dtype == bool else 2 if mask.dtype == q.dtype else 3
            of_mask = (kind, *strides(mask, 4))
        whole = (
            *(q.shape[1], k.shape[1], q.shape[2], k.shape[2], q.shape[3], v.shape[3]),
            *strides(k, 3), *strides(v, 3), *of_mask,
            int(o.is_causal), window_of(o) if o.is_causal else 0,
        )  # fmt: skip
        return *whole, np.float64(o.scale), np.float64(o.softcap or 0)


class Result(NamedTuple):
    """Attention's result, and of each row the largest score and the logarithm of the sum of
    e^(score - largest)."""

    out: Array
    high: Array
    log_sum: Array


class Kernel(NamedTuple):
    """A kernel: its file and name; what a block has of the rows of a group, or of the keys; bytes
    of shared memory; whether it takes the strides of what it writes; and how many blocks with the
    same keys share out the gradients."""

    family: str
    name: str
    rows: int
    shared: int
    places_rows: bool = False
    sharing: int = 1

    def blocks(self, rows: int) -> int:
        return -(-rows // self.rows)


def parts_of_keys(blocks: int, keys: int) -> int:
    """Into how many parts keys are divided where so many blocks attend to them."""
    return max(1, min(ENOUGH_BLOCKS // blocks, -(-keys // (4 * TILE))))


def as_mask(be: Any, mask: Array | None, q: Array) -> Array | None:
    """The mask with four axes, of bools, float32 or q's dtype; its memory, however broadcast."""
    if mask is None:
        return None
    if mask.dtype not in (bool, np.float32):  # which 16 bits would round, and -1e9 to infinity
        mask = be.astype(mask, q.dtype)
    return mask.reshape((1,) * (4 - mask.ndim) + mask.shape)


def strides(x: Array, axes: int) -> tuple[int, ...]:
    """Strides in elements; 0 along an axis of 1, which is broadcast."""
    return _strides(x.shape, x.strides, x.itemsize, axes)


@functools.lru_cache(4096)
def _strides(shape: Shape, steps: Shape, itemsize: int, axes: int) -> tuple[int, ...]:
    both = zip(shape[:axes], steps[:axes], strict=True)
    return tuple(0 if n == 1 else step // itemsize for n, step in both)
