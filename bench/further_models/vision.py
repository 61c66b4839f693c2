"""Models of images that find, read and compare; and, from other files, all that classify and make
images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench.further_models import image_classification, image_generation
from bench.training_models import Built, TrainingModel, _classifier


def retinanet(package: Any) -> Built:
    """RetinaNet (Lin et al. 2017): a feature pyramid, heads that its levels share, the focal loss
    of all anchors' classes, and smooth L1 of the boxes of those that match an object.

    A row of the targets is an anchor's index, its class, and the box: centre, width and height."""
    nn, F = package.nn, package.nn.functional
    classes, per_place = 20, 3

    def stage(inputs: int, outputs: int) -> Any:
        layer = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())

    def head(outputs: int) -> Any:
        layers = [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1)]
        return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(64, per_place * outputs, 3, padding=1))

    class RetinaNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = stage(3, 32)
            self.stages = nn.ModuleList([stage(32, 64), stage(64, 128), stage(128, 256)])
            self.lateral = nn.ModuleList([nn.Conv2d(n, 64, 1) for n in (64, 128, 256)])
            self.smooth = nn.ModuleList([nn.Conv2d(64, 64, 3, padding=1) for _ in range(3)])
            self.classes, self.boxes = head(classes), head(4)
            nn.init.constant_(self.classes[-1].bias, -math.log(99))

        def forward(self, x: Any) -> Any:
            maps, x = [], self.stem(x)
            for layers in self.stages:
                x = layers(x)
                maps.append(x)
            maps = [layer(x) for layer, x in zip(self.lateral, maps, strict=True)]
            for i in (1, 0):
                larger = F.interpolate(maps[i + 1], size=maps[i].shape[-2:], mode="nearest")
                maps[i] = maps[i] + larger
            maps = [layer(x) for layer, x in zip(self.smooth, maps, strict=True)]
            return tuple(
                package.cat([self.by_anchor(head(x), n) for x in maps], 1)
                for head, n in ((self.classes, classes), (self.boxes, 4))
            )

        @staticmethod
        def by_anchor(x: Any, n: int) -> Any:
            images, _, height, width = x.shape
            x = x.view(images, per_place, n, height, width).permute(0, 3, 4, 1, 2)
            return x.reshape(images, -1, n)

    model, boxes = RetinaNet(), []
    for places in (16, 8, 4):
        centres = (package.arange(places) + 0.5) * (64 / places)
        y, x = package.meshgrid(centres, centres, indexing="ij")
        for scale in (1.0, 1.26, 1.587):
            side = package.full_like(x, 4 * scale * 64 / places)
            boxes.append(package.stack([x, y, side, side], -1).reshape(-1, 1, 4))
    levels = [package.cat(boxes[i : i + 3], 1).reshape(-1, 4) for i in (0, 3, 6)]
    anchors = package.cat(levels)

    def loss(x: Any, objects: Any) -> Any:
        logits, deltas = model(x)
        matched = objects[..., 0].long()
        targets = package.zeros_like(logits)
        images = package.arange(len(x))[:, None]
        targets[images, matched, objects[..., 1].long()] = 1.0
        error = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        p = logits.sigmoid()
        right = p * targets + (1 - p) * (1 - targets)
        weight = 0.25 * targets + 0.75 * (1 - targets)
        focal = (weight * (1 - right) ** 2 * error).sum()
        base, box = anchors[matched], objects[..., 2:]
        shift = (box[..., :2] - base[..., :2]) / base[..., 2:]
        wanted = package.cat([shift, package.log(box[..., 2:] / base[..., 2:])], -1)
        deltas = deltas.gather(1, matched[..., None].expand(-1, -1, 4))
        return (focal + F.smooth_l1_loss(deltas, wanted, beta=0.1, reduction="sum")) / len(x) / 8

    draws = np.random.default_rng(0)
    x = draws.standard_normal((4, 3, 64, 64), dtype=np.float32)
    objects = draws.uniform(8, 56, (4, 8, 6)).astype(np.float32)
    objects[..., 0] = draws.permuted(np.tile(np.arange(1008), (4, 1)), axis=1)[:, :8]
    objects[..., 1] = draws.integers(0, classes, (4, 8))
    return model, loss, [x, objects]


def deeplab(package: Any) -> Built:
    """DeepLabv3 (Chen et al. 2017): parallel dilated convolutions and the mean of the image, and
    logits enlarged bilinearly; pixels at borders of objects count for nothing."""
    nn, F = package.nn, package.nn.functional

    def convolution(
        inputs: int, outputs: int, size: int = 3, dilation: int = 1, stride: int = 1
    ) -> Any:
        padding = dilation * (size // 2)
        layer = nn.Conv2d(inputs, outputs, size, stride, padding, dilation, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())

    class DeepLab(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Sequential(
                *(convolution(3, 32, stride=2), convolution(32, 64, stride=2)),
                *(convolution(64, 64, dilation=2), convolution(64, 64, dilation=4)),
            )
            rates = [convolution(64, 32, dilation=rate) for rate in (3, 6, 9)]
            self.pyramid = nn.ModuleList([convolution(64, 32, 1), *rates])
            self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), convolution(64, 32, 1))
            self.project = nn.Sequential(convolution(160, 32, 1), nn.Dropout(0.1))
            self.head = nn.Sequential(convolution(32, 32), nn.Conv2d(32, 21, 1))

        def forward(self, x: Any) -> Any:
            size, x = x.shape[-2:], self.backbone(x)
            maps = [layer(x) for layer in self.pyramid]
            pooled = self.pooled(x)
            maps.append(F.interpolate(pooled, x.shape[-2:], mode="bilinear", align_corners=False))
            x = self.head(self.project(package.cat(maps, 1)))
            return F.interpolate(x, size, mode="bilinear", align_corners=False)

    model = DeepLab()

    def loss(x: Any, classes: Any) -> Any:
        return F.cross_entropy(model(x), classes, ignore_index=255)

    draws = np.random.default_rng(0)
    x = draws.standard_normal((4, 3, 64, 64), dtype=np.float32)
    classes = draws.integers(0, 21, (4, 64, 64))
    return model, loss, [x, np.where(draws.random(classes.shape) < 0.1, 255, classes)]


def crnn(package: Any) -> Built:
    """CRNN (Shi et al. 2017): convolutions that shrink a line of text to one row, a bidirectional
    LSTM along it, and the CTC loss (Graves et al. 2006)."""
    nn, F = package.nn, package.nn.functional

    class CRNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolutions = nn.Sequential(
                *(nn.Conv2d(1, 32, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Conv2d(32, 64, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Conv2d(64, 128, 3, 1, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU()),
                *(nn.MaxPool2d((2, 1)), nn.Conv2d(128, 128, 3, 1, 1), nn.ReLU()),
                nn.MaxPool2d((4, 1)),
            )
            self.recurrent = nn.LSTM(128, 64, 2, bidirectional=True)
            self.head = nn.Linear(128, 37)

        def forward(self, x: Any) -> Any:
            x = self.convolutions(x).squeeze(2).permute(2, 0, 1)
            return self.head(self.recurrent(x)[0])

    model = CRNN()

    def loss(x: Any, text: Any) -> Any:
        scores = model(x).log_softmax(2)
        steps = package.full((len(x),), len(scores), dtype=package.long)
        return F.ctc_loss(scores, text, steps, (text != 0).sum(1), zero_infinity=True)

    draws = np.random.default_rng(0)
    x = draws.standard_normal((8, 1, 32, 100), dtype=np.float32)
    text = draws.integers(1, 37, (8, 10))
    lengths = draws.integers(4, 11, (8, 1))
    return model, loss, [x, np.where(np.arange(10) < lengths, text, 0)]


def spatial_transformer(package: Any) -> Built:
    """A spatial transformer (Jaderberg et al. 2015): a small net finds an affine map, by which the
    image is sampled before it is classified."""
    nn, F = package.nn, package.nn.functional

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.localization = nn.Sequential(
                *(nn.Conv2d(1, 8, 7), nn.MaxPool2d(2, 2), nn.ReLU(True)),
                *(nn.Conv2d(8, 10, 5), nn.MaxPool2d(2, 2), nn.ReLU(True)),
                *(nn.Flatten(), nn.Linear(90, 32), nn.ReLU(True), nn.Linear(32, 6)),
            )
            self.localization[-1].weight.data.zero_()
            self.localization[-1].bias.data.copy_(package.tensor([1.0, 0, 0, 0, 1, 0]))
            self.classifier = nn.Sequential(
                *(nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(10, 20, 5)),
                *(nn.Dropout2d(), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()),
                *(nn.Linear(320, 50), nn.ReLU(), nn.Linear(50, 10)),
            )

        def forward(self, x: Any) -> Any:
            grid = F.affine_grid(self.localization(x).view(-1, 2, 3), x.size(), align_corners=False)
            return self.classifier(F.grid_sample(x, grid, align_corners=False))

    return _classifier(package, Net(), 64, 1, 28, 28)


def capsules(package: Any) -> Built:
    """CapsNet (Sabour et al. 2017) with fewer capsules: three rounds of routing by agreement, the
    margin loss, and a decoder of the true class's capsule."""
    nn, F = package.nn, package.nn.functional

    def squash(x: Any) -> Any:
        square = (x**2).sum(-1, keepdim=True)
        return square / (1 + square) * x / package.sqrt(square + 1e-8)

    class CapsNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.primary = nn.Conv2d(1, 64, 9), nn.Conv2d(64, 64, 9, 2)
            self.weight = nn.Parameter(0.1 * package.randn(10, 288, 16, 8))
            layers = [nn.Linear(160, 256), nn.ReLU(), nn.Linear(256, 784), nn.Sigmoid()]
            self.decoder = nn.Sequential(*layers)

        def forward(self, x: Any) -> Any:
            x = self.primary(F.relu(self.first(x)))
            x = squash(x.view(len(x), 8, 8, -1).permute(0, 1, 3, 2).reshape(len(x), -1, 8))
            votes = package.matmul(self.weight, x[:, None, :, :, None]).squeeze(-1)
            fixed = votes.detach()
            logits = package.zeros(len(x), 10, votes.shape[2], 1)
            for _ in range(2):
                centre = squash((F.softmax(logits, dim=1) * fixed).sum(2, keepdim=True))
                logits = logits + (fixed * centre).sum(-1, keepdim=True)
            return squash((F.softmax(logits, dim=1) * votes).sum(2))

    model = CapsNet()

    def loss(x: Any, y: Any) -> Any:
        capsules, truth = model(x), F.one_hot(y, 10).to(x.dtype)
        length = capsules.norm(dim=-1)
        margin = truth * F.relu(0.9 - length) ** 2 + 0.5 * (1 - truth) * F.relu(length - 0.1) ** 2
        drawn = model.decoder((capsules * truth[:, :, None]).flatten(1))
        return margin.sum(1).mean() + 0.0005 * ((drawn - x.flatten(1)) ** 2).sum(1).mean()

    draws = np.random.default_rng(0)
    x = draws.random((16, 1, 28, 28), dtype=np.float32)
    return model, loss, [x, draws.integers(0, 10, 16)]


def triplets(package: Any) -> Built:
    """Embeddings of images by the hardest triplets of a batch (Hermans et al. 2017): the farthest
    of the same class and the nearest of another, among all distances."""
    nn, F = package.nn, package.nn.functional
    layers, width = [], 3
    for outputs in (32, 64, 64):
        layers += [nn.Conv2d(width, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
        width = outputs
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, 128))

    def loss(x: Any, y: Any) -> Any:
        places = F.normalize(model(x), dim=1)
        apart = package.cdist(places, places)
        same = y[:, None] == y[None, :]
        farthest = apart.masked_fill(~same, 0.0).amax(1)
        nearest = apart.masked_fill(same, math.inf).amin(1)
        return F.softplus(farthest - nearest).mean()

    x = np.random.default_rng(0).standard_normal((32, 3, 32, 32), dtype=np.float32)
    return model, loss, [x, np.arange(32) // 4]


MODELS: list[TrainingModel] = [
    *image_classification.MODELS,
    *image_generation.MODELS,
    TrainingModel("RetinaNet, 4 x 64 x 64", retinanet),
    TrainingModel("DeepLab, 4 x 64 x 64", deeplab),
    TrainingModel("CRNN with CTC, 8 x 32 x 100", crnn),
    TrainingModel("Spatial transformer, 64 x 28 x 28", spatial_transformer),
    TrainingModel("CapsNet, 16 x 28 x 28", capsules),
    TrainingModel("Hardest triplets, 32 x 32 x 32", triplets),
]
