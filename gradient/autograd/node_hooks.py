"""Run the hooks that `register_hook` and `register_prehook` of a node registered.

Hooks get gradients in the form for users: tensors of the inputs' shapes and dtypes; complex ones
are the conjugates of the gradients that nodes pass to each other (`gradient.autograd.engine`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradient.autograd.engine import Accumulation, in_dtype, unbroadcast
from gradient.autograd.node import Node, NodeHooks
from gradient.autograd.outputs import OutputGrad
from gradient.autograd.roots import backend_of_tensors
from gradient.autograd.variable import Variable, wrap
from gradient.errors import HookError, TypeMismatch

Grads = tuple[Any, ...]


def run(
    hooks: NodeHooks,
    rule: Callable[..., Sequence[Any]],
    on_tensors: bool,
    node: Node,
    g: Any,
    parents: Sequence[Node | None],
    *others: Any,
) -> Sequence[Any]:
    """Call the hooks before a node, its gradient rule and the hooks after it; return the gradients
    of its inputs."""
    arrived = tuple(_shown(node, each, on_tensors) for each in (g if node.n_outputs else [g]))
    given = _replaced(hooks.before, node, arrived)
    back = [_passed_on(each, on_tensors) for each in given]
    if all(each is None for each in back):
        return []
    found = rule(node, back if node.n_outputs else back[0], parents, *others)
    results = [*found, *[None] * (len(parents) - len(found))]
    if any(isinstance(each, (OutputGrad, list)) for each in results) or not hooks.after:
        return results
    backend = backend_of_tensors(node.backend) if on_tensors else node.backend
    shown = tuple(
        None if parent is None or each is None
        else _shown(parent, _fitted(backend, parent, each), on_tensors)
        for parent, each in zip(parents, results, strict=True)
    )  # fmt: skip
    return [_passed_on(each, on_tensors) for each in _replaced(hooks.after, node, shown, given)]


def before_accumulation(leaf: Any, g: Any, on_tensors: bool) -> Any:
    """Call a leaf's hooks before accumulation; return the gradient to accumulate, or None."""
    tensor = g if on_tensors else wrap(g, leaf.backend)
    (tensor,) = _replaced(leaf.node.own_hooks.before, leaf.node, (tensor,))
    return tensor


def after_accumulation(leaf: Any, tensor: Any) -> None:
    _replaced(leaf.node.own_hooks.after, leaf.node, (), (tensor,))


def _shown(node: Node, g: Any, on_tensors: bool) -> Any:
    if g is None:
        return None
    tensor = g if on_tensors else wrap(g, node.backend)
    return tensor.conj() if tensor.array.dtype.kind == "c" else tensor


def _passed_on(tensor: Any, on_tensors: bool) -> Any:
    if tensor is None:
        return None
    tensor = tensor.conj() if tensor.array.dtype.kind == "c" else tensor
    return tensor if on_tensors else tensor.array


def _fitted(backend: Any, node: Node, g: Any) -> Any:
    """Convert the gradient of an input, whose node is `node`, to the input's shape and dtype."""
    g = g if g.shape == node.shape else unbroadcast(backend, g, node.shape)
    given = g.array.dtype if isinstance(g, Variable) else g.dtype
    return g if given == node.dtype else in_dtype(backend, g, given, node.dtype)


def _replaced(hooks: list[Any], node: Node, grads: Grads, *others: Grads) -> Grads:
    """Call each hook with `grads` and `others`; return the gradients, with the hooks' changes."""
    for hook in list(hooks):
        found = hook(grads, *others)
        if found is None:
            continue
        if not isinstance(found, tuple):
            got = type(found).__name__
            raise TypeMismatch(
                f"backward: a hook of {node.name()} is to return None or a tuple, got {got}"
            )
        # More ops have numbers as inputs than in PyTorch, so trailing Nones may be left out.
        if found and all(each is None for each in grads[len(found) :]):
            found = (*found, *grads[len(found) :])
        if len(found) != len(grads):
            raise HookError(
                f"backward: a hook of {node.name()} was given {len(grads)} gradients and returned "
                f"{len(found)}"
            )
        grads = tuple(map(_checked, [node] * len(grads), grads, found))
    return grads


def _checked(node: Node, before: Any, after: Any) -> Any:
    """Check and return what a hook returned instead of the gradient `before`."""
    if after is None:
        return None
    if not isinstance(after, Variable):
        got = type(after).__name__
        raise TypeMismatch(
            f"backward: a hook of {node.name()} is to return Tensors or None, got {got}"
        )
    if before is None:
        raise HookError(f"backward: a hook of {node.name()} gave a gradient where there is none")
    for what, old, new in (
        ("shape", tuple(before.array.shape), tuple(after.array.shape)),
        ("dtype", before.array.dtype, after.array.dtype),
    ):
        if old != new:
            raise HookError(
                f"backward: a hook of {node.name()} was given a gradient of {what} {old} and "
                f"returned one of {what} {new}"
            )
    return after


NodeHooks.run = staticmethod(run)
Accumulation.before = staticmethod(before_accumulation)
Accumulation.after = staticmethod(after_accumulation)
