"""A decoding step as a plan: recorded once, then replayed on any cache of the same layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from gradient.autograd.variable import wrap
from gradient.backends import Array, small_calls
from gradient.backends.numpy import kernels
from gradient.dtypes import int64
from gradient.plan.calls import Ref
from gradient.plan.errors import PlanError
from gradient.plan.executors import executor_for
from gradient.plan.feedback import Feedback, with_feedback
from gradient.plan.passes import (
    simplified,
    with_augmented_assignment,
    with_cache_updates,
    with_early_reads,
    with_fused_chains,
    with_projections,
    with_rope_attention,
    without_widening,
)
from gradient.plan.plan import Plan
from gradient.plan.recording import Recording, are_held, record
from gradient.tensor import Tensor
from gradient.tensor.views import with_bases

if TYPE_CHECKING:
    from gradient.plan.executors.graph import GraphExecutor


def has_kernels() -> bool:
    """Whether the CPU has numba kernels; without them, a replay runs Python between its calls."""
    return kernels.available()


class RecordedStep:
    """The plan of a function that maps tensors to a tuple of tensors, and reads and writes others.

    Attributes:
        plan: the plan, without the arrays of the tensors that `Replay` binds.
        checked: whether a replay was compared with the function and gave the same results.
        feedback: the buffers by which replays follow each other without the host, or None.
        watched: the other tensors that it uses, with their arrays: the plan is valid while the
            tensors have these arrays.
    """

    def __init__(
        self,
        function: Callable[..., tuple[Tensor, ...]],
        given: Sequence[Tensor],
        bound: Sequence[Tensor],
        runs: int = 1,
    ) -> None:
        """Run function(*given) once and record it; `result` is its result.

        Args:
            bound: tensors that a replay may replace by others of the same layout.
            runs: the maximum number of replays that follow each other (`Replay.follow`), each on
                the first result of the one before.

        Raises:
            PlanError: it cannot be recorded.
        """
        self.checked = False
        self.feedback: Feedback | None = None
        backend = self.backend = given[0].backend
        inputs = [wrap(backend.copy(t.array), backend) for t in given]
        with small_calls.repeated():
            recording = record(function, *inputs, inputs=inputs, device=backend.device)
            result: tuple[Tensor, ...] = recording.result
            self.result: tuple[Tensor, ...] | None = result
            refs = {id(t): ref for t, ref in recording.survivors}
            if any(id(t) not in refs for t in result) or recording.rebound or recording.grads:
                raise PlanError("it assigns an array or gradient to a tensor from before it")
            if _are_kept(recording):
                raise PlanError("a tensor that it makes is kept, and is not its result")
            if recording.readers.read or recording.readers.drawn:
                raise PlanError("it draws random numbers")
            plan = replace(recording.plan, outputs=tuple(refs[id(t)] for t in result))
            if backend.device == "cpu":
                plan = with_fused_chains(simplified(plan.expanded()), 1, exact=True)
            elif hasattr(backend, "graph_recorder"):
                plan = _with_few_launches(plan, backend)
                # Which overwrites the inputs before results are copied.
                if runs > 1 and not {*map(plan.root, plan.outputs)} & {*plan.inputs}:
                    plan, self.feedback = with_feedback(plan, runs)
            elif hasattr(backend, "client") and any(
                call.op == "grouped_linear" for call in plan.calls
            ):
                raise PlanError("how many rows each expert has is read on the host")
        ids = {id(t.array): i for i, t in enumerate(bound)}
        self.places: dict[Ref, int] = {}
        for i, buffer in enumerate(plan.buffers):
            if buffer.kind == "external" and id(buffer.array) in ids:
                self.places[Ref(i)] = ids[id(buffer.array)]
        others = {id(t.array) for t in bound}
        for ref, buffer in enumerate(plan.buffers):
            if buffer.kind == "external" and buffer.root in self.places and ref != buffer.root:
                raise PlanError("it reads a view of its cache that was made before")
        self.watched = [
            (t, t.array)
            for tensors in recording.tensors.values()
            for t in tensors
            if id(t.array) not in others
        ]
        buffers = [
            replace(buffer, array=None) if i in self.places else buffer
            for i, buffer in enumerate(plan.buffers)
        ]
        self.plan = replace(plan, buffers=tuple(buffers))


def _with_few_launches(plan: Plan, backend: Any) -> Plan:
    """The plan for a graph, of which each call is a kernel: calls are joined where results stay the
    same, bit for bit."""
    plan = with_projections(simplified(without_widening(plan)))
    plan = with_augmented_assignment(with_rope_attention(with_cache_updates(plan)))
    return with_early_reads(with_fused_chains(plan, exact=True, fusing=backend.fusing))


def _are_kept(recording: Recording) -> bool:
    """Whether tensors of the run other than its result are still alive."""
    own = {id(t) for result in recording.result for t in with_bases(result)}
    return are_held(recording, own)


class Replay:
    """A step with its own memory, bound to other tensors than those of its recording."""

    def __init__(self, step: RecordedStep, bound: Sequence[Tensor]) -> None:
        externals = {ref: bound[i].array for ref, i in step.places.items()}
        self._feedback, self._memory = step.feedback, dict[Ref, Any]()
        if step.feedback is not None:
            self._memory.update(step.feedback.memory(step.plan, step.backend))
            self._no_runs = step.backend.zeros((1,), int64.numpy)
        externals |= self._memory
        with small_calls.repeated():
            self.executor = executor_for(step.plan, step.backend, externals)
        self.backend = step.backend

    @property
    def nbytes(self) -> int:
        """Return the bytes of its memory."""
        return self.executor.nbytes

    def __call__(self, *given: Array, outputs: int | None = None) -> tuple[Tensor, ...]:
        """Replay the step; return what the function would return, or only its first `outputs`
        results."""
        with small_calls.repeated():  # for calls that run by the backend's methods
            found = self.executor.run(given, {}, outputs)
        return tuple([wrap(array, self.backend) for array in found])

    @property
    def follows(self) -> bool:
        """Whether replays can follow each other without the host."""
        return self._feedback is not None

    def follow(self, given: Array, rows: Any, runs: int) -> tuple[Tensor, ...]:
        """Replay the step several times: first of `given`, then of the last replay's first result,
        and each with the next of `rows` (runs, ...) as its second input, if it has one.

        Returns the first results of all replays, (runs, ...), and the first replay's other ones.
        """
        assert self._feedback is not None
        be: Any = self.backend
        results, run, of_rows = self._feedback
        assert 0 < runs <= len(self._memory[results])
        be.refill(self._memory[run], self._no_runs)
        executor, inputs = cast("GraphExecutor", self.executor), [given]
        if of_rows is not None and rows is not None:
            be.refill(self._memory[of_rows][:runs], rows)
            inputs.append(rows[0])
        with small_calls.repeated():
            _, *others = executor.run(inputs, {})
            for _ in range(runs - 1):
                executor.run_again({}, 0)
        found = be.clone(self._memory[results][:runs]), *others
        return tuple([wrap(array, be) for array in found])
