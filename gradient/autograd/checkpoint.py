"""Activation checkpointing: keep a segment's inputs only, and run it again in the backward pass."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from gradient.autograd import engine, variable
from gradient.autograd.autocast import set_autocast
from gradient.autograd.modes import enable_grad, mode
from gradient.autograd.node import Node, make_node, next_sequence_nr
from gradient.autograd.outputs import outputs
from gradient.autograd.trees import leaves_of, rebuilt
from gradient.autograd.variable import Variable, wrap
from gradient.source_lines import location_of, user_frame

if TYPE_CHECKING:
    from gradient.backends import Backend
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
    op = _Segment(function, args, kwargs, state)
    tensors = [t for t in given if isinstance(t, Variable)]
    before = [t.node for t in tensors]
    # The second run takes its arguments from here, and `check_saved` finds in-place changes.
    saved = tuple([t.array for t in tensors])
    start = next_sequence_nr()
    result: Any = function(*args, **kwargs)
    leaves = leaves_of(result)
    tracked = [r for r in leaves if isinstance(r, Variable) and r.node is not None]
    border = list(outer_nodes([r.node for r in tracked if r.node is not None], start))
    if not border:
        return result
    backend = tracked[0].backend
    arrays = [r.array for r in tracked]
    made: Any = arrays[0] if len(arrays) == 1 else arrays
    node = make_node(op, backend, tuple(border), saved, made, location_of(user_frame()))
    if any(t.node is not old for t, old in zip(tensors, before, strict=True)):
        node.sequence_nr = start  # an in-place change of an argument counts as one after saving it
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


def outer_nodes(nodes: Collection[Node], start: int) -> Iterator[Node]:
    """The nodes that a segment depends on: leaves, and those with a number below `start`, its
    first."""
    seen, stack = set(nodes), list(nodes)
    while stack:
        node = stack.pop()
        if node.sequence_nr < start or node.op is None:
            yield node
            continue
        for parent in node.parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)


class _Made(NamedTuple):
    """An argument that an op has made: the second run makes a tensor of the saved array. (The
    segment does not hold the tensor itself: a plan refuses tensors that outlive the call.)"""

    backend: Backend
    node: Node | None


def _kept(value: Any) -> Any:
    if type(value) is not variable.tensor_class or (value.node and value.node.op is None):
        return value  # no tensor, or a leaf or one of another class, which must be itself
    return _Made(value.backend, value.node)


class _Segment:
    """The op of a checkpointed call's node."""

    name = public_name = "checkpoint"

    def __init__(self, function: Any, args: Any, kwargs: Any, state: Any) -> None:
        self.function, self.state, self.autocast = function, state, mode.autocast
        self.args, self.kwargs = [*map(_kept, args)], {n: _kept(v) for n, v in kwargs.items()}
        names = [*map(str, range(len(args))), *kwargs]
        given = zip(names, (*args, *kwargs.values()), strict=True)
        self.saved_names = tuple(f"argument {n}" for n, v in given if isinstance(v, Variable))

    def _again(self, g: Any, node: Node, create_graph: bool, parents: Sequence[Any]) -> list[Any]:
        wanted = [p for p in parents if p is not None]
        with node.backend.recomputing():
            leaves = leaves_of(self._result(iter(node.saved or ())))
            tracked = [r.node for r in leaves if isinstance(r, Variable) and r.node is not None]
            grads = [g] if len(tracked) == 1 else g
            roots = [(n, each) for n, each in zip(tracked, grads, strict=True) if each is not None]
            del leaves  # and with it the results, of which the pass frees each node's values
            found = engine.run_backward(roots, wanted, create_graph, create_graph, within=True)
        return [None if p is None else found.get(p) for p in parents]

    def _result(self, saved: Iterator[Any]) -> Any:
        def argument(value: Any) -> Any:
            array = next(saved) if isinstance(value, (_Made, Variable)) else None
            return wrap(array, *value) if isinstance(value, _Made) else value

        args = [*map(argument, self.args)]
        kwargs = {name: argument(value) for name, value in self.kwargs.items()}
        now = _generator().place()
        if self.state is not None:
            _generator().go_to(self.state)
        autocast = set_autocast(self.autocast)
        try:
            with enable_grad():
                return self.function(*args, **kwargs)
        finally:
            set_autocast(autocast)
            if self.state is not None:
                _generator().go_to(now)

    def vjp(self, node: Node, g: Any, parents: Sequence[Any]) -> list[Any]:
        return self._again(g, node, False, parents)

    def vjp_tensors(
        self, node: Node, g: Any, parents: Sequence[Any], be: Any, grad: Any
    ) -> list[Any]:
        return self._again(g, node, True, parents)
