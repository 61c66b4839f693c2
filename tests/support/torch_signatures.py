"""The signatures of PyTorch's functions, methods and classes, wherever it writes them down."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.overrides import get_testing_overrides

Parameter = inspect.Parameter

MODULES = (
    "torch", "torch.Tensor", "torch.nn.functional", "torch.nn", "torch.nn.init", "torch.nn.utils",
    "torch.nn.utils.rnn", "torch.optim", "torch.optim.lr_scheduler", "torch.utils.data",
    "torch.utils.checkpoint", "torch.autograd", "torch.amp", "torch.cuda", "torch.random",
    "torch.testing",
)  # fmt: skip
"""Whose public names are compared, of those that gradient has."""

STUBS = {"torch": ("_VariableFunctions.pyi", None), "torch.Tensor": ("__init__.pyi", "TensorBase")}
"""Where the functions and methods that are written in C++ are declared."""


def space(module: str) -> Any:
    """A module by its dotted name; the class Tensor counts as one."""
    package = module.partition(".")[0]
    if module.endswith(".Tensor"):
        return importlib.import_module(package).Tensor
    return importlib.import_module(module)


def of_stub(arguments: ast.arguments) -> inspect.Signature:
    """A function's signature, of its parsed arguments."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    found = [
        Parameter(a.arg, Parameter.POSITIONAL_OR_KEYWORD, default=0 if d else Parameter.empty)
        for a, d in zip(positional, defaults, strict=True)
    ]
    if arguments.vararg:
        found.append(Parameter(arguments.vararg.arg, Parameter.VAR_POSITIONAL))
    found += [
        Parameter(a.arg, Parameter.KEYWORD_ONLY, default=0 if d else Parameter.empty)
        for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    return inspect.Signature(found)


@functools.cache
def stubs(module: str) -> dict[str, list[inspect.Signature]]:
    """The overloads by name. Those of named dimensions are left out, and those whose first
    parameter is called `self`: old forms such as `add(input, alpha, other)`."""
    found: dict[str, list[inspect.Signature]] = defaultdict(list)
    if module not in STUBS:
        return found
    name, cls = STUBS[module]
    path = Path(torch.__file__).parent / "_C" / name
    body = ast.parse(path.read_text()).body
    if cls:
        body = next(n for n in body if isinstance(n, ast.ClassDef) and n.name == cls).body
    for node in body:
        if isinstance(node, ast.FunctionDef):
            text = ast.unparse(node.args)
            old = cls is None and "self" in [a.arg for a in node.args.args]
            if not old and "Dimname" not in text and "Ellipsis" not in text:
                found[node.name].append(of_stub(node.args))
    return found


def signatures(module: str, name: str) -> list[inspect.Signature]:
    """The ways in which PyTorch's function, class or method can be called."""
    value = getattr(space(module), name)
    try:
        own = inspect.signature(value)
    except (TypeError, ValueError):
        own = None
    if own is not None and not takes_anything(own):
        return [own]
    if name in stubs(module):
        return stubs(module)[name]
    stand_in = get_testing_overrides().get(value)
    return [] if stand_in is None else [inspect.signature(stand_in)]


def takes_anything(signature: inspect.Signature) -> bool:
    """Whether it is that of a wrapper, `*args, **kwargs`, which says nothing."""
    return all(
        p.name == "self" or p.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        for p in signature.parameters.values()
    )


def in_common(module: str) -> Iterator[tuple[str, Any, list[inspect.Signature]]]:
    """(PyTorch's dotted name, ours, its signatures) of what a module has in both: functions,
    methods, constructors of classes and their public methods."""
    theirs, ours = space(module), space(module.replace("torch", "gradient", 1))
    for name in sorted(dir(theirs)):
        if name.startswith("_") or not hasattr(ours, name):
            continue
        value, own = getattr(theirs, name), getattr(ours, name)
        if not callable(value) or not callable(own) or name == "Tensor":
            continue
        yield f"{module}.{name}", own, signatures(module, name)
        if isinstance(value, type) and isinstance(own, type):
            yield from methods(f"{module}.{name}", value, own)


def methods(path: str, theirs: type, ours: type) -> Iterator[tuple[str, Any, Any]]:
    """The public methods that a class of PyTorch's defines itself."""
    for name, value in vars(theirs).items():
        own = getattr(ours, name, None)
        if not name.startswith("_") and inspect.isfunction(value) and callable(own):
            yield f"{path}.{name}", own, [inspect.signature(value)]
