"""Counter-based random numbers: the same on every backend and for every number of threads.

Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC
2011, section 3.3 and table 2). Block i of a stream is a pure function of (key, i), so any thread
can compute any part, and a generator's state is only its key and the number of blocks drawn.
"""

from __future__ import annotations

import math

import numpy as np

from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.required import Array
from gradient.dtypes import float32, float64, int32, int64, uint32, uint64

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
LOW = 0xFFFFFFFF


class RandomDefaults(ShapeDefaults[Array]):
    """Methods of `Backend` that draw random numbers from (key, offset)."""

    def philox(self, key: int, offset: int, blocks: int) -> Array:
        """uint32 (4 * blocks,): the four words of each of the blocks offset, offset + 1, ..."""
        counter = self.arange(offset, offset + blocks, 1, uint64.numpy)
        c0, c1 = counter & LOW, counter >> 32
        c2 = c3 = self.zeros((blocks,), uint64.numpy)
        k0, k1 = key & LOW, (key >> 32) & LOW
        for _ in range(10):
            p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
            c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & LOW, (p0 >> 32) ^ c3 ^ k1, p0 & LOW
            k0, k1 = (k0 + WEYL[0]) & LOW, (k1 + WEYL[1]) & LOW
        words = self.reshape(self.stack([c0, c1, c2, c3], 1), (-1,))
        return self.astype(words, uint32.numpy)

    def uniform(self, key: int, offset: int, n: int, dtype: np.dtype) -> tuple[Array, int]:
        """n numbers in [0, 1) with 24 bits (53 for float64), and the number of blocks used."""
        if dtype == float64.numpy:
            blocks = -(-n // 2)
            words = self.reshape(self.philox(key, offset, blocks), (-1, 2))
            high = self.astype(self.getitem(words, (slice(None), 0)) >> 5, float64.numpy)
            low = self.astype(self.getitem(words, (slice(None), 1)) >> 6, float64.numpy)
            return self.getitem((high * 2.0**26 + low) * 2.0**-53, (slice(0, n),)), blocks
        blocks = -(-n // 4)
        words = self.getitem(self.philox(key, offset, blocks), (slice(0, n),))
        return self.astype(words >> 8, float32.numpy) * 2.0**-24, blocks

    def normal(self, key: int, offset: int, n: int, dtype: np.dtype) -> tuple[Array, int]:
        """n standard normal numbers (Box and Muller 1958), and the number of blocks used."""
        float_dtype = float64.numpy if dtype == float64.numpy else float32.numpy
        half = -(-n // 2)
        u, blocks = self.uniform(key, offset, 2 * half, float_dtype)
        radius = self.sqrt(-2 * self.log(1 - self.getitem(u, (slice(0, half),))))
        angle = (2 * math.pi) * self.getitem(u, (slice(half, None),))
        both = self.concatenate([radius * self.cos(angle), radius * self.sin(angle)], 0)
        return self.getitem(both, (slice(0, n),)), blocks

    def dropout(self, key: int, offset: int, x: Array, p: float) -> tuple[Array, int]:
        """Multiply each element of x by 0 with probability p, else by 1 / (1 - p), using one
        uniform float32 number each; and the number of blocks used. The gradient is the same call
        on g."""
        u, blocks = self.uniform(key, offset, math.prod(x.shape), float32.numpy)
        kept = self.astype(self.reshape(u >= p, x.shape), x.dtype)
        return x * (kept * self.full((), 1 / (1 - p), x.dtype)), blocks

    def integers(self, key: int, offset: int, n: int, span: int) -> tuple[Array, int]:
        """n uint64 in [0, span), span <= 2**63, and the number of blocks used.

        A 64-bit word modulo the span: the bias is below span / 2**64.
        """
        blocks = -(-n // 2)
        words = self.astype(self.philox(key, offset, blocks), uint64.numpy)
        words = self.reshape(words, (-1, 2))
        whole = (self.getitem(words, (slice(None), 0)) << 32) | self.getitem(
            words, (slice(None), 1)
        )
        return self.getitem(whole % span, (slice(0, n),)), blocks

    def categorical(self, weights: Array, uniform: Array) -> Array:
        """Draw a column, int64 (B,), with probability proportional to weights (B, V) >= 0, by
        inverting their cumulative sum at uniform numbers (B,) in [0, 1). -1 if all weights of a row
        are 0, or one is NaN."""
        cumulative = self.cumsum(weights, 1)
        # 1 - u is in (0, 1]: the first cumulative sum that reaches this share of the total is at a
        # positive weight, even if the total is not exactly 1.
        total = self.getitem(cumulative, (slice(None), slice(-1, None)))
        reached = cumulative >= self.unsqueeze(1 - uniform, 1) * total
        chosen = self.argmax(self.astype(reached, int32.numpy), 1)
        some = self.getitem(total, (slice(None), 0)) > 0
        return self.where(some, chosen, self.full((), -1, int64.numpy))
