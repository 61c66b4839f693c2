"""The models whose training steps are measured, built from the modules of either package.

Each function takes the package, `gradient` or `torch`, and returns a model, its loss as a function
of inputs and targets, and arrays for these: the same arrays at each call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bench.cases.train_step import GPT2_124M, SMALL, Shape
from examples import under_torch

Built = tuple[Any, Callable[..., Any], list[np.ndarray]]


@dataclass(frozen=True)
class TrainingModel:
    """A model, and the targets for its step (eager, compiled) as shares of PyTorch eager's time."""

    name: str
    build: Callable[[Any], Built]
    compiled: float | None = 0.85
    """None: it is measured eager alone, since shapes within a step depend on values."""
    eager: float = 1.0
    large: bool = False
    """Whether it is measured with `--large` only."""


def perceptron(package: Any) -> Built:
    nn = package.nn
    model = nn.Sequential(
        *(nn.Linear(784, 512), nn.ReLU(), nn.Dropout(0.1)),
        *(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)),
    )
    return _classifier(package, model, 128, 784)


def mnist(package: Any) -> Built:
    """The net of PyTorch's MNIST example, without its dropout."""
    nn = package.nn
    model = nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10)),
    )
    return _classifier(package, model, 64, 1, 28, 28)


def resnet(
    package: Any, images: int = 16, side: int = 32, widths: tuple[int, ...] = (64, 128, 256, 512)
) -> Built:
    """ResNet-18 (He et al. 2015), for small images without the first layers' strides."""
    nn = package.nn

    class Block(nn.Module):
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

    blocks, width = [], widths[0]
    for i, outputs in enumerate(widths):
        blocks += [Block(width, outputs, 1 if i == 0 else 2), Block(outputs, outputs, 1)]
        width = outputs
    first = [nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    if side > 64:
        first[:1] = [nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)]
        first += [nn.MaxPool2d(3, 2, 1)]
    last = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)
    return _classifier(package, nn.Sequential(*first, *blocks, *last), images, 3, side, side)


def mobilenet(package: Any, images: int = 16, side: int = 32) -> Built:
    """Blocks of a depthwise and a 1x1 convolution (Howard et al. 2017); for small images the first
    five, without the first layer's stride."""
    nn = package.nn
    blocks, is_small = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1)], side <= 64
    if not is_small:
        blocks += [(512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    first = nn.Conv2d(3, 32, 3, 1 if is_small else 2, 1, bias=False)
    layers, width = [first, nn.BatchNorm2d(32), nn.ReLU()], 32
    for outputs, stride in blocks:
        layers += [
            nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False),
            nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
        ]  # fmt: skip
        width = outputs
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))
    return _classifier(package, model, images, 3, side, side)


def unet(package: Any) -> Built:
    """Down by max pooling and up by transposed convolutions; the feature maps of the way down are
    concatenated on the way up (Ronneberger et al. 2015). A class for each pixel."""
    nn = package.nn

    def pair(inputs: int, outputs: int) -> Any:
        first, second = (nn.Conv2d(n, outputs, 3, padding=1) for n in (inputs, outputs))
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.ModuleList([pair(1, 32), pair(32, 64)])
            self.bottom = pair(64, 128)
            self.up = nn.ModuleList([nn.ConvTranspose2d(n, n // 2, 2, 2) for n in (128, 64)])
            self.after = nn.ModuleList([pair(128, 64), pair(64, 32)])
            self.pool, self.head = nn.MaxPool2d(2), nn.Conv2d(32, 4, 1)

        def forward(self, x: Any) -> Any:
            maps = []
            for convolutions in self.down:
                maps.append(convolutions(x))
                x = self.pool(maps[-1])
            x = self.bottom(x)
            for up, convolutions in zip(self.up, self.after, strict=True):
                x = convolutions(package.cat([maps.pop(), up(x)], 1))
            return self.head(x)

    model = UNet()
    draws = np.random.default_rng(0)
    x = draws.standard_normal((8, 1, 64, 64), dtype=np.float32)
    return model, _cross_entropy(package, model), [x, draws.integers(0, 4, (8, 64, 64))]


def vit(package: Any) -> Built:
    """ViT-Ti (Dosovitskiy et al. 2021; Touvron et al. 2021) for images of 32 x 32 in patches of
    4 x 4: 65 tokens."""
    nn = package.nn

    class ViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 192, 4, 4)
            self.token = nn.Parameter(package.zeros(1, 1, 192))
            self.positions = nn.Parameter(package.zeros(1, 65, 192))
            layer = nn.TransformerEncoderLayer(
                192, 3, 768, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            self.encoder = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
            self.norm, self.head = nn.LayerNorm(192), nn.Linear(192, 10)

        def forward(self, x: Any) -> Any:
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = package.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
            return self.head(self.norm(self.encoder(x)[:, 0]))

    return _classifier(package, ViT(), 16, 3, 32, 32)


def gpt(shape: Shape, package: Any) -> Built:
    """The model of examples/char_gpt.py."""
    script = under_torch.load("char_gpt", package.__name__)
    config = script.GPTConfig(shape.vocab, shape.time, shape.layers, shape.heads, shape.width)
    model = script.GPT(config)
    ids = np.random.default_rng(0).integers(0, shape.vocab, (shape.batch, shape.time + 1))
    return model, model.loss, [ids[:, :-1].copy(), ids[:, 1:].copy()]


def encoder(package: Any) -> Built:
    nn = package.nn
    layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.1, batch_first=True)
    model = nn.TransformerEncoder(layer, 4)
    x, y = np.random.default_rng(0).standard_normal((2, 8, 128, 256), dtype=np.float32)

    def loss(x: Any, y: Any) -> Any:
        return nn.functional.mse_loss(model(x), y)

    return model, loss, [x, y]


def lstm(package: Any) -> Built:
    nn = package.nn
    parts = [nn.Embedding(1000, 200), nn.LSTM(200, 200, 2), nn.Linear(200, 1000)]
    model = nn.ModuleList(parts)
    ids = np.random.default_rng(0).integers(0, 1000, (36, 20))

    def loss(x: Any, y: Any) -> Any:
        embedding, recurrent, head = parts
        out, _ = recurrent(embedding(x))
        return nn.functional.cross_entropy(head(out).reshape(-1, 1000), y.reshape(-1))

    return model, loss, [ids[:-1].copy(), ids[1:].copy()]


def _cross_entropy(package: Any, model: Any) -> Callable[[Any, Any], Any]:
    def loss(x: Any, y: Any) -> Any:
        return package.nn.functional.cross_entropy(model(x), y)

    return loss


def _classifier(package: Any, model: Any, *shape: int) -> Built:
    draws = np.random.default_rng(0)
    x = draws.standard_normal(shape, dtype=np.float32)
    return model, _cross_entropy(package, model), [x, draws.integers(0, 10, shape[0])]


GPT_10M = Shape("GPT 10M, 4 x 256", vocab=1024, layers=6, heads=6, width=384, batch=4, time=256)

MODELS = [
    TrainingModel("MLP 784-512-512-10, 128", perceptron, compiled=0.8),
    TrainingModel("MNIST CNN, 64", mnist, compiled=0.75),
    TrainingModel("ResNet-18, 16 x 32 x 32", resnet),
    TrainingModel("MobileNet blocks, 16 x 32 x 32", mobilenet),
    TrainingModel("U-Net, 8 x 64 x 64", unet),
    TrainingModel("ViT-Ti, 16 x 65 tokens", vit),
    TrainingModel("TransformerEncoder 4 x 256, 8 x 128", encoder, compiled=0.8),
    TrainingModel("LSTM 2 x 200, 20 x 35", lstm, compiled=0.95),
    TrainingModel(SMALL.name, partial(gpt, SMALL)),
    TrainingModel(GPT_10M.name, partial(gpt, GPT_10M)),
    TrainingModel(GPT2_124M.name, partial(gpt, GPT2_124M), compiled=0.8, large=True),
]
