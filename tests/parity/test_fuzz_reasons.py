"""No reason covers a wrong number: programs whose difference has a reason are compared again with
one of our gradients, or with the result that differs, a tenth too large."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

from fuzzing import generator, interpreter, known  # noqa: E402
from fuzzing.comparison import GRADIENTS, Comparer, Difference  # noqa: E402
from fuzzing.interpreter import Taken, World  # noqa: E402
from fuzzing.program import Program  # noqa: E402

PROGRAMS = 600


def numbers_compared(difference: Difference) -> bool:
    """Whether both have numbers that are neither 0 nor infinite at one place."""
    ours, theirs = difference.ours, difference.theirs
    if not isinstance(ours, Taken) or not isinstance(theirs, Taken):
        return False
    if "float" not in ours.dtype or ours.shape != theirs.shape:
        return False
    both = np.isfinite(ours.values) & np.isfinite(theirs.values)
    return bool((both & (ours.values != 0) & (theirs.values != 0)).any())


def wrong_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    right = interpreter.gradients

    def wrong(world: World, *args: Any, **options: Any) -> list[Any]:
        found = right(world, *args, **options)
        return found if world.is_torch else [g if g is None else g * 1.1 for g in found]

    monkeypatch.setattr(interpreter, "gradients", wrong)


def wrong_results(monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    right = World.call

    def wrong(self: World, name: str, args: Any, options: Any) -> Any:
        found = right(self, name, args, options)
        if name == function and not self.is_torch and self.is_tensor(found):
            return found * 1.1
        return found

    monkeypatch.setattr(World, "call", wrong)


def hidden(program: Program, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """The reason that covers a number which is a tenth too large."""
    found = Comparer(program).compare()
    if not found or found[0].kind not in ("value", *GRADIENTS):
        return None
    compared = [d for d in found if numbers_compared(d)]
    if not compared:
        return None
    with monkeypatch.context() as patched:
        if compared[0].kind in GRADIENTS:
            wrong_gradients(patched)
        else:
            wrong_results(patched, compared[0].function)
        again = Comparer(program).compare()
        wrong = [d for d in again if d.kind == compared[0].kind and numbers_compared(d)]
        if not wrong or known.unexplained(again) is not None:
            return None
        return known.reason(wrong[0])


@pytest.mark.parametrize("start", range(0, PROGRAMS, 100))
def test_no_reason_covers_a_wrong_number(start: int, monkeypatch: pytest.MonkeyPatch):
    torch.set_num_threads(1)
    found = {
        seed: why
        for seed in range(start, start + 100)
        if (why := hidden(generator.program(seed), monkeypatch))
    }
    assert not found
