"""An error in a forward says in which layer of the model it was raised."""

from __future__ import annotations

import contextlib
import gc
import pickle
import traceback
import weakref

import pytest

import gradient
from gradient import nn
from gradient.errors import ShapeError


class Calls(nn.Module):
    """A module whose forward is a function, with children by name."""

    def __init__(self, forward, **children) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)
        self.function = forward

    def forward(self, x):
        return self.function(self, x)


def fail(module, x):
    raise ValueError("no")


def recovering(module, x):
    """Try a child that fails, then give another error of its own."""
    try:
        return module.inner(x)
    except ValueError as error:
        raise KeyError("own") from error


def misfit() -> nn.Linear:
    return nn.Linear(8, 4)


LINEAR = "(Linear(in_features=8, out_features=4, bias=True))"
tied = nn.Sequential(misfit())
outside = [misfit()]

NOTES = [
    (misfit(), "in Linear(in_features=8, out_features=4, bias=True)"),
    (nn.Sequential(nn.ReLU(), nn.Sequential(misfit())), f"in 1.0 {LINEAR}"),
    (nn.Sequential(tied, tied), f"in 0.0 {LINEAR}"),
    (Calls(lambda m, x: m.a.b(x), a=Calls(fail, b=misfit())), f"in a.b {LINEAR}"),
    (Calls(fail), "in Calls()"),
    (Calls(lambda m, x: m.inner(x), inner=Calls(fail)), "in inner (Calls())"),
    (Calls(recovering, inner=Calls(fail)), "in Calls()"),
    (nn.Sequential(Calls(lambda m, x: outside[0](x))), f"in {LINEAR[1:-1]}"),
]


@pytest.mark.parametrize(("module", "note"), NOTES)
def test_the_note_is_the_path_from_the_outermost_module(module, note) -> None:
    with pytest.raises((ShapeError, ValueError, KeyError)) as raised:
        module(gradient.ones(2, 3))
    assert raised.value.__notes__ == [note]


def test_it_is_the_last_line_and_other_notes_stay() -> None:
    def noting(module, x):
        try:
            return module.inner(x)
        except ValueError as error:
            error.add_note("a batch of 2")
            raise

    model = nn.Sequential(Calls(noting, inner=Calls(fail)))
    with pytest.raises(ValueError) as raised:
        model(gradient.ones(2))
    assert raised.value.__notes__ == ["in 0.inner (Calls())", "a batch of 2"]
    assert str(raised.value) == "no"
    printed = traceback.format_exception(raised.value)
    assert printed[-3:] == ["ValueError: no\n", "in 0.inner (Calls())\n", "a batch of 2\n"]


def test_a_caught_error_holds_nothing() -> None:
    """What a forward had made, such as activations, is freed with its error, and no later."""
    model = nn.Sequential(Calls(lambda m, x: fail(m, x * 2)))
    x = gradient.ones(3)
    held = weakref.ref(x)
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            model(x)
        del x
        assert held() is None
    finally:
        gc.enable()


def test_hooks_are_part_of_the_layer_that_has_them() -> None:
    model = nn.Sequential(nn.ReLU())
    model[0].register_forward_hook(fail_in_hook)
    with pytest.raises(ValueError) as raised:
        model(gradient.ones(2))
    assert raised.value.__notes__ == ["in 0 (ReLU())"]


def fail_in_hook(module, args, output):
    raise ValueError("no")


def test_an_error_that_was_noted_can_be_sent_and_keeps_no_module() -> None:
    for make in (lambda: nn.Sequential(misfit()), lambda: nn.Sequential(Calls(fail))):
        with pytest.raises(Exception) as raised:  # noqa: B017, PT011
            make()(gradient.ones(2, 3))
        sent = pickle.loads(pickle.dumps(raised.value))
        assert sent.__notes__ == raised.value.__notes__
        assert vars(sent).keys() <= {"__notes__"}


def test_a_module_that_cannot_print_itself_does_not_hide_the_error() -> None:
    class Half(nn.Module):
        def extra_repr(self):
            return self.missing

        def forward(self, x):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no") as raised:
        Half()(gradient.ones(1))
    assert raised.value.__notes__ == ["in Half()"]


def test_a_module_that_calls_itself_without_end() -> None:
    with pytest.raises(RecursionError):
        Calls(lambda m, x: m(x))(gradient.ones(1))
