"""Arguments have PyTorch's names and order, of every function, method and class that both have.

What PyTorch can be called with is read from its stubs, its Python signatures and the stand-ins of
`torch.overrides`. `arguments.txt` lists what is not taken here, and why; it can only get shorter.
"""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

from gradient.autograd import forwarding  # noqa: E402
from gradient.compat import tables  # noqa: E402
from support import torch_signatures  # noqa: E402

NOWHERE = {
    "out": "taken, but no parameter (gradient.autograd.out_argument)",
    "layout": "as out",
    "memory_format": "as out",
    "pin_memory": "as out",
    "names": "dimensions have no names",
    "size_average": "an old form of `reduction`",
    "reduce": "an old form of `reduction`",
}
"""Keywords that no function takes, and why."""

Parameter = inspect.Parameter
KNOWN = Path(__file__).with_name("arguments.txt")


@functools.cache
def known() -> dict[str, set[str]]:
    """What is not taken, by PyTorch's dotted name."""
    found = {}
    for line in KNOWN.read_text().splitlines():
        if line and not line.startswith("#"):
            name, misfits, reason = (part.strip() for part in line.split("|"))
            assert reason, f"{name} has no reason"
            found[name] = set(misfits.split(", "))
    return found


def misfits(ours: Any, theirs: inspect.Signature, overloaded: bool) -> set[str]:
    """The keywords that are not taken, and "positions" if arguments by position are not."""
    own, found = inspect.signature(ours), set()
    parameters = list(theirs.parameters.values())
    first = [0] if parameters and parameters[0].name == "self" else []
    parameters = parameters[len(first) :]
    compared = [
        p
        for p in parameters
        if (p.name not in NOWHERE or p.name in own.parameters) and not p.name.startswith("_")
    ]
    named = [p for p in compared if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needed = {p.name: 0 for p in named if p.default is p.empty}
    for parameter in named:
        try:
            own.bind(*first, **needed | {parameter.name: 0})
        except TypeError:
            found.add(parameter.name)
    found = found & needed.keys() or found  # without a needed one, no other can be given either
    order = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    while order and not set(order) <= set(compared):
        order.pop()
    by_name = {p.name: 0 for p in named if p.name in needed and p not in order}
    try:
        bound = own.bind(*first, *[0 for _ in order], **by_name)
    except TypeError:
        return found | {"positions"}
    if not overloaded:
        taken = [own.parameters[name] for name in bound.arguments][len(first) :]
        for a, b in zip(taken, order, strict=False):
            if a.kind is b.kind is Parameter.POSITIONAL_OR_KEYWORD and a.name != b.name:
                found.add(b.name)
    return found


@functools.cache
def callables(module: str) -> dict[str, tuple[Any, list[inspect.Signature]]]:
    found = torch_signatures.in_common(module)
    return {name: (ours, signatures) for name, ours, signatures in found}


@pytest.mark.parametrize("module", torch_signatures.MODULES)
def test_arguments_are_called_as_in_pytorch(module: str):
    found = {}
    for name, (ours, signatures) in callables(module).items():
        overloaded = len(signatures) > 1
        misfit = set().union(*(misfits(ours, theirs, overloaded) for theirs in signatures))
        if misfit != known().get(name, set()):
            found[name] = misfit, known().get(name), [str(s) for s in signatures]
    assert found == {}


def test_every_exception_is_of_something_that_both_have():
    every = {name for module in torch_signatures.MODULES for name in callables(module)}
    assert known().keys() - every == set()


WITHOUT_NUMPYS = {
    "torch": {
        "allclose", "batch_norm", "bernoulli", "empty_like", "equal", "full_like", "imag",
        "is_complex", "is_conj", "is_floating_point", "is_neg", "istft", "real", "view_as_complex",
        "view_as_real",
        "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
        "convolution", "gru", "instance_norm", "lstm", "max_pool1d", "max_pool2d", "max_pool3d",
        "multinomial", "ones_like", "rand_like",
        "randint_like", "randn_like", "result_type", "rnn_relu", "rnn_tanh",
        "unsafe_split", "where", "zeros_like",
    },  # no functions of dimensions, nor methods of Tensor's
    "torch.Tensor": {"size", "stride"},  # cost less than to look for other names would
}  # fmt: skip
"""What PyTorch lets be called with NumPy's names of arguments, and gradient does not."""


@pytest.mark.parametrize("module", WITHOUT_NUMPYS)
def test_numpys_names_are_taken_where_pytorch_takes_them(module: str):
    """But `x2` by methods: most are the operators themselves, whose calls it would slow down."""
    ours = torch_signatures.space(module.replace("torch", "gradient", 1))
    found = set()
    for name, overloads in torch_signatures.stubs(module).items():
        names = {p for signature in overloads for p in signature.parameters}
        named = names & set(forwarding.NUMPY.values())
        if module == "torch.Tensor":
            named -= {"other"}
        of_old = name.startswith("_") or (module == "torch" and name in tables.IN_PLACE)
        if named and not of_old and hasattr(ours, name):
            code = getattr(getattr(ours, name), "__code__", None)
            if code is None or code.co_filename != forwarding.__file__:
                found.add(name)
    assert found == WITHOUT_NUMPYS[module]


def of_compat(ours):
    """Whether a function or class is written in `gradient.compat`, whatever module it names."""
    code = getattr(inspect.unwrap(ours), "__code__", None)
    where = code.co_filename if code else getattr(ours, "__module__", "").replace(".", "/")
    return "gradient/compat" in where


def test_few_signatures_are_unread():
    """One that cannot be read would hide what it says."""
    every = [each for module in torch_signatures.MODULES for each in callables(module).items()]
    unread = [
        name
        for name, (ours, signatures) in every
        # Names of gradient.compat have none that says more in PyTorch.
        if not signatures and not of_compat(ours)
    ]
    assert len(every) > 1800 and len(unread) < 58, unread
