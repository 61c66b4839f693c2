"""`utils.benchmark`: how long a statement takes, best of many runs on one thread.

print(Timer("x @ x", globals={"x": x}).blocked_autorange())
"""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gradient.backends.numpy.threads import get_num_threads, set_num_threads
from gradient.cuda import is_available, synchronize
from gradient.errors import ArgumentError, sentence

__all__ = ["Compare", "Measurement", "Timer"]

UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (0.0, "ns"))


def timer() -> float:
    """Seconds of a clock, read when all work that is queued on a GPU is done."""
    if is_available():
        synchronize()
    return timeit.default_timer()


class Measurement:
    """Seconds of each of several blocks of runs, `raw_times`, and what they say of one run."""

    def __init__(
        self, number_per_run: int, raw_times: list[float], task_spec: Timer, metadata: Any = None
    ) -> None:
        self.number_per_run, self.raw_times = number_per_run, raw_times
        self.task_spec, self.metadata = task_spec, metadata

    @property
    def times(self) -> list[float]:
        """Seconds of one run, by each block."""
        return [seconds / self.number_per_run for seconds in self.raw_times]

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.times)

    @property
    def iqr(self) -> float:
        """The distance between the first and the third quarter."""
        if len(self.times) < 2:
            return 0.0
        first, _, third = statistics.quantiles(self.times, n=4, method="inclusive")
        return third - first

    @property
    def title(self) -> str:
        spec = self.task_spec
        words = [word for word in (spec.label, spec.sub_label, spec.description) if word]
        return ": ".join(words) or str(spec.stmt)

    def __repr__(self) -> str:
        runs = f"{len(self.raw_times)} blocks of {self.number_per_run} runs"
        spread = f"IQR {_readable(self.iqr)}, {runs}, {self.task_spec.num_threads} thread"
        return f"{self.title}\n  median {_readable(self.median)} ({spread})"


class Timer:
    """Times a statement, as `timeit.Timer` does, with a number of threads that stays the same.

    Args:
        stmt: the statement, or a function without arguments.
        setup: what runs once before.
        globals: the names that the statement knows.
        label, sub_label, description, env: what a table says of it.
        num_threads: of the CPU's kernels while it runs.
    """

    def __init__(
        self,
        stmt: str | Callable[[], Any] = "pass",
        setup: str | Callable[[], Any] = "pass",
        global_setup: str = "",
        timer: Callable[[], float] = timer,
        globals: dict[str, Any] | None = None,
        label: str | None = None,
        sub_label: str | None = None,
        description: str | None = None,
        env: str | None = None,
        num_threads: int = 1,
        language: str = "python",
    ) -> None:
        if language not in ("python", "py") or global_setup:
            expected = "a statement in Python, without global_setup, which is C++'s"
            raise ArgumentError(sentence("utils.benchmark.Timer", expected, language))
        self.stmt, self.num_threads = stmt, num_threads
        self.label, self.sub_label, self.description, self.env = label, sub_label, description, env
        self._timer = timeit.Timer(stmt, setup, timer, dict(globals or {}))

    @contextmanager
    def _threads(self) -> Iterator[None]:
        before = get_num_threads()
        set_num_threads(self.num_threads)
        try:
            yield
        finally:
            set_num_threads(before)

    def timeit(self, number: int = 1_000_000) -> Measurement:
        """One block of `number` runs, after a few that are not timed."""
        with self._threads():
            self._timer.timeit(max(number // 100, 2))
            return Measurement(number, [self._timer.timeit(number)], self)

    def repeat(self, repeat: int = -1, number: int = -1) -> None:
        raise NotImplementedError("utils.benchmark.Timer.repeat: use blocked_autorange")

    def blocked_autorange(
        self, callback: Callable[[int, float], Any] | None = None, min_run_time: float = 0.2
    ) -> Measurement:
        """Blocks of runs until `min_run_time` seconds are full, each of a hundredth of it."""
        with self._threads():
            number, times = self._block(min_run_time), list[float]()
            while sum(times) < min_run_time:
                times.append(self._timer.timeit(number))
                if callback is not None:
                    callback(number, times[-1])
        return Measurement(number, times, self)

    def adaptive_autorange(
        self,
        threshold: float = 0.1,
        *,
        min_run_time: float = 0.01,
        max_run_time: float = 10.0,
        callback: Callable[[int, float], Any] | None = None,
    ) -> Measurement:
        """Blocks of runs until they scatter less than `threshold` of their median, or
        `max_run_time` seconds are full."""
        with self._threads():
            number, times = self._block(min_run_time), list[float]()
            while sum(times) < max_run_time:
                times.append(self._timer.timeit(number))
                if callback is not None:
                    callback(number, times[-1])
                found = Measurement(number, times, self)
                stable = len(times) > 3 and found.iqr < threshold * found.median
                if sum(times) >= min_run_time and stable:
                    break
        return Measurement(number, times, self)

    def _block(self, seconds: float) -> int:
        number = 1
        self._timer.timeit(1)
        while self._timer.timeit(number) < seconds / 100 and number < 2**40:
            number *= 2
        return number


class Compare:
    """A table of measurements: a row for each `sub_label`, a column for each `description`."""

    def __init__(self, results: list[Measurement]) -> None:
        self.results = list(results)

    def extend_results(self, results: list[Measurement]) -> None:
        self.results += results

    def trim_significant_figures(self) -> None:
        """Nothing to trim: three figures are shown."""

    def colorize(self, rowwise: bool = False) -> None:
        """Nothing to colour."""

    def __str__(self) -> str:
        names = dict.fromkeys(str(m.task_spec.description or "") for m in self.results)
        rows: dict[str, dict[str, str]] = {}
        for m in self.results:
            spec = m.task_spec
            row = rows.setdefault(str(spec.sub_label or spec.stmt), {})
            row[str(spec.description or "")] = _readable(m.median)
        width = max(map(len, [*rows, ""])) + 2
        lines = [" " * width + "".join(f"{name:>16}" for name in names)]
        lines += [
            f"{name:<{width}}" + "".join(f"{row.get(column, ''):>16}" for column in names)
            for name, row in rows.items()
        ]
        return "\n".join(lines)

    def print(self) -> None:
        print(self)


def _readable(seconds: float) -> str:
    unit, name = next((u, n) for u, n in UNITS if seconds >= u)
    return f"{seconds / (unit or 1e-9):.3g} {name}"
