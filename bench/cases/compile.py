"""Compiled steps: an MLP's training step against PyTorch eager, and the Python of a replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np

import gradient
from bench.cases import Options
from bench.measure import interleave
from bench.result import Result

MLP_TARGET = 0.8  # of PyTorch eager's time, with fused AdamW
TINY = (1, 8, 8, 2)
"""Sizes whose arithmetic takes next to no time: what is left is Python and NumPy's fixed cost."""


def training_step(
    package: ModuleType, sizes: tuple[int, ...], wrap: Callable[..., Callable[..., object]]
) -> Callable[[], object]:
    """Forward, backward, clipping and AdamW of a perceptron with GELU and dropout; `sizes` is the
    batch size, then the widths."""
    batch, *widths = sizes
    layers: list[object] = []
    for before, after in zip(widths, widths[1:], strict=False):
        layers += [package.nn.Linear(before, after), package.nn.GELU(), package.nn.Dropout(0.1)]
    model = package.nn.Sequential(*layers[:-2])
    optimizer = package.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    rng = np.random.default_rng(0)
    x = package.tensor(rng.standard_normal((batch, widths[0]), dtype=np.float32))
    y = package.tensor(rng.integers(0, widths[-1], (batch,)))

    def step(x: object, y: object) -> object:
        optimizer.zero_grad()
        loss = package.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        package.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    run = wrap(step)
    for _ in range(4):  # eager, recorded, recorded, replayed
        run(x, y)
    return lambda: run(x, y)


def as_it_is(step: Callable[..., object]) -> Callable[..., object]:
    return step


def compiled(step: Callable[..., object]) -> Callable[..., object]:
    return gradient.compile(step, fullgraph=True)


def run(options: Options) -> Iterator[Result]:
    cases = {
        "MLP 784-512-512-10, batch 128": (128, 784, 512, 512, 10),
        "tiny MLP: Python and fixed costs": TINY,
    }
    for what, sizes in cases.items():
        runs = {
            "gradient": training_step(gradient, sizes, compiled),
            "gradient eager": training_step(gradient, sizes, as_it_is),
        }
        if options.peer("torch"):
            import torch

            torch.set_num_threads(options.threads)
            runs["torch eager"] = training_step(torch, sizes, as_it_is)
        samples = interleave(runs, rounds=options.rounds(60), sample_seconds=0.02)
        peer = "torch eager" if "torch eager" in samples else "gradient eager"
        for contender, sample in samples.items():
            ratio = None if contender == peer else sample.ratio(samples[peer])
            target = ratio is not None and contender == "gradient" and sizes is not TINY
            target = target and peer == "torch eager"
            yield Result(
                case="compile",
                what=what,
                contender=contender,
                value=sample.median * 1e6,
                best=sample.best * 1e6,
                unit="us",
                samples=len(sample.seconds),
                peer=None if ratio is None else peer,
                ratio=ratio,
                target=f"<= {MLP_TARGET} of torch eager" if target else None,
                met=None if not target or ratio is None else ratio <= MLP_TARGET,
            )
