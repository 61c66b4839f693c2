"""gradient.nn against torch.nn: the same weights and inputs give the same results and gradients.

One row per case: how the layer is made, and the arrays that it is called with.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import nn

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:Using padding='same'")]

rng = np.random.default_rng(0)


def x(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape)


def p(*shape: int) -> np.ndarray:
    return rng.uniform(0.05, 0.95, shape)


def ints(high: int, *shape: int) -> np.ndarray:
    return rng.integers(0, high, shape)


class Constant(np.ndarray):
    """An input whose gradient is not asked for."""


def signs(*shape: int) -> np.ndarray:
    return rng.choice([-1.0, 1.0], shape).view(Constant)


class Case:
    def __init__(self, name: str, *args: Any, inputs: list[Any], call: Any = None, **kwargs: Any):
        self.name, self.args, self.kwargs = name, args, kwargs
        self.inputs, self.call = inputs, call or {}

    def __str__(self) -> str:
        made = [repr(a) for a in self.args] + [f"{k}={_show(v)}" for k, v in self.kwargs.items()]
        called = [_show(i) for i in self.inputs] + [f"{k}={_show(v)}" for k, v in self.call.items()]
        return f"{self.name}({', '.join(made)})({', '.join(called)})"


def _show(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype.name}{list(value.shape)}"
    return repr(value)


def case(name: str, *args: Any, inputs: list[Any], **kwargs: Any) -> Case:
    return Case(name, *args, inputs=inputs, **kwargs)


CAUSAL = np.triu(np.ones((4, 4), bool), 1)
PADDED = np.array([[False, False, False, True], [False] * 4])

CASES = [
    case("Identity", 1, 2, a=3, inputs=[x(2, 3)]),
    case("Linear", 4, 5, inputs=[x(2, 3, 4)]),
    case("Linear", 4, 5, bias=False, inputs=[x(4)]),
    case("Bilinear", 4, 5, 3, inputs=[x(2, 4), x(2, 5)]),
    case("Flatten", inputs=[x(2, 3, 4)]),
    case("Flatten", 0, 1, inputs=[x(2, 3, 4)]),
    case("Unflatten", 1, (2, 3), inputs=[x(2, 6, 4)]),
    case("Embedding", 5, 3, inputs=[ints(5, 2, 4)]),
    case("Embedding", 5, 3, padding_idx=-1, inputs=[ints(5, 2, 4)]),
    case("Embedding", 5, 3, padding_idx=1, max_norm=1.0, inputs=[ints(5, 2, 4)]),
    case("LayerNorm", 4, inputs=[x(2, 3, 4)]),
    case("LayerNorm", (3, 4), bias=False, eps=0.1, inputs=[x(2, 3, 4)]),
    case("LayerNorm", 4, elementwise_affine=False, inputs=[x(2, 3, 4)]),
    case("RMSNorm", 4, inputs=[x(2, 3, 4)]),
    case("RMSNorm", (3, 4), eps=0.1, elementwise_affine=False, inputs=[x(2, 3, 4)]),
    case("GroupNorm", 2, 6, inputs=[x(2, 6, 3)]),
    case("LocalResponseNorm", 3, inputs=[x(2, 6, 3)]),
    case("BatchNorm1d", 3, inputs=[x(5, 3)]),
    case("BatchNorm1d", 3, momentum=None, affine=False, inputs=[x(5, 3, 2)]),
    case("BatchNorm1d", 3, track_running_stats=False, inputs=[x(5, 3, 2)]),
    case("BatchNorm2d", 3, eps=0.1, momentum=0.3, inputs=[x(2, 3, 4, 5)]),
    case("BatchNorm3d", 3, inputs=[x(2, 3, 2, 4, 5)]),
    case("InstanceNorm1d", 3, inputs=[x(2, 3, 5)]),
    case("InstanceNorm2d", 3, affine=True, track_running_stats=True, inputs=[x(2, 3, 4, 5)]),
    case("InstanceNorm2d", 3, inputs=[x(3, 4, 5)]),
    case("Conv1d", 3, 4, 3, inputs=[x(2, 3, 9)]),
    case("Conv1d", 3, 4, 3, padding=2, padding_mode="circular", inputs=[x(2, 3, 9)]),
    case("Conv2d", 3, 6, 3, stride=2, padding=(1, 2), groups=3, inputs=[x(2, 3, 7, 8)]),
    case("Conv2d", 3, 6, (2, 3), padding="same", bias=False, inputs=[x(3, 7, 8)]),
    case("Conv2d", 3, 6, (2, 3), padding="same", padding_mode="reflect", inputs=[x(2, 3, 7, 8)]),
    case("Conv2d", 3, 6, 3, padding=(1, 2), padding_mode="replicate", inputs=[x(2, 3, 7, 8)]),
    case("Conv3d", 2, 3, 2, dilation=2, inputs=[x(1, 2, 4, 5, 4)]),
    case("ConvTranspose1d", 3, 4, 3, stride=2, inputs=[x(2, 3, 5)]),
    case("ConvTranspose2d", 4, 6, 3, 2, 1, 1, 2, inputs=[x(2, 4, 3, 4)]),
    case("ConvTranspose2d", 4, 6, 3, 2, inputs=[x(2, 4, 3, 4)], call={"output_size": (8, 9)}),
    case("ConvTranspose3d", 2, 3, 2, inputs=[x(1, 2, 2, 3, 2)]),
    case("MaxPool1d", 2, inputs=[x(2, 3, 9)]),
    case("MaxPool2d", 3, stride=2, padding=1, ceil_mode=True, inputs=[x(2, 3, 8, 9)]),
    case("MaxPool2d", 2, return_indices=True, inputs=[x(2, 3, 8, 9)]),
    case("MaxPool3d", 2, inputs=[x(1, 2, 4, 4, 4)]),
    case("AvgPool1d", 2, 1, inputs=[x(2, 3, 9)]),
    case("AvgPool2d", (2, 3), padding=1, count_include_pad=False, inputs=[x(2, 3, 8, 9)]),
    case("AvgPool3d", 2, inputs=[x(1, 2, 4, 4, 4)]),
    case("AdaptiveAvgPool1d", 4, inputs=[x(2, 3, 9)]),
    case("AdaptiveAvgPool2d", (None, 2), inputs=[x(2, 3, 8, 9)]),
    case("AdaptiveAvgPool3d", 1, inputs=[x(1, 2, 4, 4, 4)]),
    case("AdaptiveMaxPool1d", 4, inputs=[x(2, 3, 9)]),
    case("AdaptiveMaxPool2d", 3, return_indices=True, inputs=[x(2, 3, 8, 9)]),
    *(case(name, inputs=[x(2, 6, 3, 4)]) for name in (
        "ReLU", "ReLU6", "SiLU", "Mish", "SELU", "Hardsigmoid", "Hardswish", "Sigmoid", "Tanh",
        "LogSigmoid", "Softsign", "Tanhshrink", "GELU", "LeakyReLU", "ELU", "CELU", "Hardtanh",
        "Softplus", "Softshrink", "Hardshrink", "GLU", "Softmax2d", "PReLU",
    )),
    case("GELU", "tanh", inputs=[x(2, 3)]),
    case("LeakyReLU", 0.3, inputs=[x(2, 3)]),
    case("ELU", alpha=0.3, inputs=[x(2, 3)]),
    case("Hardtanh", -0.3, 0.4, inputs=[x(2, 3)]),
    case("Threshold", 0.1, 3.0, inputs=[x(2, 3)]),
    case("Softplus", 2.0, 5.0, inputs=[x(2, 3)]),
    case("GLU", 0, inputs=[x(2, 3)]),
    case("Softmax", 1, inputs=[x(2, 3, 4)]),
    case("LogSoftmax", dim=-1, inputs=[x(2, 3, 4)]),
    case("Softmin", 0, inputs=[x(2, 3, 4)]),
    case("PReLU", 3, init=0.1, inputs=[x(2, 3, 4)]),
    *(case(name, inputs=[x(4, 6, 3, 4)]) for name in (
        "Dropout", "Dropout2d", "AlphaDropout",
    )),
    case("Dropout1d", inputs=[x(4, 6, 3)]),
    case("Dropout3d", inputs=[x(4, 6, 3, 2, 2)]),
    case("Upsample", scale_factor=2.0, mode="bilinear", inputs=[x(2, 3, 4, 5)]),
    case("Upsample", (3, 7), inputs=[x(2, 3, 4, 5)]),
    case("PixelShuffle", 2, inputs=[x(2, 8, 3, 4)]),
    case("PixelUnshuffle", 2, inputs=[x(2, 3, 4, 6)]),
    case("ChannelShuffle", 2, inputs=[x(2, 4, 3, 3)]),
    case("Unfold", (2, 3), padding=1, inputs=[x(2, 3, 4, 6)]),
    case("Fold", (4, 5), 2, inputs=[x(2, 12, 12)]),
    case("ZeroPad1d", 2, inputs=[x(2, 3, 4)]),
    case("ZeroPad2d", (1, 2, 0, 1), inputs=[x(2, 3, 4, 5)]),
    case("ConstantPad1d", 2, 3.5, inputs=[x(2, 3, 4)]),
    case("ConstantPad2d", 2, 3.5, inputs=[x(2, 3, 4, 5)]),
    case("ReflectionPad1d", 2, inputs=[x(2, 3, 4)]),
    case("ReflectionPad2d", 2, inputs=[x(2, 3, 4, 5)]),
    case("ReplicationPad1d", (3, 1), inputs=[x(2, 3, 4)]),
    case("ReplicationPad2d", 2, inputs=[x(2, 3, 4, 5)]),
    case("CircularPad1d", 2, inputs=[x(2, 3, 4)]),
    case("CircularPad2d", 2, inputs=[x(2, 3, 4, 5)]),
    case("ZeroPad3d", 1, inputs=[x(1, 2, 3, 4, 5)]),
    case("ConstantPad3d", (1, 2, 0, 1, 2, 0), 3.5, inputs=[x(1, 2, 3, 4, 5)]),
    case("ReflectionPad3d", 2, inputs=[x(1, 2, 3, 4, 5)]),
    case("ReplicationPad3d", 1, inputs=[x(1, 2, 3, 4, 5)]),
    case("CircularPad3d", 1, inputs=[x(1, 2, 3, 4, 5)]),
    case("AdaptiveMaxPool3d", 2, inputs=[x(1, 2, 3, 4, 5)]),
    case("InstanceNorm3d", 2, inputs=[x(2, 2, 3, 4, 5)]),
    case("MaxUnpool1d", 2, inputs=[x(2, 3, 4), np.arange(24).reshape(2, 3, 4) % 4 * 2]),
    case("MaxUnpool2d", 2, inputs=[x(1, 2, 2, 3), np.arange(12).reshape(1, 2, 2, 3) % 6 * 4]),
    case("MaxUnpool3d", (1, 2, 2), inputs=[x(1, 1, 2, 2, 2), np.arange(8).reshape(1, 1, 2, 2, 2)]),
    case("AdaptiveLogSoftmaxWithLoss", 16, 20, [5, 12], inputs=[x(9, 16), np.arange(9) * 2]),
    case("AdaptiveLogSoftmaxWithLoss", 16, 20, [4], 2.0, True, inputs=[x(16), np.array(7)]),
    case("LSTM", 4, 5, 2, proj_size=3, bidirectional=True, inputs=[x(6, 2, 4)]),
    case("CosineSimilarity", inputs=[x(2, 3), x(2, 3)]),
    case("PairwiseDistance", 1.0, keepdim=True, inputs=[x(2, 3), x(2, 3)]),
    case("MultiheadAttention", 6, 2, inputs=[x(4, 3, 6), x(5, 3, 6), x(5, 3, 6)]),
    case("MultiheadAttention", 6, 2, bias=False, batch_first=True, inputs=[x(2, 4, 6)] * 3,
         call={"attn_mask": CAUSAL, "key_padding_mask": PADDED, "average_attn_weights": False}),
    case("MultiheadAttention", 6, 2, batch_first=True, inputs=[x(2, 4, 6)] * 3,
         call={"attn_mask": CAUSAL, "key_padding_mask": PADDED, "need_weights": False}),
    case("MultiheadAttention", 6, 3, kdim=4, vdim=5, inputs=[x(4, 2, 6), x(3, 2, 4), x(3, 2, 5)]),
    case("MultiheadAttention", 6, 3, inputs=[x(4, 6), x(3, 6), x(3, 6)]),
    case("MultiheadAttention", 6, 2, batch_first=True, inputs=[x(2, 4, 6)] * 3,
         call={"attn_mask": x(4, 4, 4), "is_causal": False}),
    case("MultiheadAttention", 6, 2, batch_first=True, inputs=[x(2, 4, 6)] * 3,
         call={"attn_mask": x(4, 4), "need_weights": False}),
    case("TransformerEncoderLayer", 6, 2, 8, 0.0, inputs=[x(4, 2, 6)]),
    case("TransformerEncoderLayer", 6, 2, 8, 0.0, "gelu", norm_first=True, batch_first=True,
         inputs=[x(2, 4, 6)], call={"src_mask": CAUSAL, "src_key_padding_mask": PADDED}),
    case("TransformerDecoderLayer", 6, 2, 8, 0.0, inputs=[x(4, 2, 6), x(3, 2, 6)]),
    case("TransformerDecoderLayer", 6, 2, 8, 0.0, norm_first=True, batch_first=True,
         inputs=[x(2, 4, 6), x(2, 3, 6)], call={"tgt_mask": CAUSAL}),
    *(case(name, 4, 5, inputs=[x(6, 2, 4)]) for name in ("RNN", "LSTM", "GRU")),
    case("LSTM", 24, 40, 2, inputs=[x(9, 14, 24)]),  # by kernels
    case("LSTM", 4, 40, bidirectional=True, inputs=[x(9, 27, 4)]),
    *(case(name, 4, 5, 2, batch_first=True, bidirectional=True, inputs=[x(2, 6, 4)])
      for name in ("RNN", "LSTM", "GRU")),
    *(case(name, 4, 5, bias=False, inputs=[x(6, 4)]) for name in ("RNN", "LSTM", "GRU")),
    case("RNN", 4, 5, nonlinearity="relu", inputs=[x(6, 2, 4), x(1, 2, 5)]),
    case("GRU", 4, 5, 2, inputs=[x(6, 2, 4), x(2, 2, 5)]),
    *(case(name, 4, 5, inputs=[x(2, 4)]) for name in ("RNNCell", "LSTMCell", "GRUCell")),
    *(case(name, 4, 5, inputs=[x(4), x(5)]) for name in ("RNNCell", "GRUCell")),
    *(case(name, inputs=[x(3, 4), x(3, 4)]) for name in (
        "MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "PoissonNLLLoss", "BCEWithLogitsLoss",
    )),
    case("HuberLoss", "sum", 0.3, inputs=[x(3, 4), x(3, 4)]),
    case("SmoothL1Loss", reduction="none", beta=0.3, inputs=[x(3, 4), x(3, 4)]),
    case("SoftMarginLoss", inputs=[x(3, 4), signs(3, 4)]),
    case("HingeEmbeddingLoss", inputs=[x(3, 4), signs(3, 4)]),
    case("CrossEntropyLoss", inputs=[x(6, 5), ints(5, 6)]),
    case("CrossEntropyLoss", weight=p(5), ignore_index=2, label_smoothing=0.1,
         inputs=[x(6, 5), ints(5, 6)]),
    case("NLLLoss", weight=p(5), reduction="sum", inputs=[x(6, 5), ints(5, 6)]),
    case("BCELoss", inputs=[p(3, 4), p(3, 4)]),
    case("BCEWithLogitsLoss", pos_weight=p(4), inputs=[x(3, 4), p(3, 4)]),
    case("KLDivLoss", reduction="batchmean", inputs=[x(3, 4), p(3, 4)]),
    case("GaussianNLLLoss", full=True, inputs=[x(3, 4), x(3, 4), p(3, 4)]),
    case("MultiLabelSoftMarginLoss", inputs=[x(3, 4), ints(2, 3, 4).astype(float)]),
    case("MultiMarginLoss", p=2, inputs=[x(6, 5), ints(5, 6)]),
    case("CosineEmbeddingLoss", 0.1, inputs=[x(3, 4), x(3, 4), signs(3)]),
    case("MarginRankingLoss", 0.1, inputs=[x(3), x(3), signs(3)]),
    case("TripletMarginLoss", 2.0, swap=True, inputs=[x(3, 4), x(3, 4), x(3, 4)]),
    case("TripletMarginWithDistanceLoss", margin=2.0, inputs=[x(3, 4), x(3, 4), x(3, 4)]),
]  # fmt: skip

RANDOM = {"Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout"}
BASES = {"Module", "Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"}
STACKS = {"TransformerEncoder", "TransformerDecoder"}  # made of layers: tested below
IN_MODULE_DB = {
    "FeatureAlphaDropout", "FractionalMaxPool2d", "FractionalMaxPool3d", "LPPool1d", "LPPool2d",
    "LPPool3d", "LinearCrossEntropyLoss", "MultiLabelMarginLoss", "RReLU", "SyncBatchNorm",
    "CTCLoss", "EmbeddingBag", "Transformer", "UpsamplingBilinear2d", "UpsamplingNearest2d",
}  # fmt: skip
"""Tested in test_module_db.py, and SyncBatchNorm in tests/nn/test_lazy.py."""


def convert(package: Any, value: Any) -> Any:
    return package.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value


def build(case: Case, package: Any, library: Any) -> Any:
    kwargs = {name: convert(package, value) for name, value in case.kwargs.items()}
    return getattr(library, case.name)(*case.args, **kwargs)


def printed(theirs: Any) -> str:
    return repr(theirs).replace("NonDynamicallyQuantizableLinear", "Linear")


def run(case: Case, package: Any, module: Any) -> dict[str, Any]:
    """All results, gradients and buffers of one call, as arrays by name."""
    inputs = []
    for value in case.inputs:
        tensor = convert(package, value)
        trained = tensor.is_floating_point() and not isinstance(value, Constant)
        inputs.append(tensor.requires_grad_() if trained else tensor)
    options = {name: convert(package, value) for name, value in case.call.items()}
    output = module(*inputs, **options)
    results = list(flat(output))
    loss = 0.0
    for place, result in enumerate(results):
        if result is not None and result.requires_grad:
            direction = np.random.default_rng(place).standard_normal(tuple(result.shape))
            loss = loss + (result * convert(package, np.asarray(direction))).sum()
    if not isinstance(loss, float):
        loss.backward()
    found = {f"output {place}": result for place, result in enumerate(results)}
    found |= {f"gradient of input {i}": t.grad for i, t in enumerate(inputs)}
    found |= {f"gradient of {name}": t.grad for name, t in module.named_parameters()}
    found |= dict(module.named_buffers())
    return found


def flat(value: Any) -> Any:
    if isinstance(value, tuple):
        for part in value:
            yield from flat(part)
    else:
        yield value


def compare(mine: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert list(mine) == list(wanted)
    for name, value in wanted.items():
        assert (mine[name] is None) == (value is None), name
        if value is None:
            continue
        assert str(mine[name].dtype).split(".")[-1] == str(value.dtype).split(".")[-1], name
        assert tuple(mine[name].shape) == tuple(value.shape), name
        np.testing.assert_allclose(
            mine[name].detach().numpy(), value.detach().numpy(), rtol=1e-6, atol=1e-9, err_msg=name
        )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_module(case: Case) -> None:
    """Prints alike, has the same parameters, and behaves alike in training and in evaluation."""
    ours, theirs = build(case, gradient, nn), build(case, torch, torch.nn)
    assert repr(ours) == printed(theirs)
    ours, theirs = ours.double(), theirs.double()
    state = {name: tensor.numpy().copy() for name, tensor in theirs.state_dict().items()}
    assert {name: tuple(tensor.shape) for name, tensor in ours.state_dict().items()} == {
        name: array.shape for name, array in state.items()
    }
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict({name: convert(gradient, array) for name, array in state.items()})
    for training in (True, False):
        if training and case.name in RANDOM:
            continue
        ours.train(training), theirs.train(training)
        ours.zero_grad(), theirs.zero_grad()
        compare(run(case, gradient, ours), run(case, torch, theirs))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_initialisation(case: Case) -> None:
    """Each parameter starts with PyTorch's mean and spread (5 standard errors, over 40 modules)."""
    names = [name for name, _ in build(case, gradient, nn).named_parameters()]

    def samples(package: Any, library: Any) -> dict[str, np.ndarray]:
        modules = [build(case, package, library) for _ in range(40)]
        return {
            name: np.concatenate(
                [dict(m.named_parameters())[name].detach().numpy().ravel() for m in modules]
            )
            for name in names
        }

    if not names:
        return
    torch.manual_seed(0)
    gradient.manual_seed(0)
    ours, theirs = samples(gradient, nn), samples(torch, torch.nn)
    for name in names:
        a, b = ours[name], theirs[name]
        spread = b.std()
        error = spread / np.sqrt(b.size) + 1e-12
        assert abs(a.mean() - b.mean()) < 7 * error, name
        assert abs(a.std() - spread) < 7 * error, name
        # Uniform and normal distributions of equal spread differ in their largest element.
        assert abs(np.abs(a).max() - np.abs(b).max()) <= 0.35 * np.abs(b).max(), name


def test_stacks() -> None:
    def stack(package: Any, library: Any, kind: str) -> Any:
        layer = getattr(library, f"Transformer{kind}Layer")(6, 2, 8, 0.0, batch_first=True)
        return getattr(library, f"Transformer{kind}")(layer, 2, library.LayerNorm(6))

    for kind, inputs in (("Encoder", [x(2, 4, 6)]), ("Decoder", [x(2, 4, 6), x(2, 3, 6)])):
        ours, theirs = stack(gradient, nn, kind).double(), stack(torch, torch.nn, kind).double()
        state = {n: convert(gradient, t.numpy()) for n, t in theirs.state_dict().items()}
        ours.load_state_dict(state)
        assert repr(ours) == printed(theirs)
        row = Case(kind, inputs=inputs)
        compare(run(row, gradient, ours), run(row, torch, theirs))


def test_every_layer_has_a_case() -> None:
    layers = {
        name
        for name in vars(nn)
        if isinstance(getattr(nn, name), type) and issubclass(getattr(nn, name), nn.Module)
    }
    missing = layers - {case.name for case in CASES}
    assert {
        name for name in missing if not name.startswith("Lazy")
    } == BASES | STACKS | IN_MODULE_DB


def test_signatures_are_pytorchs() -> None:
    """Same argument names, in the same order, with the same defaults."""
    retired = {"size_average", "reduce", "prefix", "min_value", "max_value", "args", "kwargs"}
    unwritten = {"RNN", "LSTM", "GRU"}  # *args, **kwargs
    wrong = []
    for name in vars(nn):
        mine = getattr(nn, name)
        theirs = getattr(torch.nn, name, None)
        if not isinstance(mine, type) or name in unwritten | {"Module", "Parameter"}:
            continue

        def signature(kind: Any) -> dict[str, Any]:
            parameters = inspect.signature(kind).parameters
            found = {n: q.default for n, q in parameters.items() if n not in retired}
            # A function is another function there.
            return {n: getattr(v, "__name__", v) for n, v in found.items()}

        if list(signature(mine).items()) != list(signature(theirs).items()):
            wrong.append((name, signature(theirs), signature(mine)))
    assert not wrong


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 4), (0, 4, 5)])
@pytest.mark.parametrize("affine", [True, False])
def test_a_group_norm_of_16_bits_has_float32_weights(shape: tuple[int, ...], affine: bool) -> None:
    """Computed in float32, and rounded once."""
    values = x(*shape)

    def both(package: Any) -> Any:
        layer = package.nn.GroupNorm(2, 4, affine=affine)
        given = package.tensor(values).to(package.bfloat16).requires_grad_()
        y = layer(given)
        y.sum().backward()
        grads = [p.grad.numpy() for p in layer.parameters()]
        assert given.grad.dtype == y.dtype == package.bfloat16
        return y.detach().float().numpy(), *grads

    for mine, other in zip(both(gradient), both(torch), strict=True):
        np.testing.assert_allclose(mine, other, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell"])
def test_states_of_cells_may_be_written_to(name):
    """Each step's state is multiplied in place, as by a mask of dropout."""
    torch = pytest.importorskip("torch")

    def slopes(package):
        cell = getattr(package.nn, name)(3, 4).double()
        sizes = {key: tuple(value.shape) for key, value in cell.state_dict().items()}
        weights = {
            key: np.linspace(-1, 1, np.prod(size)).reshape(size) for key, size in sizes.items()
        }
        cell.load_state_dict({key: package.tensor(value) for key, value in weights.items()})
        x = package.tensor(np.sin(np.arange(6.0)).reshape(2, 3), requires_grad=True)
        state = None
        for _ in range(3):
            state = cell(x, state)
            parts = state if name == "LSTMCell" else (state,)
            for part in parts:
                part.mul_(0.5)
        sum(part.pow(2).sum() for part in parts).backward()
        return [each.grad.numpy() for each in (x, *cell.parameters())]

    for ours, theirs in zip(slopes(gradient), slopes(torch), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
