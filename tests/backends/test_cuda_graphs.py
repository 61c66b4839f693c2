"""What is asked of CuPy to run work on a stream and in memory of its own, and to capture it."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from gradient.backends.cuda.graphs import GraphRecorder

pytestmark = pytest.mark.cpu_only


class CUDARuntimeError(RuntimeError):
    pass


class Stream:
    def __init__(self, log: list[Any], name: str):
        self.log, self.name = log, name

    def __enter__(self) -> None:
        self.log.append(("on", self.name))

    def __exit__(self, *_: object) -> None:
        self.log.append(("off", self.name))

    def begin_capture(self) -> None:
        self.log.append("begin")

    def end_capture(self) -> str:
        self.log.append("end")
        if self.name == "spoiled":
            raise CUDARuntimeError("cudaErrorStreamCaptureInvalidated")
        return "graph"

    def wait_event(self, event: Event) -> None:
        self.log.append((self.name, "waits for", event.of))


class Event:
    of = ""

    def record(self, stream: Stream | None = None) -> None:
        self.of = stream.name if stream else "own"


class Runtime:
    """`CupyRuntime`, and CuPy's modules, as far as a recorder asks them."""

    def __init__(self, streams: list[str]):
        self.log: list[Any] = []
        self.xp = self.cuda = self.runtime = self
        self.CUDARuntimeError = CUDARuntimeError
        self.names = iter(streams)

    def MemoryPool(self) -> Any:  # noqa: N802
        return type("Pool", (), {"malloc": "pool", "total_bytes": lambda _: 4096})()

    @contextlib.contextmanager
    def using_allocator(self, allocator: Any) -> Any:
        self.log.append(("from", allocator))
        yield
        self.log.append("from the usual pool")

    def on_device(self) -> Any:
        return contextlib.nullcontext()

    def new_stream(self, priority: int) -> Stream:
        return Stream(self.log, next(self.names))

    @contextlib.contextmanager
    def capturing(self) -> Any:
        self.captures = True
        try:
            yield
        finally:
            self.captures = False

    def current_stream(self) -> Stream:
        return Stream(self.log, "current")

    def new_event(self, timed: bool, blocking: bool) -> Event:
        return Event()


def test_a_run_has_its_stream_and_memory() -> None:
    runtime = Runtime(["own"])
    recorder = GraphRecorder(runtime)
    assert recorder.nbytes == 4096
    assert recorder.run(lambda: runtime.log.append("work") or 3) == 3
    assert runtime.log == [
        ("own", "waits for", "current"), ("from", "pool"), ("on", "own"), "work",
        ("off", "own"), "from the usual pool", ("current", "waits for", "own"),
    ]  # fmt: skip


def test_a_capture_gives_the_graph_and_what_the_program_gave() -> None:
    runtime = Runtime(["own"])

    def work() -> int:
        runtime.log.append(("work", runtime.captures))
        return 3

    assert GraphRecorder(runtime).capture(work) == ("graph", 3)
    assert not runtime.captures
    assert runtime.log == [
        ("from", "pool"), ("on", "own"), "begin", ("work", True), "end", ("off", "own"),
        "from the usual pool",
    ]  # fmt: skip


def test_a_capture_that_fails_leaves_a_stream_that_works() -> None:
    runtime = Runtime(["spoiled", "another"])
    recorder = GraphRecorder(runtime)

    def fail() -> None:
        raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported")

    with pytest.raises(CUDARuntimeError, match="CaptureUnsupported"):
        recorder.capture(fail)
    assert runtime.log.count("end") == 1
    assert not runtime.captures
    assert recorder.capture(lambda: 4) == ("graph", 4)
    assert ("on", "another") in runtime.log
