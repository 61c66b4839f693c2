"""A backend that records every call, and also runs it on a real backend.

`recording(backend, recorder)` has the backend object itself note its calls for a while, by way of
its class: so `tensor.backend` and `backends.get` stay what they are, and nothing above asks whether
it is recorded. Arrays are `RecordedArray`s, as opaque as the handles of another process; each holds
the value that the real backend computed, so that a recorded run is a real run.

What is noted is a tree. A call is what was asked (`layer_norm`); where no kernel of the backend
took it, the composed definition ran on recorded arrays and its calls are the pieces beneath. A call
without pieces is what the real backend did in one.

Only the thread that records has recorded arrays, and is recorded; for others the backend is what it
was.
"""

from __future__ import annotations

import functools
import operator
import threading
from abc import ABC
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from gradient.backends.base import Backend
from gradient.backends.required import RequiredMethods

OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv,
    "floordiv": operator.floordiv, "mod": operator.mod, "pow": operator.pow,
    "and": operator.and_, "or": operator.or_, "xor": operator.xor,
    "lshift": operator.lshift, "rshift": operator.rshift,
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le,
    "gt": operator.gt, "ge": operator.ge, "neg": operator.neg, "invert": operator.invert,
}  # fmt: skip
"""Python's operators by the names that calls of a plan have."""

REFLECTED = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor",
              "lshift", "rshift")  # fmt: skip
"""Those that Python asks of the second operand, too, where the first is a number."""


class Recorder(Protocol):
    """What notes calls; `gradient.plan` has one."""

    backend: Backend[Any]
    real: Real

    def operator(self, name: str, args: tuple[Any, ...]) -> Any:
        """The result of `OPERATORS[name](*args)`."""

    def method(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """The result of the real backend's method."""

    def read(self, x: RecordedArray, what: str) -> Any:
        """The value that the host asks for, or an error that says so."""


class OpaqueArray(ABC):  # noqa: B024 (others' classes register)
    """An array of a backend whose memory is elsewhere: a recording takes it as it is."""

    __slots__ = ()


class RecordedArray:
    """An array of a recording: shape, dtype, operators, and the real value for the recorder."""

    __slots__ = ("__weakref__", "dtype", "recorder", "ref", "shape", "value")
    __array_ufunc__ = None  # NumPy leaves operators to this class

    def __init__(self, value: np.ndarray, recorder: Recorder):
        self.value, self.recorder = value, recorder
        self.ref: Any = None  # the recorder's own name for it
        self.shape, self.dtype = tuple(value.shape), value.dtype

    def __repr__(self) -> str:
        return f"<recorded array {self.shape} {self.dtype}>"

    @property
    def flags(self) -> Any:
        """How its memory lies, by which `is_contiguous` and the engine choose as in eager."""
        return self.value.flags

    @property
    def strides(self) -> tuple[int, ...]:
        return self.value.strides

    @property
    def size(self) -> int:
        """How many elements it has."""
        return self.value.size

    # What the host would have to know the value for.

    def __getattr__(self, name: str) -> Any:
        """What else NumPy's arrays have: who asks for it is not to be recorded."""
        if name.startswith("__") or name not in np.ndarray.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.recorder.read(self, f"the attribute {name}"), name)

    def __bool__(self) -> bool:
        return bool(self.recorder.read(self, "bool()"))

    def __int__(self) -> int:
        return int(self.recorder.read(self, "int()"))

    def __index__(self) -> int:
        return operator.index(self.recorder.read(self, "an index").item())

    def __float__(self) -> float:
        return float(self.recorder.read(self, "float()"))

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.recorder.read(self, "iteration"))

    def __array__(self, *args: Any, **options: Any) -> np.ndarray:
        return np.asarray(self.recorder.read(self, "NumPy"), *args, **options)

    __hash__ = object.__hash__


def _operator(name: str, reflected: bool) -> Callable[..., Any]:
    def method(self: RecordedArray, *others: Any) -> Any:
        operands = (self, *others)
        return self.recorder.operator(name, operands[::-1] if reflected else operands)

    return method


for _name in OPERATORS:
    setattr(RecordedArray, f"__{_name}__", _operator(_name, False))
for _name in REFLECTED:
    setattr(RecordedArray, f"__r{_name}__", _operator(_name, True))


# The backend's methods -------------------------------------------------------------------------

WRITES: dict[str, tuple[int, ...]] = {
    "assign": (0,), "index_add": (0,), "put_along": (0,), "accumulate": (0,),
    "adamw_step": (0, 2, 3, 5, 7), "sgd_step": (0, 2, 5),
    "rmsprop_step": (0, 2, 3, 4, 6, 8), "lion_step": (0, 2, 5), "foreach_mul": (0,),
    "foreach_unscale": (0, 2), "update_scale": (0, 1),
}  # fmt: skip
"""Which arguments a method changes in place: it returns the first, or nothing."""
GIVES_TOO = ("foreach_unscale",)
"""Those that return a result of their own."""

ABOUT_MEMORY = ("storage", "is_view", "is_view_of", "writable", "detach", "synchronize")
"""Methods that compute nothing: answered from the value, not recorded."""
HOST_READS = ("to_numpy",)


def methods(real: Backend) -> list[str]:
    """The names of the methods of a backend that a recording notes."""
    # These are not noted, but the calls that they make.
    own = (*ABOUT_MEMORY, *HOST_READS, "in_one_pass", "joined", "mean_cross_entropy")
    return [
        name
        for name in dir(Backend)
        if not name.startswith("_") and callable(getattr(real, name)) and name not in own
    ]


def definitions() -> frozenset[str]:
    """The methods that have a composed definition."""
    required = vars(RequiredMethods)
    return frozenset(
        name
        for name in dir(Backend)
        if not name.startswith("_") and name not in required and callable(getattr(Backend, name))
    )


class Composed(BaseException):
    """A kernel hands the case on to the composed definition. (No Exception: nothing catches it.)"""


class _Definitions(Backend[Any]):
    """Comes after a backend's own methods in the MRO, in place of the composed definitions: a
    call of one raises `Composed`."""

    asked: str | None = None


def _definition(name: str) -> Callable[..., Any]:
    def method(self: _Definitions, *args: Any, **options: Any) -> Any:
        if self.asked == name:
            raise Composed
        return getattr(Backend, name)(self, *args, **options)

    return method


for _name in definitions():
    setattr(_Definitions, _name, _definition(_name))


class Real:
    """The real backend beside the one that records: other threads' work, and what it does itself.

    `backend` is like the one that records, of its own class. `by_itself` gives None where the
    backend has no method of its own for a call, and composes it.
    """

    def __init__(self, backend: Backend[Any]):
        cls = type(backend)
        self.backend = _like(cls, backend)
        self.asking = _like(type(cls.__name__, (cls, _Definitions), {}), backend)
        self.composed = definitions()
        self.whole = backend.kept_whole

    def by_itself(
        self, name: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[Any] | None:
        """(result,) of a call by the backend's own methods; None where the composed definition
        takes it. What is asked twice, once composed, must not have changed anything: `kept_whole`
        names those that write, and those whose choice depends on values."""
        if name not in self.composed or name in self.whole:
            return (getattr(self.backend, name)(*args, **options),)
        before = self.asking.asked
        self.asking.asked = name
        try:
            return (getattr(self.asking, name)(*args, **options),)
        except Composed:
            return None
        finally:
            self.asking.asked = before


def _like(cls: type[Any], backend: Backend[Any]) -> Any:
    made = object.__new__(cls)
    made.__dict__.update(vars(backend))
    return made


class _Local(threading.local):
    recorder: Recorder | None = None


_local = _Local()


class _Recording:
    """The methods of a recording backend that compute nothing; see `recording_class`."""

    def storage(self, x: Any) -> Any:
        return _real().storage(value_of(x))

    def is_view(self, x: Any) -> bool:
        return bool(_real().is_view(value_of(x)))

    def is_view_of(self, x: Any, base: Any) -> bool:
        return bool(_real().is_view_of(value_of(x), value_of(base)))

    def writable(self, x: Any) -> Any:
        return x if isinstance(x, RecordedArray) else _real().writable(x)

    def detach(self, x: Any) -> Any:
        return x

    def synchronize(self) -> None:
        _real().synchronize()

    def to_numpy(self, x: Any) -> Any:
        if isinstance(x, RecordedArray):
            x = x.recorder.read(x, "to_numpy")
        return _real().to_numpy(x)


def _real() -> Backend[Any]:
    assert _local.recorder is not None
    return _local.recorder.real.backend


def value_of(x: Any) -> Any:
    """The value of a recorded array; anything else unchanged."""
    return x.value if isinstance(x, RecordedArray) else x


def _recorded(name: str) -> Callable[..., Any]:
    def method(self: Backend[Any], *args: Any, **options: Any) -> Any:
        assert _local.recorder is not None
        return _local.recorder.method(name, args, options)

    return method


@functools.cache
def recording_class(cls: type[Any]) -> type[Any]:
    """The class that records what the thread that records asks of a backend of class `cls`. A
    subclass, so that a method that is running meanwhile finds its `super()`; and one that has been
    looked up before the object has its own class again is still what that has."""
    noted: dict[str, Callable[..., Any]] = {
        name: _recorded(name) for name in methods(object.__new__(cls))
    }
    noted |= {name: vars(_Recording)[name] for name in (*ABOUT_MEMORY, *HOST_READS)}

    def by_thread(name: str) -> Callable[..., Any]:
        own = next(vars(base)[name] for base in cls.__mro__ if name in vars(base))

        def method(self: Any, *args: Any, **options: Any) -> Any:
            recorder = _local.recorder
            if recorder is None or recorder.backend is not self:
                return own.__get__(self, cls)(*args, **options)
            return noted[name](self, *args, **options)

        return method

    # One base alone: an object changes its class only for one of the same layout.
    attributes: dict[str, Any] = {name: by_thread(name) for name in noted}
    attributes["mixes_floats"] = False  # casts are noted, which passes fuse
    return type("RecordingBackend", (cls,), attributes)


@contextmanager
def recording(backend: Backend[Any], recorder: Recorder) -> Iterator[None]:
    """Have `recorder` note what this thread asks of `backend` inside. One thread at a time, for
    each backend."""
    cls: Any = type(backend)
    recorded: Any = backend
    _local.recorder = recorder
    recorded.__class__ = recording_class(cls)
    try:
        yield
    finally:
        recorded.__class__ = cls
        _local.recorder = None
