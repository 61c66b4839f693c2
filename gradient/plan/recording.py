"""Record a function: run it once, with real values, and make a plan of its calls.

During the run, the recording thread sees tensors with recorded arrays instead of their own
(`gradient.plan.lifting`), so that the recorder receives every computation.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gradient import backends
from gradient.autograd.variable import Variable
from gradient.backends.recording_backend import recording
from gradient.garbage import no_collections
from gradient.locks import new_lock
from gradient.optim.numbers import listening
from gradient.optim.optimizer import optimizers
from gradient.plan.arguments import mapped_tensors, tensors_in
from gradient.plan.calls import Ref
from gradient.plan.errors import PlanError
from gradient.plan.lifting import Lifting
from gradient.plan.plan import Plan
from gradient.plan.readers import Readers
from gradient.plan.recorder import Recorder
from gradient.tensor import Tensor
from gradient.tensor.generator import generators

if TYPE_CHECKING:
    from gradient.plan.attributes import Attribute
    from gradient.plan.backward import Backward

__all__ = ["Recording", "record"]

T = TypeVar("T")

recording_lock = new_lock()
"""Held while a function is recorded: one at a time."""

_recording_threads: set[int] = set()


def is_recording() -> bool:
    """Whether this thread is recording; calls of compiled functions are then part of that."""
    return threading.get_ident() in _recording_threads


@dataclass
class Recording:
    """A plan, and the effects of the run that are not in it.

    result      what the function returned
    broken      why the run cannot be a plan (a value was read on the host), or None
    readers     the numbers that are read before a replay
    inputs      the tensors that were given as inputs, as the function saw them
    tensors     for each external buffer, the tensors that had its array
    gradients   for each external buffer that was the `grad` of a tensor: that tensor
    survivors   tensors that were made in the run and are still alive, with their buffers
    rebound     tensors from before the run that have another array now
    grads       tensors whose `grad` was replaced: (tensor, its new gradient)
    grads_before   leaves that the run used, and others that require a gradient and can be reached
                from the function: (leaf, whether it had no gradient before the run)
    owners      the ids of the owners of the external buffers' memory
    held        by root, the last call of `plan.expanded()` at which the program still held a buffer
                that a call made: eager execution frees it then
    backward    the recorded backward pass of the results, if they are differentiated after the run
    attributes  the attributes that the run set to the last tensors of its result
    """

    plan: Plan
    result: Any
    broken: str | None
    readers: Readers
    inputs: tuple[Tensor, ...]
    tensors: dict[Ref, list[Tensor]]
    gradients: dict[Ref, Tensor]
    survivors: list[tuple[Tensor, Ref]]
    rebound: list[Tensor]
    grads: list[tuple[Tensor, Tensor | None]]
    grads_before: list[tuple[Tensor, bool]]
    owners: set[int]
    held: dict[Ref, int]
    backward: Backward | None = None
    attributes: Sequence[Attribute] = ()

    @property
    def live(self) -> frozenset[tuple[int, str]]:
        """The values that may change, as pairs (id of a dict, key): those that a replay reads anew
        or sets."""
        return frozenset([*self.readers.live, *(each.key for each in self.attributes)])

    @cached_property
    def outcome(self) -> Outcome:
        """The facts by which two runs are compared, without the tensors that this one made."""
        made = {id(t): ref for t, ref in self.survivors}
        given = {id(t): -1 - i for i, t in enumerate(self.inputs)}
        return Outcome(
            [made.get(id(t), given.get(id(t))) for t in tensors_in(self.result)],
            mapped_tensors(self.result, lambda t: None),
            [(id(t), None if g is None else made.get(id(g))) for t, g in self.grads],
        )

    def add_leaves(self, absent: list[tuple[Tensor, bool]]) -> None:
        """Add leaves that the run may have examined: (leaf, whether it had no gradient)."""
        known = {id(t) for t, _ in self.grads_before}
        self.grads_before += [each for each in absent if id(each[0]) not in known]

    def forget_tensors(self) -> None:
        """Drop the arguments and results of the run, if it will only be compared with another."""
        assert self.outcome
        self.result, self.survivors, self.grads, self.inputs = None, [], [], ()

    def forget_calls(self) -> None:
        """Drop the calls, after a plan was made of them."""
        self.plan = self.plan.with_calls([])


class Outcome(NamedTuple):
    """The effects of a run, for comparison with another run.

    places      the origin of each tensor of the result: a buffer, an input below 0, or None
    others      the result without these tensors
    gradients   the tensors whose gradient it set, and to what: None, or a result of its calls
    """

    places: list[int | None]
    others: Any
    gradients: list[tuple[int, Any]]


def record(
    function: Callable[..., Any],
    *args: Any,
    inputs: Iterable[Tensor] = (),
    strict: bool = True,
    device: str = "cpu",
) -> Recording:
    """Run `function(*args)` once, and record its calls of a device's backend.

    `inputs` are tensors whose values differ from one replay to the next: the plan's `inputs`, in
    that order. Every other tensor that the function uses is an external buffer of the plan, read in
    its own memory. Call the function once before, so that lasting state (an optimiser's state, a
    table) exists.

    Args:
        device: the device whose backend is recorded.
        strict: raise an error if a value is read on the host; otherwise continue, and say so in
            `broken`.

    Raises:
        PlanError (RuntimeError): a value was read on the host. The message has the function that
            read it and the line that called it; the run ends there.
    """
    thread = threading.get_ident()
    with recording_lock:
        _recording_threads.add(thread)
        try:
            return _Run(backends.get(device), tuple(inputs), strict).record(function, args)
        finally:
            _recording_threads.discard(thread)


def are_held(recording: Recording, known: set[int]) -> bool:
    """Whether the program still holds tensors that the run made, except those whose ids are in
    `known`. The recording drops its own references to them."""
    left = [weakref.ref(t) for t, _ in recording.survivors if id(t) not in known]
    if not left:
        return False
    recording.survivors = [(t, ref) for t, ref in recording.survivors if id(t) in known]
    if all(ref() is None for ref in left):
        return False
    gc.collect()
    return any(ref() is not None for ref in left)


def _living(objects: weakref.WeakValueDictionary[int, T]) -> list[T]:
    """The living values of a dictionary that other threads may change meanwhile."""
    return [x for ref in objects.valuerefs() if (x := ref()) is not None]


class _Run:
    def __init__(self, backend: Any, inputs: tuple[Tensor, ...], strict: bool):
        self.backend, self.inputs = backend, inputs
        found = [x for x in _living(optimizers) if "state" in vars(x)]
        self.readers = Readers(_living(generators), found, backend.device)
        self.recorder = Recorder(backend, strict, self.readers.named)
        host = {
            id(value)
            for optimizer in found
            for group in optimizer.param_groups
            for key, value in group.items()
            if key != "params" and isinstance(value, Variable)
        }  # a learning rate that is a tensor
        self.lifting = Lifting(self.recorder, host)
        self.given = tuple([self.lifting.input(t) for t in inputs])

    def record(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Recording:
        recorder, lifting = self.recorder, self.lifting
        try:
            with (
                no_collections(),  # what a finalizer does (rewind a cache) is no part of the run
                lifting.here(),
                recording(self.backend, recorder),
                listening(self.readers.listen),
            ):
                result = function(*args)
        finally:
            recorder.active = False
            lifting.open_nodes()
        changed = self.readers.finish(lifting.touched())
        if changed is not None and recorder.broken is None:
            if recorder.strict:
                raise PlanError(f"this cannot be recorded: {changed}")
            recorder.broken = changed
        survivors = [(t, recorder.ref(x)) for t, x in lifting.survivors()]
        tensors: dict[Ref, list[Tensor]] = {}
        gradients: dict[Ref, Tensor] = {}
        owners = {each.key: each.tensor for each in lifting.grads.values() if each.key is not None}
        for key, tensor, lifted in lifting.met:
            x = lifted()
            if x is None or x.ref is None or recorder.buffers[x.ref].kind != "external":
                continue
            if (t := tensor()) is not None:
                tensors.setdefault(x.ref, []).append(t)
            if key in owners and (owner := owners[key]()) is not None:
                gradients[x.ref] = owner
        rebound = lifting.rebound()
        lifting.forget()
        return Recording(
            recorder.plan(self.given, ()),
            result,
            recorder.broken,
            self.readers,
            self.inputs,
            tensors,
            gradients,
            survivors,
            rebound,
            [
                (t, t._grad)
                for each in lifting.grads.values()
                if (t := each.tensor()) is not None and each.replaced(t._grad)
            ],
            self._grads_before(),
            recorder.owners,
            recorder.held,
        )

    def _grads_before(self) -> list[tuple[Tensor, bool]]:
        """The leaves that the run used, and whether they had no gradient."""
        grads = self.lifting.grads
        refs = [*(each.tensor for each in self.lifting.met), *(g.tensor for g in grads.values())]
        met = [t for ref in refs if (t := ref()) is not None]
        leaves = {id(t): t for t in met if t.node is not None and t.node.op is None}
        return [
            (t, grads[key].grad is None if key in grads else t._grad is None)
            for key, t in leaves.items()
        ]
