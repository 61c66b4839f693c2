"""Every public name of PyTorch's is here, or has a reason in `names.txt` why it is not."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

from gradient.compat import hints  # noqa: E402
from support import torch_names  # noqa: E402

KNOWN = Path(__file__).with_name("names.txt")


@functools.cache
def reasons() -> dict[str, str]:
    """The patterns of names that are absent, each with its reason."""
    found: dict[str, str] = {}
    reason = ""
    for line in KNOWN.read_text().splitlines():
        if line.startswith("#") or not line:
            continue
        if not line.startswith(" "):
            reason = line
        for pattern in line.split() if line.startswith(" ") else ():
            assert pattern not in found, f"{pattern} is listed twice"
            found[pattern] = reason
    return found


@functools.cache
def matcher(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", "[^.]*"))


def matches(name: str) -> list[str]:
    if name in reasons():
        return [name]
    return [p for p in reasons() if "*" in p and matcher(p).fullmatch(name)]


@functools.cache
def names(module: str) -> tuple[list[str], list[str]]:
    """The public names of a module of PyTorch's that are absent here, and those that are not."""
    return torch_names.absent(module)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("module", torch_names.MODULES)
def test_what_is_absent_has_a_reason(module: str) -> None:
    absent, present = names(module)
    assert [name for name in absent if not matches(name)] == []
    assert [name for name in present if name in reasons()] == []


@pytest.mark.filterwarnings("ignore")
def test_every_reason_is_of_something_absent(tell: Callable[[str], None]) -> None:
    absent = [name for module in torch_names.MODULES for name in names(module)[0]]
    used = {pattern for name in absent for pattern in matches(name)}
    assert reasons().keys() - used == set()
    total = len(absent) + sum(len(names(module)[1]) for module in torch_names.MODULES)
    tell(f"public names: {total - len(absent)} of {total}, the others with a reason")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("module", [m for m in torch_names.MODULES if m != "torch.Tensor"])
def test_an_absent_name_says_where_to_look(module: str) -> None:
    ours = torch_names.space(module.replace("torch", "gradient", 1))
    if ours is None:
        pytest.skip("the module is absent as a whole")
    silent = []
    for path in names(module)[0]:
        name = path.rpartition(".")[2]
        with pytest.raises(AttributeError) as caught:
            getattr(ours, name)
        hint = hints.HINTS.get(f"{ours.__name__}.{name}", hints.PAGE)
        if hint not in str(caught.value):
            silent.append(path)
    assert silent == []


def test_a_name_that_is_new_in_pytorch_would_be_seen() -> None:
    assert "torch.nn.functional.relu" in names("torch.nn.functional")[1]
    assert matches("torch.nn.functional.new_in_pytorch") == []
    assert "torch.sparse_csc_tensor" in names("torch")[0]
    assert importlib.import_module("gradient.nn").Linear
