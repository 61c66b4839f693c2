"""Lightning, torchmetrics, captum, pytorch_optimizer and vector_quantize_pytorch."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from cases import fill, image, integers, normal

CASES: dict[str, Any] = {}


def lightning() -> Any:
    import pytorch_lightning as pl

    class Net(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))

        def training_step(self, batch: Any, index: int) -> Any:
            loss = F.mse_loss(self.layers(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("validation", F.mse_loss(self.layers(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam(self.parameters(), 0.01)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
            return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def call() -> Any:
        net: Any = fill(Net(), 0.3)
        data = torch.utils.data.TensorDataset(normal(20, 4), normal(20, 1, seed=1))
        loader = torch.utils.data.DataLoader(data, 5)
        trainer = pl.Trainer(
            max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=0.5,
            accumulate_grad_batches=2,
        )  # fmt: skip
        trainer.fit(net, loader, loader)
        return [*net.parameters(), torch.tensor(float(trainer.callback_metrics["validation"]))]

    return call


def metrics() -> Any:
    import torchmetrics.functional as f

    p, y, b, z = normal(20, 4).softmax(-1), integers(4, 20), normal(20).sigmoid(), integers(2, 20)
    u, v, of_4 = normal(9), normal(9, seed=1), {"task": "multiclass", "num_classes": 4}
    return lambda: [
        f.accuracy(p, y, **of_4), f.f1_score(p, y, average="macro", **of_4),
        f.auroc(b, z, "binary"),
        f.confusion_matrix(p, y, **of_4), f.pearson_corrcoef(u, v), f.spearman_corrcoef(u, v),
        f.average_precision(b, z, "binary"), f.calibration_error(b, z, "binary"), f.r2_score(u, v),
        f.matthews_corrcoef(p, y, **of_4), f.perplexity(normal(2, 5, 4), integers(4, 2, 5)),
        f.structural_similarity_index_measure(image().sigmoid(), image().flip(0).sigmoid()),
    ]  # fmt: skip


def attributions() -> Any:
    from captum import attr

    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    model = fill(layers, 0.1)

    def call() -> Any:
        x = image(8).requires_grad_()
        window = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 4, 4)}
        return [
            attr.IntegratedGradients(model).attribute(x, target=1, n_steps=10),
            attr.Saliency(model).attribute(x, target=1),
            attr.DeepLift(model).attribute(x, target=1),
            attr.LayerGradCam(model, model[0]).attribute(x, target=1),
            attr.Occlusion(model).attribute(x, target=1, **window),
            attr.GuidedBackprop(model).attribute(x, target=1),
        ]

    return call


def quantizer() -> Any:
    from vector_quantize_pytorch import VectorQuantize

    return VectorQuantize(dim=8, codebook_size=16), lambda m: m(normal(2, 5, 8))


CASES["pytorch_lightning: Trainer"] = lightning
CASES["torchmetrics: functions"] = metrics
CASES["captum: attributions"] = attributions
CASES["vector_quantize_pytorch: VectorQuantize"] = quantizer


def optimizer(name: str) -> Any:
    library: Any = importlib.import_module("pytorch_optimizer")

    def call() -> Any:
        model = fill(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), 0.3)
        optimizer = library.load_optimizer(name)(model.parameters(), lr=1e-2)
        x, y = normal(5, 6, seed=9), normal(5, 3, seed=10)
        for _ in range(6):
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimizer.step()
        return list(model.parameters())

    return call


for name in (
    "a2grad", "adabelief", "adabound", "adafactor", "adai", "adamax", "adamp", "adan", "ademamix",
    "adopt", "came", "diffgrad", "fromage", "lamb", "lars", "lion", "madgrad", "nero", "novograd",
    "padam", "prodigy", "qhadam", "radam", "schedulefreeadamw", "sgdw", "shampoo", "sm3", "swats",
    "tiger", "yogi",
):  # fmt: skip
    CASES[f"pytorch_optimizer: {name}"] = functools.partial(optimizer, name)
