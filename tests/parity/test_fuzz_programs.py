"""2,000 random programs, run under PyTorch and under gradient; fuzz_programs.py runs any number."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("one_thread")]
torch = pytest.importorskip("torch")

from fuzzing import generator, known  # noqa: E402
from fuzzing.comparison import Comparer, near, near_or_unstable  # noqa: E402
from fuzzing.interpreter import Taken  # noqa: E402
from fuzzing.program import script  # noqa: E402
from fuzzing.shrinking import shrink  # noqa: E402

PROGRAMS, PIECE = 2000, 100


@pytest.mark.parametrize("start", range(0, PROGRAMS, PIECE))
def test_programs_as_pytorch(start: int):
    told = []
    for seed in range(start, start + PIECE):
        found = Comparer(generator.program(seed)).compare()
        first = known.unexplained(found)
        if first is not None:
            small, difference = shrink(first.program, first)
            told.append(f"program {seed}\n{script(small)}\n# {difference}")
    assert not told, "\n\n".join(told)


@pytest.mark.parametrize("ours", [3.0, -float("inf"), float("nan")])
def test_nothing_else_is_near_to_an_infinite_number(ours: float):
    a, b = (Taken("float64", (1,), False, np.array([x])) for x in (ours, float("inf")))
    assert not near(a, b)
    assert not near_or_unstable(a, b, [b] * 6)


def test_every_public_function_is_drawn():
    """A new function is drawn from PyTorch's declaration of it, or needs a row in fuzzing/rows.py,
    or a reason in `generator.EXCLUDED`."""
    missing = set(generator.catalogue()) - set(generator.drawable()) - set(generator.EXCLUDED)
    assert not missing


def test_the_list_of_names_is_that_of_public_functions():
    """The list is kept in a file, in the order in which names came, so that a seed's program does
    not change when another name becomes public."""
    public = {name: generator.catalogue()[name] for name in generator.drawable()}
    listed = {n: form for n, form in generator.listed().items() if form != generator.GONE}
    new = "\n".join(f"{public[n]:9}{n}" for n in public if n not in listed)
    assert not new, f"append to {generator.NAMES}, at its end:\n{new}"
    gone = sorted(set(listed) - set(public))
    assert not gone, f"no longer public: write `gone` before each in {generator.NAMES}: {gone}"
    other = "\n".join(f"{public[n]:9}{n}" for n in public if public[n] != listed[n])
    assert not other, f"lines of {generator.NAMES} that have changed:\n{other}"


def test_a_new_name_leaves_most_programs_as_they_were(monkeypatch: pytest.MonkeyPatch):
    before = [generator.program(seed) for seed in range(60)]
    names = {**generator.listed(), "sin2": "both"}
    monkeypatch.setattr(generator, "listed", lambda: names)
    changed = sum(generator.program(seed) != b for seed, b in enumerate(before))
    assert changed <= 3


def test_excluded_functions_exist():
    assert set(generator.EXCLUDED) <= set(generator.catalogue())
