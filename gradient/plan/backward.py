"""Compiled functions whose results are differentiated outside of them.

If a result still has its graph when the function returns, its backward pass is recorded too, after
the function's own calls, with a `BOUNDARY` between them. Both parts are one plan with one arena. A
replay runs the first part at once, and the second when the engine reaches the result's node.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradient import backends
from gradient.autograd import engine
from gradient.autograd.autocast import set_autocast
from gradient.autograd.checkpoint import outer_nodes
from gradient.autograd.modes import enable_grad, mode
from gradient.autograd.node import Node, make_node, next_sequence_nr
from gradient.autograd.outputs import outputs
from gradient.autograd.variable import wrap
from gradient.nn.hooks import ModuleBackward
from gradient.plan.arguments import tensors_in
from gradient.plan.calls import BOUNDARY, Ref
from gradient.plan.executors import CpuExecutor
from gradient.plan.plan import Plan
from gradient.source_lines import location_of, user_frame
from gradient.tensor import Tensor


@dataclass
class Backward:
    """The recorded backward pass of the results.

    roots    positions of the results that are differentiated, among the result's tensors
    given    the buffers of their gradients, which are inputs of the plan; None if it is unused
    parents  the arguments that require a gradient: a leaf, or the number of an input
    grads    the buffers of the parents' gradients; None if a parent gets none
    """

    roots: list[int]
    given: list[Ref | None]
    parents: list[Tensor | int]
    grads: list[Ref | None]

    def same(self, other: Backward) -> bool:
        mine, theirs = ([p if isinstance(p, int) else id(p) for p in b.parents]
                        for b in (self, other))  # fmt: skip
        return (self.roots, self.given, self.grads, mine) == (
            *(other.roots, other.given, other.grads, theirs),
        )


class WithBackward:
    """A function that also runs the backward pass of its results, if these have a graph.

    After a recorded call, `backward` describes that pass, or is None and `reason` says why.
    `used` are the results known to get a gradient; if it is empty, all results are assumed to.
    """

    def __init__(self, function: Callable[..., Any], inputs: Sequence[Tensor], used: set[int]):
        self.function, self.inputs, self.used = function, inputs, used
        self.backward: Backward | None = None
        self.reason: str | None = None

    def __call__(self, *args: Any) -> Any:
        start = next_sequence_nr()
        result = self.function(*args)
        tensors = tensors_in(result)
        given = {id(t) for t in self.inputs}
        once = {id(t): i for i, t in reversed([*enumerate(tensors)])}
        roots = [
            i
            for i, t in enumerate(tensors)
            if t.backend.device == "cpu" and is_live(t.node) and id(t) not in given
            if t.node.op is not None and t.node.sequence_nr > start and once[id(t)] == i
        ]  # fmt: skip
        recorders = [getattr(tensors[i].array, "recorder", None) for i in roots]
        if roots and recorders[0] is not None and recorders[0].broken is None:
            self._back(recorders[0], start, roots, [tensors[i] for i in roots])
        return result

    def _back(self, recorder: Any, start: int, roots: list[int], results: list[Tensor]) -> None:
        inputs = {id(t.node): i for i, t in enumerate(self.inputs) if t.node is not None}
        border = list(outer_nodes([t.node for t in results if t.node is not None], start))
        parents: list[Tensor | int] = []
        for node in border:
            leaf = node.leaf() if node.leaf is not None else None
            if id(node) in inputs:
                parents.append(inputs[id(node)])
            elif leaf is not None and node.sequence_nr < start:
                parents.append(leaf)
            else:
                self.reason = "it depends on a tensor whose graph was made elsewhere"
                return
        if _is_hooked([t.node for t in results], border):
            self.reason = (
                "its backward pass calls a hook of something made in it; compile that pass, too"
            )
            return
        recorder.boundary([t.array for t in results])
        used = [i in self.used or not self.used.intersection(roots) for i in roots]
        given = [
            recorder.input(np.ones_like(t.array.value)) if yes else None
            for t, yes in zip(results, used, strict=True)
        ]
        firsts: Any = [(t.node, g) for t, g in zip(results, given, strict=True) if g is not None]
        found = engine.run_backward(firsts, border, True, False, within=True)
        grads = [found.get(node) for node in border]
        self.backward = Backward(
            roots,
            [None if g is None else g.ref for g in given],
            parents,
            [None if g is None else recorder.ref(g) for g in grads],
        )


class CompiledCall:
    """The op of the results' node: for the engine, the whole replayed call is one op."""

    name = public_name = "the compiled function"

    def __init__(self, plan: DifferentiablePlan, executor: CpuExecutor, again: Again):
        self.plan, self.again = plan, again
        self.executor: CpuExecutor | None = executor
        self.started = False
        self.saved_names = plan.saved_names

    def vjp(self, node: Node, g: Any, parents: Sequence[Any]) -> list[Any]:
        grads = list(g) if node.n_outputs else [g]
        executor, started, self.started = self.executor, self.started, True
        expected = [ref is not None for ref in self.plan.backward.given]
        if executor is None or started:
            return self._eagerly("a second backward pass", grads, False, parents)
        if [each is not None for each in grads] != expected:
            self.executor = None
            return self._eagerly("a gradient of other results than before", grads, False, parents)
        try:
            found = self.plan.finish(executor, [each for each in grads if each is not None])
        finally:  # until here no other call may use its arena
            self.executor = None
        return [None if p is None else g for p, g in zip(parents, found, strict=True)]

    def vjp_tensors(
        self, node: Node, g: Any, parents: Sequence[Any], be: Any, grad: Any
    ) -> list[Any]:
        return self._eagerly("create_graph", list(g) if node.n_outputs else [g], True, parents)

    def _eagerly(
        self, what: str, grads: list[Any], create_graph: bool, parents: Sequence[Any]
    ) -> list[Any]:
        self.plan.warn(what)
        tensors = tensors_in(self.again())
        roots = [
            (tensors[i].node, g)
            for i, g in zip(self.plan.backward.roots, grads, strict=True)
            if g is not None
        ]
        wanted = [p for p in parents if p is not None]
        found = engine.run_backward(roots, wanted, create_graph, create_graph, within=True)
        return [None if p is None else found.get(p) for p in parents]


class Again:
    """A call that can be repeated exactly: with the same random numbers and autocast mode, and the
    previous values of the tensors that it overwrites."""

    def __init__(
        self,
        function: Callable[[], Any],
        generators: Sequence[Any],
        written: Sequence[np.ndarray],
    ):
        self.function, self.autocast = function, mode.autocast
        self.places = [(g, g.key, g.offset) for g in generators]
        self.before = [(array, array.copy()) for array in written]

    def __call__(self) -> Any:
        now = Again(self.function, [g for g, _, _ in self.places], [x for x, _ in self.before])
        self._restore()
        set_autocast(self.autocast)
        try:
            with enable_grad():
                return self.function()
        finally:
            set_autocast(now.autocast)
            now._restore()

    def _restore(self) -> None:
        for generator, key, offset in self.places:
            generator.key, generator.offset = key, offset
        for array, values in self.before:
            np.copyto(array, values)


class DifferentiablePlan:
    """A plan in two parts, and the executors whose second part has not run yet.

    The backward pass of a result reads the arena. So until it has run, or can no longer run, other
    calls use another executor; there are at most `EXECUTORS`.
    """

    EXECUTORS = 4

    def __init__(self, backward: Backward, plan: Plan, warn: Callable[[str], None]):
        self.backward, self.warn = backward, warn
        self.executors: list[tuple[CpuExecutor, Callable[[], CompiledCall | None]]] = []
        self.kept = _read_in_backward(plan)
        self.saved_names = tuple("parameter" for _ in self.kept)

    def free(
        self, is_free: Callable[[CpuExecutor], bool], make: Callable[[], CpuExecutor]
    ) -> CpuExecutor | None:
        """An executor without a pending backward pass; None if too many are in use."""
        for each in [*self.executors]:
            executor, user = each
            call = user()
            if call is None or call.executor is not executor:
                self.executors.remove(each)
                if is_free(executor):
                    return executor
        return make() if len(self.executors) < self.EXECUTORS else None

    def results(
        self,
        executor: CpuExecutor,
        arrays: list[Any],
        inputs: Sequence[Tensor],
        again: Again,
    ) -> list[Tensor]:
        """The tensors of the differentiated results."""
        call = CompiledCall(self, executor, again)
        executor.arena.call = weakref.ref(call)
        self.executors.append((executor, executor.arena.call))
        parents = tuple(
            inputs[p].node if isinstance(p, int) else p.node for p in self.backward.parents
        )
        # Never empty: the engine marks a node as freed by clearing what it saved.
        saved = (*(executor.value(ref) for ref in self.kept), ())
        backend = backends.get("cpu")
        single = len(arrays) == 1
        made: Any = arrays[0] if single else arrays
        node = make_node(call, backend, parents, saved, made, location_of(user_frame(2)))
        return [wrap(made, backend, node)] if single else outputs(arrays, backend, node)

    def finish(self, executor: CpuExecutor, grads: list[Any]) -> list[Any]:
        """Run the second part: from the gradients of the results to those of the parents."""
        wanted = sum(ref is not None for ref in self.backward.grads)
        found = iter(executor.finish(grads, wanted))
        return [None if ref is None else next(found) for ref in self.backward.grads]


def seen_in_use(result: Any, used: set[int]) -> Any:
    """Return `result`; hooks on its tensors add the numbers of those that get a gradient to
    `used`."""
    for i, t in enumerate(tensors_in(result)):
        if t.node is not None and t.node.op is not None:
            t.node.register_tensor_hook(lambda g, i=i: used.add(i))
    return result


def _read_in_backward(plan: Plan) -> list[Ref]:
    """The external buffers that the backward part reads: they must not change before it runs."""
    found: dict[Ref, None] = {}
    behind = False
    for call in plan.calls:
        behind = behind or call.op == BOUNDARY
        if behind:
            roots = map(plan.root, call.inputs)
            found.update(dict.fromkeys(r for r in roots if plan.buffers[r].kind == "external"))
    return list(found)


def is_live(node: Any) -> bool:
    """Whether a backward pass can still run through all of the graph under `node`."""
    if node is None:
        return False
    return all(each.saved is not None for each in _nodes([node], ()))


def _is_hooked(roots: Sequence[Any], border: Sequence[Node]) -> bool:
    """Whether a backward pass to the border calls a hook: recording would call it once more than
    the program does."""
    return any(
        node.hooks
        or node.own_hooks is not None
        or node.retained is not None
        or node.op.name == ModuleBackward.__name__
        for node in _nodes(roots, border)
    )


def has_checkpoint(roots: Sequence[Any]) -> bool:
    """Whether a checkpointed segment is under these nodes."""
    return any(node.op is not None and node.op.name == "checkpoint" for node in _nodes(roots, ()))


def _nodes(roots: Sequence[Any], border: Sequence[Node]) -> Iterator[Any]:
    """The nodes under these, inclusive, up to the border."""
    seen = set(border)
    waiting = [*roots]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting.extend(node.parents)
