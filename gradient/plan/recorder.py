"""The recorder: receives the calls of a recording backend, and makes a plan from them."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np

from gradient.autograd import calls
from gradient.backends import Backend
from gradient.backends.numpy import memory
from gradient.backends.packed import PackedArray
from gradient.backends.recording_backend import (
    GIVES_TOO,
    OPERATORS,
    WRITES,
    OpaqueArray,
    Real,
    RecordedArray,
    value_of,
)
from gradient.plan.calls import BOUNDARY, Buffer, Call, Kind, Ref, leaves, mapped
from gradient.plan.errors import PlanError
from gradient.plan.plan import Plan
from gradient.source_lines import inside, location_of, source_line, user_frame

LARGE = 1 << 20
"""The minimum bytes of a result after which memory that was freed before it is given back."""
BELOW_TENSORS = ("autograd", "backends", "ops", "plan")
"""Packages whose functions are not named to users."""
KEYED = {"__getitem__": "index", "__setitem__": "setitem"}
ARRAYS = (np.ndarray, np.generic, OpaqueArray)

INSTEAD = {
    "one_hot": "pass num_classes",
    "pack_padded_sequence": "pass lengths as a list: a plan is for certain lengths",
    "Tensor.repeat_interleave": "a plan is for certain shapes; repeats may be an int",
}
"""What to write in place of a call whose result has a shape that depends on values."""

Naming = Callable[[str, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]
"""Puts a `HostNumber` in the place of each number of a call that is read anew at each replay."""


def unnamed(
    op: str, args: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, options


class Recorder:
    """Records the calls of the thread that made it, while it is `active`.

    If a value is read on the host, it raises `PlanError` if `strict`; otherwise the run continues
    with the value, and `broken` says what was read, and where.
    """

    def __init__(self, backend: Backend[Any], strict: bool = True, naming: Naming = unnamed):
        self.backend, self.real = backend, Real(backend)
        self.strict, self.naming = strict, naming
        self.active = True
        self.broken: str | None = None
        self.thread = threading.get_ident()
        self.buffers: list[Buffer] = []
        self.calls: list[Call] = []
        self._levels = [self.calls]
        self._makers: dict[Ref, str] = {}
        # By the id of an array from before the run: those in use, held by buffers or elsewhere.
        self._known: weakref.WeakValueDictionary[int, RecordedArray] = weakref.WeakValueDictionary()
        self._used: list[RecordedArray] = []
        self._owners: dict[int, tuple[Any, Ref]] = {}  # by the id of the memory's owner
        self.held: dict[Ref, int] = {}
        self._computed = [0]  # number of calls and pieces that have no pieces themselves
        self._results: list[weakref.ref[RecordedArray]] = []
        self._segments = self._segment = 0  # how many are computed again; the present one, or 0

    # Arrays ------------------------------------------------------------------------------------

    def lift(self, array: Any) -> RecordedArray:
        """The recorded array for an array from before the recording; always the same object."""
        known = self._known.get(id(array))
        if known is None:
            known = self._known[id(array)] = RecordedArray(array, self)
        return known

    def input(self, array: Any) -> RecordedArray:
        """A recorded array for an input. Recording reads the array itself; a replay copies the new
        values in."""
        made = RecordedArray(array, self)
        made.ref = self._buffer(array, "input", None)
        return made

    def boundary(self, results: list[RecordedArray]) -> None:
        """Begin the plan's second part."""
        self._append(BOUNDARY, (results,), {}, None)

    def ref(self, x: RecordedArray) -> Ref:
        """The buffer of an array, made at its first use."""
        if x.ref is None:
            owner = self.real.backend.storage(x.value)
            root = self._owners.get(id(owner), (owner, None))[1]
            x.ref = self._buffer(x.value, "external", root, x.value)
            self._used.append(x)
            self._owners.setdefault(id(owner), (owner, self.buffers[x.ref].root))
        ref: Ref = x.ref
        return ref

    def _buffer(self, value: np.ndarray, kind: Kind, root: Ref | None, array: Any = None) -> Ref:
        ref = Ref(len(self.buffers))
        own = ref if root is None else root
        shape = tuple(value.shape)
        self.buffers.append(Buffer(shape, value.dtype, value.strides, kind, own, array))
        return ref

    def _lifted(self, x: Any) -> RecordedArray:
        if isinstance(x, np.generic):  # a number with a dtype
            array = np.asarray(x)
            made = RecordedArray(array, self)
            made.ref = self._buffer(array, "constant", None, array)
            return made
        return self.lift(x)

    # Used by `gradient.backends.recording_backend` ----------------------------------------------

    def operator(self, name: str, args: tuple[Any, ...]) -> Any:
        if not self._mine():
            return OPERATORS[name](*map(value_of, args))
        if any(isinstance(arg, PackedArray) for arg in args):
            return NotImplemented
        args = mapped(args, ARRAYS, self._lifted)
        return self._note(name, args, {}, OPERATORS[name](*map(value_of, args)))

    def method(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if not self._mine():
            args, options = mapped((args, options), (RecordedArray, PackedArray), opened)
            return getattr(self.real.backend, name)(*args, **options)
        args, options = mapped((args, options), ARRAYS, self._lifted)
        if name in ("getitem", "compress") and any(
            x.dtype == bool for x in leaves(args[1:], RecordedArray)
        ):
            self.stop("the shape of what a mask picks depends on its values")
        given = mapped((args, options), (RecordedArray, PackedArray), opened)
        packed = list(leaves((args, options), PackedArray))
        if any(isinstance(part, RecordedArray) for weight in packed for part in weight.parts):
            self.stop(f"{name} is given a packed tensor that was made in the function")
            args, options = mapped((args, options), PackedArray, opened)
        if packed:
            done: Any = (getattr(self.real.backend, name)(*given[0], **given[1]),)
        else:
            done = self.real.by_itself(name, *given)
        if done is not None:
            return self._note(name, args, options, done[0])
        return self._compose(name, args, options)

    def read(self, x: RecordedArray, what: str) -> Any:
        if self._mine():
            maker = self._makers.get(x.ref)
            of = f"the result of {maker}" if maker else "a tensor"
            reader = _asked_by() or what
            fix = f" ({INSTEAD[reader]})" if reader in INSTEAD else ""
            self.stop(f"{reader} reads the value of {of} of shape {x.shape}{fix}")
        return x.value

    @contextmanager
    def recomputing(self) -> Iterator[None]:
        before, self._segments = self._segment, self._segments + 1
        self._segment = self._segments
        try:
            yield
        finally:
            self._segment = before

    def _mine(self) -> bool:
        return self.active and threading.get_ident() == self.thread

    def stop(self, why: str) -> None:
        """Report that the run cannot be recorded: raise, or note it and continue."""
        why = f"{why}, at {source_line(location_of(user_frame(2)))}"
        if self.strict:
            raise PlanError(f"this cannot be recorded: {why}")
        self.broken = self.broken or why

    # Calls --------------------------------------------------------------------------------------

    def _compose(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        pieces: list[Call] = []
        self._levels.append(pieces)
        try:
            out = getattr(Backend, name)(self.backend, *args, **options)
        finally:
            self._levels.pop()
        if pieces:
            given = {self.buffers[self.ref(x)].root for x in leaves((args, options), RecordedArray)}
            made = {self.buffers[self.ref(x)].root for x in leaves(out, RecordedArray)}
            if made & given or given & {root for piece in pieces for root in piece.writes}:
                self._levels[-1].extend(pieces)  # it returns a view of an argument, or writes to it
            else:
                self._append(name, args, options, out, pieces=tuple(pieces))
        return out

    def _note(self, name: str, args: tuple[Any, ...], options: dict[str, Any], result: Any) -> Any:
        given = list(leaves((args, options), RecordedArray))
        for x in given:
            self.ref(x)  # buffers are numbered in the order of their first use
        writes = tuple(
            dict.fromkeys(
                self.buffers[self.ref(x)].root
                for i in WRITES.get(name, ())
                if i < len(args)
                for x in leaves(args[i], RecordedArray)
            )
        )
        if writes and name not in GIVES_TOO:
            self._append(name, args, options, None, writes=writes)
            return args[0] if result is not None else None
        view = False
        fresh = False

        def wrap(value: Any) -> RecordedArray:
            nonlocal view, fresh
            array: Any = value if isinstance(value, OpaqueArray) else np.asarray(value)
            for x in given:
                if x.value is array:
                    return x
            made = RecordedArray(array, self)
            root = None
            if array.base is not None:
                for x in given:
                    if self.real.backend.is_view_of(array, x.value):
                        view, root = True, self.buffers[self.ref(x)].root
                        break
            fresh = True
            made.ref = self._buffer(array, "internal", root)
            if root is None and self.buffers[made.ref].nbytes >= LARGE:
                memory.trim_if_exact()  # of what was freed since the last one
            self._makers[made.ref] = name
            self._watch(made)
            return made

        if isinstance(result, PackedArray):
            self.stop(f"{name} gives a packed tensor")
            return result
        out = mapped(result, ARRAYS, wrap)
        if fresh or not given or not any(True for _ in leaves(out, RecordedArray)):
            self._append(name, args, options, out, writes=writes, view=view)
        return out

    def _watch(self, made: RecordedArray) -> None:
        """Note in `held` when the program drops a result."""
        root = self.buffers[self.ref(made)].root

        held, computed = self.held, self._computed  # `self` would make a reference cycle

        def dropped(_: object) -> None:
            held[root] = max(held.get(root, 0), computed[0] - 1)

        self._results.append(weakref.ref(made, dropped))

    def _append(
        self, name: str, args: tuple[Any, ...], options: dict[str, Any], out: Any, **facts: Any
    ) -> None:
        try:
            args, options = self.naming(name, args, options)
        except PlanError as error:
            self.stop(str(error))
        args, options, out = mapped((args, options, out), RecordedArray, self.ref)
        if next(leaves(out, Ref), None) is None:
            out = None
        location, asked = location_of(user_frame(2)), _public_name()
        facts |= {"location": location, "asked": asked, "segment": self._segment}
        call = Call(name, args, options, out, **facts)
        self._levels[-1].append(call)
        self._computed[0] += not call.pieces

    @property
    def owners(self) -> set[int]:
        """The ids of the owners of memory from before the recording."""
        return set(self._owners)

    def plan(self, inputs: tuple[Ref, ...], outputs: tuple[Ref, ...]) -> Plan:
        self._used.clear()  # which refer to this recorder
        return Plan(tuple(self.buffers), tuple(self.calls), inputs, outputs)


def opened(x: Any) -> Any:
    """The value of a recorded array, or of a packed one with recorded parts; anything else as it
    is, so that arrays cached with it are found."""
    if isinstance(x, PackedArray) and any(isinstance(part, RecordedArray) for part in x.parts):
        return x.map(value_of)
    return value_of(x)


def _public_name() -> str:
    """The function or method of tensors that a call is part of, or else the op, named as in errors
    of eager execution."""
    name = ""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and inside[frame.f_code.co_filename]:
        code, folder = frame.f_code, f"{frame.f_globals['__name__']}.".split(".")[1]
        if folder in ("tensor", "functional"):
            own = KEYED.get(code.co_name, code.co_name)
            if "<" not in code.co_qualname and not own.startswith("_"):
                name = own
        elif folder not in BELOW_TENSORS:
            break
        elif code.co_filename == calls.__file__ and "made" in code.co_freevars:
            name = frame.f_locals["made"].public_name
        frame = frame.f_back
    return name


def _asked_by() -> str | None:
    """The function of this package that reads a value, as called by the user's program. A method is
    named by the class of its object, not by the base class that defines it."""
    name = None
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and inside[frame.f_code.co_filename]:
        if "<" not in frame.f_code.co_qualname:  # no wrapper's inner function
            name = frame.f_code.co_qualname
            if frame.f_code.co_varnames[:1] == ("self",) and "self" in frame.f_locals:
                name = f"{type(frame.f_locals['self']).__name__}.{frame.f_code.co_name}"
        frame = frame.f_back
    return name
