"""The limits of this machine, measured in the same run, as a scale for each figure.

After Williams, Waterman and Patterson 2009, "Roofline: An Insightful Visual Performance Model for
Multicore Architectures": a computation that does F operations and moves B bytes takes at least
max(F / peak operations per second, B / peak bytes per second).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from bench import machine
from bench.machine import installed

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Roofline:
    """The machine's measured limits with the number of threads given."""

    threads: int
    read_bandwidth: float  # bytes per second, reading only: the limit of decoding
    stream_bandwidth: float  # bytes per second, two arrays read, one written: the limit of updates
    peak_flops: float  # float32 operations per second in a large matrix product


def measure(threads: int, size: int | None = None, matrix: int = 2048) -> Roofline:
    """Measure this machine for about two seconds; the best of several tries counts.

    Args:
        threads: number of threads of the bandwidth probes. The matrix product and the kernels use
            the threads that their libraries were started with (OMP_NUM_THREADS and similar).
        size: bytes to read; by default much more than the last-level cache.
        matrix: rows and columns of the square matrices.
    """
    size = size or max(256 * MEBIBYTE, 2 * machine.largest_cache())
    memory = np.ones(size // 4, np.float32)
    parts = np.array_split(memory, threads)
    triples = [np.array_split(part[: len(part) // 3 * 3], 3) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        reads = [lambda: list(pool.map(np.max, parts)), *_kernels(memory)]
        read = min(map(_least_seconds, reads))
        stream = _least_seconds(lambda: list(pool.map(lambda x: np.add(*x), triples)))
    product = min(_least_seconds(run, 4) for run in _matrix_products(matrix))
    return Roofline(
        threads=threads,
        read_bandwidth=size / read,
        stream_bandwidth=3 * sum(x.nbytes for x, *_ in triples) / stream,
        peak_flops=2 * matrix**3 / product,
    )


def _kernels(memory: np.ndarray) -> list[Callable[[], object]]:
    """Reading by kernels, if numba is installed: they need fewer instructions than NumPy."""
    from gradient.backends.numpy import kernels, threads

    if not kernels.available():
        return []
    from bench import reading

    parts = len(memory) // reading.NUMBERS
    out = np.zeros(64 * parts, np.float32)  # a vector of any processor each
    return [
        lambda kernel=kernel: threads.parallel_for(kernel, parts, 1, memory, out)  # type: ignore[misc]
        for kernel in (reading.one_stream, reading.four_streams)
    ]


def _matrix_products(size: int) -> list[Callable[[], object]]:
    """The square product by each installed library: the fastest is the peak."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    out = np.empty_like(a)
    products: list[Callable[[], object]] = [lambda: np.matmul(a, b, out=out)]
    if installed("torch"):
        import torch

        torch_a, torch_b, torch_out = (torch.from_numpy(x) for x in (a, b, out))
        products.append(lambda: torch.mm(torch_a, torch_b, out=torch_out))
    return products


def _least_seconds(run: Callable[[], object], tries: int = 8) -> float:
    best = float("inf")
    for _ in range(tries):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best
