"""Whether operations are recorded, for each thread: no_grad, enable_grad, anomaly detection."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar, cast

from gradient.backends import matmul_precision
from gradient.errors import TypeMismatch, sentence

if TYPE_CHECKING:
    from gradient.autograd.saved_hooks import SavedHooks
    from gradient.dtypes import DType

__all__ = [
    "enable_grad",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "no_grad",
    "set_grad_enabled",
]

F = TypeVar("F", bound=Callable[..., Any])

WATCHED = 2
"""The value of `mode.grad` if `node.watch` is called for each new node: it stores the stack of the
call, or hooks pack the saved values."""


switched: set[int] = set()
"""The threads whose `mode.grad` is not True. Mostly there are none, and ops do not read their
thread's mode: to check that this set is empty is faster."""


class _Mode(threading.local):
    _grad: int = True
    anomaly: bool = False
    check_nan: bool = True
    saved_hooks: SavedHooks | None = None
    outer_saved_hooks: list[tuple[SavedHooks | None, int]]
    """The values of `saved_hooks` and `grad` to restore at the end of each enclosing block."""
    saved_hooks_refused: str | None = None
    """The message of the error for such hooks while they are disabled; None if they are allowed."""
    nodes: Any = None
    """The nodes of the running backward pass."""
    inference: bool = False
    autocast: dict[str, DType] | None = None
    """The 16-bit dtype of `amp.autocast` for each device type; None while it is off."""
    outer_autocasts: list[dict[str, DType] | None]
    """The values of `autocast` to restore at the end of each enclosing block."""

    def __init__(self) -> None:
        self.outer_saved_hooks, self.outer_autocasts = [], []  # in each thread
        switched.discard(get_ident())  # left by an earlier thread with the same number

    @property
    def grad(self) -> int:
        """0: operations are not recorded; 1: they are; WATCHED: `watch` is called for each node."""
        return self._grad

    @grad.setter
    def grad(self, value: int) -> None:
        self._grad = value
        if value is True:
            switched.discard(get_ident())
        else:
            switched.add(get_ident())


mode = _Mode()


def recording() -> int:
    """Return the value of `mode.grad` that turns recording on in this thread."""
    return WATCHED if mode.anomaly or mode.saved_hooks is not None else True


inference_used: list[bool] = []
"""Empty until the first use of `inference_mode`; before it no op checks whether the mode is on."""


class _GradMode:
    """A context manager and decorator that sets whether operations are recorded."""

    enabled = True
    _previous: list[Any]

    def __enter__(self) -> None:
        # A stack of previous values, so that one object can be entered several times.
        self._previous.append(mode._grad)
        mode.grad = recording() if self.enabled else False

    def __exit__(self, *exc: object) -> None:
        mode.grad = self._previous.pop()

    def _again(self) -> _GradMode:
        """Return a copy, so that calls of a decorated function in two threads share no state."""
        return type(self)()

    def __call__(self, function: F) -> F:
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def run_generator(*args: Any, **kwargs: Any) -> Any:
                # The mode is on while the generator's own code runs, not between its items.
                generator = function(*args, **kwargs)

                def resume(step: Callable[..., Any], *values: Any) -> Any:
                    with self._again():
                        return step(*values)

                try:
                    item = resume(next, generator)
                    while True:
                        try:
                            sent = yield item
                        except GeneratorExit:
                            resume(generator.close)
                            raise
                        except BaseException as error:
                            item = resume(generator.throw, error)
                        else:
                            item = resume(generator.send, sent)
                except StopIteration as stop:
                    return stop.value

            return cast("F", run_generator)

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return cast("F", run)


class no_grad(_GradMode):  # noqa: N801 (PyTorch's name)
    """Turn the recording of operations off: `with no_grad():` or `@no_grad()`."""

    enabled = False

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        self = object.__new__(cls)
        self._previous = []
        return self(function) if function is not None else self

    if TYPE_CHECKING:  # at run time it would be one more call

        def __init__(self, function: Any = None): ...


class enable_grad(no_grad):  # noqa: N801
    """Turn the recording of operations on, inside a `no_grad`."""

    enabled = True


class inference_mode(no_grad):  # noqa: N801
    """Turn recording off, and mark new tensors: they cannot be changed in place outside of the
    mode, nor saved for a backward pass. As in PyTorch, `inference_mode(False)` turns the mode off
    and recording on."""

    inference = True

    def __new__(cls, mode: Any = True) -> Any:
        self = object.__new__(cls)
        self._previous = []
        return self(mode) if callable(mode) else self

    def __init__(self, mode: Any = True):
        self.inference = bool(mode)

    def _again(self) -> _GradMode:
        return type(self)(self.inference)

    def __enter__(self) -> None:
        self._previous.append((mode.grad, mode.inference))
        _set(not self.inference)
        mode.inference = self.inference
        if self.inference and not inference_used:
            inference_used.append(True)

    def __exit__(self, *exc: object) -> None:
        mode.grad, mode.inference = self._previous.pop()


class set_grad_enabled(_GradMode):  # noqa: N801
    """Turn recording on or off: by the call itself, and as a context manager until its end."""

    def __init__(self, mode: bool):
        if mode is not True and mode is not False:
            raise TypeMismatch(sentence("set_grad_enabled", "True or False", repr(mode)))
        self.enabled = mode
        self._before = _set(self.enabled)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        mode.grad = self._before

    def __call__(self, function: F) -> F:
        mode.grad = self._before
        return (enable_grad if self.enabled else no_grad)()(function)


def _set(enabled: bool) -> int:
    before = mode.grad
    mode.grad = recording() if enabled else False
    return before


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return bool(mode.grad)


matmul_precision.is_recording = is_grad_enabled


def is_inference_mode_enabled() -> bool:
    """Whether this thread is under `inference_mode`."""
    return mode.inference
