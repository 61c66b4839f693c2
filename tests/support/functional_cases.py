"""The table of gradient.functional's tests: one row per case, a function's name and its arguments.

Arrays are inputs that want a gradient; `fixed` wraps those that do not. The same rows are checked
against finite differences (test_functional.py) and PyTorch (parity/test_functional_parity.py).
Add a row for each way in which a function can be called.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class fixed:  # noqa: N801 (reads as a word in the table)
    """An array that needs no gradient."""

    def __init__(self, array: Any):
        self.array = np.asarray(array)


class Case:
    """A call of the function `name`."""

    smooth = True

    def __init__(self, name: str, *args: Any, **kwargs: Any):
        self.name, self.args, self.kwargs = name, args, kwargs

    def arrays(self) -> list[np.ndarray]:
        """The inputs that want a gradient, in the order of the call."""
        values = [*self.args, *self.kwargs.values()]
        return [value for value in values if isinstance(value, np.ndarray)]

    def call(self, functional: Any, inputs: list[Any], constant: Any) -> Any:
        """Call `functional.<name>` with `inputs` for the arrays, `constant(array)` for the rest."""
        remaining = iter(inputs)

        def convert(value: Any) -> Any:
            if isinstance(value, fixed):
                return constant(value.array)
            return next(remaining) if isinstance(value, np.ndarray) else value

        args = [convert(value) for value in self.args]
        kwargs = {name: convert(value) for name, value in self.kwargs.items()}
        return getattr(functional, self.name)(*args, **kwargs)

    def __str__(self) -> str:
        parts = [_show(a) for a in self.args] + [f"{k}={_show(v)}" for k, v in self.kwargs.items()]
        return f"{self.name}({', '.join(parts)})"


def _show(value: Any) -> str:
    if isinstance(value, fixed):
        return _show(value.array)
    if isinstance(value, np.ndarray):
        return f"{value.dtype.name}{list(value.shape)}"
    return repr(value)


def edge(name: str, *args: Any, **kwargs: Any) -> Case:
    """A case where difference quotients mean nothing: at a kink, or with a part held constant."""
    case = Case(name, *args, **kwargs)
    case.smooth = False
    return case


rng = np.random.default_rng(0)


def x(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape)


def positive(*shape: int) -> np.ndarray:
    return rng.uniform(0.05, 0.95, shape)


def ints(high: int, *shape: int) -> fixed:
    return fixed(rng.integers(0, high, shape))


def signs(*shape: int) -> fixed:
    return fixed(rng.choice([-1.0, 1.0], shape))


def bools(*shape: int) -> fixed:
    return fixed(rng.random(shape) < 0.7)


def distinct(*shape: int) -> np.ndarray:
    """Without equal elements, for which maxima may differ in the gradient."""
    return rng.permutation(int(np.prod(shape))).reshape(shape) / 7.0 - 2.0


def within(*shape: int) -> np.ndarray:
    """Places of an image, some of them outside."""
    return rng.uniform(-1.3, 1.3, shape)


def distribution(*shape: int) -> np.ndarray:
    raw = rng.uniform(0.1, 1.0, shape)
    return raw / raw.sum(1, keepdims=True)


ACTIVATIONS = [
    *(Case(name, x(3, 4) * 3) for name in (
        "relu", "relu6", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid", "tanh",
        "logsigmoid", "softplus", "softsign", "tanhshrink", "softshrink", "hardshrink",
        "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "glu",
    )),
    Case("relu", fixed(np.array([-1, 0, 2]))),
    Case("gelu", x(3, 4), approximate="tanh"),
    Case("elu", x(3, 4), alpha=0.3),
    Case("celu", x(3, 4), alpha=0.25),
    edge("elu", np.array([-1000.0, -1e-3, 0.0, 800.0])),
    Case("leaky_relu", x(3, 4), negative_slope=0.3),
    Case("hardtanh", x(3, 4), min_val=-0.4, max_val=0.2),
    Case("threshold", x(3, 4), 0.1, 20.0),
    Case("prelu", x(2, 3, 4), positive(1)),
    Case("prelu", x(2, 3, 4), positive(3)),
    Case("prelu", x(5), positive(1)),
    Case("softplus", x(3, 4) * 20, beta=2.0, threshold=5.0),
    edge("softplus", np.array([-1000.0, -30.0, 0.0, 30.0, 1000.0])),
    edge("logsigmoid", np.array([-1000.0, -30.0, 1.0, 30.0, 1000.0])),
    Case("softshrink", x(3, 4), lambd=0.2),
    Case("hardshrink", x(3, 4), lambd=0.2),
    Case("glu", x(4, 3), dim=0),
    Case("softmax", x(3, 4), dim=0),
    edge("softmax", x(3, 4) * 1000, dim=-1),
    Case("log_softmax", x(3, 4, 2), dim=1),
    edge("log_softmax", x(3, 4) * 1000, dim=-1),
    Case("softmin", x(3, 4), dim=1),
]  # fmt: skip

LINEAR = [
    Case("linear", x(2, 3, 4), x(5, 4), x(5)),
    Case("linear", x(4), x(5, 4)),
    Case("bilinear", x(2, 3, 4), x(2, 3, 5), x(6, 4, 5), x(6)),
    Case("bilinear", x(2, 4), x(2, 5), x(6, 4, 5)),
    Case("embedding", ints(5, 2, 3), x(5, 4)),
    edge("embedding", ints(5, 2, 3), x(5, 4), padding_idx=2),
    edge("embedding", ints(5, 2, 3), x(5, 4), padding_idx=-1),
    Case("one_hot", ints(5, 2, 3)),
    Case("one_hot", ints(5, 2, 3), num_classes=7),
]

NORMALIZATION = [
    Case("layer_norm", x(2, 3, 4), (4,)),
    Case("layer_norm", x(2, 3, 4), (4,), x(4), x(4)),
    Case("layer_norm", x(2, 3, 4), (4,), x(4)),
    Case("layer_norm", x(2, 3, 4), (3, 4), x(3, 4), x(3, 4), eps=0.1),
    Case("rms_norm", x(2, 3, 4), (4,)),
    Case("rms_norm", x(2, 3, 4), (3, 4), x(3, 4), eps=0.1),
    Case("group_norm", x(2, 6, 5), 3, x(6), x(6)),
    Case("group_norm", x(2, 6, 2, 2), 2),
    Case("instance_norm", x(2, 3, 5)),
    Case("instance_norm", x(2, 3, 4, 5), weight=x(3), bias=x(3), eps=0.1),
    Case("instance_norm", x(2, 3, 5), fixed(x(3)), fixed(positive(3)), use_input_stats=False),
    Case("batch_norm", x(5, 3), fixed(x(3)), fixed(positive(3)), x(3), x(3)),
    Case("batch_norm", x(2, 3, 4), fixed(x(3)), fixed(positive(3)), x(3), x(3), training=True),
    Case("batch_norm", x(2, 3, 4, 2), None, None, training=True),
    Case("local_response_norm", x(2, 5, 3), 3, alpha=0.5),
    Case("local_response_norm", x(2, 5, 3, 2), 4, alpha=0.5, beta=0.6, k=2.0),
    Case("normalize", x(3, 4)),
    Case("normalize", x(3, 4), p=3.0, dim=0),
    Case("normalize", x(3, 4), p=1.0),
]

CONVOLUTION = [
    Case("conv1d", x(2, 3, 9), x(4, 3, 3), x(4)),
    Case("conv1d", x(3, 9), x(4, 3, 3), x(4), stride=2, padding=1),
    Case("conv1d", x(2, 4, 9), x(6, 2, 3), stride=2, padding=2, dilation=2, groups=2),
    Case("conv1d", x(2, 3, 9), x(4, 3, 4), padding="same"),
    Case("conv1d", x(2, 3, 9), x(4, 3, 1)),
    Case("conv2d", x(2, 3, 7, 8), x(4, 3, 3, 2), x(4)),
    Case("conv2d", x(3, 7, 8), x(4, 3, 3, 2), x(4)),
    Case("conv2d", x(2, 3, 7, 8), x(4, 3, 3, 2), stride=(2, 3), padding=(2, 1), dilation=(1, 2)),
    Case("conv2d", x(2, 4, 7, 8), x(8, 1, 3, 3), x(8), padding=1, groups=4),
    Case("conv2d", x(2, 3, 7, 8), x(4, 3, 2, 3), padding="same", dilation=2),
    Case("conv2d", x(2, 3, 7, 8), x(4, 3, 2, 3), padding="valid"),
    Case("conv3d", x(2, 3, 4, 5, 6), x(4, 3, 2, 3, 2), x(4), stride=2, padding=1),
    Case("conv_transpose1d", x(2, 4, 5), x(4, 3, 3), x(3)),
    Case("conv_transpose1d", x(2, 4, 5), x(4, 3, 3), stride=2, padding=1, output_padding=1),
    Case("conv_transpose2d", x(2, 4, 5, 4), x(4, 3, 3, 2), x(3), stride=(2, 3), padding=1),
    Case("conv_transpose2d", x(4, 5, 4), x(4, 3, 3, 2), dilation=2, output_padding=1),
    Case("conv_transpose2d", x(2, 4, 5, 4), x(4, 3, 3, 2), x(6), groups=2),
    Case("conv_transpose3d", x(1, 2, 3, 2, 3), x(2, 2, 2, 2, 2), x(2), stride=2),
    Case("unfold", x(2, 3, 6, 5), 2),
    Case("unfold", x(2, 3, 6, 5), (3, 2), dilation=(1, 2), padding=(1, 0), stride=(2, 1)),
    Case("unfold", x(3, 6, 5), 2),
    Case("fold", x(2, 12, 20), (6, 5), 2),
    Case("fold", x(12, 20), (6, 5), 2),
    Case("fold", x(2, 18, 9), (6, 5), (3, 2), dilation=(1, 2), padding=(1, 0), stride=(2, 1)),
]

POOLING = [
    Case("max_pool1d", distinct(2, 3, 9), 3),
    Case("max_pool1d", distinct(3, 9), 2, stride=1, padding=1),
    Case("max_pool2d", distinct(2, 3, 7, 8), 2),
    Case(
        "max_pool2d", distinct(2, 3, 7, 8), (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)
    ),
    Case("max_pool2d", distinct(2, 3, 7, 8), 3, stride=2, ceil_mode=True),
    Case("max_pool2d", distinct(2, 3, 7, 7), 3, stride=2, padding=1, ceil_mode=True),
    Case("max_pool2d", distinct(3, 7, 8), 2, return_indices=True),
    Case("max_pool2d", distinct(2, 3, 7, 8), 3, padding=1, return_indices=True),
    edge("max_pool2d", np.zeros((1, 1, 4, 4)), 2),
    Case("lp_pool1d", positive(2, 3, 9), 3.0, 2),
    Case("lp_pool1d", x(2, 3, 9), math.inf, 2),
    Case("lp_pool2d", x(2, 3, 7, 8), 2.0, (3, 2), stride=2),
    Case("lp_pool2d", x(2, 3, 7, 8), math.inf, (3, 2), stride=2),
    Case("lp_pool2d", positive(3, 7, 8), 1.5, 3, ceil_mode=True),
    Case("lp_pool3d", x(1, 2, 4, 5, 6), 2.0, 2),
    Case("lp_pool3d", x(1, 2, 4, 5, 6), -math.inf, 2),
    Case(
        "fractional_max_pool2d",
        distinct(2, 3, 7, 8),
        2,
        output_size=(4, 5),
        _random_samples=fixed(positive(2, 3, 2) % 1),
    ),
    Case(
        "fractional_max_pool2d",
        distinct(3, 7, 8),
        (2, 3),
        output_ratio=(0.5, 0.6),
        return_indices=True,
        _random_samples=fixed(positive(1, 3, 2) % 1),
    ),
    Case("fractional_max_pool2d", distinct(1, 1, 4, 4), 4, output_size=1),
    Case(
        "fractional_max_pool3d",
        distinct(1, 2, 5, 6, 7),
        2,
        output_size=(3, 2, 4),
        _random_samples=fixed(positive(1, 2, 3) % 1),
    ),
    Case("max_pool3d", distinct(1, 2, 4, 5, 6), 2),
    Case("max_unpool1d", x(2, 3, 4), fixed(np.arange(24).reshape(2, 3, 4) % 4 * 2), 2),
    Case("max_unpool1d", x(3, 4), fixed(np.arange(12).reshape(3, 4) % 4), 3, 1, 1, (4,)),
    Case("max_unpool2d", x(1, 2, 2, 3), fixed(np.arange(12).reshape(1, 2, 2, 3) % 6 * 4), 2),
    Case(
        "max_unpool2d",
        x(1, 2, 2, 3),
        fixed(np.arange(12).reshape(1, 2, 2, 3) % 6 * 5),
        2,
        output_size=(1, 2, 5, 7),
    ),
    Case("max_unpool3d", x(1, 1, 1, 2, 2), fixed(np.arange(4).reshape(1, 1, 1, 2, 2) * 7), 2),
    Case("affine_grid", x(2, 2, 3), (2, 3, 4, 5), align_corners=True),
    Case("affine_grid", x(2, 2, 3), (2, 3, 4, 1), align_corners=False),
    Case("affine_grid", x(1, 3, 4), (1, 2, 2, 3, 4), align_corners=False),
    *(
        Case("grid_sample", x(2, 3, *s), within(2, *g, len(s)), padding_mode=p, align_corners=c)
        for p, c in (("zeros", True), ("border", False), ("reflection", False))
        for s, g in (((4, 5), (3, 2)), ((2, 3, 4), (2, 1, 3)))
    ),
    Case("grid_sample", x(1, 2, 4, 5), within(1, 3, 4, 2), "bicubic", align_corners=False),
    Case("grid_sample", x(1, 2, 4, 5), within(1, 3, 4, 2), "bicubic", "reflection", True),
    Case("grid_sample", x(1, 2, 4, 5), fixed(within(1, 3, 4, 2)), "nearest", align_corners=False),
    Case("embedding_bag", fixed(np.array([[0, 2], [1, 1]])), x(4, 3)),
    Case("embedding_bag", fixed(np.array([3, 0, 0, 1])), x(4, 3), fixed(np.array([0, 1, 1]))),
    Case(
        "embedding_bag",
        fixed(np.array([3, 0, 2, 1])),
        distinct(4, 3),
        fixed(np.array([0, 3])),
        mode="max",
        padding_idx=0,
    ),
    Case(
        "embedding_bag",
        fixed(np.array([3, 0, 2, 1])),
        x(4, 3),
        fixed(np.array([0, 1, 4])),
        mode="sum",
        per_sample_weights=x(4),
        include_last_offset=True,
    ),
    Case("avg_pool1d", x(2, 3, 9), 3, stride=2, padding=1),
    Case("avg_pool1d", x(2, 3, 9), 3, stride=2, padding=1, count_include_pad=False),
    Case("avg_pool2d", x(2, 3, 7, 8), 2),
    Case("avg_pool2d", x(3, 7, 8), (3, 2), stride=(2, 1), padding=(1, 0)),
    Case("avg_pool2d", x(2, 3, 7, 8), 3, stride=2, padding=1, ceil_mode=True),
    Case("avg_pool2d", x(2, 3, 8, 8), 3, stride=2, ceil_mode=True, count_include_pad=False),
    Case("avg_pool2d", x(2, 3, 7, 8), 2, divisor_override=3),
    Case("avg_pool3d", x(1, 2, 4, 5, 6), 2, padding=1),
    Case("adaptive_avg_pool1d", x(2, 3, 9), 4),
    Case("adaptive_avg_pool2d", x(2, 3, 7, 8), (3, 4)),
    Case("adaptive_avg_pool2d", x(2, 3, 7, 8), 1),
    Case("adaptive_avg_pool2d", x(3, 7, 8), (None, 5)),
    Case("adaptive_avg_pool3d", x(1, 2, 4, 5, 6), (2, 3, 4)),
    Case("adaptive_max_pool1d", distinct(2, 3, 9), 4),
    Case("adaptive_max_pool2d", distinct(2, 3, 7, 8), (3, 4)),
    Case("adaptive_max_pool3d", distinct(1, 2, 4, 5, 6), (2, 3, 4)),
    Case("adaptive_max_pool2d", distinct(2, 3, 7, 8), (3, 5), return_indices=True),
]

PADDING = [
    Case("pad", x(2, 3, 4), (1, 2)),
    Case("pad", x(2, 3, 4), (1, 2, 0, 1), value=1.5),
    Case("pad", x(2, 3, 4), (-1, 2, 1, -2)),
    Case("pad", x(2, 3, 4), (2, 1), mode="reflect"),
    Case("pad", x(2, 3, 4, 5), (2, 4, 3, 1), mode="reflect"),
    Case("pad", x(2, 3, 4), (2, 5), mode="replicate"),
    Case("pad", x(2, 3, 4, 5), (2, 4, 3, 1), mode="replicate"),
    Case("pad", x(2, 3, 4), (2, 4), mode="circular"),
    Case("pad", x(2, 3, 4, 5), (2, 4, 3, 1), mode="circular"),
]

VISION = [
    Case("interpolate", x(2, 3, 5), size=8),
    Case("interpolate", x(2, 3, 4, 5), scale_factor=2.0),
    Case("interpolate", x(2, 3, 4, 5), scale_factor=(1.7, 0.6)),
    Case("interpolate", x(2, 3, 4, 5), size=(3, 9), mode="nearest-exact"),
    Case("interpolate", x(2, 3, 5), size=8, mode="linear"),
    Case("interpolate", x(2, 3, 4, 5), size=(3, 9), mode="bilinear"),
    Case("interpolate", x(2, 3, 4, 5), size=(3, 9), mode="bilinear", align_corners=True),
    Case("interpolate", x(2, 3, 4, 5), scale_factor=1.7, mode="bilinear"),
    Case("interpolate", x(2, 3, 4, 5), scale_factor=1.7, mode="bilinear",
         recompute_scale_factor=True),
    Case("interpolate", x(1, 2, 2, 3, 4), scale_factor=2, mode="trilinear"),
    Case("interpolate", x(2, 3, 4, 5), size=(3, 9), mode="bicubic"),
    Case("interpolate", x(2, 3, 4, 5), scale_factor=1.7, mode="bicubic", align_corners=True),
    Case("interpolate", x(2, 3, 4, 5), size=(2, 3), mode="area"),
    Case("interpolate", x(1, 2, 3, 4, 5), size=(2, 4, 3), mode="area"),
    Case("pixel_shuffle", x(2, 12, 3, 4), 2),
    Case("pixel_unshuffle", x(2, 3, 4, 6), 2),
]  # fmt: skip

DISTANCE = [
    Case("cosine_similarity", x(3, 4), x(3, 4)),
    Case("cosine_similarity", x(3, 4, 2), x(1, 4, 2), dim=2),
    edge("cosine_similarity", np.zeros((2, 3)), x(2, 3)),
    Case("pairwise_distance", x(3, 4), x(3, 4)),
    Case("pairwise_distance", x(3, 4), x(3, 4), p=1.0, keepdim=True),
    Case("pdist", x(4, 3)),
    Case("pdist", x(4, 3), p=1.0),
    Case("pdist", x(4, 3), p=np.inf),
]

MASK = fixed(np.tril(np.ones((4, 5), bool)))
ATTENTION = [
    Case("scaled_dot_product_attention", x(2, 3, 4, 6), x(2, 3, 5, 6), x(2, 3, 5, 7)),
    Case("scaled_dot_product_attention", x(2, 3, 4, 6), x(2, 3, 4, 6), x(2, 3, 4, 6),
         is_causal=True),
    Case("scaled_dot_product_attention", x(2, 3, 4, 6), x(2, 3, 5, 6), x(2, 3, 5, 7),
         attn_mask=MASK),
    Case("scaled_dot_product_attention", x(2, 3, 4, 6), x(2, 3, 5, 6), x(2, 3, 5, 7),
         attn_mask=fixed(x(2, 1, 4, 5)), scale=0.3),
    Case("scaled_dot_product_attention", x(2, 3, 4, 6), x(2, 3, 5, 6), x(2, 3, 5, 7),
         attn_mask=x(4, 5)),
    Case("scaled_dot_product_attention", x(4, 6), x(5, 6), x(5, 7)),
    Case("scaled_dot_product_attention", x(3, 4, 6), x(3, 5, 6), x(3, 5, 7), attn_mask=MASK),
    Case("scaled_dot_product_attention", x(3, 4, 6), x(3, 5, 6), x(3, 5, 7),
         attn_mask=bools(3, 4, 5)),
    Case("scaled_dot_product_attention", x(2, 2, 3, 4, 6), x(2, 2, 3, 5, 6), x(2, 2, 3, 5, 7),
         attn_mask=bools(2, 1, 1, 4, 5)),
    Case("scaled_dot_product_attention", x(2, 6, 4, 6), x(2, 2, 5, 6), x(2, 2, 5, 7),
         enable_gqa=True),
    Case("scaled_dot_product_attention", x(2, 6, 4, 6), x(2, 2, 5, 6), x(2, 2, 5, 7),
         attn_mask=MASK, enable_gqa=True),
]  # fmt: skip

T = (2, 5)
LOSSES = [
    *(Case(name, x(*T), x(*T), reduction=reduction) for reduction in ("mean", "sum", "none")
      for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")),
    Case("mse_loss", x(*T), x(*T), weight=fixed(positive(*T))),
    Case("l1_loss", x(*T), x(*T), weight=fixed(positive(*T)), reduction="sum"),
    Case("smooth_l1_loss", x(*T), x(*T), beta=0.3),
    Case("smooth_l1_loss", x(*T), x(*T), beta=0.0),
    Case("huber_loss", x(*T), x(*T), delta=0.3, weight=fixed(positive(*T))),
    *(Case("cross_entropy", x(6, 5), ints(5, 6), reduction=r) for r in ("mean", "sum", "none")),
    Case("cross_entropy", x(5), ints(5)),
    Case("cross_entropy", x(3, 5, 2, 4), ints(5, 3, 2, 4)),
    Case("cross_entropy", x(3, 5, 2), ints(5, 3, 2), reduction="none"),
    Case("cross_entropy", x(6, 5), ints(5, 6), ignore_index=2),
    Case("cross_entropy", x(6, 5), fixed([1, -100, 3, -100, 0, 4])),
    Case("cross_entropy", x(6, 5), ints(5, 6), label_smoothing=0.1),
    Case("cross_entropy", x(6, 5), ints(5, 6), fixed(positive(5))),
    Case("cross_entropy", x(6, 5), ints(5, 6), fixed(positive(5)), ignore_index=1,
         label_smoothing=0.2),
    Case("cross_entropy", x(6, 5), ints(5, 6), fixed(positive(5)), ignore_index=1,
         label_smoothing=0.2, reduction="none"),
    Case("cross_entropy", x(3, 5, 2), ints(5, 3, 2), fixed(positive(5))),
    Case("cross_entropy", x(6, 5), distribution(6, 5)),
    Case("cross_entropy", x(5), distribution(1, 5)[0]),
    Case("cross_entropy", x(3, 5, 2), distribution(3, 5, 2), fixed(positive(5)),
         label_smoothing=0.1),
    Case("cross_entropy", x(3, 5, 2), distribution(3, 5, 2), reduction="none"),
    Case("nll_loss", x(6, 5), ints(5, 6)),
    Case("nll_loss", x(5), ints(5)),
    Case("nll_loss", x(3, 5, 2), ints(5, 3, 2), fixed(positive(5)), ignore_index=1),
    Case("nll_loss", x(3, 5, 2), ints(5, 3, 2), reduction="none"),
    Case("binary_cross_entropy", positive(*T), positive(*T)),
    Case("binary_cross_entropy", positive(*T), fixed(positive(*T)), fixed(positive(*T))),
    Case("binary_cross_entropy", positive(*T), fixed(bools(*T).array.astype(float)),
         reduction="none"),  # fmt: skip
    Case("binary_cross_entropy", fixed([0.0, 1.0, 0.0, 1.0]), fixed([0.0, 1.0, 1.0, 0.0])),
    Case("binary_cross_entropy_with_logits", x(*T), positive(*T)),
    edge("binary_cross_entropy_with_logits", x(*T) * 100, fixed(positive(*T))),
    Case("binary_cross_entropy_with_logits", x(*T), positive(*T), fixed(positive(*T)),
         pos_weight=fixed(positive(5))),
    *(Case("kl_div", x(4, 5), distribution(4, 5), reduction=reduction)
      for reduction in ("sum", "none", "batchmean")),
    Case("kl_div", x(4, 5), np.log(distribution(4, 5)), log_target=True, reduction="batchmean"),
    Case("kl_div", x(2, 2), fixed([[0.0, 1.0], [0.5, 0.5]]), reduction="sum"),
    Case("soft_margin_loss", x(*T), signs(*T)),
    Case("hinge_embedding_loss", x(*T), signs(*T)),
    Case("hinge_embedding_loss", x(*T), signs(*T), margin=0.3, reduction="none"),
    Case("multi_margin_loss", x(6, 5), ints(5, 6)),
    Case("multi_margin_loss", x(6, 5), ints(5, 6), p=2, margin=0.5, weight=fixed(positive(5))),
    Case("multi_margin_loss", x(5), ints(5)),
    Case("multilabel_margin_loss", x(4, 5), fixed([[3, 0, -1, 1, 2], [1, 1, 4, -1, 0], [-1] * 5,
                                                   [0, 1, 2, 3, 4]])),
    Case("multilabel_margin_loss", x(3), fixed([2, -1, 0]), reduction="none"),
    Case("linear_cross_entropy", x(4, 3), x(5, 3), ints(5, 4), linear_bias=x(5)),
    Case("linear_cross_entropy", x(4, 3), x(5, 2, 3), ints(5, 4, 2), label_smoothing=0.1),
    Case("linear_cross_entropy", x(3), x(5, 3), fixed(2), ignore_index=1),
    Case("multilabel_soft_margin_loss", x(4, 5), fixed(bools(4, 5).array.astype(float))),
    Case("poisson_nll_loss", x(*T), fixed(positive(*T) * 4)),
    Case("poisson_nll_loss", x(*T), fixed(positive(*T) * 4), full=True),
    Case("poisson_nll_loss", positive(*T), fixed(positive(*T) * 4), log_input=False),
    Case("gaussian_nll_loss", x(*T), x(*T), positive(*T)),
    Case("gaussian_nll_loss", x(*T), x(*T), positive(2, 1), full=True),
    Case("gaussian_nll_loss", x(*T), x(*T), 0.5),
    Case("cosine_embedding_loss", x(4, 5), x(4, 5), signs(4)),
    Case("cosine_embedding_loss", x(4, 5), x(4, 5), signs(4), margin=0.2, reduction="none"),
    Case("cosine_embedding_loss", x(5), x(5), signs()),
    Case("margin_ranking_loss", x(4), x(4), signs(4), margin=0.2),
    Case("triplet_margin_loss", x(4, 5), x(4, 5), x(4, 5)),
    Case("triplet_margin_loss", x(4, 5), x(4, 5), x(4, 5), margin=3.0, p=1.0, swap=True),
    Case("triplet_margin_with_distance_loss", x(4, 5), x(4, 5), x(4, 5), margin=3.0),
]  # fmt: skip

CASES = [
    *ACTIVATIONS, *LINEAR, *NORMALIZATION, *CONVOLUTION, *POOLING, *PADDING, *VISION, *DISTANCE,
    *ATTENTION, *LOSSES,
]  # fmt: skip
