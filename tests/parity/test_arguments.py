"""Arguments have PyTorch's names and order, of every function and method that both have."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import gradient  # noqa: E402
from fuzzing import generator, schemas  # noqa: E402

OTHERWISE = {
    "add": "a number's alpha may stand third in PyTorch, of old; here it is named",
    "sub": "as add",
    "subtract": "as add",
    "rsub": "as add",
    "add_": "as add",
    "sub_": "as add",
    "to": "the tensor to be like has no name here",
    "uniform_": "`from` is a keyword of Python",
}
"""Declarations of PyTorch that are not followed, and why."""

SCRIPTED = {
    "as_tensor", "tensor", "result_type", "eq", "ne", "sort", "split", "einsum", "meshgrid",
    "broadcast_tensors", "arange", "randint", "randint_like",
}  # fmt: skip
"""Functions whose declaration is TorchScript's; what Python calls has other names."""


def forms() -> list[tuple[str, str]]:
    """(name, "function" or "method"), of all that PyTorch declares."""
    found = []
    for name, kind in generator.catalogue().items():
        if name not in schemas.declarations() or name in SCRIPTED or name.startswith("nn."):
            continue
        if kind in ("function", "both") and hasattr(torch, name):
            found.append((name, "function"))
        if kind in ("method", "both") and hasattr(torch.Tensor, name):
            found.append((name, "method"))
    return found


def misfits(name: str, form: str) -> list[str]:
    """What the signature does not take of PyTorch's declarations."""
    ours = inspect.signature(getattr(gradient if form == "function" else gradient.Tensor, name))
    found = []
    for schema in schemas.declarations()[name]:
        arguments = [a for a in schema.arguments if a.name != "out_dtype"]
        if form == "method" and (not arguments or arguments[0].name != "self"):
            continue
        names = {a: schemas.PUBLIC.get(a.name, a.name) for a in arguments}
        needed = {a: 0 for a in arguments if not a.has_default_value()}
        first = arguments[:1] if form == "method" else []
        for a in arguments[len(first) :]:
            if a.name in schemas.NEVER:
                continue
            given: dict[Any, int] = {**needed, a: 0}
            try:
                ours.bind(*[0 for _ in first], **{names[k]: 0 for k in given if k not in first})
            except TypeError as error:
                found.append(f"{names[a]}: {error}: {schema}")
        ordered = []
        for a in arguments:
            if a.kwarg_only or a.name in schemas.NEVER:
                break
            ordered.append(0)
        named = {a.name: 0 for a in needed if a.kwarg_only}
        try:
            ours.bind(*ordered, **named)
        except TypeError as error:
            found.append(f"by position: {error}: {schema}")
    return found


@pytest.mark.parametrize("name,form", forms(), ids=lambda value: value)
def test_arguments_are_called_as_in_pytorch(name: str, form: str):
    assert not misfits(name, form) or name in OTHERWISE, misfits(name, form)


def test_every_exception_is_one():
    excepted = {name for name, form in forms() if name in OTHERWISE and misfits(name, form)}
    assert excepted == set(OTHERWISE)
