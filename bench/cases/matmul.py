"""The float32 matrix products of training steps, beside NumPy's and PyTorch's, and the peak.

For each layer (rows, inputs, outputs): the forward product x @ W.T, the gradient for the input
g @ W, and for the weight g.T @ x. The peak is the rate of all threads' multiply-adds with operands
in the nearest cache and sums in registers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from bench.cases import Options
from bench.measure import interleave
from bench.result import Result
from gradient import backends
from gradient.backends.numpy import kernels, threads

MLP = [("MLP", 128, 784, 512), ("MLP", 128, 512, 512)]
GPT = [
    ("GPT", 1024, 256, 768),
    ("GPT", 1024, 256, 256),
    ("GPT", 1024, 256, 1024),
    ("GPT", 1024, 1024, 256),
]
LSTM = [("LSTM", 700, 200, 800), ("LSTM", 20, 200, 800), ("LSTM", 700, 200, 1000)]
GPT2_124M = [
    ("GPT-2", 1024, 768, 2304),
    ("GPT-2", 1024, 768, 768),
    ("GPT-2", 1024, 768, 3072),
    ("GPT-2", 1024, 3072, 768),
    ("GPT-2", 1024, 768, 50257),
]
TINY = [("tiny", 32, 64, 64)]
DEPTH = 256
"""Of the peak's operands: one is 32 KiB with the widest vectors."""


def run(options: Options) -> Iterator[Result]:
    peak = _peak(options.threads, 10 if options.tiny else 4000)
    layers = MLP + GPT + LSTM + (GPT2_124M if options.large else [])
    for name, rows, inputs, outputs in TINY if options.tiny else layers:
        for product, calls in _products(rows, inputs, outputs, options).items():
            for call in calls.values():
                call()
            samples = interleave(calls, rounds=options.rounds(25), settle=0.02)
            for contender, sample in samples.items():
                ours = contender == "gradient"
                yield Result(
                    case="matmul",
                    what=f"{name} {rows} x {inputs} by {outputs}, {product}",
                    contender=contender,
                    value=1e3 * sample.median,
                    unit="ms",
                    best=1e3 * sample.best,
                    samples=len(sample.seconds),
                    peer=None if ours else "gradient",
                    ratio=None if ours else sample.ratio(samples["gradient"]),
                    roofline=2 * rows * inputs * outputs / sample.median / peak,
                    bound=f"{peak / 1e9:.0f} GFLOP/s",
                )


def _products(
    rows: int, inputs: int, outputs: int, options: Options
) -> dict[str, dict[str, Callable[[], object]]]:
    """The contenders for each of a layer's three products."""
    be, rng = backends.get("cpu"), np.random.default_rng(0)
    x, weight, g = (
        rng.standard_normal(shape, dtype=np.float32)
        for shape in ((rows, inputs), (outputs, inputs), (rows, outputs))
    )
    products: dict[str, dict[str, Callable[[], object]]] = {
        "forward": {"gradient": lambda: be.linear(x, weight), "NumPy": lambda: x @ weight.T},
        "input": {"gradient": lambda: be.linear_input_grad(g, weight), "NumPy": lambda: g @ weight},
        "weight": {"gradient": lambda: be.linear_weight_grad(g, x), "NumPy": lambda: g.T @ x},
    }
    if options.peer("torch"):
        import torch

        tx, tw, tg = map(torch.from_numpy, (x, weight, g))
        products["forward"]["torch"] = lambda: tx @ tw.T
        products["input"]["torch"] = lambda: tg @ tw
        products["weight"]["torch"] = lambda: tg.T @ tx
    return products


def _peak(workers: int, times: int) -> float:
    """Float operations per second of repeated tiles of a product."""
    import numba

    tiles = kernels.load("tiles")
    lanes = kernels.load("vectors").LANES[numba.float32]
    tile, rows, columns = tiles.tile_rows, tiles.ROWS, 2 * lanes

    @numba.njit(nogil=True)
    def repeat(start, stop, a, b, out):
        for number in range(start, stop):
            at = number * rows * columns
            for _ in range(times):
                tile(a, 0, 1, rows, b, 0, columns, DEPTH, out, at, columns, False)

    a, b = np.ones(DEPTH * rows, np.float32), np.ones(DEPTH * columns, np.float32)
    out = np.empty(workers * rows * columns, np.float32)
    repeat(0, 0, a, b, out)
    best = float("inf")
    for _ in range(8):
        began = time.perf_counter()
        threads.parallel_for(repeat, workers, 1, a, b, out)
        best = min(best, time.perf_counter() - began)
    return 2 * workers * times * rows * columns * DEPTH / best
