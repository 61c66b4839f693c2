"""What common calls on small tensors cost, beside PyTorch eager's: where Python's share is felt.

Small models, the bookkeeping of a decoding loop and data loading are made of such calls. The table
shows which of them deserve work; no target is set on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

import gradient
from bench.cases import Options
from bench.measure import interleave
from bench.result import Result

# name -> call(p, x, w): the package, x (64, 64) without a graph, w (64, 64) that requires one
CALLS: dict[str, Callable[[Any, Any, Any], object]] = {
    "tensor([1.0, 2.0])": lambda p, x, w: p.tensor([1.0, 2.0]),
    "zeros(4, 4)": lambda p, x, w: p.zeros(4, 4),
    "randn(4, 4)": lambda p, x, w: p.randn(4, 4),
    "x.shape": lambda p, x, w: x.shape,
    "x[3]": lambda p, x, w: x[3],
    "x[:, 1:5]": lambda p, x, w: x[:, 1:5],
    "x > 0": lambda p, x, w: x > 0,
    "x.sum().item()": lambda p, x, w: x.sum().item(),
    "w[3]": lambda p, x, w: w[3],
    "w.view(8, 8, 64)": lambda p, x, w: w.view(8, 8, 64),
    "w.transpose(0, 1)": lambda p, x, w: w.transpose(0, 1),
    "w.chunk(3)": lambda p, x, w: w.chunk(3),
    "cat([w, w])": lambda p, x, w: p.cat([w, w]),
    "w * 2.0": lambda p, x, w: w * 2.0,
    "w.mean()": lambda p, x, w: w.mean(),
    "x @ w": lambda p, x, w: x @ w,
    "F.linear(x, w)": lambda p, x, w: p.nn.functional.linear(x, w),
    "F.relu(w)": lambda p, x, w: p.nn.functional.relu(w),
    "F.gelu(w)": lambda p, x, w: p.nn.functional.gelu(w),
    "F.softmax(w, -1)": lambda p, x, w: p.nn.functional.softmax(w, -1),
    "F.layer_norm(w, (64,))": lambda p, x, w: p.nn.functional.layer_norm(w, (64,)),
}


def arguments(package: ModuleType) -> tuple[Any, Any, Any]:
    """The package and its two tensors, of the same numbers in every package."""
    values = np.random.default_rng(0).standard_normal((2, 64, 64), dtype=np.float32)
    return package, package.tensor(values[0]), package.tensor(values[1], requires_grad=True)


def run(options: Options) -> Iterator[Result]:
    packages = {"gradient": arguments(gradient)}
    if options.peer("torch"):
        import torch

        torch.set_num_threads(options.threads)
        packages["torch eager"] = arguments(torch)
    for name, call in CALLS.items():
        samples = interleave(
            {
                label: lambda given=given, call=call: call(*given)
                for label, given in packages.items()
            },
            rounds=options.rounds(40),
            sample_seconds=0.001,
        )
        for contender, sample in samples.items():
            peer = "torch eager" if contender == "gradient" and len(samples) > 1 else None
            yield Result(
                case="calls",
                what=name,
                contender=contender,
                value=1e6 * sample.median,
                unit="us",
                best=1e6 * sample.best,
                samples=len(sample.seconds),
                peer=peer,
                ratio=sample.ratio(samples[peer]) if peer else None,
            )
