"""A plan of a compiled function, and all that makes its replay equal to a call of that function.

A plan consists of arrays and numbers. This file has the effects of a call in Python: the tensors
that it returns, gradients in `grad`, step counts, version counters of memory that was overwritten.
It also checks what must not have changed since the plan was recorded.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradient import backends
from gradient.autograd import inplace
from gradient.autograd.variable import wrap
from gradient.plan.arguments import mapped_tensors, tensors_in
from gradient.plan.attributes import set_all
from gradient.plan.backward import Again, Backward, DifferentiablePlan, has_checkpoint
from gradient.plan.calls import Ref
from gradient.plan.comparing import with_constants
from gradient.plan.errors import PlanError
from gradient.plan.executors import CpuExecutor, executor_for
from gradient.plan.parts import equal
from gradient.plan.passes import simplified, with_activations, with_fused_chains, with_less_held
from gradient.plan.passes.fusion import is_fusible
from gradient.plan.plan import Plan
from gradient.plan.recording import Recording, are_held
from gradient.plan.results import Results
from gradient.plan.sharing import Arena, own_arena
from gradient.plan.watch import Watch
from gradient.tensor import Tensor
from gradient.tensor.views import with_bases


class Variant:
    """One plan of a compiled function.

    It is made from two recordings of the same calls; the second one becomes the plan.

    Raises:
        PlanError: the recording cannot be replayed; the message says why.
    """

    def __init__(
        self,
        first: Recording,
        second: Recording,
        watch: Watch,
        fuse: bool = False,
        warn: Callable[[str], None] = lambda what: None,
        device: str = "cpu",
        arena_of: Callable[[int], Arena] = own_arena,
    ):
        self.arena_of, self.fuse = arena_of, fuse
        self.backend: Any = backends.get(device)
        self.watch, self.readers = watch, second.readers
        self.replays = 0
        backward = second.backward
        _refuse_differences(first, second)
        self.live, self.attributes = second.live, second.attributes
        plan = with_constants(first, second)
        self.results = Results(second, self.backend)
        first.forget_calls()
        second.forget_calls()
        empty = wrap(np.empty(0, np.float32), backends.get("cpu"))
        # Drop the tensors, which would keep their graphs alive.
        self.result = mapped_tensors(second.result, lambda t: empty)
        self._gradients(second)
        self._returned_gradients(second)
        self._refuse_survivors(second)
        outputs = [*self.results.sources, *(ref for _, ref in self.new_grads)]
        plan = replace(plan, outputs=tuple(outputs))
        self._check_memory(plan, outputs)
        self.first_outputs = len(outputs)
        plan, self.accumulated = _with_grads_copied(plan, second.gradients)
        self._check_gradients(plan)
        if device != "cpu" and (backward is not None or self.accumulated):
            raise PlanError(
                f"on {device!r} a backward pass is recorded with its forward pass, and with "
                "zero_grad(), or not at all: compile the whole training step"
            )
        if backward is not None:
            grads = (ref for ref in backward.grads if ref is not None)
            plan = replace(
                plan,
                inputs=(*plan.inputs, *(ref for ref in backward.given if ref is not None)),
                outputs=(*plan.outputs, *grads),
            )
        self.recorded_calls, self.numbers_read = len(plan.calls), len(plan.numbers)
        self.written_roots = plan.written
        # Drop the recorded calls, which take as much memory as those of a replay.
        self.plan = replace(plan, calls=())
        self.optimized = _optimized(plan, device, fuse)
        reached = set(watch.tensors)
        self.bound = self._bound_tensors(second, reached)
        self.grad_states = grad_states(second)
        self.known_grads = [
            (owner, t)
            for ref, owner in second.gradients.items()
            for t in second.tensors.get(ref, ())
            if id(t) in reached
        ]
        self.on_cpu = device == "cpu"
        self.lends = self.on_cpu or hasattr(self.backend, "graph_recorder")
        leaves = () if backward is None else backward.parents
        self.leaves = [*(t for t, _ in self.new_grads), *(t for t in leaves if type(t) is not int)]
        self.differentiable: DifferentiablePlan | None = None
        if backward is not None:
            self.differentiable = DifferentiablePlan(backward, self.optimized, warn)
        del plan
        self._bind({})

    def _bind(self, externals: dict[Ref, np.ndarray]) -> None:
        self.externals = externals
        made = executor_for(self.optimized, self.backend, externals, self.arena_of, self.fuse)
        executor: Any = made
        self.executor = self._ready(executor)
        if self.differentiable is not None:
            self.differentiable.executors = [(executor, lambda: None)]
        backend = self.backend
        buffers = self.plan.buffers
        arrays = [
            externals.get(ref, buffers[ref].array)
            for ref in self.written_roots
            if buffers[ref].kind == "external"
        ]
        self.written = arrays
        self.written_owners = {id(owner): owner for owner in map(backend.storage, arrays)}

    def _ready(self, executor: Any) -> Any:
        """Let the executor lend its gradients, if this plan does, and return it."""
        if self.lends:
            executor.lend(range(len(self.results.sources), len(self.plan.outputs)))
        return executor

    # Effects of a run ----------------------------------------------------------------------------

    def _bound_tensors(
        self, recording: Recording, reached: set[int]
    ) -> list[tuple[Tensor, Ref, Any]]:
        """The tensors from before whose memory the plan uses, and their arrays now."""
        bound = []
        for ref, tensors in recording.tensors.items():
            if ref in recording.gradients:
                continue
            watched = [t for t in tensors if id(t) in reached]
            if any(t.node is not None and t.node.op is not None for t in watched):
                raise PlanError("it reads a tensor whose graph was made outside of it")
            if not watched:
                array = self.plan.buffers[ref].array
                raise PlanError(
                    f"a tensor of shape {array.shape} is reached by a way that cannot be watched"
                )
            bound += [(t, ref, t.array) for t in watched]
        return bound

    def _gradients(self, recording: Recording) -> None:
        refs = {id(t): ref for t, ref in recording.survivors}
        self.dropped: list[Tensor] = []
        self.new_grads: list[tuple[Tensor, Ref]] = []
        for t, grad in recording.grads:
            if grad is None:
                self.dropped.append(t)
            elif id(grad) in refs and grad.node is None:
                self.new_grads.append((t, refs[id(grad)]))
            else:
                raise PlanError("it leaves a gradient that has a graph, or was there before")

    def _returned_gradients(self, recording: Recording) -> None:
        """Note which results are the `grad` of a tensor, which is a new one after each call."""
        watched = self.watch.tensors
        owners = {id(t._grad): t for t in watched.values() if t._grad is not None}
        self.returned_grads: list[tuple[int, Tensor]] = []
        for output in self.results.outputs:
            t = output.tensor
            if t is not None and id(t) not in watched and id(t) not in owners:
                raise PlanError(
                    f"it returns a tensor of shape {tuple(t.shape)} from before, which is reached "
                    "by a way that cannot be watched"
                )
        for i, t in enumerate(tensors_in(recording.result)):
            if id(t) in owners:
                self.returned_grads.append((i, owners[id(t)]))

    def _refuse_survivors(self, recording: Recording) -> None:
        if recording.rebound:
            raise PlanError("it assigns another array to a tensor from before it")
        known = {id(x) for t in tensors_in(recording.result) for x in with_bases(t)}
        known |= {id(grad) for _, grad in recording.grads}
        known |= {id(t) for t in recording.inputs}
        if are_held(recording, known):
            why = "a tensor that it makes is kept, and is not returned"
            if has_checkpoint([t.node for t in tensors_in(recording.result)]):
                why += " (a function under checkpoint keeps what it uses: make it an argument)"
            raise PlanError(why)

    def _check_memory(self, plan: Plan, outputs: Sequence[Ref]) -> None:
        kinds = {root: plan.buffers[root].kind for root in map(plan.root, outputs)}
        if "input" in kinds.values():
            raise PlanError("it returns a view of an argument")
        if any(plan.buffers[root].kind == "input" for root in plan.written):
            raise PlanError("it writes to an argument in place")

    def _check_gradients(self, plan: Plan) -> None:
        """Refuse new gradients that share memory with other results: a replay would copy them."""
        left = {plan.root(ref) for _, ref in self.new_grads}
        if left & {plan.root(ref) for _, ref in self.accumulated}:
            raise PlanError("it leaves a gradient in the memory of the one before")
        returned = {i for i, _ in self.returned_grads}
        for i, output in enumerate(self.results.outputs):
            source = output.source
            if i in returned or source is None:
                continue
            if plan.root(self.results.sources[source]) in left:
                raise PlanError("it returns a view of a gradient that it leaves")

    # Replaying -----------------------------------------------------------------------------------

    def changed(self) -> str | None:
        """The name of something that has changed since the plan was recorded, or None."""
        for t, was_none in self.grad_states:
            if (t._grad is None) is not was_none:
                return "whether parameters have a gradient"
        if any(t._grad is not grad for t, grad in self.known_grads):
            return "whose gradient a tensor is"
        for attribute in self.attributes:
            if attribute.changed():
                return f"whether {attribute.path} is None"
        what = self.watch.changed(self.live)
        if what is None and self.readers.decides_otherwise():
            return "what an optimiser decides by its count of steps"
        return what

    def takes(self, inputs: Sequence[Tensor]) -> bool:
        """Whether the inputs share no memory with what the plan writes."""
        if not self.written_owners:
            return True
        return all(id(self.backend.storage(t.array)) not in self.written_owners for t in inputs)

    def rebind(self) -> None:
        """Bind the arrays that tensors have been given since."""
        moved = {ref: t.array for t, ref, array in self.bound if t.array is not array}
        if not moved:
            return
        for ref, array in moved.items():
            buffer = self.plan.buffers[ref]
            if (array.shape, array.dtype, array.strides) != (
                *(buffer.shape, buffer.dtype, buffer.strides),
            ):
                raise PlanError("a tensor has an array of another layout")
            if self.plan.root(ref) != ref or any(
                i != ref and b.root == ref and b.kind == "external"
                for i, b in enumerate(self.plan.buffers)
            ):
                raise PlanError("a tensor that shares its memory has another array")
        self.bound = [(t, ref, t.array) for t, ref, _ in self.bound]
        self._bind({**self.externals, **moved})

    def free_executor(self) -> tuple[CpuExecutor, list[Tensor]] | None:
        """An executor that can run now, and the gradients that it adds to; None if the results of
        too many calls can still be differentiated."""
        grads: list[Any] = [t._grad for t, _ in self.accumulated]
        executor: CpuExecutor = self.executor
        if self.differentiable is not None:
            found = self.differentiable.free(self._is_free, self._another)
            if found is None:
                return None
            executor = self.executor = found
        for t, _ in self.new_grads:  # which are replaced
            t._grad = None
        if self.differentiable is None and not self._is_free(executor):
            self._bind(self.externals)
            executor = self.executor
        return executor, grads

    def _is_free(self, executor: Any) -> bool:
        """Whether its memory can be overwritten: no lent gradient in it is still in use."""
        if not self.on_cpu:
            if self.lends and not executor.is_free():  # the program keeps gradients
                self.lends = False
                return False
            return True
        arena = executor.arena
        if arena.is_free():
            return True
        if not arena.retired and not arena.is_busy():  # the program keeps gradients
            arena.retired = True
            if (lender := arena.loans.lender()) is not None:
                lender.lends = False
        return False

    def _another(self) -> CpuExecutor:
        given = self.optimized, self.externals, False, self.arena_of, self.fuse
        return self._ready(CpuExecutor(*given))

    def replay(
        self,
        executor: CpuExecutor,
        grads: Sequence[Tensor],
        inputs: Sequence[Tensor],
        function: Callable[[], Any],
    ) -> Any:
        """Replay with the executor and gradients from `free_executor`; set attributes, and return
        the function's result. `function` makes the same call eagerly."""
        arrays: list[Any] = [t.array for t in (*inputs, *grads)]
        if self.lends and self.on_cpu:
            loans = executor.arena.loans
            loans.holders, loans.lender = self.leaves, weakref.ref(self)
        again: Any = None
        if self.differentiable is None:
            numbers = self.readers.next_numbers()
            found = executor.run(arrays, numbers)
        else:
            again = Again(function, [g for g, _ in self.readers.drawn], self.written)
            numbers = self.readers.next_numbers()
            found = executor.start(arrays, numbers, self.first_outputs)
        self.readers.replayed()
        backend = self.backend
        for grad, (_, ref) in zip(grads, self.accumulated, strict=True):
            if self.plan.root(ref) in self.written_roots:
                np.copyto(grad.array, executor.value(ref))
                inplace.mark_overwritten(backend, grad.array, "backward")
        inplace.mark_owners(self.written_owners.values(), "the compiled function")
        tensors = self.results.tensors(found, inputs, executor)
        for t in self.dropped:
            t._grad = None
        grads_made = found[len(self.results.sources) :]
        for (t, _), array in zip(self.new_grads, grads_made, strict=True):
            t._grad = wrap(array, backend)
        for i, t in self.returned_grads:
            tensors[i] = t._grad
        outputs = self.results.outputs
        if self.differentiable is not None:
            live = [i for i, output in enumerate(outputs) if output.live]
            made = [tensors[i].array for i in live]
            for i, t in zip(
                live, self.differentiable.results(executor, made, inputs, again), strict=True
            ):
                tensors[i] = t
        each = iter([t if o.same is None else tensors[o.same]
                     for t, o in zip(tensors, outputs, strict=True)])  # fmt: skip
        result, kept = mapped_tensors(self.result, lambda _: next(each))
        set_all(self.attributes, kept)
        return result


def grad_states(recording: Recording) -> list[tuple[Tensor, bool]]:
    """The leaves that must have a gradient, or none, as at recording: (leaf, whether it had none).
    There are none for calls whose results are differentiated outside."""
    left = recording.outcome.gradients or recording.gradients
    if recording.backward is not None and not left:
        return []
    return recording.grads_before


def _refuse_differences(first: Recording, second: Recording) -> None:
    if not _same_backward(first.backward, second.backward):
        raise PlanError("what its results depend on differs from call to call")
    before, now = first.outcome, second.outcome
    if before._replace(others=0) != now._replace(others=0) or not equal(before.others, now.others):
        raise PlanError("what it returns besides tensors differs from call to call")


def _optimized(plan: Plan, device: str, fuse: bool) -> Plan:
    fusing = getattr(backends.get(device), "fusing", None)
    if fuse and fusing is not None:
        whole = simplified(plan.expanded(lambda call: is_fusible(call, fusing)))
        whole = with_activations(whole, fusing.activations)
        plan = with_fused_chains(whole, fusing=fusing)
    elif device == "cpu":
        plan = simplified(plan.expanded())
    return with_less_held(plan) if device == "cpu" else plan


def _same_backward(a: Backward | None, b: Backward | None) -> bool:
    return a is b if a is None or b is None else a.same(b)


def _with_grads_copied(
    plan: Plan, gradients: dict[Ref, Tensor]
) -> tuple[Plan, list[tuple[Tensor, Ref]]]:
    """The plan with gradients from before the run as inputs: their address changes in each step."""
    accumulated = [(t, ref) for ref, t in gradients.items() if plan.buffers[ref].array is not None]
    for _, ref in accumulated:
        shared = [i for i, b in enumerate(plan.buffers) if b.root == plan.root(ref)]
        if plan.root(ref) != ref or any(
            plan.buffers[i].kind == "external" and i != ref for i in shared
        ):
            raise PlanError("a gradient shares its memory with another tensor")
    buffers = list(plan.buffers)
    for _, ref in accumulated:
        buffers[ref] = replace(buffers[ref], kind="input", array=None)
    inputs = (*plan.inputs, *(ref for _, ref in accumulated))
    return replace(plan, buffers=tuple(buffers), inputs=inputs), accumulated
