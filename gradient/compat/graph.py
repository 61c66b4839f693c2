"""`autograd.graph`: hooks on saved tensors, on nodes, and on several gradients at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from gradient.autograd import inplace, saved_hooks
from gradient.autograd.modes import mode as running
from gradient.autograd.node import GradientEdge, Node, RemovableHandle, edge_of
from gradient.autograd.saved_hooks import *  # noqa: F403
from gradient.errors import ArgumentError, AutogradError, sentence
from gradient.tensor import Tensor
from gradient.tensor.arguments import tensor_of

__all__ = [
    "GradientEdge",
    "Node",
    "get_gradient_edge",
    "increment_version",
    "register_multi_grad_hook",
]
__all__ += saved_hooks.__all__


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The edge of a tensor; of a leaf, the node that accumulates its gradient.

    Raises:
        AutogradError: it does not require a gradient.
    """
    own = tensor_of("get_gradient_edge", tensor).node
    node, number = edge_of(own)
    if node is None:
        got = "one that does not"
        raise AutogradError(sentence("get_gradient_edge", "a tensor that requires a gradient", got))
    return GradientEdge(node, number, None if own is node else own)


def increment_version(tensor: Tensor | Iterable[Tensor]) -> None:
    """Say that the memory of a tensor was written to by what does not say so itself: a backward
    pass that needs what it was then raises an error."""
    for each in (tensor,) if isinstance(tensor, Tensor) else tensor:
        x = tensor_of("increment_version", each)
        inplace.mark_overwritten(x.backend, x.array, "increment_version")


class _Arrived(threading.local):
    """The gradients that came so far, of one backward pass."""

    nodes: Any = None
    grads: list[Tensor | None]
    missing = 0


def register_multi_grad_hook(
    tensors: Sequence[Tensor],
    fn: Callable[[Any], None],
    *,
    mode: Literal["all", "any"] = "all",
) -> _Handles:
    """Call `fn(grads)` once in each backward pass, when the gradients of all `tensors` that it
    computes are known, with None for the others; with `mode` "any", `fn(grad)` at the first.

    Raises:
        AutogradError: one of them does not require a gradient.
    """
    if mode not in ("all", "any"):
        raise ArgumentError(sentence("register_multi_grad_hook", "mode 'all' or 'any'", repr(mode)))
    edges = [tensor_of("register_multi_grad_hook", t).node for t in tensors]
    if not all(edges):
        expected, got = "tensors that require a gradient", f"{edges.count(None)} that do not"
        raise AutogradError(sentence("register_multi_grad_hook", expected, got))
    arrived = _Arrived()

    def arrive(i: int, grad: Tensor) -> None:
        if arrived.nodes is not running.nodes:
            arrived.nodes = running.nodes
            arrived.grads, expected = [None] * len(edges), set(running.nodes or ())
            arrived.missing = 1 if mode == "any" else sum(edge in expected for edge in edges)
        arrived.grads[i] = grad
        arrived.missing -= 1
        if arrived.missing == 0:
            fn(grad if mode == "any" else arrived.grads)

    hooks = [lambda grad, i=i: arrive(i, grad) for i, _ in enumerate(edges)]
    return _Handles([t.register_hook(hook) for t, hook in zip(tensors, hooks, strict=True)])


class _Handles(RemovableHandle):
    """Hooks that go together."""

    def __init__(self, handles: list[RemovableHandle]) -> None:
        self.handles = handles

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()
