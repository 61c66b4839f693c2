"""What this machine can do at most, measured in the same run: the yardstick beside each figure.

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

from bench.machine import installed

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Roofline:
    """The machine's measured limits with the number of threads given."""

    threads: int
    read_bandwidth: float  # bytes per second, reading alone: what decoding can reach
    stream_bandwidth: float  # bytes per second, two arrays read and one written: what updates reach
    peak_flops: float  # float32 operations per second in a large matrix product


def measure(threads: int, size: int = 64 * MEBIBYTE, matrix: int = 2048) -> Roofline:
    """Probe this machine for about two seconds; the best of several tries counts.

    Args:
        threads: how many threads the bandwidth probes use. The matrix product uses what its
            library was started with (OMP_NUM_THREADS and its like).
        size: bytes of each array in the bandwidth probes; must be well beyond the last cache.
        matrix: rows and columns of the square matrices.
    """
    a, b, out = (np.full(size // 4, value, np.float32) for value in (1.0, 2.0, 0.0))
    bounds = np.linspace(0, len(a), threads + 1, dtype=int)
    parts = [
        (a[lo:hi], b[lo:hi], out[lo:hi]) for lo, hi in zip(bounds[:-1], bounds[1:], strict=True)
    ]
    with ThreadPoolExecutor(threads) as pool:
        read = _least_seconds(lambda: list(pool.map(lambda p: np.max(p[0]), parts)))
        stream = _least_seconds(lambda: list(pool.map(lambda p: np.add(p[0], p[1], p[2]), parts)))
    product = min(_least_seconds(run, 4) for run in _matrix_products(matrix))
    return Roofline(
        threads=threads,
        read_bandwidth=size / read,
        stream_bandwidth=3 * size / stream,
        peak_flops=2 * matrix**3 / product,
    )


def _matrix_products(size: int) -> list[Callable[[], object]]:
    """The square product by each library at hand: the fastest is the peak, whoever owns it."""
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
