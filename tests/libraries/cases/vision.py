"""torchvision, timm, vit_pytorch, segmentation_models_pytorch and kornia."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np
import torch

from cases import image, normal

CASES: dict[str, Any] = {}


def from_torchvision(file: str, name: str, size: int, **options: Any) -> Any:
    models = importlib.import_module(f"torchvision.models{file}")
    return getattr(models, name)(weights=None, **options), lambda m: m(image(size, 1))


LARGE = ("alexnet", "vit_b_32", "maxvit_t")
for model in (
    "alexnet", "resnet18", "squeezenet1_1", "densenet121", "shufflenet_v2_x0_5",
    "mobilenet_v2", "mobilenet_v3_small", "resnext50_32x4d", "efficientnet_b0", "regnet_y_400mf",
    "convnext_tiny", "vit_b_32", "swin_t", "swin_v2_t", "maxvit_t",
):  # fmt: skip
    size = 224 if model in LARGE else 64
    CASES[f"torchvision: {model}"] = functools.partial(
        from_torchvision, "", model, size, num_classes=10
    )
for model in ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"):
    CASES[f"torchvision: {model}"] = functools.partial(
        from_torchvision, ".segmentation", model, 64, weights_backbone=None, num_classes=4
    )


def transforms() -> Any:
    from PIL import Image
    from torchvision import transforms
    from torchvision.transforms import functional as F

    pixels = np.random.RandomState(0).randint(0, 255, (32, 40, 3), dtype=np.uint8)
    compose = transforms.Compose(
        [transforms.Resize(16), transforms.CenterCrop(8), transforms.ToTensor()]
    )

    def call() -> Any:
        x = transforms.ToTensor()(Image.fromarray(pixels))
        return [
            compose(Image.fromarray(pixels)), F.resize(x, [20, 24]), F.rotate(x, 30.0),
            F.affine(x, 10.0, [2, 3], 1.1, [5.0, 3.0]), F.adjust_hue(x, 0.1), F.autocontrast(x),
            F.gaussian_blur(x, [3, 3], [1.0, 1.0]), F.equalize((x * 255).byte()), F.hflip(x),
            F.adjust_saturation(x, 0.7), F.adjust_sharpness(x, 1.5), F.pad(x, [2, 3]),
        ]  # fmt: skip

    return call


def boxes() -> Any:
    from torchvision import ops

    a = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]])
    return lambda: [
        ops.box_iou(a, a + 1), ops.generalized_box_iou(a, a + 1),
        ops.box_convert(a, "xyxy", "cxcywh"),
        ops.complete_box_iou_loss(a, a + 1, "mean"), ops.masks_to_boxes(torch.ones(1, 5, 6)),
        ops.sigmoid_focal_loss(normal(5), (normal(5, seed=1) > 0).float(), reduction="mean"),
    ]  # fmt: skip


CASES["torchvision: transforms"] = transforms
CASES["torchvision: boxes"] = boxes


def from_timm(name: str, size: int) -> Any:
    timm = importlib.import_module("timm")
    return timm.create_model(name, num_classes=10), lambda m: m(image(size, 1))


for model in (
    "resnet10t", "mobilenetv3_small_050", "convnext_atto", "regnetx_002", "ghostnet_050", "dpn48b",
    "res2net50_14w_8s", "resnest14d", "dla34", "repvgg_a0", "edgenext_xx_small", "efficientvit_b0",
    "starnet_s1", "poolformer_s12", "lambda_resnet26t", "caformer_s18", "pvt_v2_b0", "repvit_m0_9",
    "nfnet_l0", "mambaout_femto", "sequencer2d_s", "focalnet_tiny_srf", "mobilevit_xxs",
):  # fmt: skip
    CASES[f"timm: {model}"] = functools.partial(from_timm, model, 64)
for model in (
    "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "mixer_s32_224", "cait_xxs24_224",
    "coat_tiny", "levit_128s", "eva02_tiny_patch14_224", "convit_tiny",
    "hiera_tiny_224", "mvitv2_tiny", "coatnet_nano_rw_224", "sam2_hiera_tiny",
):  # fmt: skip
    CASES[f"timm: {model}"] = functools.partial(from_timm, model, 224)

SIZES = {"image_size": 32, "patch_size": 8, "num_classes": 10, "dim": 32, "heads": 2, "mlp_dim": 64}


def from_vit_pytorch(file: str, name: str, **options: Any) -> Any:
    module = importlib.import_module(f"vit_pytorch.{file}")
    return getattr(module, name)(**SIZES, **options), lambda m: m(image())


for file, name, options in (
    ("vit", "ViT", {"depth": 2}),
    ("simple_vit", "SimpleViT", {"depth": 2}),
    ("cait", "CaiT", {"depth": 2, "cls_depth": 1}),
    ("rvt", "RvT", {"depth": 2}),
    ("xcit", "XCiT", {"depth": 2, "cls_depth": 1, "local_patch_kernel_size": 3}),
):
    CASES[f"vit_pytorch: {name}"] = functools.partial(from_vit_pytorch, file, name, **options)


def segmentation(name: str) -> Any:
    smp = importlib.import_module("segmentation_models_pytorch")
    model = getattr(smp, name)("resnet18", encoder_weights=None, classes=2)
    return model, lambda m: m(image(64))


for name in ("Unet", "FPN", "DeepLabV3Plus"):
    CASES[f"segmentation_models_pytorch: {name}"] = functools.partial(segmentation, name)


def kornia() -> Any:
    import kornia as K

    x = image().sigmoid()
    return lambda: [
        K.color.rgb_to_lab(x), K.color.rgb_to_hsv(x), K.filters.sobel(x), K.filters.canny(x)[1],
        K.filters.median_blur(x, (3, 3)), K.geometry.rotate(x, torch.tensor([30.0, 10.0])),
        K.morphology.dilation(x, torch.ones(3, 3)), K.enhance.equalize_clahe(x),
        K.losses.ssim_loss(x, x.flip(0), 5), K.feature.harris_response(x), K.geometry.pyrdown(x),
    ]  # fmt: skip


CASES["kornia: images"] = kornia
