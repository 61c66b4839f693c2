"""Trade time for memory: keep a segment's inputs, and run it again when its gradient is wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from gradient.autograd import engine
from gradient.autograd.autocast import set_autocast
from gradient.autograd.modes import enable_grad, mode
from gradient.autograd.node import Node, make_node, next_sequence_nr
from gradient.autograd.outputs import outputs
from gradient.autograd.variable import Variable, wrap
from gradient.errors import AutogradError
from gradient.source_lines import location_of, user_frame

__all__ = [
    "checkpoint",
]

T = TypeVar("T")


class RandomState:
    """How to save and restore the generators; `gradient.random` registers itself."""

    save: Callable[[], Any] = staticmethod(lambda: None)
    restore: Callable[[Any], None] = staticmethod(lambda state: None)


def checkpoint(
    function: Callable[..., T],
    *args: Any,
    use_reentrant: bool = False,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> T:
    """`function(*args, **kwargs)`, keeping none of its activations (Chen et al. 2016).

    In the backward pass the function is run again, with the same random numbers. Its parameters and
    whatever else it refers to get their gradients as without checkpointing. `use_reentrant` is
    accepted for PyTorch's sake; there is one implementation, and it is differentiable.
    """
    if not mode.grad:
        return function(*args, **kwargs)
    given = (*args, *kwargs.values())
    state = RandomState.save() if preserve_rng_state else None
    start = next_sequence_nr()
    result: Any = function(*args, **kwargs)
    single = isinstance(result, Variable)
    results: tuple[Any, ...] = (result,) if single else tuple(result)
    if not all(isinstance(r, Variable) for r in results):
        raise AutogradError("checkpoint: the function must return a Tensor or a tuple of Tensors")
    border = outer_nodes([r.node for r in results if r.node is not None], start)
    if not border:
        return result
    backend = results[0].backend
    op = _Segment(function, args, kwargs, state, single)
    # Not kept for their values, but to notice if they are overwritten before the second run.
    saved = tuple(t.array for t in given if isinstance(t, Variable))
    arrays = [r.array for r in results]
    made = arrays[0] if single else arrays
    node = make_node(op, backend, tuple(border), saved, made, location_of(user_frame()))
    # The segment's own nodes, and with them its activations, die with `result` and `results`.
    if single:
        return cast("T", wrap(made, backend, node))
    return cast("T", tuple(outputs(arrays, backend, node)))


def outer_nodes(nodes: Sequence[Node], start: int) -> list[Node]:
    """The nodes that a segment depends on: those older than its first one, number `start`."""
    seen, stack, border = set(nodes), list(nodes), []
    while stack:
        node = stack.pop()
        if node.sequence_nr < start or node.op is None:
            border.append(node)
            continue
        for parent in node.parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return border


class _Segment:
    """A checkpointed call, to the engine."""

    name = "checkpoint"

    def __init__(self, function: Any, args: Any, kwargs: Any, state: Any, single: bool):
        self.function, self.args, self.kwargs = function, args, kwargs
        self.state, self.single = state, single
        self.autocast = mode.autocast
        names = [*map(str, range(len(args))), *kwargs]
        given = zip(names, (*args, *kwargs.values()), strict=True)
        self.saved_names = tuple(f"argument {n}" for n, v in given if isinstance(v, Variable))

    def _again(self, g: Any, backend: Any, create_graph: bool, parents: Sequence[Any]) -> list[Any]:
        now = RandomState.save()
        if self.state is not None:
            RandomState.restore(self.state)
        autocast = set_autocast(self.autocast)
        try:
            with enable_grad():
                result = self.function(*self.args, **self.kwargs)
        finally:
            set_autocast(autocast)
            if self.state is not None:
                RandomState.restore(now)
        results = (result,) if self.single else tuple(result)
        grads = [g] if self.single else g
        roots = [
            (r.node, value)
            for r, value in zip(results, grads, strict=True)
            if r.node is not None and value is not None
        ]
        wanted = [p for p in parents if p is not None]
        found = engine.run_backward(roots, wanted, create_graph, create_graph, within=True)
        return [None if p is None else found.get(p) for p in parents]

    def vjp(self, node: Node, g: Any, parents: Sequence[Any]) -> list[Any]:
        return self._again(g, node.backend, False, parents)

    def vjp_tensors(
        self, node: Node, g: Any, parents: Sequence[Any], be: Any, grad: Any
    ) -> list[Any]:
        return self._again(g, node.backend, True, parents)
