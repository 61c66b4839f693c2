"""Values, first and second derivatives at kinks, ties, infinities and NaN, as PyTorch's in float64.

The rows, and the differences that stay with their reasons, are in kink_table.py.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
torch = pytest.importorskip("torch")

import gradient  # noqa: E402
import gradient.functional as F  # noqa: E402
from gradient.autograd.op import registry  # noqa: E402
from gradient.tensor.arithmetic import Arithmetic  # noqa: E402
from gradient.tensor.reductions import Reductions  # noqa: E402
from gradient.tensor.sorting import Sorting  # noqa: E402
from support.kink_table import ELSEWHERE, INF, KNOWN, NAN, POINTS, Found, expressions, split  # noqa: E402
from support.public import public  # noqa: E402

Answers = dict[str, np.ndarray]


def some(package: Any, like: Any, rng: np.random.Generator) -> Any:
    """Numbers to multiply with that round nothing."""
    numbers = rng.choice([1.0, -1.0, 2.0, 0.5], size=tuple(like.shape))
    return package.tensor(numbers.tolist(), dtype=package.float64)


def strided(package: Any, array: np.ndarray) -> Any:
    """A leaf that is not contiguous: PyTorch's vectorised loops differ from its others at NaN,
    and which of them an element of a contiguous tensor meets depends on its place."""
    doubled = package.tensor(np.stack([array, array], -1).tolist(), dtype=package.float64)
    return doubled[..., 0].detach().requires_grad_()


def answers(package: Any, expression: str, points: dict[str, np.ndarray]) -> Answers:
    """The value, the derivatives by each input, and theirs by each input and by the cotangent."""
    functional = package.nn.functional
    inputs = {name: strided(package, array) for name, array in points.items()}
    classes = package.tensor([i % 3 for i in range(len(POINTS["m"]))])
    constants = {"G": package, "F": functional, "C": classes, "INF": INF, "NAN": NAN}
    y = eval(expression, {**constants, "OURS": package is gradient, **inputs})
    found = {"value": y}
    rng = np.random.default_rng(0)
    cotangent = some(package, y, rng).requires_grad_()
    leaves, names = [*inputs.values(), cotangent], [*inputs, "cotangent"]
    differentiate = package.autograd.grad
    options = {"allow_unused": True, "materialize_grads": True, "retain_graph": True}
    firsts = differentiate(y, leaves[:-1], cotangent, create_graph=True, **options)
    for name, first in zip(names, firsts, strict=False):
        found[f"d{name}"] = first
        weights = some(package, first, rng)
        try:
            seconds = differentiate(first, leaves, weights, **options)
        except RuntimeError as error:
            if "not implemented" not in str(error) and "does not require grad" not in str(error):
                raise
            continue
        found |= {f"d{name} d{n}": s for n, s in zip(names, seconds, strict=True)}
    # a clone, since PyTorch may give a tensor of zeros without memory
    return {key: np.array(t.detach().clone().numpy()) for key, t in found.items()}


def compared(key: str, theirs: Any, ours: Any, points: dict[str, np.ndarray]) -> Found | None:
    assert theirs.shape == ours.shape, key
    # 1e-8: PyTorch's bound in binary_cross_entropy, 1e-12, is a float32
    wrong = ~np.isclose(theirs, ours, rtol=1e-8, atol=1e-12, equal_nan=True)
    if not wrong.any():
        return None
    at = tuple(array[wrong] for array in points.values() if array.shape == theirs.shape)
    return Found(key.count("d"), theirs[wrong], ours[wrong], at)


def differences(expression: str) -> list[tuple[str, Found]]:
    names = [name for name in POINTS if re.search(rf"(?<![.\w]){name}(?!\w)", expression)]
    if names == ["r"]:
        cases = [{"r": row} for row in POINTS["r"]]
    else:
        cases = [{name: POINTS[name] for name in names}]
    found = []
    for points in cases:
        theirs, ours = (answers(package, expression, points) for package in (torch, gradient))
        for key in theirs.keys() & ours.keys():
            there = compared(key, theirs[key], ours[key], points)
            if there is not None:
                found.append((key, there))
    return found


@pytest.mark.parametrize("expression", expressions())
def test_kinks(expression: str) -> None:
    known = [k for k in KNOWN if expression in split(k.expressions)]
    met = {k.reason: False for k in known}
    for key, found in differences(expression):
        left = np.ones(len(found.theirs), bool)
        for k in known:
            covered = left & k.covers(found)
            met[k.reason] |= bool(covered.any())
            left &= ~covered
        places = [
            f"at {[float(p[i]) for p in found.at]}: PyTorch {found.theirs[i]}, ours {found.ours[i]}"
            for i in np.flatnonzero(left)[:8]
        ]
        assert not places, f"{key} of {expression}, {left.sum()} places:\n" + "\n".join(places)
    assert all(met.values()), f"differs no more; delete it from KNOWN: {met}"


def test_every_differentiable_function_has_a_row() -> None:
    kinds = ("activation", "_loss", "distance")
    named = {name for name, f in public(F).items() if f.__module__.endswith(kinds)}
    named |= {
        name for name, op in registry.items()
        if op.rules and op.function.__module__.endswith((".elementwise", ".activation", ".reduce"))
    }  # fmt: skip
    methods = {**vars(Arithmetic), **vars(Reductions), **vars(Sorting)}
    named |= {name for name in methods if not name.startswith("_")}
    rows = {n for e in expressions() for n in re.findall(r"\.([A-Za-z]\w*)", e)}
    rows |= {name for names in ELSEWHERE for name in names.split()}
    same = {id(methods[name]) for name in rows if name in methods}  # by another name
    steps = {name for name, op in registry.items() if not op.rules}
    missing = {n for n in named - rows - steps if id(methods.get(n)) not in same}
    assert sorted(missing) == []
