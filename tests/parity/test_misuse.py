"""Calls that PyTorch refuses: each is refused here, by an error that is one of PyTorch's class too.

The calls stand in `misuse/*.txt`, one a line, in terms of either package: `t` is the package, `F`
its `nn.functional`, and so on (`names_of`).
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest

import gradient
from gradient.errors import GradientError

pytestmark = [pytest.mark.parity, pytest.mark.cpu_only]
torch = pytest.importorskip("torch")

CREATORS = """ones zeros tensor arange full empty randn rand eye cat stack where
int64 int32 int8 uint8 float32 float64 float16 bfloat16"""

# Where our error is of another class than PyTorch's, and why.
DIFFERS: dict[str, str] = {}

# What an error of ours must not speak of: an array library's words.
FOREIGN = re.compile(
    r"numpy|ndarray|ufunc|operands could|axis \d|for axis|np\.|dtype\('|object is not iterable|"
    r"has no attribute '(?:array|backend|shape|ndim|dtype|numel|node)'|not enough values|"
    r"index out of range$|division or modulo|modulo by zero|division by zero$"
)
# Python's own words for arguments that do not fit a signature, and for names that are not there.
PYTHON = re.compile(
    r"unexpected keyword argument|missing \d+ required|takes .*positional argument|"
    r"has no attribute|has no setter|can only concatenate|unsupported operand|"
    r"multiple values for"
)


def calls() -> list[str]:
    lines = []
    for path in sorted((Path(__file__).parent / "misuse").glob("*.txt")):
        lines += path.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("# ")]


def names_of(package: Any) -> dict[str, Any]:
    names = {name: getattr(package, name) for name in CREATORS.split()}
    return names | {
        "t": package,
        "nn": package.nn,
        "F": package.nn.functional,
        "init": package.nn.init,
        "optim": package.optim,
        "sched": package.optim.lr_scheduler,
        "data": package.utils.data,
        "P": lambda: [package.nn.Parameter(package.ones(2))],
        "setattr": setattr,
    }


def refusal(call: str, package: Any) -> Exception | None:
    """What the call raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            eval(call, names_of(package))
        except Exception as error:
            return error
    return None


@pytest.mark.parametrize("call", calls())
def test_what_torch_refuses_is_refused_alike(call: str) -> None:
    theirs, ours = refusal(call, torch), refusal(call, gradient)
    assert theirs is not None, "PyTorch takes this call"
    assert ours is not None, f"taken without a word; PyTorch: {type(theirs).__name__}: {theirs}"
    message = str(ours)
    assert not FOREIGN.search(message), message
    assert isinstance(ours, GradientError) or PYTHON.search(message), repr(ours)
    if call not in DIFFERS:
        assert isinstance(ours, type(theirs)), f"{ours!r} for {theirs!r}"


def test_no_reason_is_written_for_a_call_that_agrees() -> None:
    agree = [
        call for call in DIFFERS if isinstance(refusal(call, gradient), type(refusal(call, torch)))
    ]
    assert agree == []
