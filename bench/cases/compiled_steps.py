"""Training steps recorded by `gradient.compile`, beside eager execution and PyTorch's.

Each contender makes the same step of the same model: forward, backward, clipping, AdamW (PyTorch's
fused one). The whole step is one compiled function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import gradient
from bench.cases import Options
from bench.cases.train_step import SMALL
from bench.measure import interleave
from bench.result import Result
from examples import under_torch

Built = tuple[Any, Callable[..., Any], list[np.ndarray]]
"""A model, its loss as a function of inputs and targets, and these."""

DRAWS = np.random.default_rng(0)


def perceptron(package: Any) -> Built:
    nn = package.nn
    model = nn.Sequential(
        *(nn.Linear(784, 512), nn.ReLU(), nn.Dropout(0.1)),
        *(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)),
    )
    x = DRAWS.standard_normal((128, 784), dtype=np.float32)

    def loss(x: Any, y: Any) -> Any:
        return nn.functional.cross_entropy(model(x), y)

    return model, loss, [x, DRAWS.integers(0, 10, 128)]


def gpt(package: Any) -> Built:
    script = under_torch.load("char_gpt", package.__name__)
    config = script.GPTConfig(SMALL.vocab, SMALL.time, SMALL.layers, SMALL.heads, SMALL.width)
    model = script.GPT(config)
    ids = DRAWS.integers(0, SMALL.vocab, (SMALL.batch, SMALL.time + 1))
    return model, model.loss, [ids[:, :-1].copy(), ids[:, 1:].copy()]


def encoder(package: Any) -> Built:
    nn = package.nn
    layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.1, batch_first=True)
    model = nn.TransformerEncoder(layer, 4)
    x, y = DRAWS.standard_normal((2, 8, 128, 256), dtype=np.float32)

    def loss(x: Any, y: Any) -> Any:
        return nn.functional.mse_loss(model(x), y)

    return model, loss, [x, y]


def lstm(package: Any) -> Built:
    nn = package.nn
    parts = [nn.Embedding(1000, 200), nn.LSTM(200, 200, 2), nn.Linear(200, 1000)]
    model = nn.ModuleList(parts)
    ids = DRAWS.integers(0, 1000, (36, 20))

    def loss(x: Any, y: Any) -> Any:
        embedding, recurrent, head = parts
        out, _ = recurrent(embedding(x))
        return nn.functional.cross_entropy(head(out).reshape(-1, 1000), y.reshape(-1))

    return model, loss, [ids[:-1].copy(), ids[1:].copy()]


@dataclass(frozen=True)
class Step:
    """A training step that is measured, and of PyTorch eager's time how much it may take."""

    name: str
    build: Callable[[Any], Built]
    target: float


STEPS = [
    Step("MLP 784-512-512-10, 128", perceptron, 0.8),
    Step(f"GPT 4 x {SMALL.width}, {SMALL.batch} x {SMALL.time}", gpt, 0.85),
    Step("TransformerEncoder 4 x 256, 8 x 128", encoder, 0.8),
    Step("LSTM 2 x 200, 20 x 35", lstm, 1.3),
]


def training_step(
    package: Any, build: Callable[[Any], Built], compile: Callable[[Any], Any] | None = None
) -> Callable[[], float]:
    """A call that makes a step and returns its loss."""
    package.manual_seed(0)
    model, loss_of, arrays = build(package)
    fused = {"fused": True} if package is not gradient else {}
    optimizer = package.optim.AdamW(model.parameters(), lr=1e-3, **fused)
    inputs = [package.tensor(array) for array in arrays]

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(x, y)
        loss.backward()
        package.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    run = step if compile is None else compile(step)
    return lambda: float(run(*inputs).item())


def contenders(step: Step, options: Options) -> dict[str, Callable[[], float]]:
    def compiled(fuse: bool) -> Callable[[Any], Any]:
        return lambda function: gradient.compile(function, fullgraph=True, fuse=fuse)

    runs = {
        "gradient": training_step(gradient, step.build),
        "gradient compile": training_step(gradient, step.build, compiled(False)),
        "gradient compile, fused": training_step(gradient, step.build, compiled(True)),
    }
    if options.peer("torch"):
        import torch

        torch.set_num_threads(options.threads)
        runs["torch eager"] = training_step(torch, step.build)
    return runs


def run(options: Options) -> Iterator[Result]:
    for step in STEPS[:1] if options.tiny else STEPS:
        runs = contenders(step, options)
        for label, call in runs.items():
            losses = [call() for _ in range(5)]  # one eager, two recorded, then replays
            if not losses[-1] < losses[0]:
                raise RuntimeError(f"{label} does not learn: losses {losses}")
        samples = interleave(runs, rounds=options.rounds(20), settle=0.05)
        for label, sample in samples.items():
            compared = "torch eager" in samples and label != "torch eager"
            ratio = sample.ratio(samples["torch eager"]) if compared else None
            promised = ratio is not None and "compile" in label
            yield Result(
                case="training",
                what=step.name,
                contender=label,
                value=1e3 * sample.median,
                unit="ms",
                best=1e3 * sample.best,
                samples=len(sample.seconds),
                peer="torch eager" if compared else None,
                ratio=ratio,
                target=f"<= {step.target} x torch eager" if promised else None,
                met=ratio <= step.target if promised and ratio is not None else None,
            )
