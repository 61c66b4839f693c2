"""Cross-entropy and its gradient by kernels, a block for each row."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.backends.array_api import FLOAT32, Array
from gradient.backends.composed.norms import NormDefaults
from gradient.backends.cuda.launching import LOAD, KernelLauncher, block_of, computed_in

SOME_ROWS, SOME_THREADS, MOST_THREADS = 512, 256, 512
"""From so many rows on several blocks share a multiprocessor, and begin one after the other: so
one loads while another adds up."""
MOST_LOSSES = 1 << 16
"""That one block adds up: a thread 128 of them."""
PADDED = 1 << 20
"""Numbers of a gradient in 16 bits whose rows begin at 16 bytes, as the products that follow read
them (`products.PADDING_PAYS`). What lies between two rows is neither written nor read."""


class CrossEntropyKernels(KernelLauncher, NormDefaults[Array]):
    """Overrides of `composed.norms`."""

    def cross_entropy(
        self, logits: Array, target: Array, ignore_index: int, label_smoothing: float
    ) -> tuple[Array, Array, Array]:
        if not self.has_kernel(logits) or target.dtype != np.int64:
            return super().cross_entropy(logits, target, ignore_index, label_smoothing)
        loss = self.empty(logits.shape[:1], logits.dtype)
        return self._cross_entropy("", logits, target, loss, ignore_index, label_smoothing)

    def cross_entropy_in_float32(
        self, logits: Array, target: Array, ignore_index: int, label_smoothing: float
    ) -> tuple[Array, Array, Array]:
        if not (logits.dtype.itemsize == 2 and self.has_kernel(logits)) or target.dtype != np.int64:
            return super().cross_entropy_in_float32(logits, target, ignore_index, label_smoothing)
        loss = self.empty(logits.shape[:1], FLOAT32)
        return self._cross_entropy(
            "_in_float32", logits, target, loss, ignore_index, label_smoothing
        )

    def _cross_entropy(
        self, suffix: str, logits: Array, target: Array, loss: Array, ignore_index: int,
        label_smoothing: float,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        number = computed_in(logits)
        high, log_sum = (self.empty(loss.shape, np.dtype(number)) for _ in range(2))
        self._launch_classes(
            f"cross_entropy{suffix}", logits,
            self.contiguous(logits), self.contiguous(target), loss, high, log_sum,
            logits.shape[1], ignore_index, number(label_smoothing),
            self.index_fault(),
        )  # fmt: skip
        return loss, high, log_sum

    def mean_of_counted(self, x: Array, target: Array, ignore_index: int) -> tuple[Array, Array]:
        if not self.has_kernel(x) or target.dtype != np.int64 or x.size > MOST_LOSSES:
            return super().mean_of_counted(x, target, ignore_index)
        mean, count = self.empty((), x.dtype), self.empty((), np.dtype(computed_in(x)))
        self.launch(
            "cross_entropy", "mean_of_counted", x, (1,), min(block_of(x.size), MOST_THREADS),
            self.contiguous(x), self.contiguous(target), mean, count, x.size, ignore_index,
        )  # fmt: skip
        return mean, count

    def cross_entropy_grad(
        self,
        g: Array,
        logits: Array,
        target: Array,
        high: Array,
        log_sum: Array,
        ignore_index: int,
        label_smoothing: float,
    ) -> Array:
        number = computed_in(logits)
        of_float32 = logits.dtype.itemsize == 2 and g.dtype == FLOAT32
        if (
            not (self.has_kernel(logits) and (of_float32 or g.dtype == logits.dtype))
            or target.dtype != np.int64
        ):
            return super().cross_entropy_grad(
                g, logits, target, high, log_sum, ignore_index, label_smoothing
            )
        columns = pitch = logits.shape[1]
        if logits.dtype.itemsize == 2 and logits.size >= PADDED:
            pitch = -(-columns // (LOAD // 2)) * (LOAD // 2)
        gx = self.empty((logits.shape[0], pitch), logits.dtype)
        high, log_sum = (self.statistic(x, number) for x in (high, log_sum))
        self._launch_classes(
            f"cross_entropy{'_in_float32' if of_float32 else ''}_grad", logits,
            *map(self.contiguous, (g, logits, target)), high, log_sum, gx,
            columns, pitch, ignore_index, number(label_smoothing),
        )  # fmt: skip
        return gx if pitch == columns else gx[:, :columns]

    def _launch_classes(self, kernel: str, logits: Array, *arguments: Any) -> None:
        rows, columns = logits.shape
        block = min(block_of(columns), SOME_THREADS if rows >= SOME_ROWS else MOST_THREADS)
        self.launch("cross_entropy", kernel, logits, (rows,), block, *arguments)
