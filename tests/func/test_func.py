"""Transforms of functions name what they were given in place of a function or of argnums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import gradient
from gradient import func
from gradient.errors import ArgumentError, TypeMismatch

TRANSFORMS: dict[str, Callable[[Any], Any]] = {
    "grad": func.grad,
    "grad_and_value": func.grad_and_value,
    "hessian": func.hessian,
    "jacfwd": func.jacfwd,
    "jacrev": func.jacrev,
    "jvp": lambda f: func.jvp(f, (gradient.ones(2),), (gradient.ones(2),)),
    "linearize": lambda f: func.linearize(f, gradient.ones(2)),
    "vjp": lambda f: func.vjp(f, gradient.ones(2)),
    "vmap": func.vmap,
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_what_is_no_function_is_refused_at_once(name: str) -> None:
    with pytest.raises(TypeMismatch, match="expected a function, got 3"):
        TRANSFORMS[name](3)


@pytest.mark.parametrize("argnums", ["a", 1.5, (0, "b"), None])
def test_argnums_are_ints(argnums: Any) -> None:
    with pytest.raises(TypeMismatch, match="expected argnums of an int, or several, got"):
        func.grad(lambda x: x.sum(), argnums)(gradient.ones(2))


def test_argnums_beyond_the_arguments() -> None:
    match = "argnums that count the call's 1 positional arguments from 0, got 1"
    with pytest.raises(ArgumentError, match=match):
        func.grad(lambda x: x.sum(), argnums=1)(gradient.ones(2))


def test_what_is_differentiated_by_is_of_floats() -> None:
    """In PyTorch a dtype is a RuntimeError."""
    with pytest.raises(RuntimeError, match=r"grad: expected floating-point .*int64; cast with"):
        func.grad(lambda x: x.sum())(gradient.ones(2, dtype=gradient.int64))
    with pytest.raises(TypeMismatch, match="expected floating-point Tensors .*got float"):
        func.grad(lambda x: x)(1.0)
