"""Which tokens a training step sees: a pure function of the seed and the step."""

from __future__ import annotations

import numpy as np


class TokenBatches:
    """Batches of windows over one long row of tokens, each token once per epoch.

    An epoch cuts the tokens into windows of `block_size` (from an offset of its own, so that
    the cuts differ between epochs) and shuffles the windows. Batch `i` depends on the tokens,
    the seed and `i` only: the data position in a checkpoint is a number, and any batch can be
    looked at again.

    Args:
        tokens: 1-D integer array, usually memory-mapped; read, never copied as a whole.
        block_size: tokens in a window (the targets reach one further).
        batch_size: windows in a batch.
        seed: of the shuffle.
    """

    def __init__(self, tokens: np.ndarray, block_size: int, batch_size: int, seed: int) -> None:
        self.tokens = tokens
        self.block_size = block_size
        self.batch_size = batch_size
        self.seed = seed
        # One window fewer than fits, to leave room for every offset.
        self.windows_per_epoch = max(1, (len(tokens) - 1) // block_size - 1)
        self._epoch = -1
        self._starts = np.empty(0, np.int64)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch `index`: inputs and targets, both (batch_size, block_size) int64."""
        first = index * self.batch_size
        return self._gather([self._start(first + row) for row in range(self.batch_size)])

    def spread(self, batches: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """At most `batches` batches spread evenly over the tokens: the same at every call."""
        available = max(1, (len(self.tokens) - 1) // self.block_size)
        count = min(batches * self.batch_size, available)
        starts = [i * available // count * self.block_size for i in range(count)]
        return [
            self._gather(starts[i : i + self.batch_size]) for i in range(0, count, self.batch_size)
        ]

    def _start(self, window: int) -> int:
        epoch, position = divmod(window, self.windows_per_epoch)
        if epoch != self._epoch:
            random = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
            slack = len(self.tokens) - 1 - self.windows_per_epoch * self.block_size
            offset = int(random.integers(min(slack, self.block_size - 1) + 1))
            self._starts = random.permutation(self.windows_per_epoch) * self.block_size + offset
            self._epoch = epoch
        return int(self._starts[position])

    def _gather(self, starts: list[int]) -> tuple[np.ndarray, np.ndarray]:
        rows = np.asarray(starts, np.int64)[:, None] + np.arange(self.block_size + 1)
        windows = np.asarray(self.tokens[rows], np.int64)
        return windows[:, :-1], windows[:, 1:]
