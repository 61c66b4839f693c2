"""A backend that records every call, and also runs it on a real backend.

`recording(backend, recorder)` changes the class of the backend object for a while, so that it
records its calls. So `tensor.backend` and `backends.get` return the same object as always, and the
rest of the package need not know of the recording. Arrays are `RecordedArray`s, as opaque as the
handles of another process. Each holds the value that the real backend computed, so a recorded run
is a real run.

Recorded calls form a tree. A call is the method that was called (`layer_norm`). If the backend has
no kernel for it, its composed definition runs on recorded arrays, and the calls of the definition
are its pieces. A call without pieces was one call of the real backend.

Only the recording thread has recorded arrays, and only its calls are recorded; for other threads
the backend is unchanged.
"""

from __future__ import annotations

import functools
import operator
import threading
from abc import ABC
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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

AUGMENTED: dict[str, Callable[..., Any]] = {
    "iadd": operator.iadd, "isub": operator.isub, "imul": operator.imul,
    "itruediv": operator.itruediv,
}  # fmt: skip
"""Python's augmented assignments. Only passes make such calls of a plan, whose first array is
written."""

REFLECTED = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor",
              "lshift", "rshift")  # fmt: skip
"""Those that Python asks of the second operand, too, where the first is a number."""


class Recorder(Protocol):
    """Receives the calls; `gradient.plan` has one."""

    backend: Backend[Any]
    real: Real

    def operator(self, name: str, args: tuple[Any, ...]) -> Any:
        """Record `OPERATORS[name](*args)`; return its result."""

    def method(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Record a call of the real backend's method; return its result."""

    def recomputing(self) -> AbstractContextManager[None]:
        """A context whose calls are not to be replaced by earlier equal ones."""

    def read(self, x: RecordedArray, what: str) -> Any:
        """Return the value that the host reads (`what` names the function), or raise an error."""


class OpaqueArray(ABC):  # noqa: B024 (others' classes register)
    """An array of a backend with memory elsewhere (a handle), which can be recorded directly."""

    __slots__ = ()


class RecordedArray:
    """An array of a recording: shape, dtype, operators, and the real value for the recorder."""

    __slots__ = ("__weakref__", "dtype", "recorder", "ref", "shape", "value")
    __array_ufunc__ = None  # NumPy leaves operators to this class

    def __init__(self, value: np.ndarray, recorder: Recorder):
        self.value, self.recorder = value, recorder
        self.ref: Any = None  # the number of its buffer, set by the recorder
        self.shape, self.dtype = tuple(value.shape), value.dtype

    def __repr__(self) -> str:
        return f"<recorded array {self.shape} {self.dtype}>"

    @property
    def flags(self) -> Any:
        """Its memory layout, by which `is_contiguous` and the engine choose as in eager mode."""
        return self.value.flags

    @property
    def strides(self) -> tuple[int, ...]:
        return self.value.strides

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.value.size

    # Operations that need the value on the host.

    def __getattr__(self, name: str) -> Any:
        """Other attributes of NumPy's arrays: code that uses them cannot be recorded."""
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

ABOUT_MEMORY = ("storage", "is_view", "is_view_of", "writable", "detach", "synchronize",
                "recomputing")  # fmt: skip
"""Methods that compute nothing: answered from the value, not recorded."""
HOST_READS = ("to_numpy",)


def methods(real: Backend) -> list[str]:
    """The names of the backend's methods whose calls are recorded."""
    # These calls are not recorded, only the calls that they make.
    own = (
        *(*ABOUT_MEMORY, *HOST_READS, "in_one_pass", "joined", "mean_cross_entropy"),
        *("of_values", "own"),
    )
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
    """A method falls back to the composed definition. (No Exception, so nothing catches it.)"""


class _Definitions(Backend[Any]):
    """Replaces the composed definitions in the MRO, after a backend's own methods: each raises
    `Composed`."""

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
    """The real backend: it runs the work of other threads, and calls for which it has kernels.

    `backend` is a copy of the recording backend, with the original class. `by_itself` returns None
    for calls that the backend composes.
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
        """(result,) of a call by the backend's own methods; None if they fall back to the composed
        definition. The call is then made again, so it must not have changed anything: `kept_whole`
        has the methods that write, and those whose choice depends on values."""
        if name in self.backend.composed_in_plans:
            return None
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

    def recomputing(self) -> AbstractContextManager[None]:
        assert _local.recorder is not None
        return _local.recorder.recomputing()

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
    """The class of a backend of class `cls` that records the calls of the recording thread. It is a
    subclass of `cls`, so that `super()` works in methods that run when the class changes, and bound
    methods that other threads looked up before still work after it."""
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

    # A single base: Python lets an object change only to a class of the same memory layout.
    attributes: dict[str, Any] = {name: by_thread(name) for name in noted}
    # So that casts are recorded; passes fuse them.
    attributes.update(mixes_floats=False, wide_number=None)
    return type("RecordingBackend", (cls,), attributes)


@contextmanager
def recording(backend: Backend[Any], recorder: Recorder) -> Iterator[None]:
    """Context in which `recorder` records this thread's calls of `backend`. Only one thread at a
    time can record a backend."""
    cls: Any = type(backend)
    recorded: Any = backend
    _local.recorder = recorder
    recorded.__class__ = recording_class(cls)
    try:
        yield
    finally:
        recorded.__class__ = cls
        _local.recorder = None
