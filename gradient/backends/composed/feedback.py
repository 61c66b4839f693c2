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
        """Write what a plan's next run reads: `result` to `given`, its input of the same shape and
        dtype, and to `results` (N, ...) at `run`, int64 (1,), the number of this run; rows[run + 1]
        of `rows` (N, ...) to `row`. Then add 1 to `run`, and `by` to the int64 `counts`. A number
        beyond N - 1 begins anew at 0. Only plans make this call."""
        at = run % results.shape[0]
        self.assign(given, ..., result)
        self.assign(results, (at,), self.reshape(result, (1, *result.shape)))
        if rows is not None and row is not None:
            after = self.getitem(rows, ((run + 1) % rows.shape[0],))
            self.assign(row, ..., self.reshape(after, tuple(row.shape)))
        self.assign(run, ..., run + 1)
        if counts is not None:
            self.assign(counts, ..., counts + by)
