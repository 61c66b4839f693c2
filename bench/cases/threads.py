"""The cost of passing work to threads: kernels are empty, so only the hand-over is timed.

A call from Python on two threads by our pool, by a ThreadPoolExecutor (which `threads.run` uses for
functions other than kernels) and by numba's `prange`; then a task within a list, without waits
(tasks of one chunk) and with a barrier of all threads after each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.cases import Options
from bench.measure import interleave
from bench.result import Result
from gradient.backends.numpy import kernels, threads

TASKS = 1000


def run(options: Options) -> Iterator[Result]:
    import numba

    threads.set_num_threads(options.threads)
    numba.set_num_threads(min(options.threads, numba.config.NUMBA_NUM_THREADS))
    n = options.threads

    @kernels.load("compilation").kernel
    def empty(start: Any, stop: Any, x: Any, y: Any) -> None:
        pass

    @numba.njit(parallel=True)
    def region(x: Any, y: Any) -> None:
        for i in numba.prange(x.size):
            y[i] = x[i]

    x, y = np.zeros((2, n))
    lists = {"one chunk each": 1, "a chunk for each thread, waiting": n}
    tasks = {name: threads.Tasks() for name in lists}
    for name, chunks in lists.items():
        for _ in range(TASKS):
            tasks[name].append(empty, chunks, 1, x, y)

    calls = {
        "gradient": lambda: threads.parallel_for(empty, n, 1, x, y),
        "ThreadPoolExecutor": lambda: threads.run(n, lambda i: empty(i, i + 1, x, y)),
        "numba prange": lambda: region(x, y),
    }
    for call in calls.values():
        call()
    # Threads that still spin after one contender would disturb the next.
    samples = interleave(calls, rounds=options.rounds(40), sample_seconds=0.005, settle=0.01)
    for contender, sample in samples.items():
        yield Result(
            case="threads",
            what=f"call from Python, {n} threads",
            contender=contender,
            value=1e6 * sample.median,
            unit="us",
            best=1e6 * sample.best,
            samples=len(sample.seconds),
            peer="ThreadPoolExecutor" if contender == "gradient" else None,
            ratio=sample.ratio(samples["ThreadPoolExecutor"]) if contender == "gradient" else None,
            target="<= 8 us" if contender == "gradient" else None,
            met=1e6 * sample.best <= 8 if contender == "gradient" else None,
        )
    for name in lists:
        threads.run_tasks(tasks[name])
    in_lists = interleave(
        {name: lambda name=name: threads.run_tasks(tasks[name]) for name in lists},
        rounds=options.rounds(40),
        sample_seconds=0.005,
        settle=0.01,
    )
    for name, sample in in_lists.items():
        yield Result(
            case="threads",
            what=f"task in a list, {name}",
            contender="gradient",
            value=1e6 * sample.median / TASKS,
            unit="us",
            best=1e6 * sample.best / TASKS,
            samples=len(sample.seconds),
            target="<= 0.3 us",
            met=1e6 * sample.best / TASKS <= 0.3,
        )
