"""Random numbers for who draws few, again and again: out of many that are made together.

A call of NumPy costs as much for 4 numbers as for 1000, and a normal number takes ten calls. All of
them give an element the same bits wherever it lies, so that a draw does not depend on those before.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.composed.rng import RandomDefaults

FLOAT32 = np.dtype(np.float32)

KEPT = 1024
"""Blocks whose numbers are made together: in half as much time again as 256."""

FEW = 256
"""Numbers of one draw up to which they are."""

DRAWS = 4
"""Draws from the same KEPT blocks, or those before them, before they are: a program may never draw
again."""


class Numbers(NamedTuple):
    """What each word of KEPT blocks gives in float32: a uniform number u, and for a pair of normal
    ones sqrt(-2 log(1 - u)), or cos and sin of 2 pi u, one above the other (see `composed.rng`)."""

    uniform: np.ndarray
    radius: np.ndarray
    circle: np.ndarray


class FewNumbers(RandomDefaults[np.ndarray]):
    """Overrides of draws of a few float32 numbers."""

    _drawn: tuple[int, int, int] = (0, 0, 0)
    """The key and number of the KEPT blocks of the last draw, and how many there were."""

    _last: tuple[int, int, Any] = (0, -1, None)
    """The key and number of KEPT blocks, and what `_numbers` gives for them."""

    def uniform(self, key: int, offset: int, n: int, dtype: np.dtype) -> tuple[np.ndarray, int]:
        made = self._made(key, offset, n, dtype)
        if made is None:
            return super().uniform(key, offset, n, dtype)
        start = 4 * (offset % KEPT)
        return made.uniform[start : start + n].copy(), -(-n // 4)

    def normal(self, key: int, offset: int, n: int, dtype: np.dtype) -> tuple[np.ndarray, int]:
        half = -(-n // 2)
        made = self._made(key, offset, 2 * half, dtype)
        if made is None:
            return super().normal(key, offset, n, dtype)
        start = 4 * (offset % KEPT)
        middle = start + half
        out = made.radius[start:middle] * made.circle[:, middle : middle + half]
        out = out.reshape(-1)
        return out if n == 2 * half else out[:n], -(-half // 2)

    def _made(self, key: int, offset: int, n: int, dtype: np.dtype) -> Numbers | None:
        """The numbers of the KEPT blocks that n words from block `offset` are of, if it pays."""
        if not 0 < n <= FEW or dtype != FLOAT32:
            return None
        last = self._last
        if last[0] == key and (block := offset - last[1] * KEPT) >= 0 and block + n / 4 <= KEPT:
            return last[2]
        part, block = offset // KEPT, offset % KEPT
        if block + n / 4 > KEPT:
            return None
        last_key, last_part, draws = self._drawn
        if last_key != key or part - last_part not in (0, 1):
            draws = 0
        if draws < DRAWS:
            self._drawn = key, part, draws + 1
            return None
        if part != last_part:
            self._drawn = key, part, draws
        made = self._numbers(key, part)
        self._last = key, part, made
        return made

    @functools.lru_cache(maxsize=4)  # noqa: B019 (backends live as long as the process)
    def _numbers(self, key: int, part: int) -> Numbers:
        u, _ = super().uniform(key, part * KEPT, 4 * KEPT, np.dtype(np.float32))
        angle = (2 * math.pi) * u
        circle = np.stack([np.cos(angle), np.sin(angle)])
        return Numbers(u, np.sqrt(-2 * np.log(1 - u)), circle)
