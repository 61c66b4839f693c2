"""Training steps of common models, eager and by `gradient.compile`, beside PyTorch's.

Each contender makes the same step of the same model: forward, backward, clipping, AdamW (PyTorch's
fused one). Compiled, the whole step is one function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradient
from bench.cases import Options
from bench.measure import interleave
from bench.result import Result
from bench.training_models import MODELS, TrainingModel

EAGER, COMPILED, PEER = "gradient", "gradient compile", "torch eager"


def training_step(
    package: Any, model: TrainingModel, compile: Callable[[Any], Any] | None = None
) -> Callable[[], float]:
    """Return a function that makes a step and returns its loss."""
    package.manual_seed(0)
    module, loss_of, arrays = model.build(package)
    fused = {"fused": True} if package is not gradient else {}
    optimizer = package.optim.AdamW(module.parameters(), lr=1e-3, **fused)
    inputs = [package.tensor(array) for array in arrays]

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(x, y)
        loss.backward()
        package.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    run = step if compile is None else compile(step)
    return lambda: float(run(*inputs).item())


def contenders(model: TrainingModel, options: Options) -> dict[str, Callable[[], float]]:
    def compiled(function: Any) -> Any:
        return gradient.compile(function, fullgraph=True, fuse=True)

    runs = {EAGER: training_step(gradient, model)}
    if model.compiled is not None:
        runs[COMPILED] = training_step(gradient, model, compiled)
    if options.peer("torch"):
        import torch

        torch.set_num_threads(options.threads)
        runs[PEER] = training_step(torch, model)
    return runs


def run(options: Options) -> Iterator[Result]:
    models = [model for model in MODELS if options.large or not model.large]
    yield from measure("training", models, options)


def measure(case: str, models: list[TrainingModel], options: Options) -> Iterator[Result]:
    models = [model for model in models if options.wants(model.name)]
    for model in models[:1] if options.tiny else models:
        runs = contenders(model, options)
        for label, call in runs.items():
            losses = [call() for _ in range(5)]  # one eager, two recorded, then replays
            if not losses[-1] < losses[0]:
                raise RuntimeError(f"{label} does not learn: losses {losses}")
        samples = interleave(runs, rounds=options.rounds(20), settle=0.05)
        targets = {EAGER: model.eager, COMPILED: model.compiled}
        for label, sample in samples.items():
            compared = PEER in samples and label != PEER
            ratio = sample.ratio(samples[PEER]) if compared else None
            target = targets.get(label)
            yield Result(
                case=case,
                what=model.name,
                contender=label,
                value=1e3 * sample.median,
                unit="ms",
                best=1e3 * sample.best,
                samples=len(sample.seconds),
                peer=PEER if compared else None,
                ratio=ratio,
                target=f"<= {target} x torch eager" if compared else None,
                met=None if ratio is None or target is None else ratio <= target,
            )
