"""Random numbers by kernels, bit-identical to the composed definition."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.composed.rng import RandomDefaults
from gradient.backends.numpy import kernels, threads, workspace

KEPT = 256
"""Blocks that are made at once where less is asked for."""

KERNELS = "gradient.backends.numpy.kernels.rng"


class RandomKernels(RandomDefaults[np.ndarray]):
    """Overrides of `composed.rng`."""

    def philox(self, key: int, offset: int, blocks: int) -> np.ndarray:
        if not _many(4 * blocks):
            return self._few_words(key, offset, blocks)
        rng = kernels.load("rng")

        return _blocks(rng.words, key, offset, np.empty((blocks, 4), np.uint32)).reshape(-1)

    def _few_words(self, key: int, offset: int, blocks: int) -> np.ndarray:
        """As the composed definition. For few blocks, the blocks around them are computed too,
        which takes no longer, and kept for the next calls."""
        first, last = offset // KEPT, (offset + blocks - 1) // KEPT
        if blocks < 1 or last > first + 1 or offset < 0:
            return super().philox(key, offset, blocks)
        words = [self._words(key, i) for i in range(first, last + 1)]
        start = 4 * (offset - first * KEPT)
        together = words[0] if len(words) == 1 else np.concatenate(words)
        return together[start : start + 4 * blocks].copy()

    @functools.lru_cache(maxsize=4)  # noqa: B019 (backends live as long as the process)
    def _words(self, key: int, part: int) -> np.ndarray:
        return super().philox(key, part * KEPT, KEPT)

    def uniform(self, key: int, offset: int, n: int, dtype: np.dtype) -> tuple[np.ndarray, int]:
        if not _many(n):
            return super().uniform(key, offset, n, dtype)
        rng = kernels.load("rng")

        # As in the composed definition: float64 if requested, float32 for all other dtypes.
        if dtype == np.float64:
            kernel, out = rng.uniform8, np.empty((-(-n // 2), 2), np.float64)
        else:
            kernel, out = rng.uniform4, np.empty((-(-n // 4), 4), np.float32)
        return _blocks(kernel, key, offset, out).reshape(-1)[:n], len(out)

    def integers(self, key: int, offset: int, n: int, span: int) -> tuple[np.ndarray, int]:
        if not _many(n):
            return super().integers(key, offset, n, span)
        out = np.empty((-(-n // 2), 2), np.uint64)
        threads.parallel_for(
            *(kernels.load("rng").integers, len(out), kernels.load("rng").CHUNK),
            *(*_place(key, offset), np.uint64(span), out),
        )
        return out.reshape(-1)[:n], len(out)

    def dropout(self, key: int, offset: int, x: np.ndarray, p: float) -> tuple[np.ndarray, int]:
        if x.dtype != np.float32 or not _many(x.size):
            return super().dropout(key, offset, x, p)
        out = workspace.result(x.shape, np.float32)
        at = [np.array([number]) for number in _place(key, offset)]
        threads.parallel_for(*dropout_launch(at[0], at[1], workspace.contiguous(x), p, out))
        return out, -(-x.size // 4)


def dropout_launch(key: np.ndarray, offset: np.ndarray, x: np.ndarray, p: float, out: Any) -> Any:
    """The arguments of `parallel_for` for a dropout of contiguous float32 numbers. Key and offset,
    uint64 arrays (1,), are read when the kernel runs."""
    rng = kernels.load("rng")
    numbers = np.float32(p), np.float32(1 / (1 - p))
    flat = x.reshape(-1), out.reshape(-1)
    return (rng.dropout, -(-x.size // 4), rng.CHUNK, key, offset, *flat, *numbers)


def _many(n: int) -> bool:
    """Whether to draw n numbers by a kernel.

    Both ways give the same bits, so the choice can depend on what is loaded. It pays to load numba
    for a million numbers, and to load the kernels for MIN_SIZE; loaded kernels are always faster.
    """
    if KERNELS in sys.modules:
        return n > 0
    least = kernels.MIN_SIZE if "numba" in sys.modules else 1 << 20
    return n >= least and kernels.available()


def _blocks(kernel: Callable[..., None], key: int, offset: int, out: np.ndarray) -> np.ndarray:
    threads.parallel_for(kernel, len(out), kernels.load("rng").CHUNK, *_place(key, offset), out)
    return out


def _place(key: int, offset: int) -> tuple[np.uint64, np.uint64]:
    """Key and offset in the types for kernels."""
    word = (1 << 64) - 1
    return np.uint64(key & word), np.uint64(offset & word)
