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
WHY = {
    "PyTorch takes any dim here, and fails at one that the input does not have": """
F.unfold(ones(4,4), 2)
F.avg_pool2d(ones(4,4), 2)
t.baddbmm(ones(2), ones(2, 2), ones(2, 2))
""",
    "PyTorch indexes what should be a pair": """
nn.LSTM(2, 3)(ones(4, 1, 2), ones(1, 1, 3))
nn.LSTM(2, 3)(ones(4, 1, 2), (ones(1, 1, 3),))
optim.Adam(P(), betas=(0.9,))
""",
    "a wrong dtype is a DTypeError, also where PyTorch raises ValueError or TypeError for it": """
nn.LSTM(2, 3)(ones(4, 1, 2).double())
nn.LSTM(2, 3)(ones(4, 1, 2).long())
~ones(2)
""",
    "a mode that does not exist is a wrong argument; PyTorch calls it not implemented": """
F.interpolate(ones(1, 1, 4, 4), size=2, mode="foo")
F.interpolate(ones(1, 1, 4, 4), size=2, mode="linear")
F.interpolate(ones(1, 1, 4), size=2, mode="bilinear")
F.interpolate(ones(4, 4), size=2)
F.pad(ones(2), (1, 1), mode="foo")
F.pad(ones(1, 2), (1, 1, 1, 1), mode="reflect")
""",
    "widths that do not suit the input are a ShapeError; PyTorch calls them not implemented": """
F.pad(ones(3), (1, 1), mode="reflect")
F.pad(ones(3), (1, 1), mode="replicate")
F.pad(ones(3), (1, 1), mode="circular")
F.pad(ones(2, 3, 3, 3), (1, 1), mode="reflect")
F.pad(ones(2, 3, 3, 3), (1, 1), mode="circular")
F.pad(ones(2, 3, 3, 3, 3), (1, 1), mode="reflect")
F.pad(ones(2, 3, 3, 3, 3), (1, 1, 1, 1), mode="reflect")
F.pad(ones(2, 3, 3), (), mode="reflect")
""",
    "an argument of a wrong type is a TypeError, also where PyTorch raises another": """
t.autocast(3)
nn.utils.clip_grad_value_(P(), "a")
nn.utils.clip_grad_norm_(P(), "a")
nn.utils.clip_grad_norm_(P(), 1.0, norm_type="a")
nn.Sequential(nn.ReLU()) + 3
tensor(["a"])
ones(2).type("foo")
""",
    "an argument of a wrong value is a ValueError, also where PyTorch raises another": """
tensor(10**400, dtype=t.float64)
data.default_collate([])
data.default_collate(3)
optim.SGD(P(), lr="a")
optim.SGD([{"lr": 0.1}], lr=0.1)
optim.SGD(P(), lr=0.1).add_param_group({})
optim.SGD(P(), lr=0.1).load_state_dict({})
optim.Adam(P(), betas=0.9)
tensor([1, [2]])
tensor([[1], 2])
""",
    "an index out of range is an IndexError": """
data.ConcatDataset([[1], [2]])[-5]
""",
    "a file that cannot be written is an OSError": """
t.save(ones(2), "/nonexistent/dir/file")
""",
    "a dict's missing key": """
nn.ParameterDict({"a": ones(2)})["b"]
nn.ParameterDict({"a": ones(2)}).pop("b")
""",
}
DIFFERS = {call: reason for reason, calls in WHY.items() for call in calls.strip().splitlines()}

# Classes that say nothing of the mistake: an assertion, or a failure further on. Ours say it.
SLIPS = (AssertionError, AttributeError, ZeroDivisionError)

# What an error of ours must not speak of: an array library's words.
FOREIGN = re.compile(
    r"numpy boolean|ufunc|operands could|axis \d|for axis|np\.str|dtype\('|object is not iterable|"
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
    own = isinstance(ours, (GradientError, KeyError, NotImplementedError, AttributeError))
    assert own or PYTHON.search(message), repr(ours)
    if call not in DIFFERS and not (isinstance(theirs, SLIPS) and isinstance(ours, GradientError)):
        assert isinstance(ours, type(theirs)), f"{ours!r} for {theirs!r}"


def test_no_reason_is_written_for_a_call_that_agrees() -> None:
    agree = [
        call for call in DIFFERS if isinstance(refusal(call, gradient), type(refusal(call, torch)))
    ]
    assert agree == []
