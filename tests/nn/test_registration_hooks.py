"""Hooks that see what any module registers."""

from __future__ import annotations

from typing import Any

import pytest

import gradient
from gradient import nn
from gradient.errors import TypeMismatch
from gradient.nn.modules.module import (  # type: ignore[import-not-found]
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

REGISTER = {
    "parameter": register_module_parameter_registration_hook,
    "buffer": register_module_buffer_registration_hook,
    "module": register_module_module_registration_hook,
}


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(gradient.ones(2))
        self.register_parameter("bias", None)  # None is not shown
        self.register_buffer("mean", gradient.zeros(2))
        self.register_buffer("variance", None)  # of a buffer it is
        self.child = nn.Identity()


def test_each_kind_sees_its_own_registrations_until_removed() -> None:
    seen: list[tuple[str, str, bool]] = []

    def log(kind: str) -> Any:
        return lambda module, name, value: seen.append((kind, name, value is None))

    handles = [register(log(kind)) for kind, register in REGISTER.items()]
    part = Part()
    part.mean = None
    part.mean = gradient.ones(2)
    part.child = None
    part.plain = 3
    for handle in handles:
        handle.remove()
    Part()
    assert seen == [
        ("parameter", "weight", False),
        ("buffer", "mean", False),
        ("buffer", "variance", True),
        ("module", "child", False),
        ("buffer", "mean", True),
        ("buffer", "mean", False),
        ("module", "child", True),
    ]


def test_what_a_hook_returns_is_registered() -> None:
    def doubled(module: Any, name: str, value: Any) -> Any:
        return None if name == "skipped" else type(value)(value.detach() * 2)

    with register_module_parameter_registration_hook(doubled):
        part = Part()
        part.skipped = nn.Parameter(gradient.ones(1))
    assert part.weight.tolist() == [2.0, 2.0]
    assert part.skipped.tolist() == [1.0]
    assert isinstance(part.weight, nn.Parameter)
    with register_module_module_registration_hook(lambda module, name, child: nn.ReLU()):
        assert isinstance(Part().child, nn.ReLU)
    with register_module_buffer_registration_hook(lambda module, name, buffer: gradient.ones(1)):
        assert Part().variance.tolist() == [1.0]


@pytest.mark.parametrize("kind", REGISTER)
def test_a_hook_is_a_function(kind: str) -> None:
    with pytest.raises(TypeMismatch, match=f"register_module_{kind}_registration_hook.*function"):
        REGISTER[kind](3)


def test_type_casts_integers_too() -> None:
    norm = nn.BatchNorm1d(2)
    weight = norm.weight
    assert norm.type(gradient.float64) is norm
    assert norm.weight is weight
    assert {value.dtype for value in norm.state_dict().values()} == {gradient.float64}


def test_the_old_backward_hooks_are_the_full_ones() -> None:
    shapes: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str) -> Any:
        return lambda module, gi, go: shapes.append((name, tuple(gi[0].shape)))

    linear = nn.Linear(2, 1)
    linear.register_backward_hook(note("own"))
    from gradient.nn.modules.module import register_module_backward_hook

    with register_module_backward_hook(note("every")):
        linear(gradient.ones(3, 2, requires_grad=True)).sum().backward()
    linear(gradient.ones(3, 2, requires_grad=True)).sum().backward()
    assert shapes == [("every", (3, 2)), ("own", (3, 2)), ("own", (3, 2))]


def test_errors_name_what_was_called() -> None:
    with pytest.raises(TypeMismatch, match="Linear: expected an int as in_features, got '4'"):
        nn.Linear("4", 3)  # type: ignore[arg-type]
    for name in ("i0", "i0e", "i1", "i1e"):
        with pytest.raises(TypeMismatch, match=f"^{name}: expected a Tensor, got float"):
            getattr(gradient.special, name)(3.0)


def test_a_parameter_that_is_set_goes_through_a_replaced_register_parameter(monkeypatch):
    """As accelerate's `init_empty_weights` replaces it."""
    default, seen = nn.Module.register_parameter, []

    def on_meta(module, name, param):
        default(module, name, param)
        seen.append(name)
        if param is not None:
            module._parameters[name] = nn.Parameter(param.to("meta"))

    monkeypatch.setattr(nn.Module, "register_parameter", on_meta)
    layer = nn.Linear(2, 3)
    assert seen == ["weight", "bias"] and layer.weight.is_meta and layer.bias.is_meta
    layer.plain = gradient.ones(2)
    layer.plain = nn.Parameter(gradient.ones(2))
    assert "plain" in dict(layer.named_parameters()) and layer.plain.is_meta
