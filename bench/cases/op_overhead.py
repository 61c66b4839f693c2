"""The cost of one op on small tensors beyond NumPy's own time, with and without a graph.

Both sides compute on the same arrays. They are small, so that the overhead is most of the time; the
time of PyTorch eager's whole op is shown beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

import gradient
from bench.cases import Options
from bench.measure import interleave
from bench.result import Result

SHAPE = (8, 8)
TARGET = 1.2  # microseconds beyond NumPy, with a graph

# name -> (NumPy on arrays a and b, the op on tensors a and b of gradient or torch)
OPS: dict[str, tuple[Callable, Callable]] = {
    "add": (lambda a, b: a + b, lambda a, b: a + b),
    "mul": (lambda a, b: a * b, lambda a, b: a * b),
    "exp": (lambda a, b: np.exp(a), lambda a, b: a.exp()),
    "sum": (lambda a, b: a.sum(), lambda a, b: a.sum()),
    "matmul": (lambda a, b: a @ b, lambda a, b: a @ b),
    "reshape": (lambda a, b: a.reshape(4, 16), lambda a, b: a.reshape(4, 16)),
}


def contenders(name: str, requires_grad: bool, peers: bool) -> dict[str, Callable[[], object]]:
    """The op `name` on two (8, 8) float32 tensors: by numpy, by gradient, by torch if wanted."""
    on_arrays, on_tensors = OPS[name]
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(SHAPE, dtype=np.float32) for _ in range(2))
    x, y = (gradient.tensor(v, requires_grad=requires_grad) for v in (a, b))
    runs: dict[str, Callable[[], object]] = {
        "numpy": lambda: on_arrays(a, b),
        "gradient": lambda: on_tensors(x, y),
    }
    if peers:
        import torch

        tx, ty = (torch.tensor(v, requires_grad=requires_grad) for v in (a, b))
        runs["torch eager"] = lambda: on_tensors(tx, ty)
    return runs


def run(options: Options) -> Iterator[Result]:
    peers = options.peer("torch")
    for requires_grad in (True, False):
        for name in OPS:
            samples = interleave(
                contenders(name, requires_grad, peers),
                rounds=options.rounds(60),
                sample_seconds=0.002,
            )
            what = f"{name} {SHAPE}, {'graph' if requires_grad else 'no graph'}"
            for contender, sample in samples.items():
                against = "torch eager" if peers and contender == "gradient" else None
                yield Result(
                    case="ops",
                    what=what,
                    contender=contender,
                    value=1e6 * sample.median,
                    unit="us",
                    best=1e6 * sample.best,
                    samples=len(sample.seconds),
                    peer=against,
                    ratio=sample.ratio(samples[against]) if against else None,
                )
            beyond = 1e6 * samples["gradient"].beyond(samples["numpy"])
            yield Result(
                case="ops",
                what=f"{what}: beyond numpy",
                contender="gradient",
                value=beyond,
                unit="us",
                best=1e6 * (samples["gradient"].best - samples["numpy"].best),
                samples=len(samples["gradient"].seconds),
                target=f"<= {TARGET} us" if requires_grad else None,
                met=beyond <= TARGET if requires_grad else None,
            )
