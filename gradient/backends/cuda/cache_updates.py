"""Rotate and write new keys and values to a cache, by a kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.cached_attention import CachedAttentionDefaults
from gradient.backends.cuda.attention_problem import strides
from gradient.backends.cuda.launching import EACH, LOAD, MAX_GRID, KernelLauncher
from gradient.dtypes import int64

MOST = 1 << 31
"""Packs of a token's rows that the kernel counts."""


class CacheUpdateKernels(KernelLauncher, CachedAttentionDefaults[Array]):
    """An override of `rope_update`."""

    def rope_update(
        self,
        q: Array,
        k: Array,
        v: Array,
        angles: tuple[Array, Array],
        interleaved: bool,
        cache: tuple[Array, Array],
        places: tuple[Array, Array],
    ) -> tuple[Array, Array, Array]:
        if not self._has_update(q, k, v, angles, cache, places):
            return super().rope_update(q, k, v, angles, interleaved, cache, places)
        (b, h, t, d), e = q.shape, v.shape[-1]
        x = [a if a.strides[-1] == a.itemsize else self.contiguous(a) for a in (q, k, v)]
        turned = [self.contiguous(a) for a in angles]
        turned = [a.reshape((1,) * (4 - a.ndim) + a.shape) for a in turned]
        half = turned[0].shape[-1]
        out = self.empty((b, h, t, d), q.dtype)
        pack = LOAD // q.itemsize
        steps = [strides(a, 3) for a in (*x, turned[0])]
        whole = half, d, e, *(step for each in steps for step in each)
        in_packs = all(n % pack == 0 for n in whole) and all(
            self.runtime.address(a) % LOAD == 0 for a in (*x, *turned, out, *cache)
        )
        one = pack if in_packs else 1
        items = (h + k.shape[1]) * ((d - half) // one) + v.shape[1] * (e // one)
        of_places = [_of_places(a, n) for a, n in zip(places, cache[0].shape[::2], strict=True)]
        arrays = [(a, *map(np.int64, (a.shape[1], *step)))
                  for a, step in zip(x, steps, strict=False)]  # fmt: skip
        angle_batch, _, angle_row = steps[3]
        sizes = t, d, e, half, angle_batch, angle_row, int(interleaved), int(in_packs)
        self.launch(
            "rope", "rope_update", q, (-(-items // EACH), t, b), EACH,
            *(part for each in arrays for part in each), *turned, out, *cache,
            *(part for each in of_places for part in each), *map(np.int64, sizes), early=True,
        )  # fmt: skip
        return out, *cache

    def _has_update(
        self,
        q: Array,
        k: Array,
        v: Array,
        angles: tuple[Array, Array],
        cache: tuple[Array, Array],
        places: tuple[Array, Array],
    ) -> bool:
        every = (q, k, v, *angles, *cache)
        if not self.has_kernel(*every) or any(a.ndim != 4 for a in (q, k, v, *cache)):
            return False
        (b, _, t, d), (heads, e) = q.shape, (k.shape[1], v.shape[-1])
        keys, values = cache
        cos, sin = angles
        rows, _, slots = keys.shape[:3]
        of_angles = (1,) * (4 - cos.ndim) + cos.shape
        return (
            k.shape == (b, heads, t, d)
            and v.shape == (b, heads, t, e)
            and keys.shape == (rows, heads, slots, d)
            and values.shape == (rows, heads, slots, e)
            and all(a.size and a.flags.c_contiguous for a in cache)
            and cos.shape == sin.shape
            and len(of_angles) == 4
            and of_angles[0] in (1, b)
            and of_angles[1] == 1
            and of_angles[2] in (1, t)
            and 0 < 2 * of_angles[3] <= d
            and all(a.dtype == int64.numpy and a.ndim == 2 for a in places)
            and all(n in (1, whole) for a in places
                    for n, whole in zip(a.shape, (b, t), strict=True))
            and max(t, b) <= MAX_GRID
            and (q.shape[1] + 2 * heads) * max(d, e) < MOST
        )  # fmt: skip


def _of_places(x: Array, size: int) -> tuple[Any, ...]:
    """Indices for the kernel: their strides, and the number of positions."""
    return (x, *map(np.int64, (*strides(x, 2), size)))
