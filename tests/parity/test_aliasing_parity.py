"""The table of what shares memory is PyTorch's, and so is what may be overwritten afterwards."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import gradient  # noqa: E402
import gradient.functional as F  # noqa: E402
from support.aliasing_table import kind_of, results, rows, tensors  # noqa: E402

REFUSED = (RuntimeError, TypeError, IndexError)  # for a dtype, or for having no elements

OURS = {
    "bernoulli": "its gradient is zero, so it has none; PyTorch's has one of zeros",
    "logical_not_": "its gradient is zero; PyTorch's is that of the overwritten value",
    "logical_and_": "its gradient is zero; PyTorch's is that of the overwritten value",
    "logical_or_": "its gradient is zero; PyTorch's is that of the overwritten value",
    "logical_xor_": "its gradient is zero; PyTorch's is that of the overwritten value",
    "heaviside": "it has no gradient; PyTorch's says so only in the backward pass",
    "heaviside_": "it has no gradient; PyTorch's says so only in the backward pass",
    "unique": "it has no gradient; PyTorch's says so only in the backward pass",
    "scaled_dot_product_attention": "the result is kept, as in PyTorch's fused kernels",
}
"""Functions that differ from PyTorch in this, and why."""


def of_torch(expression: str, given: dict[str, Any]) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return results(torch, torch.nn.functional, expression, given)


@pytest.mark.parametrize("kind", ["copy", "view", "itself"])
def test_the_table_is_pytorchs(kind):
    wrong = {}
    for expression, expected, optional in rows():
        if expected != kind:
            continue
        given = tensors(torch)
        try:
            found = {kind_of(result, given) for result in of_torch(expression, given)}
        except REFUSED:
            if not optional:
                raise
            continue
        if found != {kind}:
            wrong[expression] = found
    assert wrong == {}


def differentiable(library: Any, run: Any) -> tuple[list[bool], bool] | None:
    """Which results require a gradient, and whether it can be computed after the first of those was
    overwritten; None if the call is refused."""
    try:
        found = run(tensors(library, True))
    except REFUSED:
        return None
    wanting = [result.requires_grad for result in found]
    overwritten = True
    for result in found:
        if result.requires_grad:
            try:
                result.add_(1)
                result.sum().backward()
            except RuntimeError:
                overwritten = False
            break
    return wanting, overwritten


def test_results_require_a_gradient_and_can_be_overwritten_as_in_pytorch():
    wrong = {}
    for expression in sorted({expression for expression, *_ in rows()}):
        if any(name in expression for name in OURS):
            continue
        theirs = differentiable(torch, partial(of_torch, expression))
        ours = differentiable(gradient, partial(results, gradient, F, expression))
        if theirs is None or ours is None:
            continue
        if ours[0] != theirs[0] or ours[1] < theirs[1]:
            wrong[expression] = {"torch": theirs, "ours": ours}
    assert wrong == {}
