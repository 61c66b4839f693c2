"""What a user's editor and type checker see of the package."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

import gradient
from gradient import (
    amp,
    autograd,
    checkpoints,
    data,
    embedding,
    evaluation,
    functional,
    generation,
    hub,
    io,
    kv_cache,
    nn,
    optim,
    quantization,
    random,
    text,
    training,
)
from support.pages import RUNNABLE, python_of
from support.paths import CHECKOUT
from support.public import public

COMPLETE: list[ModuleType] = [
    gradient,
    amp,
    autograd,
    checkpoints,
    data,
    embedding,
    evaluation,
    functional,
    generation,
    hub,
    io,
    kv_cache,
    nn,
    nn.init,
    nn.utils,
    optim,
    optim.lr_scheduler,
    quantization,
    random,
    text,
    training,
]
"""Modules whose public functions and methods all have types."""

ANY = {
    "Tensor.item": "a bool, an int or a float, by the dtype; as NumPy types it",
    "Tensor.tolist": "lists as deep as the tensor has dimensions",
    "Function.forward": "a Tensor or several: the user's",
    "Function.backward": "a Tensor or several: the user's",
    "Function.apply": "what forward returns",
    "load": "what the file holds",
    "TorchFile.structure": "what the file holds",
    "Buffer.item": "see Tensor.item",
    "Buffer.tolist": "see Tensor.tolist",
    "Parameter.item": "see Tensor.item",
    "Parameter.tolist": "see Tensor.tolist",
    "Module.forward": "what the module computes: the user's",
    "ModuleDict.forward": "never called: a container",
    "ModuleList.forward": "never called: a container",
    "UninitializedBuffer.item": "see Tensor.item",
    "UninitializedBuffer.tolist": "see Tensor.tolist",
    "UninitializedParameter.item": "see Tensor.item",
    "UninitializedParameter.tolist": "see Tensor.tolist",
    "ParameterDict.forward": "never called: a container",
    "ParameterList.forward": "never called: a container",
    "GradScaler.scale": "a Tensor, or several, as nested as what is given",
    "default_collate": "a batch, as nested as the dataset's items",
    "default_convert": "an item with Tensors, as nested as what is given",
}
"""Functions that return what no type describes."""

EXPRESSIONS = {
    "gradient.tensor([1.0])": "Tensor",
    "gradient.zeros(2, 3, dtype=gradient.float64, device='cpu')": "Tensor",
    "gradient.randn((2, 3), generator=gradient.Generator())": "Tensor",
    "gradient.exp(x)": "Tensor",
    "gradient.cat([x, x], dim=0)": "Tensor",
    "gradient.add(x, 1, alpha=2)": "Tensor",
    "gradient.add": "_Function[[other: Tensor | ",
    "gradient.add(input=x, other=1)": "Tensor",
    "gradient.div(input=x, other=x, rounding_mode='floor')": "Tensor",
    "gradient.maximum(input=x, other=x)": "Tensor",
    "gradient.lt(input=x, other=1)": "Tensor",
    "gradient.pow(input=x, exponent=2)": "Tensor",
    "gradient.exp(input=x)": "Tensor",
    "gradient.softmax(input=x, dim=0)": "Tensor",
    "x.maximum(other=x)": "Tensor",
    "gradient.max(x, 0).values": "Tensor",
    "gradient.nonzero(x, as_tuple=True)": "tuple[Tensor, ...]",
    "gradient.where(x > 0, x, 0.0)": "Tensor",
    "gradient.einsum('ij,jk->ik', x, x)": "Tensor",
    "gradient.maximum(x, x)": "Tensor",
    "gradient.autograd.grad(x.sum(), x)": "tuple[Tensor, ...]",
    "x + 1": "Tensor",
    "2 / x": "Tensor",
    "-x": "Tensor",
    "x @ x": "Tensor",
    "x == x": "Tensor",
    "x < 0": "Tensor",
    "x & ~x": "Tensor",
    "x[0, :]": "Tensor",
    "x.T": "Tensor",
    "x.shape": "Size",
    "x.shape[:-1]": "Size",
    "x.shape[0]": "int",
    "x.size(0)": "int",
    "x.size()": "Size",
    "x.ndim": "int",
    "x.dtype": "DType",
    "x.device": "Device",
    "x.grad": "Tensor | None",
    "x.requires_grad": "bool",
    "x.to('cpu').float().cuda()": "Tensor",
    "x.type(gradient.int8)": "Tensor",
    "x.type()": "str",
    "x.sum(0, keepdim=True)": "Tensor",
    "x.max()": "Tensor",
    "x.max(0).values": "Tensor",
    "x.topk(2).indices": "Tensor",
    "x.median(0)[1]": "Tensor",
    "x.nonzero()": "Tensor",
    "x.nonzero(as_tuple=True)": "tuple[Tensor, ...]",
    "x.unique()": "Tensor",
    "x.unique(return_counts=True)": "tuple[Tensor, ...]",
    "x.split(1)": "tuple[Tensor, ...]",
    "x.reshape(-1).view(2, 3).transpose(0, 1)": "Tensor",
    "x.add_(1).clamp_(min=0).fill_(2)": "Tensor",
    "x.stride()": "tuple[int, ...]",
    "x.numpy()": "ndarray[",
    "FloatTensor([1.0])": "Tensor",
    "CudaFloatTensor([1.0])": "Tensor",
    "F.relu(x)": "Tensor",
    "F.cross_entropy(x, x.long())": "Tensor",
    "F.scaled_dot_product_attention(x, x, x)": "Tensor",
}
"""What a type checker says of a user's calls, `x` being a Tensor."""

MISTAKES = [
    "gradient.exp('x')",
    "gradient.zeros('2')",
    "gradient.add('x', 1)",
    "gradient.add(input='x', other=1)",
    "gradient.maximum(input=x)",
    "x.maximum('x')",
    "gradient.sum(2)",
    "x.sum(keepdims=True)",
    "x.reshape('x')",
    "x + 'x'",
    "x.add_('x')",
    "F.relu(2)",
]
"""What it refuses."""


def untyped(function: Callable[..., Any], name: str, method: bool) -> Iterator[str]:
    """What lacks a type among a function's parameters and result."""
    signature = inspect.signature(function)
    for i, parameter in enumerate(signature.parameters.values()):
        if parameter.annotation is parameter.empty and not (method and i == 0):
            yield f"{name}: {parameter.name} has no type"
    if signature.return_annotation in (signature.empty, Any, "Any") and name not in ANY:
        yield f"{name} -> {signature.return_annotation}"


def functions(value: Any, name: str) -> Iterator[tuple[FunctionType, str, bool]]:
    """A function, or the public methods and properties of a class; whether each is a method."""
    if inspect.isfunction(value) and value.__module__.startswith("gradient."):
        yield value, name, False
    if not inspect.isclass(value):
        return
    seen: set[str] = set()
    for base in value.__mro__:
        if not base.__module__.startswith("gradient."):
            continue
        for attribute, member in vars(base).items():
            if attribute.startswith("_") or attribute in seen:  # overridden
                continue
            seen.add(attribute)
            static = isinstance(member, staticmethod)
            inner = member.fget if isinstance(member, property) else member
            inner = inner.__func__ if isinstance(inner, staticmethod | classmethod) else inner
            if inspect.isfunction(inner):
                yield inner, f"{name}.{attribute}", not static


@pytest.mark.parametrize("module", COMPLETE, ids=lambda module: module.__name__)
def test_every_public_function_and_method_has_types(module: ModuleType) -> None:
    found = {
        line
        for name, value in public(module).items()
        for function, at, method in functions(value, name)
        for line in untyped(function, at, method)
    }
    assert found == set()


def test_functions_behind_tensor_say_what_they_return() -> None:
    """Of what item and tolist give, and of comparisons with foreign objects, nothing is known; nor
    of what `__torch_function__` gives (and overriding.py)."""
    found = set()
    for path in sorted((Path(gradient.__file__).parent / "tensor").glob("*.py")):
        if path.stem == "overriding":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                names = {
                    n.id for n in ast.walk(node.returns or ast.Name("Any")) if hasattr(n, "id")
                }
                if "Any" in names:
                    found.add(node.name)
    assert found == {"item", "tolist", "__eq__", "__ne__", "__torch_function__"}


@pytest.mark.parametrize("module", COMPLETE, ids=lambda module: module.__name__)
def test_help_has_a_sentence_for_every_public_function_and_method(module: ModuleType) -> None:
    found = []
    for name, value in public(module).items():
        attributes = vars(value) if inspect.isclass(value) else {}
        for attribute in ("", *(each for each in attributes if not each.startswith("_"))):
            member = getattr(value, attribute, None) if attribute else value
            documented = inspect.isclass(member) or inspect.isroutine(member)
            documented |= isinstance(member, property)
            if documented and not inspect.getdoc(member):
                found.append(f"{name}.{attribute}" if attribute else name)
    assert found == []


def test_help_shows_a_signature_and_a_sentence() -> None:
    assert str(inspect.signature(gradient.exp)) == "(input: 'Tensor') -> 'Tensor'"
    assert str(inspect.signature(gradient.cumsum)).startswith("(input: 'Tensor', dim: 'int'")
    assert inspect.getdoc(gradient.exp) == (
        "e^input, elementwise.\nIntegers and bools are converted to the default float dtype."
    )


def checked(path: Path, cache: Path) -> str:
    """What mypy --strict says of a user's files."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", cache]
    command += ["--allow-redefinition", "--local-partial-types", "--config-file", "", path]
    installed = Path(gradient.__file__).parent.parent  # mypy sees no editable install
    path = {} if installed.name == "site-packages" else {"MYPYPATH": str(installed)}
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=600,
        cwd=cache,
        env={**os.environ, **path},
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mypy")
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.slow
def test_a_type_checker_knows_what_calls_return(cache: Path, tmp_path: Path) -> None:
    head = "import gradient\nimport gradient.nn.functional as F\nx = gradient.ones(2, 3)\n"
    head += "from gradient.compat.types import FloatTensor\n"
    head += "from gradient.compat.cuda import FloatTensor as CudaFloatTensor\n"
    script = tmp_path / "script.py"
    rows = [f"reveal_type({expression})" for expression in EXPRESSIONS]
    script.write_text(head + "\n".join(rows + MISTAKES) + "\n")
    said: dict[int, str] = {}
    for line in checked(script, cache).splitlines():
        if found := re.match(r".*script\.py:(\d+): (.*)", line):
            said.setdefault(int(found[1]), found[2])
    first = head.count("\n") + 1
    wrong = {}
    for at, (expression, expected) in enumerate(EXPRESSIONS.items(), first):
        told = re.sub(r"\b\w+(\.\w+)*\.", "", said.get(at, "nothing"))
        if f'Revealed type is "{expected}' not in told:
            wrong[expression] = told
    missed = [
        m for at, m in enumerate(MISTAKES, first + len(rows)) if "error" not in said.get(at, "")
    ]
    assert wrong == {}
    assert missed == []


@pytest.mark.slow
def test_examples_pass_a_strict_type_checker(cache: Path) -> None:
    said = checked(CHECKOUT / "examples", cache)
    assert [line for line in said.splitlines() if "/examples/" in line and "error:" in line] == []


@pytest.mark.slow
def test_pages_of_the_documentation_pass_a_strict_type_checker(cache: Path, tmp_path: Path) -> None:
    for page in RUNNABLE:
        (tmp_path / f"{page.stem.replace('-', '_').lower()}.py").write_text(python_of(page))
    said = checked(tmp_path, cache)
    wrong = [line for line in said.splitlines() if line.startswith(str(tmp_path))]
    assert [line for line in wrong if "error:" in line and not line.endswith(OF_PAGES)] == []


OF_PAGES = ("[no-untyped-def]", "[no-untyped-call]", "[var-annotated]", "[empty-body]")
"""What is no mistake on a page: functions of the reader's own have no types there."""
