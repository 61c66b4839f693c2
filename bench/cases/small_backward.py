"""Forward and backward of small expressions against PyTorch eager: the cost of autograd itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np

import gradient
from bench.cases import Options
from bench.measure import interleave
from bench.result import Result

TARGET = 0.8  # of PyTorch eager's time


def elementwise(package: ModuleType) -> Callable[[], object]:
    """z = tanh(x y + x), summed: four ops on (4, 8), gradients of x and y."""
    rng = np.random.default_rng(0)
    x, y = (
        package.tensor(rng.standard_normal((4, 8), dtype=np.float32), requires_grad=True)
        for _ in range(2)
    )

    def step() -> None:
        x.grad = y.grad = None
        (x * y + x).tanh().sum().backward()

    return step


def perceptron(package: ModuleType) -> Callable[[], object]:
    """Mean squared error of tanh(x W + b) V + c on (8, 16): eight ops, gradients of W, b, V, c."""
    rng = np.random.default_rng(0)

    def draw(*shape: int, requires_grad: bool = True):
        values = rng.standard_normal(shape, dtype=np.float32)
        return package.tensor(values, requires_grad=requires_grad)

    x, target = draw(8, 16, requires_grad=False), draw(8, 4, requires_grad=False)
    w, b, v, c = parameters = draw(16, 32), draw(32), draw(32, 4), draw(4)

    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        error = (x @ w + b).tanh() @ v + c - target
        (error * error).mean().backward()

    return step


EXPRESSIONS: dict[str, Callable[[ModuleType], Callable[[], object]]] = {
    "tanh(x y + x).sum()": elementwise,
    "mse of a 2-layer tanh MLP": perceptron,
}


def run(options: Options) -> Iterator[Result]:
    for what, build in EXPRESSIONS.items():
        runs = {"gradient": build(gradient)}
        if options.peer("torch"):
            import torch

            torch.set_num_threads(options.threads)
            runs["torch eager"] = build(torch)
        samples = interleave(runs, rounds=options.rounds(60), sample_seconds=0.005)
        for contender, sample in samples.items():
            ratio = None
            if contender == "gradient" and len(samples) > 1:
                ratio = sample.ratio(samples["torch eager"])
            yield Result(
                case="backward",
                what=what,
                contender=contender,
                value=1e6 * sample.median,
                unit="us",
                best=1e6 * sample.best,
                samples=len(sample.seconds),
                peer="torch eager" if ratio else None,
                ratio=ratio,
                target=f"<= {TARGET} x torch eager" if ratio else None,
                met=ratio <= TARGET if ratio else None,
            )
