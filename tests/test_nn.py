"""Module: what it holds, how it is saved, moved, hooked and printed; containers, init, utils.

The layers' numbers are compared with PyTorch's in tests/parity/test_nn_parity.py.
"""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import gradient
from gradient import nn
from gradient.errors import (
    ArgumentError,
    AutogradError,
    ShapeError,
    StateDictError,
    TypeMismatch,
)


class Block(nn.Module):
    """Parameters, a missing parameter, buffers of both kinds, and a child."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(gradient.ones(3))
        self.register_parameter("shift", None)
        self.register_buffer("mean", gradient.zeros(3))
        self.register_buffer("cache", gradient.zeros(2), persistent=False)
        self.inner = nn.Linear(3, 3)

    def forward(self, x):
        return self.inner(x) * self.scale


def names(pairs) -> list[str]:
    return [name for name, _ in pairs]


# ---- what a module holds -----------------------------------------------------------------------


def test_members_by_name() -> None:
    model = nn.Sequential(Block(), nn.ReLU())
    assert names(model.named_parameters()) == ["0.scale", "0.inner.weight", "0.inner.bias"]
    assert names(model.named_parameters(recurse=False)) == []
    assert names(model[0].named_parameters(prefix="block", recurse=False)) == ["block.scale"]
    assert names(model.named_buffers()) == ["0.mean", "0.cache"]
    assert names(model.named_children()) == ["0", "1"]
    assert names(model.named_modules()) == ["", "0", "0.inner", "1"]
    assert [type(m).__name__ for m in model.modules()] == [
        "Sequential",
        "Block",
        "Linear",
        "ReLU",
    ]
    assert list(model.state_dict()) == ["0.scale", "0.mean", "0.inner.weight", "0.inner.bias"]


def test_shared_parameters_come_once_and_are_saved_under_both_names() -> None:
    model = nn.ModuleDict({"encoder": nn.Linear(3, 3), "decoder": nn.Linear(3, 3, bias=False)})
    model["decoder"].weight = model["encoder"].weight
    assert names(model.named_parameters()) == ["encoder.weight", "encoder.bias"]
    every = names(model.named_parameters(remove_duplicate=False))
    assert every == ["encoder.weight", "encoder.bias", "decoder.weight"]
    assert list(model.state_dict()) == every
    assert len(list(model.parameters())) == 2
    twice = nn.ModuleList([model["encoder"]] * 2)
    assert names(twice.named_modules()) == ["", "0"]
    assert names(twice.named_modules(remove_duplicate=False)) == ["", "0", "1"]


def test_setting_and_deleting_attributes() -> None:
    block = Block()
    block.scale = None  # keeps its name, as PyTorch
    assert names(block.named_parameters()) == ["inner.weight", "inner.bias"]
    block.scale = nn.Parameter(gradient.zeros(3))
    assert names(block.named_parameters())[0] == "scale"
    block.mean = gradient.ones(3)
    assert block.state_dict()["mean"].tolist() == [1, 1, 1]
    del block.inner, block.cache
    assert names(block.named_modules()) == [""]
    assert names(block.named_buffers()) == ["mean"]
    assert not hasattr(block, "inner")
    block.plain = gradient.ones(2)  # a tensor is not a buffer by itself
    assert "plain" not in block.state_dict()
    assert {"scale", "mean", "forward"} <= set(dir(block))
    assert "0" not in dir(nn.Sequential(block))


def test_a_name_moves_between_kinds() -> None:
    block = Block()
    block.mean = nn.Parameter(gradient.ones(3))
    assert names(block.named_buffers()) == ["cache"]
    assert "mean" in names(block.named_parameters())
    block.scale = nn.Identity()
    assert names(block.named_children()) == ["inner", "scale"]


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (
            lambda block: setattr(block, "scale", gradient.ones(3)),
            TypeError,
            "Block.scale is a parameter: expected an nn.Parameter or None, got Tensor",
        ),
        (
            lambda block: setattr(block, "mean", 3),
            TypeError,
            "Block.mean is a buffer: expected a tensor or None, got int",
        ),
        (
            lambda block: setattr(block, "inner", nn.Linear),
            TypeError,
            "Block.inner is a module: expected an nn.Module or None, got type",
        ),
        (
            lambda block: block.register_buffer("a.b", gradient.ones(1)),
            KeyError,
            "the name of a buffer may not be empty or contain a dot: 'a.b' contains a dot",
        ),
        (
            lambda block: block.add_module("", nn.ReLU()),
            KeyError,
            "the name of a module may not be empty or contain a dot: '' is empty",
        ),
        (
            lambda block: block.add_module("forward", nn.ReLU()),
            KeyError,
            "Block already has an attribute 'forward'",
        ),
        (
            lambda block: block.register_parameter("w", gradient.ones(1)),
            TypeError,
            "parameter 'w': expected an nn.Parameter or None, got Tensor",
        ),
        (
            lambda block: block.get_submodule("inner.nothing"),
            AttributeError,
            "Linear has no attribute `nothing`",
        ),
        (
            lambda block: block.get_submodule("scale"),
            AttributeError,
            "`scale` is not an nn.Module",
        ),
        (
            lambda block: block.get_parameter("mean"),
            AttributeError,
            "`mean` is not an nn.Parameter",
        ),
        (lambda block: block.get_buffer("scale"), AttributeError, "`scale` is not a buffer"),
        (lambda block: block.nothing, AttributeError, "'Block' object has no attribute 'nothing'"),
        (
            lambda block: block.to(gradient.int32),
            TypeError,
            "Module.to: expected a floating-point dtype, got gradient.int32",
        ),
        (
            lambda block: block.train("yes"),
            ValueError,
            "train: expected mode to be True or False, got 'yes'",
        ),
        (
            lambda block: block._parameters.update(w=None),
            AttributeError,
            "'mappingproxy' object has no attribute 'update'",
        ),
        (
            lambda block: nn.Module()(1),
            NotImplementedError,
            'Module lacks the method "forward"',
        ),
        (
            lambda block: nn.Parameter([1.0]),
            TypeError,
            "Parameter: expected a Tensor, got list",
        ),
        (
            lambda block: nn.Parameter(gradient.tensor([1])),
            RuntimeError,
            "Parameter: only a floating-point tensor can require a gradient, got gradient.int64; "
            "pass requires_grad=False",
        ),
    ],
)
def test_errors(act, error, message) -> None:
    with pytest.raises(error) as raised:
        act(Block())
    assert raised.value.args[0] == message


def test_init_must_come_first() -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            self.size = 3
            self.layer = nn.Linear(3, 3)

    with pytest.raises(AttributeError) as raised:
        Forgetful()
    assert str(raised.value) == (
        "cannot set the module 'layer' of Forgetful before super().__init__() was called"
    )


def test_paths() -> None:
    model = nn.Sequential(Block())
    assert model.get_submodule("") is model
    assert model.get_submodule("0.inner") is model[0].inner
    assert model.get_parameter("0.inner.weight") is model[0].inner.weight
    assert model.get_buffer("0.mean") is model[0].mean
    model.set_submodule("0.inner", nn.Identity())
    assert isinstance(model[0].inner, nn.Identity)


# ---- parameters --------------------------------------------------------------------------------


def test_parameter() -> None:
    data = gradient.ones(2)
    parameter = nn.Parameter(data)
    assert isinstance(parameter, gradient.Tensor)
    assert parameter.requires_grad and parameter.is_leaf
    assert repr(parameter) == ("Parameter containing:\ntensor([1., 1.], requires_grad=True)")
    with gradient.no_grad():
        parameter.add_(1)
    assert data.tolist() == [2, 2]  # the same memory
    assert type(parameter + 1) is gradient.Tensor
    parameter.mark = "decay"
    twin = copy.deepcopy(parameter)
    assert isinstance(twin, nn.Parameter) and twin.mark == "decay" and twin.requires_grad
    twin = pickle.loads(pickle.dumps(parameter))
    assert isinstance(twin, nn.Parameter) and twin.tolist() == [2, 2]
    assert not nn.Parameter(gradient.tensor([1]), requires_grad=False).requires_grad


def test_training_step() -> None:
    gradient.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    x = gradient.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = gradient.tensor([[0.0], [1.0], [1.0], [0.0]])
    for _ in range(1000):
        loss = nn.functional.mse_loss(model(x), y)
        model.zero_grad()
        loss.backward()
        with gradient.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
    assert float(loss) < 0.02


def test_zero_grad() -> None:
    model = nn.Linear(2, 2)
    model(gradient.ones(2)).sum().backward()
    model.zero_grad(set_to_none=False)
    assert model.weight.grad.tolist() == [[0, 0], [0, 0]]
    model.zero_grad()
    assert model.weight.grad is None


def test_requires_grad_and_modes() -> None:
    model = nn.Sequential(Block(), nn.Dropout(0.5))
    assert model.requires_grad_(False) is model
    assert not any(p.requires_grad for p in model.parameters())
    assert model.eval() is model
    assert [m.training for m in model.modules()] == [False] * 4
    x = gradient.ones(2, 3)
    assert (model(x) == model(x)).all()
    model.train()
    assert [m.training for m in model.modules()] == [True] * 4


# ---- moving ------------------------------------------------------------------------------------


def test_to_changes_floats_in_place() -> None:
    block = Block()
    block.register_buffer("count", gradient.tensor(3))
    before = dict(block.named_parameters())
    block.inner.weight.grad = gradient.ones(3, 3)
    assert block.to(gradient.float64) is block
    for name, parameter in block.named_parameters():
        assert parameter is before[name] and parameter.dtype is gradient.float64
        assert parameter.requires_grad
    assert block.inner.weight.grad.dtype is gradient.float64
    assert block.mean.dtype is gradient.float64 and block.count.dtype is gradient.int64
    assert block(gradient.ones(3, dtype=gradient.float64)).dtype is gradient.float64
    for method, dtype in (
        ("half", gradient.float16),
        ("bfloat16", gradient.bfloat16),
        ("float", gradient.float32),
        ("double", gradient.float64),
    ):
        assert getattr(block, method)().scale.dtype is dtype
    assert block.to("cpu", gradient.float32).scale.dtype is gradient.float32
    assert block.to(gradient.ones(1, dtype=gradient.float16)).scale.dtype is gradient.float16
    assert block.to(device="cpu", dtype=gradient.float32).mean.dtype is gradient.float32
    block(gradient.ones(3)).sum().backward()
    assert block.inner.weight.grad.dtype is gradient.float32


def test_to_device(device) -> None:
    block = Block().to(device)
    assert {str(t.device) for t in block.state_dict().values()} == {str(gradient.device(device))}
    assert block(gradient.ones(3, device=device)).shape == (3,)


def test_copies_are_independent() -> None:
    model = nn.Sequential(Block(), nn.Linear(3, 3))
    model[1].weight = model[0].inner.weight
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert list(twin.state_dict()) == list(model.state_dict())
        assert twin[1].weight is twin[0].inner.weight is not model[1].weight
        with gradient.no_grad():
            twin[0].scale.zero_()
        assert model[0].scale.tolist() == [1, 1, 1]


def test_apply() -> None:
    seen = []
    model = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.ReLU()))
    assert model.apply(lambda m: seen.append(type(m).__name__)) is model
    assert seen == ["Linear", "ReLU", "Sequential", "Sequential"]


# ---- state dicts -------------------------------------------------------------------------------


def test_state_dict_shares_memory_and_loading_copies() -> None:
    model, other = Block(), Block()
    state = model.state_dict()
    assert not state["scale"].requires_grad
    assert model.state_dict(keep_vars=True)["scale"] is model.scale
    with gradient.no_grad():
        model.scale.fill_(7.0)
    assert state["scale"].tolist() == [7, 7, 7]
    parameter = other.scale
    result = other.load_state_dict(state)
    assert repr(result) == "<All keys matched successfully>"
    assert other.scale is parameter and other.scale.tolist() == [7, 7, 7]
    with gradient.no_grad():
        model.scale.fill_(8.0)
    assert other.scale.tolist() == [7, 7, 7]
    # Another dtype is converted.
    other.load_state_dict({name: t.double() for name, t in state.items()})
    assert other.scale.dtype is gradient.float32


def test_all_misfits_in_one_error() -> None:
    model = nn.Sequential(Block(), nn.Linear(3, 2))
    state = model.state_dict()
    state["0.inner.wieght"] = state.pop("0.inner.weight")
    state["0.scale"] = gradient.ones(4)
    state["0.mean"] = [0, 0, 0]
    del state["1.bias"]
    state["unrelated"] = gradient.ones(1)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(StateDictError) as raised:
        model.load_state_dict(state)
    assert str(raised.value) == (
        "load_state_dict: the tensors do not fit Sequential: 2 missing, 2 unexpected, 2 wrong; "
        "none was loaded\n"
        "  missing     0.inner.weight (near name given: 0.inner.wieght)\n"
        "  missing     1.bias\n"
        "  unexpected  0.inner.wieght (near name expected: 0.inner.weight)\n"
        "  unexpected  unrelated\n"
        "  wrong       0.scale: expected (3,), got (4,)\n"
        "  wrong       0.mean: expected a tensor of shape (3,), got list"
    )
    assert isinstance(raised.value, RuntimeError)
    for name, tensor in model.state_dict().items():
        assert (tensor == before[name]).all(), "nothing may be loaded"


def test_misfits_that_a_prefix_explains() -> None:
    model = nn.Linear(2, 2)
    state = {f"module.{name}": t for name, t in model.state_dict().items()}
    with pytest.raises(StateDictError) as raised:
        model.load_state_dict(state)
    assert str(raised.value) == (
        "load_state_dict: the tensors do not fit Linear: 2 missing, 2 unexpected; none was loaded\n"
        "  missing     weight\n"
        "  missing     bias\n"
        "  unexpected  module.weight\n"
        "  unexpected  module.bias\n"
        "  fix: remove the prefix 'module.' from every name of the state dict"
    )
    wrapped = nn.ModuleDict({"module": model})
    with pytest.raises(StateDictError, match="put the prefix 'module.' before every name"):
        wrapped.load_state_dict(model.state_dict())


def test_near_names_of_many_misfits_are_quick() -> None:
    model = nn.ModuleList([nn.Linear(1, 1, bias=False) for _ in range(600)])
    state = {f"layers.{n}.w.weight": gradient.ones(1, 1) for n in range(600)}
    with pytest.raises(StateDictError) as raised:
        model.load_state_dict(state)
    assert len(str(raised.value).splitlines()) == 1202


def test_loading_what_fits() -> None:
    model = nn.Linear(2, 2)
    state = {"weight": gradient.ones(2, 2), "extra": gradient.ones(1)}
    result = model.load_state_dict(state, strict=False)
    assert result.missing_keys == ["bias"] and result.unexpected_keys == ["extra"]
    assert repr(result) == ("IncompatibleKeys(missing_keys=['bias'], unexpected_keys=['extra'])")
    assert model.weight.tolist() == [[1, 1], [1, 1]]
    with pytest.raises(StateDictError) as raised:
        model.load_state_dict({"weight": gradient.ones(2, 3), "extra": 1}, strict=False)
    assert str(raised.value) == (
        "load_state_dict: the tensors do not fit Linear: 1 wrong; none was loaded\n"
        "  wrong       weight: expected (2, 2), got (2, 3)"
    )
    with pytest.raises(TypeMismatch) as raised:
        model.load_state_dict([1])
    assert str(raised.value) == "load_state_dict: expected a dict of names to tensors, got list"


def test_assigning_keeps_memory_dtype_and_ties() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2, bias=False), "c": Block()})
    model["b"].weight = model["a"].weight
    model["a"].bias.requires_grad_(False)
    state = {
        name: gradient.ones(*t.shape, dtype=gradient.float64)
        for name, t in model.state_dict().items()
    }
    model.load_state_dict(state, assign=True)
    assert model["a"].weight is model["b"].weight
    assert isinstance(model["a"].weight, nn.Parameter)
    assert model["a"].weight.requires_grad and not model["a"].bias.requires_grad
    assert model["a"].weight.dtype is gradient.float64
    assert model["a"].weight.data_ptr() == state["a.weight"].data_ptr()
    assert model["c"].mean is state["c.mean"]


# ---- hooks -------------------------------------------------------------------------------------


def test_forward_hooks() -> None:
    layer = nn.Linear(2, 2)
    calls = []
    handles = [
        layer.register_forward_pre_hook(lambda m, args: calls.append("pre") or (args[0] * 0,)),
        layer.register_forward_pre_hook(lambda m, args: calls.append("first"), prepend=True),
        layer.register_forward_hook(lambda m, args, out: calls.append("post") or out + 1),
    ]
    x = gradient.ones(2)
    assert np.allclose(layer(x).tolist(), (layer.bias + 1).tolist())
    assert calls == ["first", "pre", "post"]
    for handle in handles:
        handle.remove()
    calls.clear()
    layer(x)
    assert calls == []
    with layer.register_forward_hook(lambda *_: calls.append("inside")):
        layer(x)
    layer(x)
    assert calls == ["inside"]


def test_hooks_with_keyword_arguments() -> None:
    class Scale(nn.Module):
        def forward(self, x, factor=1.0):
            return x * factor

    layer = Scale()
    layer.register_forward_pre_hook(
        lambda m, args, kwargs: (args, {"factor": kwargs["factor"] * 2}), with_kwargs=True
    )
    seen = []
    layer.register_forward_hook(lambda m, args, kwargs, out: seen.append(kwargs), with_kwargs=True)
    assert layer(gradient.ones(1), factor=3.0).tolist() == [6]
    assert seen == [{"factor": 6.0}]
    layer.register_forward_pre_hook(lambda m, args, kwargs: args, with_kwargs=True)
    with pytest.raises(TypeMismatch, match="expected None or a tuple"):
        layer(gradient.ones(1), factor=3.0)


def test_always_call_hooks_see_failures() -> None:
    layer = nn.Linear(2, 2)
    seen = []
    layer.register_forward_hook(lambda m, args, out: seen.append(out), always_call=True)
    with pytest.raises(ShapeError):
        layer(gradient.ones(3))
    assert seen == [None]


def test_backward_hooks() -> None:
    layer = nn.Linear(2, 2, bias=False)
    seen = []

    def hook(module, grad_input, grad_output):
        seen.append((grad_input[0].tolist(), grad_output[0].tolist()))
        return (grad_input[0] * 10,)

    layer.register_full_backward_pre_hook(lambda m, grad_output: (grad_output[0] * 2,))
    layer.register_full_backward_hook(hook)
    x = gradient.ones(1, 2, requires_grad=True)
    layer(x).sum().backward()
    wanted = 2 * layer.weight.sum(0)
    assert np.allclose(seen[0][0], [wanted.tolist()])
    assert seen[0][1] == [[2, 2]]
    assert np.allclose(x.grad.tolist(), [(10 * wanted).tolist()])
    assert layer.weight.grad.tolist() == [[2, 2], [2, 2]]


def test_backward_hooks_without_gradient_for_the_input() -> None:
    layer = nn.Linear(2, 2)
    seen = []
    layer.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go[0].tolist())))
    layer(gradient.ones(2)).sum().backward()
    assert seen == [((None,), [1, 1])]
    with gradient.no_grad():
        layer(gradient.ones(2))
    assert len(seen) == 1
    layer.register_full_backward_hook(lambda m, gi, go: (None, None))
    with pytest.raises(TypeMismatch, match="1 gradients to replace grad_input, got 2"):
        layer(gradient.ones(2)).sum().backward()


def test_backward_hook_of_several_inputs_and_outputs() -> None:
    class Swap(nn.Module):
        def forward(self, a, b):
            return b * 2, a * 3

    layer = Swap()
    seen = []
    layer.register_full_backward_hook(
        lambda m, gi, go: seen.append(([g.tolist() for g in gi], [g.tolist() for g in go]))
    )
    a, b = (gradient.ones(1, requires_grad=True) for _ in range(2))
    first, second = layer(a, b)
    (first + 5 * second).backward()
    assert seen == [([[15], [2]], [[1], [5]])]


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
            "Conv1d: expected kernel_size to be one number or 1, got (1, 2)",
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
            ShapeError,
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
            "LSTM: expected an input (T, 3) or one with a batch, got (2, 5)",
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
    lengths = gradient.tensor([3, 1])
    back = nn.utils.rnn.unpad_sequence(padded, lengths, batch_first=True)
    assert [row.tolist() for row in back] == [[1, 2, 3], [4]]
    with pytest.raises(ArgumentError, match="padding_side must be 'left' or 'right', got 'both'"):
        nn.utils.rnn.pad_sequence(sequences, padding_side="both")
