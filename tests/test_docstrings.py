"""`help(gradient.exp)` says what a user has to know, and no more than the function does."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import gradient
import gradient.nn.functional as F
from gradient import Tensor
from gradient.autograd.op import registry
from gradient.autograd.promotion import documented
from gradient.errors import DTypeError
from gradient.functional import activation
from gradient.tensor.arithmetic import Arithmetic
from gradient.tensor.complex_numbers import ComplexNumbers
from gradient.tensor.real_functions import RealFunctions
from gradient.tensor.reductions import Reductions
from gradient.tensor.special_functions import SpecialFunctions

PACKAGE = Path(gradient.__file__).parent
ELEMENTWISE = (Arithmetic, RealFunctions, SpecialFunctions, ComplexNumbers)
SAME_SHAPE = {"cumsum", "cumprod", "softmax", "log_softmax"}
MOST = 400
"""Characters of a docstring: four lines."""
INPUTS = {
    "integers": gradient.tensor([1, 2]),
    "bools": gradient.tensor([True, False]),
    "complex numbers": gradient.tensor([1j, 2.0]),
}


def public(*classes: type) -> list[str]:
    """The functions of `gradient` that are methods of these classes."""
    names = {name for each in classes for name, value in vars(each).items() if callable(value)}
    names = {name for name in names if not name.startswith(("_", "is_", "resolve_"))}
    return sorted(name for name in names if callable(getattr(gradient, name, None)))


def doc_of(name: str) -> str:
    """The docstring, as one line."""
    return " ".join((inspect.getdoc(getattr(gradient, name)) or "").split())


def operands(function: Callable[..., Any]) -> list[str]:
    """The parameters without a default, of which the first is `input`."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]


def refers(doc: str) -> bool:
    """Whether the docstring leaves the rest to that of another function."""
    return bool(re.search(r"(\bAs|: |\bsee|numbers) `\w+", doc)) or doc.startswith("`")


@pytest.mark.parametrize("name", public(*ELEMENTWISE))
def test_elementwise_function_says_formula_and_shape(name: str) -> None:
    doc = doc_of(name)
    function = getattr(gradient, name)
    assert 0 < len(doc) <= MOST
    if refers(doc):
        return
    tensors = operands(function)
    assert [each for each in tensors if not re.search(rf"\b{each}\b", doc)] == []
    if name not in ("positive", "mvlgamma", "where", "masked_fill"):
        assert "elementwise" in doc
    if {"other", "exponent", "values"} & set(tensors) and " as a bool tensor" not in doc:
        assert "broadcast" in doc


@pytest.mark.parametrize("name", public(Reductions))
def test_reduction_says_its_dimensions(name: str) -> None:
    doc = doc_of(name)
    assert 0 < len(doc) <= MOST
    for parameter in {"dim", "keepdim"} & set(inspect.signature(getattr(Tensor, name)).parameters):
        assert refers(doc) or f"`{parameter}`" in doc
    if name in SAME_SHAPE:
        assert "in the shape of" in doc


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("name", public(*ELEMENTWISE, Reductions))
def test_refused_dtypes_are_in_the_docstring(name: str, kind: str) -> None:
    """Those, and no others: an input of each kind is tried."""
    function, x, doc = getattr(gradient, name), INPUTS[kind], doc_of(name)
    if refers(doc):
        return
    given = [0 if each in ("dim", "n", "p") else x for each in operands(function)]
    if name == "mvlgamma":
        given = [x, 1]
    words = " ".join(re.findall(r"Raises [^.]*DTypeError[^.]*\.", doc))
    listed = kind in words or f"{kind[:-1]} tensors" in words or "anything but integers" in words
    try:
        function(*given)
    except DTypeError:
        assert listed
    except (TypeError, ValueError, RuntimeError, IndexError):
        pass
    else:
        assert not listed or "both" in words or "all are" in words or kind == "integers"


ACTIVATIONS = sorted(
    name for name in activation.__all__ if name not in ("gelu", "gumbel_softmax", "rrelu", "prelu")
)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_says_formula_and_refused_dtypes(name: str, kind: str) -> None:
    function: Any = getattr(F, name)
    doc = " ".join((inspect.getdoc(function) or "").split())
    assert 0 < len(doc) <= MOST
    assert "elementwise" in doc or "`dim`" in doc
    options = {"threshold": (0.0, 1.0), "softmax": (0,), "log_softmax": (0,), "softmin": (0,)}
    words = " ".join(re.findall(r"Raises DTypeError[^.]*\.", doc))
    try:
        function(INPUTS[kind], *options.get(name, ()))
    except DTypeError:
        assert kind in words
    else:
        assert kind not in words


def test_an_op_says_how_it_converts_its_inputs() -> None:
    found = [
        op.name
        for op in registry.values()
        if op.promotion == "int_to_float" and "default float dtype" not in " ".join(documented(op))
    ]
    assert found == []


def docstrings() -> Iterator[tuple[str, str]]:
    """Every docstring of the package, with its place."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and (
                doc := ast.get_docstring(node)
            ):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", doc


def test_sections_of_docstrings_begin_at_their_indentation() -> None:
    """Deeper, `help` shows them as a part of the last parameter."""
    section = re.compile(r"^ +(Args|Attributes|Raises|Returns|Yields):$", re.MULTILINE)
    wrong = [place for place, doc in docstrings() if section.search(doc)]
    # Its example is a function with a docstring.
    assert [place for place in wrong if not place.startswith("text/tool_schema.py")] == []
