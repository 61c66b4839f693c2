"""`futures`, `jit.fork` and `jit.wait`: what is forked runs at once, in the caller's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from gradient.errors import BackendError

__all__ = ["Future", "collect_all", "wait_all"]

T = TypeVar("T")


class Future(Generic[T]):
    """A value that is set once, or an error, and what is to be called with it then."""

    def __init__(self, *, devices: Any = None) -> None:
        self._value: Any = None
        self._error: BaseException | None = None
        self._done = False
        self._callbacks: list[Callable[[Future[T]], Any]] = []

    def done(self) -> bool:
        return self._done

    def wait(self) -> T:
        """The value, or the error raised.

        Raises:
            BackendError: neither is set, and no other thread could set it.
        """
        if not self._done:
            raise BackendError("Future.wait: expected a future that is done, got one without end")
        if self._error is not None:
            raise self._error
        value: T = self._value
        return value

    value = wait

    def set_result(self, result: T) -> None:
        if self._done:
            raise BackendError("Future.set_result: expected a future without result, got one")
        self._value, self._done = result, True
        self._call()

    def set_exception(self, result: BaseException) -> None:
        self._error, self._done = result, True
        self._call()

    def add_done_callback(self, callback: Callable[[Future[T]], None]) -> None:
        """Call `callback(future)` when it is done, at once if it is."""
        self._callbacks.append(callback)
        if self._done:
            self._call()

    def then(self, callback: Callable[[Future[T]], Any]) -> Future[Any]:
        """The future of `callback(future)`."""
        after: Future[Any] = Future()

        def run(done: Future[T]) -> None:
            try:
                after.set_result(callback(done))
            except Exception as error:
                after.set_exception(error)

        self.add_done_callback(run)
        return after

    def _call(self) -> None:
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)


def collect_all(futures: Iterable[Future[Any]]) -> Future[list[Future[Any]]]:
    """The future of a list of futures, done when all are."""
    given, together = list(futures), Future[list[Future[Any]]]()
    missing = [len(given)]

    def arrived(_: Future[Any]) -> None:
        missing[0] -= 1
        if missing[0] == 0:
            together.set_result(given)

    for future in given:
        future.add_done_callback(arrived)
    if not given:
        together.set_result(given)
    return together


def wait_all(futures: Iterable[Future[Any]]) -> list[Any]:
    """The values of all."""
    return [future.wait() for future in futures]


def fork(func: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
    """The future of `func(*args, **kwargs)`, which runs at once."""
    future = Future[T]()
    try:
        future.set_result(func(*args, **kwargs))
    except Exception as error:
        future.set_exception(error)
    return future


def wait(future: Future[T]) -> T:
    """`future.wait()`"""
    return future.wait()
