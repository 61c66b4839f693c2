"""Record what a function does: run it once, for real, and have a plan of it.

Every tensor of the backend is given a recorded array in place of its own for the time of the
run (*adopted*), so that nothing is computed past the recorder: Python finds them all
(`gc.get_objects`), whoever holds them. Afterwards each has a real array again.
"""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradient import backends
from gradient.autograd.node import Node, next_sequence_nr
from gradient.autograd.variable import Variable
from gradient.backends.packed import PackedArray
from gradient.backends.recording import OpaqueArray, RecordedArray, recording, value_of
from gradient.locks import new_lock
from gradient.optim import Optimizer
from gradient.optim.numbers import listening
from gradient.plan.arguments import mapped_tensors, tensors_in
from gradient.plan.calls import Ref, mapped
from gradient.plan.errors import PlanError
from gradient.plan.plan import Plan
from gradient.plan.readers import Readers
from gradient.plan.recorder import Recorder, opened
from gradient.random import Generator
from gradient.tensor import Tensor

if TYPE_CHECKING:
    from gradient.plan.backward import Backward

recording_lock = new_lock()
"""Held while a function is recorded: one at a time."""

_recording_threads: set[int] = set()


def is_recording() -> bool:
    """Whether this thread is recording: what is compiled inside is part of that."""
    return threading.get_ident() in _recording_threads


@dataclass
class Recording:
    """A plan, and what of the run is not in it.

    result      what the function returned
    broken      why the run is no plan, or None: a value was read on the host
    readers     the numbers that are read before a replay
    inputs      the tensors that were given as inputs, as the function saw them
    tensors     for each external buffer the tensors that had its array
    gradients   of these the ones that were the `grad` of a tensor: that tensor
    survivors   tensors that were made in the run and are still held, with their buffers
    rebound     tensors from before that have another array now, with its buffer
    grads       tensors whose `grad` is another one than before: (tensor, its new one)
    grads_before   all leaves of the plan, and others that require a gradient and can be reached by
                the function, and whether they had no gradient before
    held        by root, the last call of `plan.expanded()` at which the program still held a buffer
                that a call made: what eager execution frees, and when
    backward    of the results that are still to be differentiated, where that was recorded too
    """

    plan: Plan
    result: Any
    broken: str | None
    readers: Readers
    inputs: tuple[Tensor, ...]
    tensors: dict[Ref, list[Tensor]]
    gradients: dict[Ref, Tensor]
    survivors: list[tuple[Tensor, Ref]]
    rebound: list[tuple[Tensor, Ref]]
    grads: list[tuple[Tensor, Tensor | None]]
    grads_before: list[tuple[Tensor, bool]]
    held: dict[Ref, int]
    backward: Backward | None = None

    @cached_property
    def outcome(self) -> Outcome:
        """What two runs are compared by, which outlives the tensors that this one made."""
        made = {id(t): ref for t, ref in self.survivors}
        given = {id(t): -1 - i for i, t in enumerate(self.inputs)}
        return Outcome(
            [made.get(id(t), given.get(id(t))) for t in tensors_in(self.result)],
            mapped_tensors(self.result, lambda t: None),
            [(id(t), None if g is None else made.get(id(g))) for t, g in self.grads],
        )

    def add_leaves(self, absent: list[tuple[Tensor, bool]]) -> None:
        """Note of leaves that the run may have looked at, too, whether they had no gradient."""
        known = {id(t) for t, _ in self.grads_before}
        self.grads_before += [each for each in absent if id(each[0]) not in known]

    def forget_tensors(self) -> None:
        """Let go of what the run has made, once it is only to be compared with another."""
        assert self.outcome
        self.result, self.survivors, self.grads = None, [], []


class Outcome(NamedTuple):
    """What a run left behind.

    places      where the tensors of its result come from: a buffer, an input below 0, or None
    others      its result without these
    gradients   of which tensors it set the gradient, and to what: None, or a result of its calls
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
    """Run `function(*args)` once and record what it asks of a device's backend: the CPU's, or one
    in another process.

    `inputs` are tensors whose values differ from one replay to the next: the plan's `inputs`, in
    that order. Every other tensor that the function meets is an external buffer of the plan, used
    where it lies. Its first call should have been made before, so that what is born once (an
    optimiser's state, a table) is there.

    Args:
        device: whose backend.
        strict: raise where a value is read on the host; else go on, and say so in `broken`.

    Raises:
        PlanError (RuntimeError): naming the function that read a value, and the line that called
        it; the run ends there.
    """
    thread = threading.get_ident()
    with recording_lock:
        _recording_threads.add(thread)
        try:
            return _Run(backends.get(device), tuple(inputs), strict).record(function, args)
        finally:
            _recording_threads.discard(thread)


class _Adopted(NamedTuple):
    """A tensor from before that has a recorded array meanwhile; the gradient that it had, and whose
    gradient it was. The run may drop any of them: then its memory is free, as in eager."""

    tensor: weakref.ref[Any]
    lifted: weakref.ref[RecordedArray]
    grad: weakref.ref[Any] | None
    owner: weakref.ref[Any] | None


class _Marker:
    """What `gc.freeze()` would hide with all else."""


class _Frozen:
    """What recordings look for among the objects that `freeze` has hidden from the collector."""

    def __init__(self) -> None:
        self.found: list[weakref.ref[Any]] = []
        self.marker: _Marker | None = None  # born after our freeze: who hides it is another

    def freeze(self) -> None:
        found = self.objects()
        gc.freeze()
        self.found = list(map(weakref.ref, found))
        self.marker = _Marker()

    def objects(self) -> list[Any]:
        """All generators, optimisers and variables that live.

        Raises:
            PlanError: some may be hidden by somebody else.
        """
        seen = live(_Marker, Generator, Optimizer, Variable)
        if not any(x is self.marker for x in seen):
            if gc.get_freeze_count():  # which counts them one by one
                raise PlanError(
                    "this cannot be recorded: gc.freeze() hides tensors; gc.unfreeze() first, and "
                    "gradient.plan.freeze() instead"
                )
            self.marker = _Marker()
        known = [x for ref in self.found if (x := ref()) is not None]
        return [x for x in {id(x): x for x in (*known, *seen)}.values() if type(x) is not _Marker]


_frozen = _Frozen()


def freeze() -> None:
    """Call `gc.freeze()` so that functions can still be recorded.

    A recording looks at every object that Python's garbage collector knows, some 0.1 s for a
    million of them. What is frozen it need not look at again. Garbage is frozen, too, and then
    never freed: call `gc.collect()` before.

    Raises:
        PlanError: objects are frozen already, by `gc.freeze()`.
    """
    with recording_lock:
        _frozen.freeze()


class _Run:
    def __init__(self, backend: Any, inputs: tuple[Tensor, ...], strict: bool):
        self.backend, self.inputs = backend, inputs
        found = _frozen.objects()
        generators = [x for x in found if type(x) is Generator]
        optimizers = [x for x in found if issubclass(type(x), Optimizer) and "state" in vars(x)]
        self.readers = Readers(generators, optimizers)
        self.recorder = Recorder(backend, strict, self.readers.named)
        host = {
            id(value)
            for optimizer in optimizers
            for group in optimizer.param_groups
            for key, value in group.items()
            if key != "params" and isinstance(value, Variable)
        }  # a learning rate that is a tensor is read on the host, here as in eager execution
        self.adopted: list[_Adopted] = []
        self.before = [weakref.ref(x) for x in found if issubclass(type(x), Variable)]
        owners = {id(t._grad): weakref.ref(t) for t in _tensors(found) if t._grad is not None}
        self.start = next_sequence_nr()
        given = {id(t): i for i, t in enumerate(inputs)}
        # Inputs first, and all in one order: the garbage collector finds them in another each
        # time, and two recordings of one step are compared.
        last = len(given)
        for t in sorted(_tensors(found), key=lambda t: (given.get(id(t), last), id(t))):
            if t.backend is backend and id(t) not in host:
                self._adopt(t, id(t) in given, owners.get(id(t)))

    def _adopt(self, t: Any, is_input: bool, owner: weakref.ref[Any] | None) -> None:
        array: Any = t.array
        if isinstance(array, np.generic):
            array = np.array(array)  # an array of its own, which can be bound
        if not isinstance(array, (np.ndarray, OpaqueArray)):
            return
        lifted = self.recorder.input(array) if is_input else self.recorder.lift(array)
        grad = None if t._grad is None else weakref.ref(t._grad)
        self.adopted.append(_Adopted(weakref.ref(t), weakref.ref(lifted), grad, owner))
        t.array = lifted

    def record(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Recording:
        recorder = self.recorder
        refs = tuple(t.array.ref for t in self.inputs)
        collects, done = gc.isenabled(), _collections()
        gc.disable()  # so that what is made meanwhile is found among the youngest objects
        try:
            with recording(self.backend, recorder), listening(self.readers.listen):
                result = function(*args)
                recorder.active = False
        finally:
            recorder.active = False
            survivors, rebound, grads = self._restore(0 if _collections() == done else None)
            if collects:
                gc.enable()
        changed = self.readers.finish()
        if changed is not None and recorder.broken is None:
            if recorder.strict:
                raise PlanError(f"this cannot be recorded: {changed}")
            recorder.broken = changed
        tensors: dict[Ref, list[Tensor]] = {}
        gradients: dict[Ref, Tensor] = {}
        grads_before: list[tuple[Tensor, bool]] = []
        for each in self.adopted:
            lifted, t = each.lifted(), each.tensor()
            if lifted is None or lifted.ref is None:
                continue
            external = recorder.buffers[lifted.ref].kind == "external"
            if t is not None and external:
                tensors.setdefault(lifted.ref, []).append(t)
            if external and each.owner is not None and (owner := each.owner()) is not None:
                gradients[lifted.ref] = owner
            if t is not None and _is_leaf(t):
                grads_before.append((t, each.grad is None))
        return Recording(
            recorder.plan(refs, ()),
            result,
            recorder.broken,
            self.readers,
            self.inputs,
            tensors,
            gradients,
            survivors,
            rebound,
            grads,
            grads_before,
            recorder.held,
        )

    def _restore(self, generation: int | None) -> Any:
        """Give every tensor and node a real array again; what the run left behind. What it made is
        of this generation of the garbage collector, or of any."""
        lifted_of = {
            id(t): each.lifted() for each in self.adopted if (t := each.tensor()) is not None
        }
        before = [x for ref in self.before if (x := ref()) is not None]
        survivors, rebound = [], []
        for x in (*before, *live(Variable, Node, generation=generation)):
            kind = type(x)
            if issubclass(kind, Variable):
                array = getattr(x, "array", None)
                if isinstance(array, PackedArray):
                    x.array = opened(array)
                if not isinstance(array, RecordedArray) or array.recorder is not self.recorder:
                    continue
                if id(x) not in lifted_of:
                    survivors.append((x, array.ref))
                elif lifted_of[id(x)] is not array:
                    rebound.append((x, array.ref))
                x.array = array.value
            elif kind is Node and getattr(x, "sequence_nr", 0) > self.start:
                _open_node(x)
        grads = [
            (t, t._grad)
            for each in self.adopted
            if (t := each.tensor()) is not None
            if t._grad is not (None if each.grad is None else each.grad())
            or (t._grad is None and each.grad is not None)
        ]
        return survivors, rebound, grads


def _collections() -> list[int]:
    """How often each generation was collected: its objects are then of the next one."""
    return [each["collections"] for each in gc.get_stats()]


def live(*classes: type[Any], generation: int | None = None) -> list[Any]:
    """All objects of these classes and their subclasses, or those of a generation.

    A large program has millions of objects, which are sorted out without a step of Python each.
    """
    wanted = set(classes)
    waiting = list(classes)
    while waiting:
        subclasses = set(type.__subclasses__(waiting.pop())) - wanted
        wanted |= subclasses
        waiting += subclasses
    found = gc.get_objects(generation)
    return list(itertools.compress(found, map(wanted.__contains__, map(type, found))))


def _tensors(found: list[Any]) -> Iterable[Any]:
    for x in found:
        if issubclass(type(x), Variable) and hasattr(x, "array") and hasattr(x, "backend"):
            yield x


def _is_leaf(t: Any) -> bool:
    return t.node is not None and t.node.op is None


def _open_node(node: Any) -> None:
    """Real arrays in what a node keeps: a backward pass outside the recording reads them."""
    for name in ("saved", "options"):
        kept = getattr(node, name, None)
        if kept:
            setattr(node, name, mapped(kept, RecordedArray, value_of))
