"""One row times weights of each format, and the limit of the kernels: instructions or memory.

Each kernel is timed on weights in a core's cache, where only its instructions count, and on
weights in memory, in turn with kernels that only read. If a format's bytes are processed much
faster from the cache than memory can supply them, its instructions are not the limit. One thread.

Pieces take less than a millisecond, and the fastest tenth of their times counts, so other processes
disturb some of them, but not the figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bench import reading
from bench.cases import Options
from bench.cases.packed import SHARES
from bench.result import Result
from gradient import backends
from gradient.backends.numpy import threads
from gradient.backends.packed import PackedArray
from gradient.dtypes import PACKED, bfloat16, float16

SHAPE, TINY = (2048, 2048), (128, 512)
STREAMED = 192 << 20
"""Bytes of weights that are read one after another, beyond most caches."""
CACHED = 384 << 10
"""Bytes of weights that stay in a core's own cache."""
PAIR = 32
"""Rows of a product that is hardly more than the call."""
SIXTEEN_BITS = {"bf16": bfloat16, "f16": float16}
SHARE, SHARE_OF_EIGHT_BITS = 0.65, 0.8
"""Of the reading kernels' GB/s, the least that a format should reach."""

Call = Callable[[], object]


def run(options: Options) -> Iterator[Result]:
    be, rng = backends.get("cpu"), np.random.default_rng(0)
    n, k = TINY if options.tiny else SHAPE
    values = rng.standard_normal((n, k), dtype=np.float32)
    x = rng.standard_normal((1, k), dtype=np.float32)
    for name, dtype in SIXTEEN_BITS.items():
        weight, row = values.astype(dtype.numpy), x.astype(dtype.numpy)
        yield from _results(name, weight, lambda w, row=row: be.linear(row, w), options)
    for packed in PACKED:
        weight = PackedArray(packed, (n, k), packed.pack(values))
        yield from _results(packed.name, weight, lambda w: be.int8_matmul(x, w), options)


def _results(
    name: str, weight: Any, product: Callable[[Any], object], options: Options
) -> Iterator[Result]:
    if not options.wants(name):
        return
    n, k = weight.shape
    rows = max(PAIR, min(n, CACHED // (weight.nbytes // n) // PAIR * PAIR))
    many = 2 if options.tiny else -(-STREAMED // weight.nbytes)
    copies = [_rows(weight, n) for _ in range(many)]
    small, cached = (_kernel(product, _rows(weight, count)) for count in (PAIR, rows))
    streamed = [_kernel(product, copy) for copy in copies]
    piece = np.ones(max(1, weight.nbytes // 4 // reading.NUMBERS) * reading.NUMBERS, np.float32)
    pieces = [piece.copy() for _ in range(many)]
    out = np.zeros(64 * (piece.size // reading.NUMBERS), np.float32)
    rounds = options.rounds(10)

    call = _least(rounds * [small] * 20)
    from_cache = (_least(rounds * [cached] * 20) - call) / max(1, (rows - PAIR) * k)
    products, reads = [], []
    for turn in range(2 * rounds):
        for i, copy in enumerate(streamed):
            if (i + turn) % 2:
                products.append(_seconds(copy))
            else:
                kernel = (reading.one_stream, reading.four_streams)[turn // 2 % 2]
                arguments = 0, piece.size // reading.NUMBERS, pieces[i], out
                reads.append(_seconds(lambda f=kernel, a=arguments: f(*a)))  # type: ignore[misc]
    from_memory = (_tenth(products) - call) / ((n - PAIR) * k)
    size = weight.nbytes / weight.size
    read, speed = piece.nbytes / _tenth(reads), size / from_memory
    least = SHARE_OF_EIGHT_BITS if name in SIXTEEN_BITS else SHARES.get(name, SHARE)
    what = f"{name}, {size:.3g} bytes a weight"
    yield Result(
        case="weights",
        what=f"{what}: from the cache",
        contender="gradient",
        value=1e-9 * size / from_cache,
        unit="GB/s",
        note=f"{1e12 * from_cache:.2f} ps a weight",
    )
    yield Result(
        case="weights",
        what=f"{what}: from memory",
        contender="gradient",
        value=1e-9 * speed,
        unit="GB/s",
        roofline=speed / read,
        bound=f"{1e-9 * read:.1f} GB/s read",
        target=f">= {least:.0%} of reading",
        met=speed >= least * read,
        samples=len(products),
    )


def _rows(weight: Any, count: int) -> Any:
    """A copy of the first rows of a weight."""
    if isinstance(weight, PackedArray):
        parts = tuple(part[:count].copy() for part in weight.parts)
        return PackedArray(weight.dtype, (count, weight.shape[1]), parts)
    return weight[:count].copy()


def _kernel(product: Callable[[Any], object], weight: Any) -> Call:
    """The kernel of a product alone: the last one that it starts."""
    found: list[Any] = []
    with threads.listening(lambda *launch: found.append(launch)):
        product(weight)
    kernel, n, _, *arguments = found[-1]
    return lambda: kernel(0, n, *arguments)


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _tenth(seconds: list[float]) -> float:
    """The 10th percentile of the times."""
    return float(np.quantile(seconds, 0.1))


def _least(calls: list[Call]) -> float:
    calls[0]()
    return _tenth([_seconds(call) for call in calls])
