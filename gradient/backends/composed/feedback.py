"""What a plan's next run reads, made of the last run's results."""

from __future__ import annotations

from gradient.backends.required import Array, RequiredMethods


class FeedbackDefaults(RequiredMethods[Array]):
    """The method of `Backend` for plans that run several times without the host."""

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
        """Write what a plan's next run reads. `run`, int64 (1,), is the number of this run, from 0
        to N - 1, and 0 follows N - 1. Only plans make this call.

        `result` is written to `given`, the plan's input of the same shape and dtype, and to
        results[run] of `results` (N, ...). 1 is added to `run`. Then rows[run] of `rows` (N, ...)
        is written to `row`, another input, and `by` is added to the int64 `counts`.
        """
        self.assign(given, ..., result)
        self.assign(results, (run,), self.reshape(result, (1, *result.shape)))
        self.assign(run, ..., (run + 1) % results.shape[0])
        if rows is not None and row is not None:
            self.assign(row, ..., self.reshape(self.getitem(rows, (run,)), tuple(row.shape)))
        if counts is not None:
            self.assign(counts, ..., counts + by)
