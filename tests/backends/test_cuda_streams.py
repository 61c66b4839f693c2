"""Streams and events under PyTorch's names, over a stand-in for CuPy's."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

import gradient
from gradient import backends
from gradient.backends.cuda.runtime import CupyRuntime

pytestmark = pytest.mark.cpu_only
cuda: Any = gradient.cuda


class FakeStream:
    """CuPy's stream: work is a list, done when somebody waits for it."""

    def __init__(self, log: list[Any], ptr: int):
        self.log, self.ptr, self.queued, self.done = log, ptr, [], True

    def wait_event(self, event: FakeEvent) -> None:
        self.log.append(("wait", self.ptr, event.of))

    def synchronize(self) -> None:
        self.log.append(("synchronize", self.ptr))
        self.done = True

    def __enter__(self) -> None:
        self.before, FakeCuda.now = FakeCuda.now, self

    def __exit__(self, *_: object) -> None:
        FakeCuda.now = self.before


class FakeEvent:
    def __init__(self, **options: bool):
        self.options, self.of, self.done, self.time = options, None, False, 0.0

    def record(self, stream: FakeStream) -> None:
        self.of, self.done = stream.ptr, False
        stream.log.append(("record", stream.ptr))

    def synchronize(self) -> None:
        self.done = True


class FakeCuda:
    now: Any = None

    def __init__(self, log: list[Any]):
        self.log, self.made = log, 0
        self.Stream: Any = self._stream
        FakeCuda.now = self._stream.__func__.null = FakeStream(log, 0)  # type: ignore[attr-defined]
        self.Event = FakeEvent

    def _stream(self, non_blocking: bool, priority: int) -> FakeStream:
        assert non_blocking
        self.made += 1
        self.log.append(("new", priority))
        return FakeStream(self.log, 256 * self.made)

    def get_current_stream(self) -> FakeStream:
        return FakeCuda.now

    def get_elapsed_time(self, start: FakeEvent, end: FakeEvent) -> float:
        return end.time - start.time


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    log: list[Any] = []

    class Runtime(CupyRuntime):
        def __init__(self, index: int):
            self.index = index
            self.xp = type("Cupy", (), {"cuda": FakeCuda(log)})

        def on_device(self) -> Any:
            return contextlib.nullcontext()

    made: dict[str, Any] = {}

    def get(device: str) -> Any:
        if device not in made:
            kind = type("Backend", (), {"name": device.partition(":")[0]})
            made[device] = kind()
            made[device].runtime = Runtime(int(device.partition(":")[2] or 0))
        return made[device]

    monkeypatch.setattr(backends, "get", get)
    return log


def test_streams_wait_for_one_another(log: list[Any]) -> None:
    a, b = cuda.Stream(), cuda.Stream("cuda:0", priority=-1)
    assert [entry for entry in log if entry[0] == "new"] == [("new", 0), ("new", -1)]
    assert a != b
    assert a == a and hash(a) == hash(a)
    assert a.device == gradient.device("cuda:0")
    log.clear()
    a.wait_stream(b)
    event = a.record_event()
    event.wait(b)
    b.synchronize()
    assert log == [
        ("record", b.cuda_stream), ("wait", a.cuda_stream, b.cuda_stream),
        ("record", a.cuda_stream), ("wait", b.cuda_stream, a.cuda_stream),
        ("synchronize", b.cuda_stream),
    ]  # fmt: skip
    assert b.query()


def test_a_block_has_its_stream(log: list[Any]) -> None:
    default = cuda.default_stream()
    assert cuda.current_stream() == default
    a = cuda.Stream()
    with cuda.stream(a):
        assert cuda.current_stream() == a
        with cuda.stream(None):
            assert cuda.current_stream() == a
        with cuda.StreamContext(default):
            assert cuda.current_stream() == default
        event = cuda.Event()
        event.record()
        assert log[-1] == ("record", a.cuda_stream)
    assert cuda.current_stream() == default
    with pytest.raises(TypeError, match=r"cuda.stream: expected a cuda.Stream or None, got 3"):
        cuda.stream(3).__enter__()
    with pytest.raises(TypeError, match=r"cuda.Stream: expected an int as priority, got 'high'"):
        cuda.Stream(priority="high")
    with pytest.raises(RuntimeError, match="expected a device of type cuda, got cpu"):
        cuda.Stream("cpu")


def test_events_measure_time(log: list[Any]) -> None:
    start, end = (cuda.Event(enable_timing=True) for _ in range(2))
    assert start.query()  # nothing was recorded
    start.synchronize()
    start.record()
    end.record(cuda.Stream())
    assert start._held.options == {"block": False, "disable_timing": False}
    with pytest.raises(RuntimeError, match=r"enable_timing=True that are recorded and done"):
        start.elapsed_time(end)
    for event, time in ((start, 1.5), (end, 4.0)):
        event.synchronize()
        event._held.time = time
    assert start.elapsed_time(end) == 2.5
    assert repr(end) == "<cuda.Event done, enable_timing=True>"
    untimed = cuda.Event()
    untimed.record()
    untimed.synchronize()
    with pytest.raises(RuntimeError, match="got <cuda.Event done, enable_timing=False>"):
        start.elapsed_time(untimed)
    with pytest.raises(ValueError, match="expected interprocess=False"):
        cuda.Event(interprocess=True)


def test_no_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    if cuda.is_available():
        pytest.skip("this machine has a GPU")
    for make in (cuda.Stream, cuda.current_stream, cuda.default_stream):
        with pytest.raises(RuntimeError, match="device 'cuda:0': this machine has no NVIDIA GPU"):
            make()
