"""Containers, layers, init and utils.

The layers' numbers are compared with PyTorch's in tests/parity/test_nn_parity.py.
"""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest

import gradient
from gradient import nn
from gradient.errors import ArgumentError, AutogradError, FailedCheck, ShapeError, TypeMismatch


def names(pairs) -> list[str]:
    return [name for name, _ in pairs]


# ---- containers --------------------------------------------------------------------------------


def test_sequential() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert len(model) == 3 and model[-1] is model[2]
    assert [type(m).__name__ for m in model[:2]] == ["Linear", "ReLU"]
    assert isinstance(model[1:], nn.Sequential) and list(model[1:]._modules) == ["1", "2"]
    model.append(nn.Sigmoid()).insert(0, nn.Identity())
    assert [type(m).__name__ for m in model] == [
        "Identity", "Linear", "ReLU", "Linear", "Sigmoid",
    ]  # fmt: skip
    del model[0]
    assert isinstance(model.pop(), nn.Sigmoid)
    model[1] = nn.Tanh()
    assert isinstance(model[1], nn.Tanh)
    assert len(model + nn.Sequential(nn.ReLU())) == 4
    model += [nn.ReLU()]
    assert len(model) == 4
    named = nn.Sequential({"first": nn.Linear(2, 2), "second": nn.ReLU()})
    assert named.first is named[0]
    assert list(named[1:]._modules) == ["second"]
    with pytest.raises(IndexError) as raised:
        model[9]
    assert str(raised.value) == "Sequential: index 9 is out of range for 4 modules"


def test_module_list_and_dict() -> None:
    layers = nn.ModuleList(nn.Linear(1, 1) for _ in range(3))
    layers.extend([nn.ReLU()])
    assert len(layers) == 4 and len(layers[1:3]) == 2
    assert names(nn.ModuleList([layers]).named_parameters())[0] == "0.0.weight"
    with pytest.raises(NotImplementedError):
        layers(gradient.ones(1))

    table = nn.ModuleDict({"a": nn.ReLU()})
    table["b"] = nn.Linear(1, 1)
    table.update({"c": nn.Tanh()})
    assert list(table) == ["a", "b", "c"] and "b" in table and len(table) == 3
    assert isinstance(table.pop("a"), nn.ReLU) and "a" not in table
    assert [key for key, _ in table.items()] == table.keys() == ["b", "c"]
    assert names(table.named_parameters()) == ["b.weight", "b.bias"]
    with pytest.raises(KeyError):
        table["a"]
    with pytest.raises(KeyError):
        table["training"] = nn.ReLU()
    table.clear()
    assert len(table) == 0


def test_parameter_containers() -> None:
    values = nn.ParameterList([gradient.ones(2), nn.Parameter(gradient.zeros(1))])
    values.append(gradient.ones(1))
    assert len(values) == 3 and isinstance(values[0], nn.Parameter)
    assert names(values.named_parameters()) == ["0", "1", "2"]
    assert values[-1] is values[2] and len(values[:2]) == 2
    values[0] = gradient.zeros(2)
    assert values[0].tolist() == [0, 0]
    with pytest.raises(IndexError):
        values[3]
    table = nn.ParameterDict({"w": gradient.ones(2)})
    table["b"] = nn.Parameter(gradient.zeros(1))
    assert names(table.named_parameters()) == ["w", "b"]
    assert isinstance(table.get("w"), nn.Parameter) and table.get("x") is None
    del table["w"]
    assert list(table.state_dict()) == ["b"]


def test_a_parameter_dict_has_the_methods_of_a_dict() -> None:
    table = nn.ParameterDict({"a": gradient.ones(1)})
    assert table.setdefault("a", gradient.zeros(1)) is table["a"] and table["a"].item() == 1
    assert isinstance(table.setdefault("b", gradient.zeros(1)), nn.Parameter)
    copy = table.copy()
    assert copy["a"] is table["a"] and list(reversed(copy)) == ["b", "a"]
    key, value = copy.popitem()
    assert key == "b" and value is table["b"] and list(copy) == ["a"] and len(table) == 2
    copy.clear()
    with pytest.raises(KeyError):
        copy.popitem()
    joined = table | {"c": gradient.ones(2)}
    assert list(joined) == ["a", "b", "c"] and len(table) == 2
    assert list({"c": gradient.ones(2)} | table) == ["c", "a", "b"]
    table |= joined
    assert [name for name, _ in table.named_parameters()] == ["a", "b", "c"]
    assert list(table.fromkeys(["x", "y"], gradient.ones(1))) == ["x", "y"]
    assert nn.ParameterDict().fromkeys(["x"])["x"] is None


class Block(nn.Module):
    """A module of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(gradient.ones(3))
        self.inner = nn.Linear(3, 3)


def test_repr() -> None:
    model = nn.Sequential(
        nn.ModuleList([nn.Linear(1, 2), nn.Linear(1, 2), nn.ReLU()]), nn.ModuleDict(), Block()
    )
    assert repr(model) == (
        "Sequential(\n"
        "  (0): ModuleList(\n"
        "    (0-1): 2 x Linear(in_features=1, out_features=2, bias=True)\n"
        "    (2): ReLU()\n"
        "  )\n"
        "  (1): ModuleDict()\n"
        "  (2): Block(\n"
        "    (inner): Linear(in_features=3, out_features=3, bias=True)\n"
        "  )\n"
        ")"
    )


# ---- layers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: nn.Conv2d(3, 4, 1, groups=2),
            ArgumentError,
            "Conv2d: in_channels 3 is not divisible by groups 2",
        ),
        (
            lambda: nn.Conv2d(3, 4, 3, stride=2, padding="same"),
            ArgumentError,
            "Conv2d: padding='same' needs a stride of 1, got (2, 2)",
        ),
        (
            lambda: nn.Conv1d(3, 4, (1, 2)),
            ArgumentError,
            "Conv1d: expected an int or a tuple of 1 as kernel_size, got (1, 2)",
        ),
        (
            lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"),
            ArgumentError,
            "Conv2d: padding_mode must be one of ('zeros', 'reflect', 'replicate', 'circular'), "
            "got 'mirror'",
        ),
        (
            lambda: nn.Dropout(1.5),
            ArgumentError,
            "Dropout: p is a probability, expected 0 <= p <= 1, got 1.5",
        ),
        (
            lambda: nn.GroupNorm(4, 6),
            ArgumentError,
            "GroupNorm: num_channels 6 is not divisible by num_groups 4",
        ),
        (
            lambda: nn.Embedding(5, 2, padding_idx=5),
            ArgumentError,
            "Embedding: padding_idx must be within num_embeddings 5, got 5",
        ),
        (
            lambda: nn.MultiheadAttention(6, 4),
            ArgumentError,
            "MultiheadAttention: embed_dim 6 must be a positive multiple of num_heads 4",
        ),
        (
            lambda: nn.MultiheadAttention(6, 2)(*(gradient.ones(3, 2, 5),) * 3),
            FailedCheck,
            "MultiheadAttention: expected query of size 6 in its last dimension, got (3, 2, 5)",
        ),
        (
            lambda: nn.MultiheadAttention(6, 2)(
                *(gradient.ones(3, 2, 6),) * 3, attn_mask=gradient.ones(2, 2)
            ),
            ShapeError,
            "MultiheadAttention: expected attn_mask (3, 3) or (4, 3, 3), got (2, 2)",
        ),
        (
            lambda: nn.BatchNorm2d(3)(gradient.ones(2, 3)),
            ArgumentError,
            "BatchNorm2d: expected 4D input, got (2, 3)",
        ),
        (
            lambda: nn.BatchNorm1d(3)(gradient.ones(1, 3)),
            ArgumentError,
            "batch_norm: expected more than 1 value per channel when training, got input size "
            "(1, 3)",
        ),
        (
            lambda: nn.LSTM(3, 4)(gradient.ones(2, 5)),
            ShapeError,
            "LSTM: expected an input (T, N, 3), or (T, 3), got (2, 5)",
        ),
        (
            lambda: nn.GRU(3, 4)(gradient.ones(2, 1, 3), gradient.ones(1, 2, 4)),
            ShapeError,
            "GRU: expected a hidden state (1, 1, 4), got (1, 2, 4)",
        ),
        (
            lambda: nn.RNN(3, 4, nonlinearity="sin"),
            ArgumentError,
            "RNN: nonlinearity must be 'tanh' or 'relu', got 'sin'",
        ),
    ],
)
def test_layer_errors(make, error, message) -> None:
    with pytest.raises(error) as raised:
        make()
    assert str(raised.value) == message


def test_embedding_from_pretrained() -> None:
    table = gradient.arange(6.0).reshape(3, 2)
    layer = nn.Embedding.from_pretrained(table)
    assert not layer.weight.requires_grad
    assert layer(gradient.tensor([2, 0])).tolist() == [[4, 5], [0, 1]]
    assert nn.Embedding.from_pretrained(table, freeze=False).weight.requires_grad
    assert nn.Embedding(3, 2, padding_idx=1).weight[1].tolist() == [0, 0]


def test_dropout_layers_drop_in_training_only() -> None:
    x = gradient.ones(100, 100, requires_grad=True)
    layer = nn.Dropout(0.25)
    y = layer(x)
    y.sum().backward()
    kept = float((y != 0).float().mean())
    assert abs(kept - 0.75) < 0.02
    assert set(np.unique(y.detach().numpy())) == {np.float32(0), np.float32(1 / 0.75)}
    assert (x.grad == y).all()
    assert layer.eval()(x) is x


def test_batch_norm_counts_batches() -> None:
    layer = nn.BatchNorm1d(2, momentum=None)
    for value in (1.0, 3.0):
        layer(gradient.tensor([[value, 0.0], [value, 1.0]]))
    assert int(layer.num_batches_tracked) == 2
    assert np.allclose(layer.running_mean.tolist(), [2.0, 0.5])  # the average of both batches
    layer.reset_running_stats()
    assert int(layer.num_batches_tracked) == 0 and layer.running_mean.tolist() == [0, 0]


def test_layers_take_device_and_dtype(device) -> None:
    for layer in (
        nn.Linear(2, 3, device=device, dtype=gradient.float64),
        nn.Conv2d(2, 3, 1, device=device, dtype=gradient.float64),
        nn.LayerNorm(3, device=device, dtype=gradient.float64),
        nn.BatchNorm1d(3, device=device, dtype=gradient.float64),
        nn.Embedding(3, 2, device=device, dtype=gradient.float64),
        nn.MultiheadAttention(4, 2, device=device, dtype=gradient.float64),
        nn.GRU(2, 3, device=device, dtype=gradient.float64),
    ):
        for parameter in layer.parameters():
            assert parameter.dtype is gradient.float64
            assert str(parameter.device) == str(gradient.device(device))


@pytest.mark.parametrize("dtype", [gradient.float16, gradient.bfloat16])
def test_layers_in_16_bits(dtype) -> None:
    """Results keep the dtype, and are as near to float32's as one rounding allows."""
    gradient.manual_seed(0)
    for layer, x in (
        (nn.Linear(32, 16), gradient.randn(4, 32)),
        (nn.LayerNorm(32), gradient.randn(4, 32)),
        (nn.RMSNorm(32), gradient.randn(4, 32)),
        (nn.GroupNorm(2, 4), gradient.randn(4, 4, 8)),
        (nn.BatchNorm2d(3), gradient.randn(4, 3, 5, 5) + 10),
        (nn.Conv2d(3, 4, 3), gradient.randn(2, 3, 6, 6)),
        (nn.GELU(), gradient.randn(4, 32)),
        (nn.Softmax(-1), gradient.randn(4, 32)),
        (nn.AvgPool2d(2), gradient.randn(2, 3, 6, 6)),
    ):
        layer16 = copy.deepcopy(layer).to(dtype)
        x16 = x.to(dtype).requires_grad_()
        y16 = layer16(x16)
        wanted = copy.deepcopy(layer16).float()(x16.detach().float())
        assert y16.dtype is dtype, layer
        error = float((y16.float() - wanted).abs().max() / wanted.abs().max())
        assert error < 2 * gradient.finfo(dtype).eps, (layer, error)
        y16.sum().backward()
        assert x16.grad.dtype is dtype


# ---- init and utils ----------------------------------------------------------------------------


def test_init_fills_in_place_without_a_graph() -> None:
    weight = nn.Parameter(gradient.empty(300, 200))
    for fill, mean, std in (
        (lambda w: nn.init.uniform_(w, -1, 3), 1.0, 4 / 12**0.5),
        (lambda w: nn.init.normal_(w, 0.5, 2.0), 0.5, 2.0),
        (lambda w: nn.init.xavier_uniform_(w, 2.0), 0.0, 2.0 * (2 / 500) ** 0.5),
        (lambda w: nn.init.xavier_normal_(w), 0.0, (2 / 500) ** 0.5),
        (lambda w: nn.init.kaiming_uniform_(w), 0.0, (2 / 200) ** 0.5),
        (
            lambda w: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="tanh"),
            0.0,
            5 / 3 / 300**0.5,
        ),
        (lambda w: nn.init.trunc_normal_(w, std=0.02), 0.0, 0.02),
        (lambda w: nn.init.trunc_normal_(w, 0.0, 1.0, 0.0, 2.0), 0.7228, 0.5021),
        (nn.init.ones_, 1.0, 0.0),
        (nn.init.zeros_, 0.0, 0.0),
        (lambda w: nn.init.constant_(w, 3.0), 3.0, 0.0),
        (nn.init.eye_, 1 / 300, (1 / 300 * 299 / 300) ** 0.5),
        (lambda w: nn.init.sparse_(w, 0.25, 1.0), 0.0, 0.75**0.5),
    ):
        assert fill(weight) is weight
        assert weight.is_leaf and weight.requires_grad
        assert abs(float(weight.detach().mean()) - mean) < 0.02 * (std + 0.1)
        assert abs(float(weight.detach().std()) - std) < 0.02 * std + 1e-6
    nn.init.trunc_normal_(weight, a=-0.5, b=0.25)
    assert float(weight.detach().min()) >= -0.5 and float(weight.detach().max()) <= 0.25


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (4, 2, 3)])
def test_orthogonal(shape) -> None:
    matrix = nn.init.orthogonal_(gradient.empty(*shape, dtype=gradient.float64), gain=2.0)
    flat = matrix.reshape(shape[0], -1).numpy()
    flat = flat if flat.shape[0] <= flat.shape[1] else flat.T
    assert np.allclose(flat @ flat.T, 4 * np.eye(len(flat)), atol=1e-12)


def test_dirac() -> None:
    weight = nn.init.dirac_(gradient.empty(4, 2, 3), groups=2)
    x = gradient.randn(1, 4, 5)
    assert (nn.functional.conv1d(x, weight, padding=1, groups=2) == x).all()


def test_gains() -> None:
    assert nn.init.calculate_gain("relu") == 2**0.5
    assert nn.init.calculate_gain("leaky_relu", 1.0) == 1.0
    assert nn.init.calculate_gain("tanh") == 5 / 3
    with pytest.raises(ArgumentError, match="calculate_gain: expected one of .*got 'gelu'"):
        nn.init.calculate_gain("gelu")
    with pytest.raises(ArgumentError, match="fan in and fan out need 2 dimensions or more"):
        nn.init.xavier_uniform_(gradient.empty(3))


@pytest.mark.parametrize(
    ("fill", "error", "message"),
    [
        (
            lambda w: nn.init.normal_("a"),
            TypeError,
            "normal_: expected a Tensor as tensor, got 'a'",
        ),
        (lambda w: nn.init.zeros_(None), TypeError, "constant_: expected a Tensor as tensor"),
        (lambda w: nn.init.eye_([1.0]), TypeError, "eye_: expected a Tensor as tensor"),
        (lambda w: nn.init.dirac_(3), TypeError, "dirac_: expected a Tensor as tensor"),
        (lambda w: nn.init.kaiming_normal_(3), TypeError, "kaiming_normal_: expected a Tensor"),
        (lambda w: nn.init.xavier_normal_(w, "a"), TypeError, "expected a number as gain, got 'a'"),
        (
            lambda w: nn.init.xavier_uniform_(w, float("nan")),
            ValueError,
            "a finite number as gain, got nan",
        ),
        (lambda w: nn.init.xavier_uniform_(w, -1.0), ValueError, "a gain of at least 0, got -1.0"),
        (lambda w: nn.init.orthogonal_(w.long()), RuntimeError, "point tensor, got gradient.int64"),
        (lambda w: nn.init.trunc_normal_(w.long()), RuntimeError, "a floating-point tensor"),
        (lambda w: nn.init.trunc_normal_(w, std=0.0), ValueError, "a std above 0, got 0.0"),
        (
            lambda w: nn.init.trunc_normal_(w, a=float("nan")),
            ValueError,
            "a <= b, got a=nan and b=2.0",
        ),
        (
            lambda w: nn.init.sparse_(w, float("nan")),
            ValueError,
            "a finite number as sparsity, got nan",
        ),
        (lambda w: nn.init.sparse_(w, 2.0), ValueError, "a sparsity from 0 to 1, got 2.0"),
        (lambda w: nn.init.dirac_(w[None], 0), ValueError, "at least 1 as groups, got 0"),
    ],
)
def test_init_of_what_cannot_be_filled(fill, error, message) -> None:
    with pytest.raises(error, match=re.escape(message)):
        fill(gradient.zeros(4, 4))


def test_weight_norm_along_no_dimension() -> None:
    with pytest.raises(IndexError, match="weight_norm: expected dim from -2 to 1, got 2"):
        nn.utils.weight_norm(nn.Linear(2, 3), dim=2)
    with pytest.raises(IndexError, match="weight_norm: expected dim from -2 to 1, got 7"):
        nn.utils.parametrizations.weight_norm(nn.Linear(2, 3), dim=7)


def test_init_takes_a_generator() -> None:
    def draw() -> list:
        generator = gradient.Generator().manual_seed(3)
        return nn.init.normal_(gradient.empty(4), generator=generator).tolist()

    assert draw() == draw()


def test_skip_init() -> None:
    weight = gradient.full((2, 2), 7.0)
    with nn.init.skip_init():
        for fill in (
            nn.init.normal_,
            nn.init.zeros_,
            nn.init.eye_,
            nn.init.orthogonal_,
            nn.init.kaiming_uniform_,
            nn.init.trunc_normal_,
        ):
            fill(weight)
    assert weight.tolist() == [[7, 7], [7, 7]]
    assert nn.init.zeros_(weight).tolist() == [[0, 0], [0, 0]]


def test_clipping() -> None:
    model = nn.Linear(3, 4)
    for parameter in model.parameters():
        parameter.grad = gradient.full(tuple(parameter.shape), 3.0)
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert norm.shape == () and abs(float(norm) - 12.0) < 1e-5
    assert abs(float(nn.utils.get_total_norm([p.grad for p in model.parameters()])) - 1) < 1e-5
    before = model.weight.grad.clone()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    assert np.allclose(model.weight.grad.tolist(), before.tolist())
    assert abs(float(nn.utils.clip_grad_norm_(model.weight, 9.0, float("inf"))) - 0.25) < 1e-5
    model.weight.grad = gradient.full_like(model.weight, 3.0)
    assert float(nn.utils.clip_grad_norm_(model.weight, 9.0, "inf")) == 3
    assert float(nn.utils.get_total_norm([gradient.tensor([3.0, -4.0])], "1")) == 7
    with pytest.raises(TypeMismatch, match="number as norm_type, got 'fro'"):
        nn.utils.get_total_norm([gradient.ones(2)], "fro")
    nn.utils.clip_grad_value_(model.parameters(), 0.1)
    assert float(model.bias.grad.max()) == pytest.approx(0.1)
    assert float(nn.utils.clip_grad_norm_([nn.Parameter(gradient.ones(1))], 1.0)) == 0
    model.bias.grad.fill_(float("nan"))
    with pytest.raises(AutogradError, match="the gradients' norm is nan"):
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)


def test_parameters_as_a_vector() -> None:
    model = nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(model.parameters())
    assert vector.shape == (9,)
    nn.utils.vector_to_parameters(gradient.arange(9.0), model.parameters())
    assert model.weight.tolist() == [[0, 1], [2, 3], [4, 5]] and model.bias.tolist() == [6, 7, 8]
    assert model.weight.requires_grad and model.weight.is_leaf
    with pytest.raises(ShapeError) as raised:
        nn.utils.vector_to_parameters(gradient.arange(8.0), model.parameters())
    assert str(raised.value) == (
        "vector_to_parameters: the parameters have 9 elements, the vector has 8"
    )


def test_padding_sequences() -> None:
    sequences = [gradient.tensor([1, 2, 3]), gradient.tensor([4])]
    padded = nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=-1)
    assert padded.tolist() == [[1, 2, 3], [4, -1, -1]] and padded.dtype is gradient.int64
    assert nn.utils.rnn.pad_sequence(sequences).shape == (3, 2)
    left = nn.utils.rnn.pad_sequence(sequences, True, 0, "left")
    assert left.tolist() == [[1, 2, 3], [0, 0, 4]]
    mixed = nn.utils.rnn.pad_sequence([sequences[0], gradient.tensor([1.5])])
    assert mixed.tolist() == [[1, 1], [2, 0], [3, 0]] and mixed.dtype is gradient.int64
    lengths = gradient.tensor([3, 1])
    back = nn.utils.rnn.unpad_sequence(padded, lengths, batch_first=True)
    assert [row.tolist() for row in back] == [[1, 2, 3], [4]]
    with pytest.raises(ArgumentError, match="padding_side must be 'left' or 'right', got 'both'"):
        nn.utils.rnn.pad_sequence(sequences, padding_side="both")


def test_the_weights_of_recurrent_layers_by_layer_and_direction():
    lstm = gradient.nn.LSTM(2, 3, 2, bidirectional=True, proj_size=2)
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    suffixes = ("_l0", "_l0_reverse", "_l1", "_l1_reverse")
    assert lstm._all_weights == [[kind + suffix for kind in kinds] for suffix in suffixes]
    assert lstm._flat_weights_names == [name for names in lstm._all_weights for name in names]
    named = dict(zip(lstm._flat_weights_names, lstm._flat_weights, strict=True))
    assert all(weight is getattr(lstm, name) for name, weight in named.items())
    assert lstm.all_weights[1][4] is lstm.weight_hr_l0_reverse
    assert lstm.flatten_parameters() is None  # for scripts that call it
    assert gradient.nn.GRU(2, 3, bias=False)._flat_weights_names == ["weight_ih_l0", "weight_hh_l0"]


def test_an_embedding_bag_is_shown_with_its_options():
    """In PyTorch's words."""
    assert repr(nn.EmbeddingBag(5, 3)) == "EmbeddingBag(5, 3, mode='mean')"
    bag = nn.EmbeddingBag(
        5, 3, max_norm=2.0, norm_type=1.0, scale_grad_by_freq=True, mode="sum", padding_idx=1
    )
    assert repr(bag) == (
        "EmbeddingBag(5, 3, max_norm=2.0, norm_type=1.0, scale_grad_by_freq=True, mode='sum', "
        "padding_idx=1)"
    )
