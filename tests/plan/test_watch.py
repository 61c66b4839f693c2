"""Everything that Python says to a compiled function is looked at again before each replay."""

from __future__ import annotations

import array
import contextlib
import contextvars
import functools
import gc
import os
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import nn, optim
from support import watched_helpers

pytestmark = pytest.mark.cpu_only

Case = tuple[Callable[[Any], Any], Callable[[], Any]]
"""A function of a tensor that reads a 1 somewhere, and what makes it another number."""

SCALE = 1.0


def helper(x: Any) -> Any:
    return x * helper.scale  # type: ignore[attr-defined]


def a_function_attribute() -> Case:
    helper.scale = 1.0  # type: ignore[attr-defined]
    return helper, lambda: setattr(helper, "scale", 3.0)


def an_environment_variable() -> Case:
    os.environ["GRADIENT_TEST_SCALE"] = "1"
    change = functools.partial(os.environ.__setitem__, "GRADIENT_TEST_SCALE", "3")
    return lambda x: x * float(os.environ["GRADIENT_TEST_SCALE"]), change


def an_environment_variable_by_getenv() -> Case:
    os.environ["GRADIENT_TEST_SCALE"] = "1"
    change = functools.partial(os.environ.__setitem__, "GRADIENT_TEST_SCALE", "3")
    return lambda x: x * float(os.getenv("GRADIENT_TEST_SCALE", "0")), change


def a_dict_of_another_module() -> Case:
    watched_helpers.CONFIG["scale"] = 1.0
    change = functools.partial(watched_helpers.CONFIG.__setitem__, "scale", 3.0)
    return lambda x: watched_helpers.scaled(x), change


def an_object_of_another_module() -> Case:
    settings = watched_helpers.SETTINGS = types.SimpleNamespace(scale=1.0)
    return lambda x: watched_helpers.scaled(x), lambda: setattr(settings, "scale", 3.0)


def a_module_that_is_imported_inside() -> Case:
    watched_helpers.CONFIG["scale"] = 1.0

    def f(x: Any) -> Any:
        import support.watched_helpers

        return support.watched_helpers.scaled(x)

    return f, functools.partial(watched_helpers.CONFIG.__setitem__, "scale", 3.0)


def a_global_by_a_string() -> Case:
    globals()["SCALE"] = 1.0
    return lambda x: x * globals()["SCALE"], lambda: globals().__setitem__("SCALE", 3.0)


def a_decorated_function() -> Case:
    state = {"scale": 1.0}

    @gradient.no_grad()
    def inner(x: Any) -> Any:
        return x * state["scale"]

    return lambda x: inner(x), lambda: state.__setitem__("scale", 3.0)


def a_context_manager() -> Case:
    state = {"scale": 1.0}

    @contextlib.contextmanager
    def scale() -> Any:
        yield state["scale"]

    def f(x: Any) -> Any:
        with scale() as factor:
            return x * factor

    return f, lambda: state.__setitem__("scale", 3.0)


def a_context_variable() -> Case:
    variable = contextvars.ContextVar("variable", default=1.0)
    return lambda x: x * variable.get(), lambda: variable.set(3.0)


def a_small_array() -> Case:
    a = np.ones(4)
    return lambda x: x * float(a[2]), lambda: a.__setitem__(2, 3.0)


def a_large_array() -> Case:
    a = np.ones((500, 300))
    return lambda x: x * float(a[7, 3]), lambda: a.__imul__(3.0)


def an_array_that_a_tensor_copies() -> Case:
    a = np.ones(3, np.float32)
    return lambda x: x * gradient.tensor(a), lambda: a.__setitem__(0, 3.0)


def an_array_of_objects() -> Case:
    a = np.array([1.0, "name"], dtype=object)
    return lambda x: x * a[0], lambda: a.__setitem__(0, 3.0)


def an_array_of_python() -> Case:
    a = array.array("d", [1.0])
    return lambda x: x * a[0], lambda: a.__setitem__(0, 3.0)


def bytes_that_change() -> Case:
    a = bytearray([1])
    return lambda x: x * a[0], lambda: a.__setitem__(0, 3)


def a_weak_reference() -> Case:
    state = nn.Identity()
    state.scale = 1.0
    ref = weakref.ref(state)
    return lambda x: x * ref().scale, lambda: setattr(state, "scale", 3.0)  # type: ignore[union-attr]


def a_view_of_a_dict() -> Case:
    state = {"scale": 1.0}
    view = types.MappingProxyType(state)
    return lambda x: x * view["scale"], lambda: state.__setitem__("scale", 3.0)


class Config(dict[str, float]):
    scale = 1.0


def an_attribute_of_a_dict() -> Case:
    config = Config()
    return lambda x: x * config.scale, lambda: setattr(config, "scale", 3.0)


def a_key_of_the_same_value() -> Case:
    state = {"double": 1.0}

    def rename() -> None:
        state["treble"] = state.pop("double")

    return lambda x: x * 2 if "double" in state else x * 3, rename


def an_attribute_of_a_metaclass() -> Case:
    class Meta(type):
        scale = 1.0

    class Scaled(metaclass=Meta):
        pass

    return lambda x: x * Scaled.scale, lambda: setattr(Meta, "scale", 3.0)


CASES = [
    a_function_attribute, an_environment_variable, an_environment_variable_by_getenv,
    a_dict_of_another_module, an_object_of_another_module, a_module_that_is_imported_inside,
    a_global_by_a_string, a_decorated_function, a_context_manager, a_context_variable,
    a_small_array, a_large_array, an_array_that_a_tensor_copies, an_array_of_objects,
    an_array_of_python, bytes_that_change, a_weak_reference, a_view_of_a_dict,
    an_attribute_of_a_dict, a_key_of_the_same_value, an_attribute_of_a_metaclass,
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_what_changes_is_noticed(case: Callable[[], Case]) -> None:
    function, change = case()
    compiled = gradient.compile(function, fullgraph=True)
    for i in range(12):
        if i == 6:
            change()
        x = gradient.tensor([1.0, 2.0, float(i)])
        assert compiled(x).tolist() == function(x).tolist()
    (signature,) = compiled.signatures.values()
    assert signature.replays == 7 and compiled.recompiles == 1, compiled.explain()


def test_a_function_of_the_package_that_is_replaced_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = nn.Sequential(nn.Tanh())
    compiled = gradient.compile(lambda x: F.relu(module(x)), fullgraph=True)
    x = gradient.tensor([-2.0, 0.0, 3.0])
    for change in (None, "function", "method"):
        if change == "function":
            monkeypatch.setattr(F, "relu", F.sigmoid)
        if change == "method":
            monkeypatch.setattr(nn.Tanh, "forward", lambda self, x: x * 2)
        for _ in range(5):
            assert compiled(x).tolist() == F.relu(module(x)).tolist()
    assert compiled.recompiles == 2


def test_a_hook_of_every_module_is_noticed() -> None:
    module = nn.Tanh()
    compiled = gradient.compile(module, fullgraph=True)
    x = gradient.tensor([-2.0, 0.0, 3.0])
    expected = x.tanh()
    for _ in range(5):
        assert compiled(x).tolist() == expected.tolist()
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, out: out * 2)
    try:
        for _ in range(5):
            assert compiled(x).tolist() == (expected * 2).tolist()
    finally:
        handle.remove()
    assert compiled(x).tolist() == expected.tolist()


def test_what_is_weakly_held_may_die() -> None:
    class Held:
        pass

    held = Held()
    ref = weakref.ref(held)
    compiled = gradient.compile(lambda x: x * 2 if ref() is not None else x, fullgraph=True)
    x = gradient.ones(3)
    for _ in range(6):
        assert compiled(x).tolist() == [2.0] * 3
    del held
    gc.collect()
    for _ in range(4):
        assert compiled(x).tolist() == [1.0] * 3


@pytest.mark.parametrize("size", [3, 100_000])
def test_a_function_that_writes_to_an_array_runs_eagerly(size: int) -> None:
    count = np.zeros(size)

    def f(x: Any) -> Any:
        count[0] += 1
        return x + 0

    compiled = gradient.compile(f)
    with pytest.warns(UserWarning, match="it changes count"):
        for _ in range(6):
            compiled(gradient.ones(3))
    assert count[0] == 6


def test_an_array_whose_memory_a_tensor_shares_may_change_at_each_call() -> None:
    a = np.zeros((2, 3), np.float32)
    shared = gradient.from_numpy(a)
    compiled = gradient.compile(lambda x: x + shared + len(a), fullgraph=True)
    for i in range(8):
        a[...] = i
        assert compiled(gradient.ones(3)).tolist() == [[i + 3.0] * 3] * 2
    assert compiled.recompiles == 0


def test_a_gradient_that_the_program_holds_is_not_the_one_that_takes_its_place() -> None:
    def run(wrap: Callable[[Any], Any]) -> list[Any]:
        p = nn.Parameter(gradient.ones(3))
        (p * 2).sum().backward()
        held, optimizer = p.grad, optim.SGD([p], 0.1)
        assert held is not None

        @wrap
        def step() -> None:
            held.mul_(0.5)
            optimizer.step()

        found = []
        for i in range(12):
            if i == 6:
                p.grad = gradient.full((3,), 4.0)
            step()
            found.append([p.tolist(), held.tolist()])
        return found

    assert run(gradient.compile) == run(lambda step: step)


class WithLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.loss = nn.Linear(3, 1)

    def forward(self, x: Any) -> Any:
        return self.loss(x).sum()


def test_a_global_of_an_attributes_name_is_not_what_the_code_reads() -> None:
    """As scripts assign `loss = compiled(x)`."""
    scope = {"loss": None, "sum": None, "__builtins__": {}}
    model = WithLoss()
    forward = WithLoss.forward
    run = types.FunctionType(forward.__code__, scope)
    compiled = gradient.compile(lambda x: run(model, x), fullgraph=True)
    x = gradient.ones(2, 3)
    for _ in range(12):
        scope["loss"] = scope["sum"] = compiled(x)
    assert compiled.recompiles == 0


def test_the_body_of_a_class_reads_globals() -> None:
    scope: dict[str, Any] = {"SCALE": 1.0}
    exec("def f(x):\n    class Of:\n        scale = SCALE\n    return x * Of.scale\n", scope)
    compiled = gradient.compile(scope["f"])
    x = gradient.ones(3)
    for scale in (1.0, 3.0):
        scope["SCALE"] = scale
        for _ in range(6):
            assert compiled(x).tolist() == [scale] * 3
