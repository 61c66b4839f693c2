"""`cuda.Stream` and `cuda.Event`: queues of a GPU's work, and marks in them.

Work is queued on the current stream, at first the default one, and is done in order; streams go on
side by side. Memory that is freed is given to later work of the stream it was taken on: keep a
tensor until what another stream does with it is done (`wait_stream`, `synchronize`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from gradient.compat.cuda_devices import device as device_context
from gradient.compat.cuda_devices import runtime_of
from gradient.errors import ArgumentError, BackendError, DeviceError, TypeMismatch, sentence
from gradient.tensor.device import Device

__all__ = [
    "CUDAGraph",
    "Event",
    "Stream",
    "StreamContext",
    "graph",
    "current_stream",
    "default_stream",
    "stream",
]


class CUDAGraph:
    """A captured graph: `gradient.compile` captures one of a function by itself."""

    def __init__(self, keep_graph: bool = False) -> None:
        raise BackendError(
            "cuda.CUDAGraph: gradient.compile(function) captures and replays a graph"
        )


class graph(contextlib.nullcontext[None]):  # noqa: N801 (PyTorch's name)
    """A block of work to capture in a `CUDAGraph`, which raises an error."""

    def __init__(
        self,
        cuda_graph: CUDAGraph,
        pool: Any = None,
        stream: Any = None,
        capture_error_mode: str = "global",
        enable_annotations: bool = False,
        check_input_liveness: bool = False,
    ) -> None:
        super().__init__()


class Stream:
    """A queue of work on a GPU.

    Args:
        device: The GPU: its number, its name, or None for the current one.
        priority: Work of a stream with a lower number goes before that of others: -1 or 0.
    """

    def __init__(self, device: Any = None, priority: int = 0, *, _held: Any = None):
        self._runtime = runtime_of(device)
        self.device = Device("cuda" if device is None else device)
        if type(priority) is not int:
            raise TypeMismatch(sentence("cuda.Stream", "an int as priority", repr(priority)))
        self.priority = priority
        self._held = self._runtime.new_stream(priority) if _held is None else _held

    @property
    def cuda_stream(self) -> int:
        """The driver's handle, a `cudaStream_t`."""
        return int(self._held.ptr)

    def synchronize(self) -> None:
        """Wait until all work queued on it is done."""
        self._runtime.synchronize_stream(self._held)

    def query(self) -> bool:
        """Whether all work queued on it is done."""
        return bool(self._runtime.is_done(self._held))

    def wait_event(self, event: Event) -> None:
        """Have what is queued from now on wait for an event, if that was recorded."""
        if event._held is not None:
            self._runtime.wait_event(self._held, event._held)

    def wait_stream(self, stream: Stream) -> None:
        """Have what is queued from now on wait for what another stream has queued."""
        self.wait_event(stream.record_event())

    def record_event(self, event: Event | None = None) -> Event:
        """Mark what is queued up to here by an event, a new one unless told."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and (
            (self.device, self.cuda_stream) == (other.device, other.cuda_stream)
        )

    def __hash__(self) -> int:
        return hash((self.device, self.cuda_stream))

    def __repr__(self) -> str:
        return f"<cuda.Stream device={self.device} cuda_stream={self.cuda_stream:#x}>"


class Event:
    """A mark in a stream: to be waited for, or to measure the time between two.

    Args:
        enable_timing: Whether `elapsed_time` may be asked.
        blocking: Whether a thread that waits sleeps, rather than look again and again.
        interprocess: Not supported.
    """

    def __init__(
        self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False
    ):
        if interprocess:
            raise ArgumentError(sentence("cuda.Event", "interprocess=False", interprocess))
        self._timed, self._blocking = bool(enable_timing), bool(blocking)
        self._held: Any = None

    def record(self, stream: Stream | None = None) -> None:
        """Mark what is queued up to here on a stream: the current one unless told."""
        stream = current_stream() if stream is None else stream
        if self._held is None:  # an event belongs to the GPU of its first stream
            self._held = stream._runtime.new_event(self._timed, self._blocking)
        stream._runtime.record(self._held, stream._held)

    def synchronize(self) -> None:
        """Wait until what it marks is done: not at all before it was recorded."""
        if self._held is not None:
            self._held.synchronize()

    def query(self) -> bool:
        """Whether what it marks is done: True before it was recorded."""
        return self._held is None or bool(self._held.done)

    def wait(self, stream: Stream | None = None) -> None:
        """Have a stream, the current one unless told, wait for what this marks."""
        (current_stream() if stream is None else stream).wait_event(self)

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to another, both recorded and done."""
        for event in (self, end_event):
            if not event._timed or event._held is None or not event.query():
                expected = "events with enable_timing=True that are recorded and done"
                fix = "synchronize() first"
                raise DeviceError(sentence("Event.elapsed_time", expected, repr(event), fix))
        current = current_stream()
        return float(current._runtime.milliseconds_between(self._held, end_event._held))

    def __repr__(self) -> str:
        state = "not recorded" if self._held is None else "done" if self.query() else "pending"
        return f"<cuda.Event {state}, enable_timing={self._timed}>"


def current_stream(device: Any = None) -> Stream:
    """The stream on which this thread's work is queued."""
    return Stream(device, _held=runtime_of(device).current_stream())


def default_stream(device: Any = None) -> Stream:
    """The stream that is the current one until another is chosen."""
    return Stream(device, _held=runtime_of(device).default_stream())


class StreamContext(contextlib.ExitStack):
    """A block whose work is queued on a stream, as in `stream(stream)`."""

    def __init__(self, stream: Stream | None) -> None:
        super().__init__()
        self.stream = stream

    def __enter__(self) -> Any:
        self.enter_context(stream(self.stream))


@contextlib.contextmanager
def stream(stream: Stream | None) -> Iterator[None]:
    """A block whose work is queued on a stream, and in which "cuda" means its GPU; None changes
    nothing."""
    if stream is None:
        yield
        return
    if not isinstance(stream, Stream):
        raise TypeMismatch(sentence("cuda.stream", "a cuda.Stream or None", repr(stream)))
    with device_context(stream.device), stream._runtime.on_device(), stream._held:
        yield
