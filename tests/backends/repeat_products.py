"""Repeat the products of the CPU kernels on 1, 2 and 3 threads: each run has to give the same bits.

    python tests/backends/repeat_products.py [runs]  # 200; best on a busy machine

For what a test that runs once does not see: work that is handed to threads in another order.
"""

from __future__ import annotations

import sys

import numpy as np

from gradient import backends
from gradient.backends.numpy import linear, panels, threads
from gradient.backends.packed import PackedArray
from gradient.dtypes import PACKED, bfloat16, float16, float32

N, K = 331, 512
ROWS = 1, 5, 29, 70
THREADS = 1, 2, 3


def products(seed: int, number: int) -> dict[str, bytes]:
    """The bits of every kind of product of a seed's numbers, on so many threads."""
    threads.set_num_threads(number)
    be, rng = backends.get("cpu"), np.random.default_rng(seed)
    values, x = (rng.standard_normal(s, dtype=np.float32) for s in ((N, K), (max(ROWS), K)))
    g, found = rng.standard_normal((max(ROWS), N), dtype=np.float32), {}
    for dtype in PACKED:
        weight = PackedArray(dtype, (N, K), dtype.pack(values))
        for rows in ROWS:
            found[f"{dtype.name}, {rows} rows"] = be.int8_matmul(x[:rows], weight).tobytes()
        found[f"{dtype.name}, exact"] = be.quantized_matmul(x[:5], weight).tobytes()
        found[f"{dtype.name}, gradient"] = be.quantized_matmul_grad(g, weight).tobytes()
    for dtype in (bfloat16, float16, float32):
        weight = values.astype(dtype.numpy)
        for rows in ROWS:
            y = be.linear(x[:rows].astype(dtype.numpy), weight)
            found[f"{dtype.name}, {rows} rows"] = y.tobytes()
    return found


def main(runs: int) -> int:
    for module in (linear, panels):  # so that these small shapes are many chunks
        module.CHUNK = 1  # type: ignore[attr-defined]
    panels.ROWS_CHUNK = 1
    wrong = 0
    for run in range(runs):
        expected = products(run, THREADS[0])
        for number in THREADS:
            for name, bits in products(run, number).items():
                if bits != expected[name]:
                    wrong += 1
                    print(f"run {run}, {number} threads: {name} differs")
    print(f"{runs} runs on {', '.join(map(str, THREADS))} threads: {wrong} wrong results")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
