"""What a graph's next run reads, by one small kernel."""

from __future__ import annotations

from typing import Any

from gradient.backends.array_api import Array
from gradient.backends.composed.feedback import FeedbackDefaults
from gradient.backends.cuda.launching import KernelLauncher

BLOCK, WORD = 128, 4
"""Threads; and bytes that each copies at a time."""


class FeedbackKernels(KernelLauncher, FeedbackDefaults[Array]):
    """An override of `feed_back`."""

    def feed_back(
        self,
        result: Array,
        given: Array,
        results: Array,
        run: Array,
        rows: Array | None = None,
        row: Array | None = None,
        counts: Array | None = None,
        by: int = 0,
    ) -> None:
        every = [x for x in (result, given, results, run, rows, row, counts) if x is not None]
        same = result.dtype == given.dtype == results.dtype
        if not same or not all(map(self._is_of_words, every)):
            super().feed_back(result, given, results, run, rows, row, counts, by)
            return
        sizes: tuple[Any, ...] = (
            len(results), result.nbytes // WORD, 0 if row is None else row.nbytes // WORD,
            0 if counts is None else counts.size, by,
        )  # fmt: skip
        self.runtime.launch(
            "feedback", "feed_back", self.runtime.compiled_dtype, (1,), BLOCK,
            result, given, results, run, rows, row, counts, *sizes, early=True,
        )  # fmt: skip

    def _is_of_words(self, x: Array) -> bool:
        return self.runtime.is_contiguous(x) and not (x.nbytes | self.runtime.address(x)) % WORD
