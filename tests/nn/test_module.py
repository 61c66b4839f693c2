"""Module: what it holds, how it is saved, moved and hooked.

Containers, layers, init and utils are in test_nn.py.
"""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import nn
from gradient.errors import HookError, ShapeError, StateDictError, TypeMismatch
from gradient.nn.module import register_module_forward_pre_hook


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


def test_members_are_set_and_deleted_through_their_dicts() -> None:
    block = Block()
    assert dict(block._parameters) == {"scale": block.scale, "shift": None}
    assert list(block._buffers) == ["mean", "cache"] and len(block._modules) == 1
    assert "inner" in block._modules and "inner" not in block._parameters
    block._modules["inner"] = nn.Identity()
    assert repr(block._modules) == "{'inner': Identity()}" and block.inner(1) == 1
    weight = block._parameters.pop("scale")  # as a layer does that computes its weight
    block.scale = weight * 2
    assert names(block.named_parameters()) == [] and block._parameters.copy() == {"shift": None}
    block._parameters["scale"] = 3 * weight  # as code does that trains a step within a step
    assert names(block.named_parameters()) == ["scale"] and not block.scale.is_leaf
    block._buffers["cache"] = gradient.ones(1)
    assert list(block.state_dict()) == ["scale", "mean"]


def test_what_is_no_attribute_is_asked_for_by_getattr() -> None:
    class Around(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            try:
                return super().__getattr__(name)  # type: ignore[misc]
            except AttributeError:
                return getattr(self.inner, name)

    around = Around(Block())
    assert around.__getattr__("inner") is around.inner
    assert around.scale is around.inner.scale
    assert copy.deepcopy(around).scale.tolist() == [1, 1, 1]
    with pytest.raises(AttributeError, match="'Block' object has no attribute 'nothing'"):
        around.nothing  # noqa: B018


def test_a_getattr_is_asked_for_members() -> None:
    read: list[str] = []

    class Watching:
        def __getattr__(self, name: str) -> Any:
            read.append(name)
            return super().__getattr__(name)  # type: ignore[misc]

        def __delattr__(self, name: str) -> None:
            if name in self._parameters:
                del self._parameters[name]
            else:
                super().__delattr__(name)

    class Watched(Watching, nn.Linear):
        size = 3

    layer = Watched(2, 1)
    read.clear()
    assert layer(gradient.ones(2)).shape == (1,) and layer.size == 3 and layer.in_features == 2
    assert read == ["weight", "bias"]
    del layer.bias
    assert list(layer.state_dict()) == ["weight"]
    with pytest.raises(AttributeError, match="'Watched' object has no attribute 'bias'"):
        layer.bias  # noqa: B018


def test_an_empty_container_calls_no_update() -> None:
    class Late(nn.ModuleDict):
        def __init__(self) -> None:
            super().__init__()
            self.ready = True
            self.update({"a": nn.Identity()})

        def update(self, members: Any) -> None:
            assert self.ready
            super().update(members)

    assert list(Late()) == ["a"]


def test_a_child_with_a_train_of_its_own() -> None:
    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            self[0].training = False
            return self

    model = nn.Sequential(Frozen(nn.BatchNorm1d(2), nn.Dropout()), nn.Dropout())
    assert model.train() is model
    assert [m.training for m in model.modules()] == [True, True, False, True, True]
    assert not any(m.training for m in model.eval().modules())


def test_a_child_with_an_apply_of_its_own() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.__dict__["total"] = gradient.zeros(1)

        def _apply(self, fn: Any, recurse: bool = True) -> Any:
            self.total = fn(self.total)
            return super()._apply(fn, recurse)

    model = nn.Sequential(nn.Linear(1, 1), nn.Sequential(Counting())).double()
    assert model[1][0].total.dtype is gradient.float64


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
    block.inner = nn.Parameter(gradient.ones(1))
    assert names(block.named_children()) == []
    block.cache = nn.Identity()
    assert names(block.named_children()) == ["cache"] and names(block.named_buffers()) == []
    with pytest.raises(TypeError) as raised:
        block.scale = nn.Identity()
    assert str(raised.value) == (
        "Block.scale is a parameter: expected an nn.Parameter or None, got Identity"
    )


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
        (lambda block: block._buffers["scale"], KeyError, "scale"),
        (lambda block: block._modules.pop("w"), KeyError, "w"),
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
    with pytest.raises(TypeMismatch, match=r"got Linear; pass its state_dict\(\)"):
        model.load_state_dict(nn.Linear(2, 2))  # type: ignore[arg-type]


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
    with pytest.raises(HookError, match="expected None or a tuple"):
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
    x = gradient.ones(2, requires_grad=True)
    with pytest.raises(HookError, match="1 gradients to replace grad_input, got 2"):
        layer(x).sum().backward()
    other = nn.Linear(2, 2)
    other.register_full_backward_hook(lambda m, gi, go: go)
    with pytest.raises(HookError) as raised:
        other(gradient.ones(2)).sum().backward()
    assert str(raised.value) == (
        "backward hook of Linear: no input requires a gradient, so there is none to replace; "
        "return None"
    )


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


def test_a_module_dict_has_every_child_as_a_member() -> None:
    members = nn.ModuleDict({"a": nn.ReLU()})
    members.add_module("b", nn.Tanh())
    members.c = nn.GELU()
    members.register_module("d", None)
    assert (list(members), len(members)) == (["a", "b", "c", "d"], 4)
    assert "b" in members
    assert members["b"] is members.b
    assert [key for key, _ in members.items()] == list(members.keys())
    del members.b
    members.update(nn.ModuleDict({"e": nn.ReLU()}))
    assert list(members) == ["a", "c", "d", "e"]


def test_a_loader_of_its_own_renames_before_anything_is_loaded() -> None:
    class Renamed(nn.Linear):
        def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
            if prefix + "kernel" in state_dict:
                state_dict[prefix + "weight"] = state_dict.pop(prefix + "kernel")
            super()._load_from_state_dict(state_dict, prefix, *others)
            if (state_dict[prefix + "weight"] < 0).any():
                others[-1].append("the weights of Renamed are at least 0")

    model = nn.Sequential(nn.Linear(1, 2), Renamed(2, 1))
    state = {name: gradient.ones_like(value) for name, value in model.state_dict().items()}
    state["1.kernel"] = state.pop("1.weight")
    given = dict(state)
    model.load_state_dict(state)
    assert model[1].weight.tolist() == [[1, 1]] and state.keys() == given.keys()
    state["1.kernel"], state["0.weight"] = -state["1.kernel"], 5 * state["0.weight"]
    with pytest.raises(StateDictError, match=r"1 wrong.*\n.*the weights of Renamed are at least 0"):
        model.load_state_dict(state)
    assert model[0].weight.tolist() == [[1], [1]]  # nothing was loaded


def test_extra_state_is_saved_and_given_back() -> None:
    class Counting(nn.Module):
        def __init__(self, seen: int) -> None:
            super().__init__()
            self.seen = seen

        def get_extra_state(self) -> int:
            return self.seen

        def set_extra_state(self, state: int) -> None:
            self.seen = state

    model = nn.Sequential(Counting(0))
    assert str(model.load_state_dict(nn.Sequential(Counting(3)).state_dict())).startswith("<All")
    assert model[0].seen == 3
    with pytest.raises(StateDictError, match="missing +0._extra_state"):
        model.load_state_dict({})


def test_a_hook_of_a_state_dict_returns_nothing() -> None:
    model = nn.Linear(1, 1)
    saving = model.register_state_dict_post_hook(lambda *args: {})
    with pytest.raises(HookError, match="expected None; change state_dict in place"):
        model.state_dict()
    saving.remove()
    model.register_load_state_dict_post_hook(lambda *args: True)
    with pytest.raises(HookError, match="expected None; change incompatible_keys in place"):
        model.load_state_dict(model.state_dict())


def test_a_hook_of_every_module_sees_each_until_it_is_removed() -> None:
    seen: list[str] = []
    model = nn.Sequential(nn.Linear(1, 1), nn.Tanh())
    handle = register_module_forward_pre_hook(lambda m, args: seen.append(type(m).__name__))
    try:
        model(gradient.ones(1))
    finally:
        handle.remove()
    model(gradient.ones(1))
    assert seen == ["Sequential", "Linear", "Tanh"]


def test_loading_into_the_device_meta_warns() -> None:
    model, saved = nn.Linear(2, 3, device="meta"), nn.Linear(2, 3).state_dict()
    with pytest.warns(UserWarning, match=r"Linear.load_state_dict: 2 tensors .* such as weight"):
        model.load_state_dict(saved)
    model.load_state_dict(saved, assign=True)
    assert model.weight.tolist() == saved["weight"].tolist()
    nn.Linear(2, 3, device="meta").load_state_dict(nn.Linear(2, 3, device="meta").state_dict())
