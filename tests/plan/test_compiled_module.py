"""A compiled module is the module but for its call: a part of others, saved, copied and changed."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest

import gradient
from gradient import nn, optim
from gradient.utils.checkpoint import checkpoint

pytestmark = pytest.mark.cpu_only


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.factor = 1.0

    def forward(self, x: gradient.Tensor) -> gradient.Tensor:
        return self.inner(x) * self.factor

    def doubled(self) -> float:
        return 2 * self.factor


def test_it_is_trained_as_a_part_of_another_module() -> None:
    def weights(compiled: bool) -> list[Any]:
        gradient.manual_seed(0)
        part = Scaled()
        model = nn.Sequential(gradient.compile(part) if compiled else part, nn.Linear(3, 1))
        optimizer = optim.AdamW(model.parameters(), lr=0.1)
        for _ in range(6):
            optimizer.zero_grad()
            model(gradient.ones(2, 3)).square().mean().backward()
            optimizer.step()
        if compiled:
            assert model[0].signatures and list(model[0].signatures.values())[0].replays
        return [(name, value.tolist()) for name, value in model.state_dict().items()]

    assert weights(compiled=True) == weights(compiled=False)


def test_its_attributes_are_the_modules() -> None:
    module = Scaled()
    compiled = gradient.compile(module, fullgraph=True)
    x = gradient.ones(1, 3)
    for _ in range(4):
        compiled(x)
    compiled.factor = 3.0
    assert module.factor == 3.0 and compiled.doubled() == 6.0
    assert compiled(x).tolist() == module(x).tolist()
    compiled.inner = nn.Identity()
    assert module.inner is compiled.inner and compiled(x).tolist() == [[3.0, 3.0, 3.0]]
    assert compiled.eval() is compiled and not module.training
    assert [name for name, _ in compiled.named_modules()] == ["", "inner"]
    del compiled.factor
    with pytest.raises(AttributeError, match="'Scaled' object has no attribute 'factor'"):
        compiled.factor  # noqa: B018
    assert isinstance(compiled, Scaled) and repr(compiled).startswith("CompiledScaled(")
    assert compiled.extra_repr() == module.extra_repr()


def test_moving_a_compiled_module_leaves_it_compiled() -> None:
    compiled: Any = gradient.compile(nn.Linear(2, 2))
    for moved in (compiled.train(), compiled.to(gradient.float64), compiled.requires_grad_(False)):
        assert moved is compiled
    assert list(compiled.state_dict()) == ["weight", "bias"]
    assert compiled.weight.dtype == gradient.float64


def test_a_copy_is_compiled_and_has_weights_of_its_own() -> None:
    compiled: Any = gradient.compile(nn.Linear(2, 2), fullgraph=True)
    model = nn.Sequential(compiled)
    other = copy.deepcopy(model)
    with gradient.no_grad():
        other[0].weight.zero_()
    x = gradient.ones(1, 2)
    for _ in range(4):
        expected = nn.functional.linear(x, compiled.weight, compiled.bias).tolist()
        assert model(x).tolist() == expected
        assert other(x).tolist() == [compiled.bias.tolist()]
    assert "1 signatures" in other[0].explain() and other[0]._orig_mod is not compiled._orig_mod


def test_compiling_twice_is_compiling_once() -> None:
    module = nn.Linear(2, 2)
    once: Any = gradient.compile(module)
    twice: Any = gradient.compile(once)
    assert twice._orig_mod is module


def test_what_a_module_has_goes_before_what_the_compiler_has() -> None:
    class Explained(nn.Module):
        explain = "mine"

        def forward(self, x: gradient.Tensor) -> gradient.Tensor:
            return x + 1

    assert gradient.compile(Explained()).explain == "mine"


def test_a_module_compiles_itself_in_place() -> None:
    def trained(compiled: bool) -> list[Any]:
        gradient.manual_seed(0)
        model = nn.Sequential(Scaled(), nn.Linear(3, 1))
        part, cls = model[0], type(model[0])
        if compiled:
            part.compile(fullgraph=True)
            assert model[0] is part and isinstance(part, cls) and repr(part).startswith("Scaled(")
        optimizer = optim.AdamW(model.parameters(), lr=0.1)
        for i in range(12):
            if i == 8:
                part.factor = 2.0
            optimizer.zero_grad()
            model(gradient.full((2, 3), float(i))).square().mean().backward()
            optimizer.step()
        if compiled:
            (signature,) = part.signatures.values()
            assert signature.replays == 7 and part.recompiles == 1
        return [(name, value.tolist()) for name, value in model.state_dict().items()]

    assert trained(compiled=True) == trained(compiled=False)


def test_compiling_in_place_again_takes_the_new_options() -> None:
    module: Any = Scaled()
    module.compile(disable=True)
    assert type(module) is Scaled
    module.compile()
    module.compile(fullgraph=True)
    x = gradient.ones(1, 3)
    for _ in range(4):
        assert module(x).tolist() == (module.inner(x) * module.factor).tolist()
    assert module._compiled.fullgraph and type(module._orig_mod) is Scaled
    other = copy.deepcopy(module)
    other.factor = 3.0
    assert other(x).tolist() != module(x).tolist() and other._compiled is not module._compiled
    assert gradient.compile(module)._orig_mod is module._orig_mod
    with pytest.raises(TypeError, match="no_such_option"):
        module.compile(no_such_option=1)


class Checkpointed(nn.Module):
    """Layers with dropout, each under a checkpoint (or `again=False`, none)."""

    def __init__(self, again: bool = True) -> None:
        super().__init__()
        gradient.manual_seed(3)
        layers = [nn.Sequential(nn.Linear(32, 128), nn.GELU(), nn.Linear(128, 32), nn.Dropout(0.2))
                  for _ in range(4)]  # fmt: skip
        self.layers, self.again = nn.ModuleList(layers), again

    def forward(self, x: gradient.Tensor) -> gradient.Tensor:
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False) if self.again else layer(x)
        return x


def trained(model: nn.Module, wrap: Callable[[Any], Any]) -> tuple[list[float], Any]:
    called, optimizer = wrap(model), optim.SGD(model.parameters(), 0.1)
    gradient.manual_seed(5)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = called(gradient.randn(512, 32)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, called


def test_checkpointed_layers_are_computed_again_in_the_plan() -> None:
    eager, _ = trained(Checkpointed(), lambda model: model)
    found, compiled = trained(Checkpointed(), gradient.compile)
    whole, held = trained(Checkpointed(again=False), gradient.compile)
    assert eager == found == whole
    used = [each.explain() for each in (compiled, held)]
    assert all("3 replayed" in text and "in two parts" in text for text in used)
    few, many = (re.search(r"memory ([\d.]+) MiB", text) for text in used)
    assert few and many and float(few[1]) < 0.6 * float(many[1]), used


def test_what_a_checkpointed_function_keeps_is_said() -> None:
    layer = nn.Linear(4, 4)

    @gradient.compile
    def f(x: gradient.Tensor) -> gradient.Tensor:
        scale = x.abs() + 1
        return checkpoint(lambda x: layer(x) * scale, x)

    with pytest.warns(UserWarning, match="keeps what it uses: make it an argument"):
        for _ in range(4):
            f(gradient.ones(2, 4)).sum().backward()
