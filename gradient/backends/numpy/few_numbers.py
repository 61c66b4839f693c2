"""Small draws of random numbers, taken from larger batches that are made together.

A call of NumPy costs as much for 4 numbers as for 1000, and normal numbers take ten calls. The
calls compute each element with the same bits at any position, so a draw does not depend on those
before.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from gradient.backends.composed.rng import RandomDefaults

FLOAT32 = np.dtype(np.float32)

KEPT = 1024
"""Blocks whose numbers are made together: in half as much time again as 256."""

FEW = 256
"""Numbers of one draw up to which they are."""

FEW_PAIRS = 32
"""Pairs of normal numbers in a draw up to which those of all draws of as many are."""

DRAWS = 4
"""Draws from the same KEPT blocks, or those before them, before they are: a program may never draw
again."""


class Numbers:
    """The random numbers from the words of KEPT blocks (see `composed.rng`): a float32 uniform
    number u for each word; and, after the first such draw, radius and circle of normal numbers, and
    64-bit integers of two words.

    `normal` has, by the number of pairs in a draw, the numbers of draws that start at each word:
    each radius is combined with the circle so many words later. Draw i is (2, pairs), a view.
    """

    def __init__(
        self, key: int, first: int, uniform: np.ndarray, words: Callable[[], np.ndarray]
    ) -> None:
        self.key, self.first = key, first  # of the stream, and the number of the first block
        self.uniform, self._words = uniform, words
        self.normal: dict[int, np.ndarray] = {}
        self._polar: tuple[np.ndarray, np.ndarray] | None = None
        self._whole: np.ndarray | None = None

    def whole(self) -> np.ndarray:
        """uint64: pairs of words."""
        if self._whole is None:
            pairs = self._words().astype(np.uint64).reshape(-1, 2)
            self._whole = (pairs[:, 0] << 32) | pairs[:, 1]
        return self._whole

    def polar(self) -> tuple[np.ndarray, np.ndarray]:
        """sqrt(-2 log(1 - u)), and cos and sin of 2 pi u, one above the other."""
        if self._polar is None:
            angle = (2 * math.pi) * self.uniform
            circle = np.stack([np.cos(angle), np.sin(angle)])
            self._polar = np.sqrt(-2 * np.log(1 - self.uniform)), circle
        return self._polar

    def normal_of(self, pairs: int) -> np.ndarray:
        """Compute and keep the numbers of `normal` for draws of so many pairs."""
        radius, circle = self.polar()
        numbers = radius[:-pairs] * circle[:, pairs:]
        row, step = numbers.strides
        shape = numbers.shape[1] - pairs + 1, 2, pairs
        made = self.normal[pairs] = np.ndarray(shape, numbers.dtype, numbers, 0, (step, row, step))
        return made


class FewNumbers(RandomDefaults[np.ndarray]):
    """Overrides for draws of a few numbers, float32 or integers."""

    _drawn: tuple[int, int, int] = (0, 0, 0)
    """The key and number of the KEPT blocks of the last draw, and how many there were."""

    _last = Numbers(-1, 0, np.empty(0, FLOAT32), lambda: np.empty(0, np.uint32))
    """The numbers of the last draw's blocks."""

    def uniform(self, key: int, offset: int, n: int, dtype: np.dtype) -> tuple[np.ndarray, int]:
        made = self._last
        start = 4 * (offset - made.first)
        fits = 0 < n <= FEW and 0 <= start <= 4 * KEPT - n
        if not fits or made.key != key or dtype is not FLOAT32:
            found = self._made(key, offset, n, dtype)
            if found is None:
                return super().uniform(key, offset, n, dtype)
            made, start = found, 4 * (offset - found.first)
        return made.uniform[start : start + n].copy(), -(-n // 4)

    def normal(self, key: int, offset: int, n: int, dtype: np.dtype) -> tuple[np.ndarray, int]:
        half = -(-n // 2)
        made = self._last
        start = 4 * (offset - made.first)
        fits = 0 < n <= FEW and 0 <= start <= 4 * KEPT - n
        if not fits or made.key != key or dtype is not FLOAT32:
            found = self._made(key, offset, 2 * half, dtype)
            if found is None:
                return super().normal(key, offset, n, dtype)
            made, start = found, 4 * (offset - found.first)
        draws = made.normal.get(half)
        if draws is None and half <= FEW_PAIRS:
            draws = made.normal_of(half)
        if draws is not None:
            out = draws[start].copy().reshape(-1)  # a copy, as the caller may write to it
        else:
            radius, circle = made.polar()
            middle = start + half
            out = (radius[start:middle] * circle[:, middle : middle + half]).reshape(-1)
        return out if n == 2 * half else out[:n], -(-half // 2)

    def integers(self, key: int, offset: int, n: int, span: int) -> tuple[np.ndarray, int]:
        made = self._made(key, offset, 2 * n, FLOAT32)
        if made is None:
            return super().integers(key, offset, n, span)
        start = 2 * (offset - made.first)
        return made.whole()[start : start + n] % span, -(-n // 2)

    def _made(self, key: int, offset: int, n: int, dtype: np.dtype) -> Numbers | None:
        """The numbers of the KEPT blocks that have n words from block `offset` on, if it pays."""
        if not 0 < n <= FEW or (dtype is not FLOAT32 and dtype != FLOAT32):
            return None
        made = self._last
        if made.key == key and 0 <= 4 * (offset - made.first) <= 4 * KEPT - n:
            return made
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
        self._last = made = self._numbers(key, part)
        return made

    @functools.lru_cache(maxsize=4)  # noqa: B019 (backends live as long as the process)
    def _numbers(self, key: int, part: int) -> Numbers:
        first = part * KEPT
        uniform, _ = super().uniform(key, first, 4 * KEPT, FLOAT32)
        return Numbers(key, first, uniform, functools.partial(self.philox, key, first, KEPT))
