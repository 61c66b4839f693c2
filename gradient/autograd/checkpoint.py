"""Activation checkpointing: keep a segment's inputs only, and run it again in the backward pass."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar, cast

from gradient.autograd import engine
from gradient.autograd.autocast import set_autocast
from gradient.autograd.modes import enable_grad, mode
from gradient.autograd.node import Node, make_node, next_sequence_nr
from gradient.autograd.outputs import outputs
from gradient.autograd.trees import leaves_of, rebuilt
from gradient.autograd.variable import Variable, wrap
from gradient.source_lines import location_of, user_frame

if TYPE_CHECKING:
    from gradient.tensor import Tensor

__all__ = ["checkpoint", "checkpoint_sequential"]

T = TypeVar("T")


def _generator() -> Any:
    """Return the default random generator; imported late, as it is on a higher rung."""
    return importlib.import_module("gradient.tensor.generator").default_generator


def checkpoint(
    function: Callable[..., T],
    *args: Any,
    use_reentrant: bool = False,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> T:
    """Call `function(*args, **kwargs)` without keeping its activations (Chen et al. 2016).

    The backward pass runs the function again, with the same random numbers of the default
    generator. As in PyTorch, a function that uses another generator draws other numbers in the
    second run, so that its gradients do not match its result. Parameters and other tensors that the
    function uses get their gradients as without checkpointing. The result may be nested dicts,
    lists and tuples of tensors and other values. `use_reentrant` has no effect: there is one
    implementation, which is differentiable.
    """
    if not mode.grad:
        return function(*args, **kwargs)
    given = (*args, *kwargs.values())
    state = _generator().place() if preserve_rng_state else None
    start = next_sequence_nr()
    result: Any = function(*args, **kwargs)
    leaves = leaves_of(result)
    tracked = [r for r in leaves if isinstance(r, Variable) and r.node is not None]
    border = outer_nodes([r.node for r in tracked if r.node is not None], start)
    if not border:
        return result
    backend = tracked[0].backend
    op = _Segment(function, args, kwargs, state)
    # Saved only so that `check_saved` finds in-place changes before the second run.
    saved = tuple(t.array for t in given if isinstance(t, Variable))
    arrays = [r.array for r in tracked]
    made: Any = arrays[0] if len(arrays) == 1 else arrays
    node = make_node(op, backend, tuple(border), saved, made, location_of(user_frame()))
    # The segment's own nodes, and so its activations, are freed with `result` and `leaves`.
    new = iter([wrap(made, backend, node)] if len(arrays) == 1 else outputs(arrays, backend, node))
    wrapped = [next(new) if isinstance(r, Variable) and r.node is not None else r for r in leaves]
    return cast("T", rebuilt(result, wrapped))


def checkpoint_sequential(
    functions: Sequence[Callable[..., Any]],
    segments: int,
    input: Any,
    use_reentrant: bool = False,
    *,
    preserve_rng_state: bool = True,
) -> Tensor:
    """Apply `functions` (or a Sequential) to `input` in turn, in `segments` parts. Each part except
    the last runs under `checkpoint`."""
    each = list(functions)
    length = len(each) // segments
    cuts = [*range(0, length * segments, length)] if length else [0] * segments

    def run(part: list[Callable[..., Any]]) -> Callable[[Any], Any]:
        return lambda value: reduce(lambda x, function: function(x), part, value)

    for start in cuts[:-1]:
        segment = run(each[start : start + length])
        input = checkpoint(
            segment, input, use_reentrant=use_reentrant, preserve_rng_state=preserve_rng_state
        )
    return run(each[cuts[-1] :])(input)


def outer_nodes(nodes: Sequence[Node], start: int) -> list[Node]:
    """Return the nodes that a segment depends on: those with a number below `start`, its first."""
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
    """The op of a checkpointed call's node."""

    name = public_name = "checkpoint"

    def __init__(self, function: Any, args: Any, kwargs: Any, state: Any) -> None:
        self.function, self.args, self.kwargs, self.state = function, args, kwargs, state
        self.autocast = mode.autocast
        names = [*map(str, range(len(args))), *kwargs]
        given = zip(names, (*args, *kwargs.values()), strict=True)
        self.saved_names = tuple(f"argument {n}" for n, v in given if isinstance(v, Variable))

    def _again(self, g: Any, backend: Any, create_graph: bool, parents: Sequence[Any]) -> list[Any]:
        now = _generator().place()
        if self.state is not None:
            _generator().go_to(self.state)
        autocast = set_autocast(self.autocast)
        try:
            with enable_grad():
                result = self.function(*self.args, **self.kwargs)
        finally:
            set_autocast(autocast)
            if self.state is not None:
                _generator().go_to(now)
        tracked = [
            r.node for r in leaves_of(result) if isinstance(r, Variable) and r.node is not None
        ]
        grads = [g] if len(tracked) == 1 else g
        roots = [(r, value) for r, value in zip(tracked, grads, strict=True) if value is not None]
        wanted = [p for p in parents if p is not None]
        found = engine.run_backward(roots, wanted, create_graph, create_graph, within=True)
        return [None if p is None else found.get(p) for p in parents]

    def vjp(self, node: Node, g: Any, parents: Sequence[Any]) -> list[Any]:
        return self._again(g, node.backend, False, parents)

    def vjp_tensors(
        self, node: Node, g: Any, parents: Sequence[Any], be: Any, grad: Any
    ) -> list[Any]:
        return self._again(g, node.backend, True, parents)
