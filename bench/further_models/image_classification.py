"""Models that classify images and films."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.training_models import Built, TrainingModel, _classifier


def convnext(package: Any) -> Built:
    """ConvNeXt (Liu et al. 2022): 7x7 depthwise convolutions, LayerNorm over channels, which are
    moved last for it, layer scale, and stochastic depth (Huang et al. 2016)."""
    nn = package.nn

    class LayerNorm2d(nn.LayerNorm):
        def forward(self, x: Any) -> Any:
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    class Block(nn.Module):
        def __init__(self, width: int, drop: float) -> None:
            super().__init__()
            self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
            self.norm = nn.LayerNorm(width, eps=1e-6)
            self.expand, self.project = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.scale = nn.Parameter(1e-6 * package.ones(width))
            self.keep = 1 - drop

        def forward(self, x: Any) -> Any:
            y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
            y = self.scale * self.project(nn.functional.gelu(self.expand(y)))
            kept = package.floor(self.keep + package.rand(len(x), 1, 1, 1))
            return x + y.permute(0, 3, 1, 2) / self.keep * kept

    layers = [nn.Conv2d(3, 64, 2, 2), LayerNorm2d(64, eps=1e-6)]
    layers += [Block(64, drop) for drop in (0.0, 0.05)]
    layers += [LayerNorm2d(64, eps=1e-6), nn.Conv2d(64, 128, 2, 2)]
    layers += [Block(128, drop) for drop in (0.1, 0.15)]
    last = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(128), nn.Linear(128, 10)
    return _classifier(package, nn.Sequential(*layers, *last), 8, 3, 32, 32)


def efficientnet(package: Any) -> Built:
    """Blocks of EfficientNet (Tan and Le 2019): inverted residuals of depthwise convolutions, whose
    channels are weighted by squeeze-and-excitation, with SiLU and BatchNorm."""
    nn = package.nn

    def convolution(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> Any:
        layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(outputs))

    class SqueezeExcitation(nn.Module):
        def __init__(self, width: int, squeezed: int) -> None:
            super().__init__()
            self.squeeze, self.excite = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, width, 1)

        def forward(self, x: Any) -> Any:
            y = nn.functional.silu(self.squeeze(x.mean((2, 3), keepdim=True)))
            return x * self.excite(y).sigmoid()

    class MBConv(nn.Module):
        def __init__(self, inputs: int, outputs: int, size: int, stride: int, expand: int) -> None:
            super().__init__()
            width = inputs * expand
            self.layers = nn.Sequential(
                *((convolution(inputs, width, 1), nn.SiLU()) if expand > 1 else ()),
                *(convolution(width, width, size, stride, width), nn.SiLU()),
                *(SqueezeExcitation(width, inputs // 4), convolution(width, outputs, 1)),
            )
            self.is_residual = stride == 1 and inputs == outputs

        def forward(self, x: Any) -> Any:
            return x + self.layers(x) if self.is_residual else self.layers(x)

    blocks = [(16, 3, 1, 1), (24, 3, 2, 6), (24, 3, 1, 6), (40, 5, 2, 6), (40, 5, 1, 6)]
    layers, width = [convolution(3, 32, 3), nn.SiLU()], 32
    for outputs, size, stride, expand in blocks:
        layers.append(MBConv(width, outputs, size, stride, expand))
        width = outputs
    layers += [convolution(width, 160, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    layers += [nn.Dropout(0.2), nn.Linear(160, 10)]
    return _classifier(package, nn.Sequential(*layers), 8, 3, 32, 32)


def densenet(package: Any) -> Built:
    """DenseNet-BC (Huang et al. 2017) of growth 12: each layer reads the concatenation of all maps
    before it."""
    nn = package.nn

    class Layer(nn.Module):
        def __init__(self, inputs: int, growth: int) -> None:
            super().__init__()
            self.norm1 = nn.BatchNorm2d(inputs)
            self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(4 * growth)
            self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, maps: list[Any]) -> Any:
            x = self.conv1(self.relu(self.norm1(package.cat(maps, 1))))
            return self.conv2(self.relu(self.norm2(x)))

    class DenseBlock(nn.ModuleList):
        def forward(self, x: Any) -> Any:
            maps = [x]
            for layer in self:
                maps.append(layer(maps))
            return package.cat(maps, 1)

    growth, depth, width = 12, 6, 24
    layers = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
    for i in range(3):
        layers.append(DenseBlock([Layer(width + j * growth, growth) for j in range(depth)]))
        width += depth * growth
        layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        if i < 2:
            layers += [nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2)]
            width //= 2
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    return _classifier(package, nn.Sequential(*layers), 8, 3, 32, 32)


def swin(package: Any) -> Built:
    """Two blocks of Swin-T (Liu et al. 2021): attention within windows, the second block's shifted
    by a cyclic roll and masked, and biases gathered by relative position."""
    nn, side, window, width, heads = package.nn, 28, 7, 96, 3

    def windows(x: Any) -> Any:
        n, h, w, c = x.shape
        x = x.view(n, h // window, window, w // window, window, c)
        return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window * window, c)

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.biases = nn.Parameter(package.zeros((2 * window - 1) ** 2, heads))
            nn.init.trunc_normal_(self.biases, std=0.02)
            steps = package.arange(window)
            places = package.stack(package.meshgrid(steps, steps, indexing="ij")).flatten(1)
            apart = places[:, :, None] - places[:, None, :] + window - 1
            self.register_buffer("index", apart[0] * (2 * window - 1) + apart[1])

        def forward(self, x: Any, mask: Any) -> Any:
            n, t, c = x.shape
            q, k, v = self.qkv(x).reshape(n, t, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
            scores = (q * (c // heads) ** -0.5) @ k.transpose(-2, -1)
            bias = self.biases[self.index.view(-1)].view(t, t, heads).permute(2, 0, 1)
            scores = scores + bias.unsqueeze(0)
            if mask is not None:
                count = len(mask)
                scores = scores.view(n // count, count, heads, t, t) + mask[None, :, None]
                scores = scores.view(-1, heads, t, t)
            return self.project((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, c))

    class Block(nn.Module):
        def __init__(self, shift: int) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.attention = Attention()
            layers = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
            self.mlp, self.shift = nn.Sequential(*layers), shift
            mask = None
            if shift:
                regions = package.zeros(1, side, side, 1)
                bounds = slice(0, -window), slice(-window, -shift), slice(-shift, None)
                for i, (rows, columns) in enumerate((r, c) for r in bounds for c in bounds):
                    regions[:, rows, columns, :] = i
                regions = windows(regions).squeeze(-1)
                apart = regions.unsqueeze(1) - regions.unsqueeze(2)
                mask = apart.masked_fill(apart != 0, -100.0).masked_fill(apart == 0, 0.0)
            self.register_buffer("mask", mask)

        def forward(self, x: Any) -> Any:
            y, shift = self.norm1(x), self.shift
            if shift:
                y = package.roll(y, shifts=(-shift, -shift), dims=(1, 2))
            y = self.attention(windows(y), self.mask)
            count = side // window
            y = y.view(-1, count, count, window, window, width).permute(0, 1, 3, 2, 4, 5)
            y = y.reshape(-1, side, side, width)
            if shift:
                y = package.roll(y, shifts=(shift, shift), dims=(1, 2))
            x = x + y
            return x + self.mlp(self.norm2(x))

    class Swin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.norm = nn.Conv2d(3, width, 4, 4), nn.LayerNorm(width)
            self.blocks = nn.Sequential(Block(0), Block(window // 2))
            self.head = nn.Linear(width, 10)

        def forward(self, x: Any) -> Any:
            x = self.blocks(self.norm(self.patches(x).permute(0, 2, 3, 1)))
            return self.head(x.mean((1, 2)))

    return _classifier(package, Swin(), 2, 3, 4 * side, 4 * side)


def mixer(package: Any) -> Built:
    """MLP-Mixer (Tolstikhin et al. 2021): perceptrons along the patches and along the channels."""
    nn = package.nn

    class Block(nn.Module):
        def __init__(self, tokens: int, width: int) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.tokens, self.channels = (
                nn.Sequential(nn.Linear(n, hidden), nn.GELU(), nn.Linear(hidden, n))
                for n, hidden in ((tokens, 2 * tokens), (width, 4 * width))
            )

        def forward(self, x: Any) -> Any:
            x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
            return x + self.channels(self.norm2(x))

    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 128, 4, 4)
            self.blocks = nn.Sequential(*(Block(64, 128) for _ in range(4)))
            self.norm, self.head = nn.LayerNorm(128), nn.Linear(128, 10)

        def forward(self, x: Any) -> Any:
            x = self.blocks(self.patches(x).flatten(2).transpose(1, 2))
            return self.head(self.norm(x).mean(1))

    return _classifier(package, Mixer(), 8, 3, 32, 32)


def volo(package: Any) -> Built:
    """Outlookers of VOLO (Yuan et al. 2022): the values of 3x3 windows (unfold), weighted by
    attention that a layer predicts from the centre, are added up where windows overlap (fold)."""
    nn, F = package.nn, package.nn.functional

    class Outlooker(nn.Module):
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.value, self.weights = nn.Linear(width, width), nn.Linear(width, heads * 81)
            self.project, self.heads = nn.Linear(width, width), heads
            layers = nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width)
            self.mlp, self.pool = nn.Sequential(*layers), nn.AvgPool2d(2, 2)
            self.unfold = nn.Unfold(3, padding=1, stride=2)

        def attend(self, x: Any) -> Any:
            n, h, w, c = x.shape
            heads, places = self.heads, (h // 2) * (w // 2)
            value = self.unfold(self.value(x).permute(0, 3, 1, 2))
            value = value.reshape(n, heads, c // heads, 9, places).permute(0, 1, 4, 3, 2)
            pooled = self.pool(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            scores = self.weights(pooled).reshape(n, places, heads, 9, 9).permute(0, 2, 1, 3, 4)
            scores = (scores * (c // heads) ** -0.5).softmax(-1)
            x = (scores @ value).permute(0, 1, 4, 3, 2).reshape(n, c * 9, places)
            x = F.fold(x, output_size=(h, w), kernel_size=3, padding=1, stride=2)
            return self.project(x.permute(0, 2, 3, 1))

        def forward(self, x: Any) -> Any:
            x = x + self.attend(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    class VOLO(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.head = nn.Conv2d(3, 96, 2, 2), nn.Linear(96, 10)
            self.blocks = nn.Sequential(Outlooker(96, 3), Outlooker(96, 3))

        def forward(self, x: Any) -> Any:
            return self.head(self.blocks(self.patches(x).permute(0, 2, 3, 1)).mean((1, 2)))

    return _classifier(package, VOLO(), 8, 3, 32, 32)


def c3d(package: Any) -> Built:
    """Convolutions over time and space (C3D, Tran et al. 2015; with BatchNorm) of short films."""
    nn = package.nn
    layers, width = [], 3
    for outputs, pool in ((16, (1, 2, 2)), (32, (2, 2, 2)), (64, (2, 2, 2))):
        layers += [nn.Conv3d(width, outputs, 3, padding=1), nn.BatchNorm3d(outputs), nn.ReLU()]
        layers += [nn.MaxPool3d(pool, pool)]
        width = outputs
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(64, 10))
    return _classifier(package, model, 4, 3, 8, 32, 32)


def distillation(package: Any) -> Built:
    """Knowledge distillation (Hinton et al. 2015) from a VGG with BatchNorm (Simonyan and Zisserman
    2015), which only evaluates, to a smaller one."""
    nn, F = package.nn, package.nn.functional

    def vgg(*widths: int) -> Any:
        layers, inputs = [], 3
        for width in widths:
            for n in (inputs, width):
                layers += [nn.Conv2d(n, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(True)]
            layers.append(nn.MaxPool2d(2, 2))
            inputs = width
        layers += [nn.Flatten(), nn.Linear(16 * inputs, 128), nn.ReLU(True), nn.Dropout()]
        return nn.Sequential(*layers, nn.Linear(128, 10))

    teacher, student = vgg(32, 64, 128).eval().requires_grad_(False), vgg(16, 32, 64)
    temperature = 4.0

    def loss(x: Any, y: Any) -> Any:
        with package.no_grad():
            wanted = F.softmax(teacher(x) / temperature, 1)
        logits = student(x)
        soft = F.kl_div(F.log_softmax(logits / temperature, 1), wanted, reduction="batchmean")
        return 0.9 * temperature**2 * soft + 0.1 * F.cross_entropy(logits, y)

    draws = np.random.default_rng(0)
    x = draws.standard_normal((16, 3, 32, 32), dtype=np.float32)
    return nn.ModuleList([teacher, student]), loss, [x, draws.integers(0, 10, 16)]


def augmented(package: Any) -> Built:
    """Random crops and flips, normalisation, cutout (DeVries and Taylor 2017) and mixup (Zhang et
    al. 2018) within the step, before a small net; smoothed labels."""
    nn, F = package.nn, package.nn.functional
    layers, width = [], 3
    for outputs in (32, 64, 64):
        layers += [nn.Conv2d(width, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs)]
        layers += [nn.ReLU(inplace=True)]
        width = outputs
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    mean, std = (
        package.tensor(numbers).view(1, 3, 1, 1)
        for numbers in ([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616])
    )

    def crop(x: Any, padding: int = 4) -> Any:
        n, _, h, w = x.shape
        x = F.pad(x, (padding,) * 4).permute(0, 2, 3, 1)
        top, left = (package.randint(0, 2 * padding + 1, (n, 1)) for _ in range(2))
        rows, columns = top + package.arange(h), left + package.arange(w)
        x = x[package.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
        return x.permute(0, 3, 1, 2)

    def cutout(x: Any, size: int = 8) -> Any:
        n, _, h, w = x.shape
        y, left = (package.randint(0, h, (n, 1)) for _ in range(2))
        rows = (package.arange(h) - y).abs() < size // 2
        columns = (package.arange(w) - left).abs() < size // 2
        return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)

    def loss(x: Any, y: Any) -> Any:
        x = x.to(mean.dtype) / 255
        x = crop(x)
        x = package.where(package.rand(len(x), 1, 1, 1) < 0.5, x, x.flip(-1))
        x = cutout((x - mean) / std)
        share, order = package.rand(len(x), 1, 1, 1), package.randperm(len(x))
        x = share * x + (1 - share) * x[order]
        share = share.view(-1, 1)
        logits, classes = model(x), F.one_hot(y, 10).to(x.dtype)
        wanted = share * classes + (1 - share) * classes[order]
        return F.cross_entropy(logits, wanted, label_smoothing=0.1)

    draws = np.random.default_rng(0)
    x = draws.integers(0, 256, (64, 3, 32, 32), dtype=np.uint8)
    return model, loss, [x, draws.integers(0, 10, 64)]


MODELS: list[TrainingModel] = [
    TrainingModel("ConvNeXt blocks, 8 x 32 x 32", convnext),
    TrainingModel("EfficientNet blocks, 8 x 32 x 32", efficientnet),
    TrainingModel("DenseNet-BC, 8 x 32 x 32", densenet),
    TrainingModel("Swin blocks, 2 x 112 x 112", swin),
    TrainingModel("MLP-Mixer, 8 x 64 patches", mixer),
    TrainingModel("VOLO outlookers, 8 x 16 x 16", volo),
    TrainingModel("C3D, 4 x 8 x 32 x 32", c3d),
    TrainingModel("Distillation of a VGG, 16 x 32 x 32", distillation),
    TrainingModel("Augmented images, 64 x 32 x 32", augmented),
]
