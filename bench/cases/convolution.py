"""Eager training steps of convolutional nets, beside PyTorch's: forward, backward, AdamW."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import gradient
from bench.cases import Options
from bench.measure import interleave
from bench.result import Result

DRAWS = np.random.default_rng(0)


def mnist(nn: Any) -> Any:
    """The net of PyTorch's MNIST example, without its dropout."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


def resnet(nn: Any) -> Any:
    """ResNet-18 for images of 32 x 32 (He et al. 2015)."""

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.residual = nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs),
                nn.ReLU(), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )  # fmt: skip
            skip = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)]
            self.skip = nn.Sequential(*(skip if inputs != outputs else []))
            self.relu = nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.relu(self.residual(x) + self.skip(x))

    blocks, width = [], 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        blocks += [Block(width, outputs, stride), Block(outputs, outputs, 1)]
        width = outputs
    first = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()
    return nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def mobilenet(nn: Any) -> Any:
    """Blocks of a depthwise and a 1x1 convolution (Howard et al. 2017)."""
    layers, width = [nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()], 32
    for outputs, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
        layers += [
            nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False),
            nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
        ]  # fmt: skip
        width = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))


def autoencoder(nn: Any) -> Any:
    """A way down by max pooling and up again by transposed convolutions, as a U-Net's."""

    def pair(inputs: int, outputs: int) -> tuple[Any, ...]:
        first, second = (nn.Conv2d(n, outputs, 3, padding=1) for n in (inputs, outputs))
        return first, nn.ReLU(), second, nn.ReLU()

    return nn.Sequential(
        *(*pair(1, 32), nn.MaxPool2d(2), *pair(32, 64), nn.MaxPool2d(2), *pair(64, 128)),
        *(nn.ConvTranspose2d(128, 64, 2, 2), *pair(64, 64)),
        *(nn.ConvTranspose2d(64, 32, 2, 2), *pair(32, 32), nn.Conv2d(32, 10, 1)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


@dataclass(frozen=True)
class Net:
    """A net, the shape of its input, and of PyTorch eager's time how much a step may take."""

    name: str
    build: Callable[[Any], Any]
    shape: tuple[int, ...]
    target: float


NETS = [
    Net("MNIST CNN, 64", mnist, (64, 1, 28, 28), 0.75),
    Net("ResNet-18, 16 x 32 x 32", resnet, (16, 3, 32, 32), 1.0),
    Net("MobileNet blocks, 16 x 32 x 32", mobilenet, (16, 3, 32, 32), 1.0),
    Net("autoencoder, 8 x 64 x 64", autoencoder, (8, 1, 64, 64), 1.0),
]


def training_step(package: Any, net: Net) -> Callable[[], float]:
    """A call that makes a step and returns its loss."""
    package.manual_seed(0)
    model = net.build(package.nn)
    fused = {"fused": True} if package is not gradient else {}
    optimizer = package.optim.AdamW(model.parameters(), lr=1e-3, **fused)
    x = package.tensor(DRAWS.standard_normal(net.shape, dtype=np.float32))
    y = package.tensor(DRAWS.integers(0, 10, net.shape[0]))

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = package.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def run(options: Options) -> Iterator[Result]:
    for net in NETS[:1] if options.tiny else NETS:
        runs = {"gradient": training_step(gradient, net)}
        if options.peer("torch"):
            import torch

            torch.set_num_threads(options.threads)
            runs["torch eager"] = training_step(torch, net)
        for label, call in runs.items():
            losses = [call() for _ in range(5)]
            if not losses[-1] < losses[0]:
                raise RuntimeError(f"{label} does not learn: losses {losses}")
        samples = interleave(runs, rounds=options.rounds(20), settle=0.05)
        for label, sample in samples.items():
            compared = "torch eager" in samples and label == "gradient"
            ratio = sample.ratio(samples["torch eager"]) if compared else None
            yield Result(
                case="convolution",
                what=net.name,
                contender=label,
                value=1e3 * sample.median,
                unit="ms",
                best=1e3 * sample.best,
                samples=len(sample.seconds),
                peer="torch eager" if compared else None,
                ratio=ratio,
                target=f"<= {net.target} x torch eager" if ratio is not None else None,
                met=None if ratio is None else ratio <= net.target,
            )
