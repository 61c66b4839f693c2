"""Tensors as the recording thread sees them: with recorded arrays instead of their own.

During a run a descriptor replaces the slot `Variable.array`. For the recording thread, it takes
the array from a `Lifting`; for all other threads, from the slot, which always has the real array.
So other threads never see a recorded array, and nothing has to be restored afterwards.
`Variable._grad` and `Node.saved` have such descriptors too, to note which gradients the run
replaces, and which nodes save recorded arrays.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any, NamedTuple

import numpy as np

from gradient.autograd.node import Node
from gradient.autograd.variable import Variable
from gradient.backends.recording_backend import OpaqueArray, RecordedArray, value_of
from gradient.plan.calls import mapped
from gradient.plan.recorder import Recorder, opened

ARRAY: Any = vars(Variable)["array"]
GRAD: Any = vars(Variable)["_grad"]
SAVED: Any = vars(Node)["saved"]


class _Attribute:
    """Replaces a slot: for the thread that made it by `read` and `write`, for others by itself."""

    def __init__(
        self, slot: Any, read: Callable[[Any], Any], write: Callable[[Any, Any], None]
    ) -> None:
        self.slot, self.read, self.write = slot, read, write
        self.thread = get_ident()

    def __get__(self, x: Any, owner: Any = None) -> Any:
        if x is None:
            return self
        return self.read(x) if get_ident() == self.thread else self.slot.__get__(x)

    def __set__(self, x: Any, value: Any) -> None:
        if get_ident() == self.thread:
            self.write(x, value)
        else:
            self.slot.__set__(x, value)


class _Seen:
    """A tensor that the run has used.

    made    whether the run made it
    given   the recorded array that replaces `real`, or a packed one with recorded parts
    before  its array before the run assigned another
    """

    __slots__ = ("before", "given", "made", "real", "tensor")

    def __init__(self, tensor: weakref.ref[Any], made: bool) -> None:
        self.tensor, self.made = tensor, made
        self.given: Any = None
        self.real: Any = None
        self.before: Any = None


class Met(NamedTuple):
    """A tensor from before the run that the run has read, and its recorded array. If the run drops
    both, their memory is freed, as in eager execution."""

    key: int
    tensor: weakref.ref[Any]
    lifted: weakref.ref[RecordedArray]


class Gradient(NamedTuple):
    """A tensor from before the run, and its gradient then."""

    tensor: weakref.ref[Any]
    key: int | None
    grad: weakref.ref[Any] | None

    def replaced(self, now: Any) -> bool:
        return now is not (None if self.grad is None else self.grad()) or (
            now is None and self.grad is not None
        )


class Lifting:
    """The tensors of a recorded run.

    `met` and `grads` are tensors from before the run, in the order of their first use. `host` has
    the ids of tensors that are read on the host, as in eager execution.
    """

    def __init__(self, recorder: Recorder, host: set[int]) -> None:
        self.recorder, self.host = recorder, host
        self.met: list[Met] = []
        self.grads: dict[int, Gradient] = {}
        self._seen: dict[int, _Seen] = {}
        self._nodes: list[weakref.ref[Node]] = []

    @contextmanager
    def here(self) -> Iterator[None]:
        """Context in which this thread sees recorded arrays; one thread at a time."""
        slots = [(Variable, ARRAY, self._array, self._set_array),
                 (Variable, GRAD, self._grad, self._set_grad),
                 (Node, SAVED, SAVED.__get__, self._set_saved)]  # fmt: skip
        try:
            for owner, slot, read, write in slots:
                setattr(owner, slot.__name__, _Attribute(slot, read, write))
            yield
        finally:
            for owner, slot, _, _ in slots:
                setattr(owner, slot.__name__, slot)

    def input(self, t: Any) -> Any:
        """Make a tensor from before the run an input; return its buffer."""
        return self._lift(t, self.recorder.input(_real_array(t))).ref

    def _lift(self, t: Any, given: RecordedArray) -> RecordedArray:
        seen = self._see(t, made=False)
        seen.given, seen.real = given, given.value
        self.met.append(Met(id(t), seen.tensor, weakref.ref(given)))
        return given

    # What the thread that records has for the slots -----------------------------------------------

    def _array(self, t: Any) -> Any:
        real = _real_array(t)
        seen = self._seen.get(id(t))
        if seen is not None and (seen.made or seen.real is real):
            return real if seen.given is None else seen.given
        if (
            not isinstance(real, (np.ndarray, OpaqueArray))
            or t.backend is not self.recorder.backend
            or id(t) in self.host
        ):
            return real
        return self._lift(t, self.recorder.lift(real))

    def _set_array(self, t: Any, value: Any) -> None:
        before = _get(ARRAY, t)
        seen = None if before is None else self._seen.get(id(t))
        if seen is None:
            seen = self._see(t, made=before is None)
        if value is seen.given and seen.real is before:
            return
        real = opened(value)
        if not seen.made and seen.before is None:
            seen.before = before
        seen.given, seen.real = (None if real is value else value), real
        ARRAY.__set__(t, real)

    def _grad(self, t: Any) -> Any:
        self._note_grad(t)
        return GRAD.__get__(t)

    def _set_grad(self, t: Any, value: Any) -> None:
        self._note_grad(t)
        GRAD.__set__(t, value)

    def _note_grad(self, t: Any) -> None:
        seen = self._seen.get(id(t))
        if id(t) in self.grads or (seen is not None and seen.made):
            return
        grad = _get(GRAD, t)
        key, ref = (None, None) if grad is None else (id(grad), weakref.ref(grad))
        self.grads[id(t)] = Gradient(weakref.ref(t), key, ref)

    def _set_saved(self, node: Node, value: Any) -> None:
        SAVED.__set__(node, value)
        if value:
            self._nodes.append(weakref.ref(node))

    def _see(self, t: Any, made: bool) -> _Seen:
        key, tensors = id(t), self._seen

        def forget(_: object) -> None:
            tensors.pop(key, None)

        seen = tensors[key] = _Seen(weakref.ref(t, forget), made)
        return seen

    # Afterwards ----------------------------------------------------------------------------------

    def survivors(self) -> list[tuple[Any, Any]]:
        """The tensors that the run made and that are still alive, with their recorded arrays."""
        return [
            (t, seen.given)
            for seen in list(self._seen.values())
            if seen.made and isinstance(seen.given, RecordedArray)
            if (t := seen.tensor()) is not None
        ]

    def rebound(self) -> list[Any]:
        """The tensors from before the run that have another array now."""
        return [
            t
            for seen in list(self._seen.values())
            if not seen.made and seen.before is not None
            if (t := seen.tensor()) is not None and ARRAY.__get__(t) is not seen.before
        ]

    def touched(self) -> set[int]:
        """The ids of tensors from before the run whose values or gradients it has read."""
        return {each.key for each in self.met}.union(self.grads)

    def forget(self) -> None:
        """Drop all references to tensors, so that they can be freed."""
        self._seen.clear()

    def open_nodes(self) -> None:
        """Replace recorded arrays that nodes saved by real ones, for a backward pass after the
        run."""
        for ref in self._nodes:
            node = ref()
            for name in ("saved", "options"):
                kept = getattr(node, name, None)
                if kept:
                    setattr(node, name, mapped(kept, RecordedArray, value_of))


def _real_array(t: Any) -> Any:
    array = ARRAY.__get__(t)
    if isinstance(array, np.generic):
        array = np.array(array)  # a NumPy scalar: an array has an address
        ARRAY.__set__(t, array)
    return array


def _get(slot: Any, x: Any) -> Any:
    try:
        return slot.__get__(x)
    except AttributeError:  # nothing was put there yet
        return None
