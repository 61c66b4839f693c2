"""Functions of `nn.functional`, and modules: with inputs of shapes that they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fuzzing import numbers
from fuzzing.draw import Draw
from fuzzing.program import Array, Statement
from support import functional_cases

Row = Callable[[Draw], Statement]


def functional(name: str) -> Row:
    """One of the calls in functional_cases.py, with other numbers in its arrays."""
    cases = [case for case in functional_cases.CASES if case.name == name]
    activation = any(case.name == name for case in functional_cases.ACTIVATIONS)

    def row(draw: Draw) -> Statement:
        rng = draw.rng
        full = f"nn.functional.{name}"
        if activation and rng.random() < 0.5:
            return Statement(full, (draw.tensor(),), softmax_dim(draw, name))
        case = rng.choice(cases)
        dtype = draw.main_dtype() if rng.random() < 0.7 else "float64"
        if dtype not in numbers.FLOATS:
            dtype = "float64"

        def convert(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                if rng.random() < 0.3:  # numbers as they were, for those that must be distributions
                    return draw.push(Statement("array", (literal(value, dtype, draw.grads),)))
                return draw.of_shape(value.shape, dtype)
            if isinstance(value, functional_cases.fixed):
                kind = value.array.dtype.kind
                order = value.array
                if order.ndim and rng.random() < 0.7:
                    order = np.random.default_rng(rng.randrange(99)).permutation(order)
                return literal(order, {"f": dtype, "i": "int64", "b": "bool"}[kind], False)
            return value

        args = tuple(convert(v) for v in case.args)
        options = {k: convert(v) for k, v in case.kwargs.items()}
        if ("loss" in name or "entropy" in name) and rng.random() < 0.4:
            options["reduction"] = rng.choice(("mean", "sum", "none"))
        return Statement(full, args, options)

    return row


def softmax_dim(draw: Draw, name: str) -> dict[str, Any]:
    return {"dim": draw.rng.choice((0, -1))} if "softm" in name else {}


def literal(array: np.ndarray, dtype: str, requires_grad: bool) -> Array:
    flat = array.reshape(-1).tolist()
    if array.dtype.kind == "f":
        flat = [round(v, 3) for v in flat]
    return Array(numbers.nested(flat, array.shape), array.shape, dtype, "contiguous", requires_grad)


def dropout(name: str) -> Row:
    def row(draw: Draw) -> Statement:
        rng = draw.rng
        options = rng.choice(({"p": 0.0}, {"training": False}, {"p": 1.0}))
        return Statement(f"nn.functional.{name}", (draw.tensor("floating"),), options)

    return row


# Modules: constructor arguments, and the shapes of what forward takes

MODULES: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[tuple[int, ...], ...]]] = [
    ("Linear", (3, 2), {}, ((2, 3),)),
    ("Linear", (3, 2), {"bias": False}, ((3,),)),
    ("Bilinear", (2, 3, 2), {}, ((2, 2), (2, 3))),
    ("Conv1d", (2, 3, 2), {}, ((1, 2, 4),)),
    ("Conv1d", (2, 2, 3), {"padding": 1, "padding_mode": "circular"}, ((1, 2, 4),)),
    ("Conv2d", (1, 2, 2), {"stride": 2}, ((2, 1, 4, 3),)),
    ("Conv2d", (2, 2, 2), {"padding": 1, "groups": 2}, ((2, 3, 3),)),
    ("Conv2d", (1, 2, 3), {"padding": "same", "padding_mode": "reflect"}, ((1, 1, 4, 4),)),
    ("Conv3d", (1, 1, 2), {}, ((1, 1, 2, 3, 2),)),
    ("ConvTranspose1d", (2, 1, 2), {"stride": 2}, ((1, 2, 3),)),
    ("ConvTranspose2d", (1, 2, 2), {"output_padding": 1, "stride": 2}, ((1, 1, 2, 2),)),
    ("ConvTranspose3d", (1, 1, 2), {}, ((1, 1, 2, 1, 2),)),
    ("BatchNorm1d", (3,), {}, ((4, 3),)),
    ("BatchNorm1d", (2,), {"affine": False, "momentum": None}, ((2, 2, 3),)),
    ("BatchNorm2d", (2,), {"track_running_stats": False}, ((2, 2, 2, 2),)),
    ("BatchNorm3d", (1,), {}, ((2, 1, 2, 1, 2),)),
    ("InstanceNorm1d", (2,), {}, ((2, 2, 3),)),
    ("InstanceNorm2d", (2,), {"affine": True, "track_running_stats": True}, ((1, 2, 2, 2),)),
    ("InstanceNorm3d", (1,), {}, ((1, 1, 2, 2, 2),)),
    ("LayerNorm", (3,), {}, ((2, 3),)),
    ("LayerNorm", ((2, 3),), {"bias": False}, ((2, 3),)),
    ("RMSNorm", (3,), {}, ((2, 3),)),
    ("GroupNorm", (2, 4), {}, ((2, 4, 3),)),
    ("LocalResponseNorm", (2,), {}, ((1, 3, 4),)),
    ("Embedding", (4, 3), {}, ()),
    ("Embedding", (4, 3), {"padding_idx": 1}, ()),
    ("RNN", (2, 3), {}, ((3, 2, 2),)),
    ("RNN", (2, 2), {"nonlinearity": "relu", "bidirectional": True}, ((3, 2),)),
    ("LSTM", (2, 3), {"num_layers": 2, "batch_first": True}, ((2, 3, 2),)),
    ("LSTM", (2, 2), {"bidirectional": True, "proj_size": 1}, ((3, 2),)),
    ("GRU", (2, 2), {"bidirectional": True}, ((2, 1, 2),)),
    ("RNNCell", (2, 3), {}, ((2, 2),)),
    ("LSTMCell", (2, 3), {}, ((2, 2),)),
    ("GRUCell", (2, 3), {}, ((2,),)),
    ("MultiheadAttention", (4, 2), {}, ((3, 1, 4), (2, 1, 4), (2, 1, 4))),
    ("MultiheadAttention", (2, 1), {"batch_first": True, "bias": False}, ((1, 3, 2),) * 3),
    ("TransformerEncoderLayer", (2, 1, 3, 0.0), {}, ((3, 1, 2),)),
    ("TransformerDecoderLayer", (2, 1, 3, 0.0), {"norm_first": True}, ((2, 1, 2), (3, 1, 2))),
    ("AvgPool1d", (2,), {}, ((1, 2, 5),)),
    ("AvgPool2d", (2,), {"ceil_mode": True}, ((1, 3, 3),)),
    ("AvgPool3d", (2,), {}, ((1, 2, 2, 3),)),
    ("MaxPool1d", (2,), {"return_indices": True}, ((1, 2, 5),)),
    ("MaxPool2d", (2,), {"stride": 1}, ((1, 3, 3),)),
    ("MaxPool3d", (2,), {}, ((1, 2, 2, 3),)),
    ("AdaptiveAvgPool1d", (2,), {}, ((1, 2, 5),)),
    ("AdaptiveAvgPool2d", ((2, None),), {}, ((1, 3, 3),)),
    ("AdaptiveAvgPool3d", (1,), {}, ((1, 2, 2, 3),)),
    ("AdaptiveMaxPool1d", (2,), {}, ((1, 2, 5),)),
    ("AdaptiveMaxPool2d", (2,), {}, ((1, 3, 3),)),
    ("AdaptiveMaxPool3d", (1,), {}, ((1, 2, 2, 3),)),
    ("ReflectionPad1d", (1,), {}, ((1, 3),)),
    ("ReflectionPad2d", (1,), {}, ((1, 3, 2),)),
    ("ReflectionPad3d", (1,), {}, ((1, 2, 3, 2),)),
    ("ReplicationPad1d", ((1, 2),), {}, ((1, 3),)),
    ("ReplicationPad2d", (1,), {}, ((1, 3, 2),)),
    ("ReplicationPad3d", (1,), {}, ((1, 2, 3, 2),)),
    ("CircularPad1d", ((1, 2),), {}, ((1, 3),)),
    ("CircularPad2d", (1,), {}, ((1, 3, 2),)),
    ("CircularPad3d", (1,), {}, ((1, 2, 3, 2),)),
    ("ConstantPad1d", ((1, -1), 0.5), {}, ((1, 3),)),
    ("ConstantPad2d", (1, 2), {}, ((3, 2),)),
    ("ConstantPad3d", (1, 0.0), {}, ((2, 3, 2),)),
    ("ZeroPad1d", (1,), {}, ((1, 3),)),
    ("ZeroPad2d", (1,), {}, ((3, 2),)),
    ("ZeroPad3d", (0,), {}, ((2, 3, 2),)),
    ("Flatten", (), {}, ((2, 1, 3),)),
    ("Unflatten", (1, (2, 2)), {}, ((1, 4),)),
    ("Fold", ((3, 3), 2), {}, ((1, 4, 4),)),
    ("Unfold", (2,), {}, ((1, 1, 3, 3),)),
    ("Upsample", (), {"scale_factor": 2}, ((1, 1, 3),)),
    ("Upsample", (), {"size": (3, 2), "mode": "bilinear"}, ((1, 1, 2, 2),)),
    ("PixelShuffle", (2,), {}, ((1, 4, 1, 2),)),
    ("PixelUnshuffle", (2,), {}, ((1, 1, 2, 4),)),
    ("ChannelShuffle", (2,), {}, ((1, 4, 1, 2),)),
    ("CosineSimilarity", (), {}, ((2, 3), (2, 3))),
    ("PairwiseDistance", (), {}, ((2, 3), (2, 3))),
    ("PReLU", (), {}, ((2, 3),)),
    ("PReLU", (3,), {}, ((2, 3),)),
    ("Softmax", (), {"dim": -1}, ((2, 3),)),
    ("LogSoftmax", (), {"dim": 0}, ((2, 3),)),
    ("Softmin", (), {"dim": 0}, ((2, 3),)),
    ("Softmax2d", (), {}, ((1, 2, 1, 3),)),
    ("Threshold", (0.0, 1.0), {}, ((2, 3),)),
    ("GLU", (), {}, ((2, 4),)),
    *((name, (), {}, ((2, 3),)) for name in (
        "CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity",
        "LeakyReLU", "LogSigmoid", "Mish", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus",
        "Softshrink", "Softsign", "Tanh", "Tanhshrink",
    )),
    *((name, (), {"reduction": reduction}, ((2, 3),) * count) for name, count in (
        ("MSELoss", 2), ("L1Loss", 2), ("SmoothL1Loss", 2), ("HuberLoss", 2),
        ("BCEWithLogitsLoss", 2),
        ("KLDivLoss", 2), ("SoftMarginLoss", 2),
        ("HingeEmbeddingLoss", 2), ("PoissonNLLLoss", 2),
        ("MultiLabelSoftMarginLoss", 2), ("TripletMarginLoss", 3), ("CrossEntropyLoss", 2),
        ("BCELoss", 2), ("MarginRankingLoss", 3), ("GaussianNLLLoss", 3),
        ("TripletMarginWithDistanceLoss", 3),
    ) for reduction in ("mean", "none")),
    *((name, (p,), {}, ((2, 3, 2),)) for name in (
        "Dropout", "Dropout1d", "AlphaDropout") for p in (0.0, 1.0)),
    ("Dropout2d", (0.0,), {}, ((1, 2, 2, 2),)),
    ("NLLLoss", (), {}, ((2, 3),)),
    ("MultiMarginLoss", (), {}, ((2, 3),)),
    ("CosineEmbeddingLoss", (), {}, ((2, 3), (2, 3))),
    ("Dropout3d", (0.0,), {}, ((1, 2, 2, 2, 1),)),
]  # fmt: skip

POSITIVE = {"BCELoss", "GaussianNLLLoss"}
CLASSES = {"CrossEntropyLoss": 3, "NLLLoss": 3, "MultiMarginLoss": 3}


def module(draw: Draw) -> Statement:
    """A module, made and called."""
    rng = draw.rng
    name, args, options, shapes = rng.choice(MODULES)
    made = draw.push(Statement(f"nn.{name}", args, options))
    if rng.random() < 0.25:
        draw.push(Statement(".eval", (made,)))
    inputs: list[Any] = []
    for shape in shapes:
        if name in POSITIVE:
            inputs.append(
                draw.push(
                    Statement("array", (numbers.array(rng, shape, "float64", "positive", True),))
                )
            )
        else:
            inputs.append(draw.of_shape(shape, "float64"))
    if name == "Embedding":
        inputs.append(draw.indices(numbers.shape(rng, 2), 0, 4))
    if name in CLASSES and len(inputs) == 1:
        inputs.append(draw.indices((2,), 0, 3))
    if name == "CosineEmbeddingLoss":
        inputs.append(Array((1, -1), (2,), "int64"))
    return Statement("call", (made, *inputs))
