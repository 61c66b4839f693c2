"""`autograd.functional`: derivatives at a point, PyTorch's older forms of `gradient.func`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradient.errors import ArgumentError, TypeMismatch, sentence
from gradient.func.derivatives import grad, jacrev
from gradient.func.derivatives import jvp as _jvp
from gradient.func.derivatives import vjp as _vjp
from gradient.tensor import Tensor
from gradient.tensor.creation_like import ones_like

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

Tensors = Tensor | tuple[Tensor, ...]

FEW = 32
"""Rows of a Jacobian that are computed at once without `vectorize`."""


def _entered(caller: str, inputs: Any, create_graph: bool) -> tuple[Any, ...]:
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    for x in given:
        if not isinstance(x, Tensor):
            expected = "a Tensor or a tuple of Tensors to differentiate by"
            raise TypeMismatch(sentence(caller, expected, type(x).__name__))
    return given if create_graph else tuple(x.detach() for x in given)


def jacobian(
    func: Callable[..., Any],
    inputs: Tensors,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """Compute the Jacobian of `func` at `inputs`, of shape (result's..., input's...); for several
    results and inputs, a tuple of tuples. With `create_graph` it can be differentiated.
    With `vectorize` the gradients of all elements of the result are computed at once, otherwise of
    `FEW` at once, in less memory. `strategy` is PyTorch's, without effect; `strict=True` raises
    ArgumentError."""
    _check("jacobian", strict)
    _check_strategy("jacobian", strategy, vectorize)
    given = _entered("jacobian", inputs, create_graph)
    numbers: Any = tuple(range(len(given))) if isinstance(inputs, tuple) else 0
    return jacrev(func, numbers, chunk_size=None if vectorize else FEW)(*given)


def hessian(
    func: Callable[..., Any],
    inputs: Tensors,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """Compute the second derivatives of a function that returns one number; see `jacobian` for the
    arguments."""
    _check("hessian", strict)
    _check_strategy("hessian", outer_jacobian_strategy, vectorize)
    given = _entered("hessian", inputs, create_graph)
    numbers: Any = tuple(range(len(given))) if isinstance(inputs, tuple) else 0
    chunk_size = None if vectorize else FEW
    return jacrev(jacrev(_single(func), numbers), numbers, chunk_size=chunk_size)(*given)


def vjp(
    func: Callable[..., Any],
    inputs: Tensors,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """Return (func(inputs), v times its Jacobian); `v` is optional if the result is one number."""
    _check("vjp", strict)
    value, product = _vjp(func, *_entered("vjp", inputs, create_graph))
    found = product(_ones("vjp", value) if v is None else v)
    return value, found if isinstance(inputs, tuple) else found[0]


def jvp(
    func: Callable[..., Any],
    inputs: Tensors,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """Return (func(inputs), its Jacobian times v); `v` is optional if the input is one number."""
    _check("jvp", strict)
    given = _entered("jvp", inputs, create_graph)
    direction = _ones("jvp", given[0]) if v is None else v
    found = _jvp(func, given, direction if isinstance(direction, tuple) else (direction,))
    return found[0], found[1]


def vhp(
    func: Callable[..., Any],
    inputs: Tensors,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """Return (func(inputs), v times its Hessian) of a function that returns one number."""
    _check("vhp", strict)
    return _hessian_product(func, inputs, v, create_graph)


def hvp(
    func: Callable[..., Any],
    inputs: Tensors,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """Return (func(inputs), its Hessian times v) of a function that returns one number."""
    _check("hvp", strict)
    return _hessian_product(func, inputs, v, create_graph)


def _hessian_product(
    func: Callable[..., Any], inputs: Any, v: Any, create_graph: bool
) -> tuple[Any, Any]:
    """Multiply the Hessian by v: it is symmetric, so products from both sides are the same."""
    given = _entered("hvp", inputs, create_graph)
    several = isinstance(inputs, tuple)
    numbers: Any = tuple(range(len(given))) if several else 0
    direction = _ones("hvp", given[0]) if v is None else v
    _, product = _vjp(grad(_single(func), numbers), *given)
    found = product(direction)
    return func(*given), found if several else found[0]


def _single(func: Callable[..., Any]) -> Callable[..., Tensor]:
    """Return `func` with a 0-d result, instead of one number of shape () or (1,)."""

    def run(*args: Any) -> Tensor:
        value = func(*args)
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ArgumentError(sentence("hessian", "a function that returns one number", got))
        return value.reshape(())

    return run


def _ones(caller: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise ArgumentError(f"{caller}: v may be left out for a single number alone; pass it")
    return ones_like(value.detach())


def _check(caller: str, strict: bool) -> None:
    if strict:
        raise ArgumentError(
            f"{caller}: strict=True is not available: independent inputs give zeros"
        )


def _check_strategy(caller: str, strategy: str, vectorize: bool) -> None:
    if strategy not in ("reverse-mode", "forward-mode"):
        expected = "a strategy 'reverse-mode' or 'forward-mode'"
        raise ArgumentError(sentence(caller, expected, repr(strategy)))
    if strategy == "forward-mode" and not vectorize:
        expected = "vectorize=True with the strategy 'forward-mode'"
        raise ArgumentError(sentence(caller, expected, vectorize))
