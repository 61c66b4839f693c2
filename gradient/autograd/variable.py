"""What the engine knows of a tensor: an array, its backend, and the node that made it."""

from __future__ import annotations

from typing import Any


class Variable:
    """Base of `Tensor`. `node` is None where no gradient is wanted.

    `link` and `views` are set where tensors share memory alone (see `gradient.tensor.views`).
    """

    __slots__ = ("__weakref__", "array", "backend", "grad", "link", "node", "views")

    array: Any
    backend: Any
    grad: Any
    link: Any
    node: Any
    views: list[Any]


class TensorType:
    """Which subclass of Variable ops give: the `Tensor` that a higher rung registers."""

    cls: type[Variable] = Variable


new_variable = object.__new__


def wrap(array: Any, backend: Any, node: Any = None) -> Any:
    """A tensor around an array, without copying."""
    out = new_variable(TensorType.cls)
    out.array = array
    out.backend = backend
    out.node = node
    out.grad = None
    return out
