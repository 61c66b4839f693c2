"""A machine with two GPUs: CuPy's interface over `fake_cupy`, each call held to its device.

`CupyRuntime` itself runs on it. An array that is worked on, a kernel, a stream, an event, a graph,
a handle of cuBLAS: each belongs to the device that was current when it was made, and is refused
while another is current, as CUDA refuses it (or CuPy, where no GPU may read the other's memory).
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gradient import backends
from gradient.backends import placement, registry
from gradient.backends.cuda import compilation, cublas, cublas_lt, driver
from gradient.backends.cuda.runtime import CupyRuntime
from support import cuda_emulation, fake_cublas, fake_cupy
from support.cuda_emulation import FakeGraph

current = fake_cupy.current


class OfDevice:
    """What belongs to the device that is current when it is made."""

    def __init__(self) -> None:
        self.number = current.device

    def here(self) -> None:
        if self.number not in (None, current.device):
            raise RuntimeError(
                f"a {type(self).__name__} of device {self.number} while {current.device} is current"
            )


class Device:
    compute_capability = "90"
    attributes: Any = {"MaxSharedMemoryPerBlockOptin": 227 << 10}
    mem_info = (3, 5)

    def __init__(self, index: int):
        self.index, self.before = index, []

    def __enter__(self) -> None:
        self.before.append(current.device)
        current.device = self.index

    def __exit__(self, *_: object) -> None:
        current.device = self.before.pop()

    def use(self) -> None:
        current.device = self.index

    def synchronize(self) -> None:
        fake_cupy.waits.append("synchronize")


class Stream(OfDevice):
    null: Stream
    on: dict[int, Stream]
    done = True

    def __init__(self, non_blocking: bool, priority: int):
        super().__init__()
        self.ptr, self.before = id(self), []

    def __enter__(self) -> None:
        self.here()
        self.before.append(Stream.on.get(current.device, Stream.null))
        Stream.on[current.device] = self

    def __exit__(self, *_: object) -> None:
        self.here()
        Stream.on[current.device] = self.before.pop()

    def wait_event(self, event: Event) -> None:
        self.here()
        order.append(("wait", current.device, event.number))

    def synchronize(self) -> None:
        self.here()

    def begin_capture(self) -> None:
        self.here()
        fake_cupy.capture.work = []

    def end_capture(self) -> Graph:
        self.here()
        work, fake_cupy.capture.work = fake_cupy.capture.work or [], None
        return Graph(work)


class NullStream(Stream):
    """The default stream: it has one address on all devices, and is that of the current one."""

    def __init__(self) -> None:
        super().__init__(False, 0)
        self.ptr, self.number = 0, None

    def record(self, event: Event) -> None:
        event.here()


class Event(OfDevice):
    done = True

    def __init__(self, block: bool, disable_timing: bool):
        super().__init__()

    def record(self, stream: Stream) -> None:
        self.here()
        stream.here()
        order.append(("record", current.device))

    def synchronize(self) -> None:
        pass


class Graph(OfDevice, FakeGraph):
    def __init__(self, work: list[Any]):
        FakeGraph.__init__(self, work)
        OfDevice.__init__(self)

    def launch(self) -> None:
        self.here()
        FakeGraph.launch(self)


class Kernel(OfDevice):
    ptr = 7

    def __init__(self, library: Any, name: str):
        super().__init__()
        self.library, self.name = library, name

    def __call__(self, grid: Any, block: Any, values: Any, shared_mem: int = 0) -> None:
        self.here()
        hosts = [a.here()._host if isinstance(a, fake_cupy.ndarray) else a for a in values]
        run = lambda: cuda_emulation.launch(  # noqa: E731
            self.library, self.name, grid, block[0], *hosts, shared=shared_mem
        )
        fake_cupy.queue(run)
        launched.append((current.device, self.name))


class Module(OfDevice):
    def load(self, code: bytes) -> None:
        text = code.decode()
        self.library = cuda_emulation.library(*(("fused", text) if "\n" in text else (text,)))

    def get_function(self, name: str) -> Kernel:
        self.here()
        return Kernel(self.library, name)


class Pool:
    """Takes no part in where arrays lie; tells which device it was asked for."""

    def __init__(self) -> None:
        self.freed: list[int] = []

    def malloc(self, size: int) -> None:
        raise NotImplementedError

    def used_bytes(self) -> int:
        return 100 + current.device

    def total_bytes(self) -> int:
        return 200 + current.device

    def free_all_blocks(self) -> None:
        self.freed.append(current.device)


class Libraries(fake_cublas.Library):
    """cuBLAS, whose handles and other objects belong to devices."""

    def __init__(self) -> None:
        self.devices: dict[int, int] = {}
        super().__init__()

    def _made(self, out: Any, **holds: Any) -> None:
        super()._made(out, **holds)
        self.devices[out[0]] = current.device

    def _guarded(self, name: str) -> Any:
        call = super()._guarded(name)

        def checked(*arguments: Any) -> int:
            handle = arguments[0] if isinstance(arguments[0], int) else 0
            of = self.devices.get(handle, current.device)
            if of != current.device:
                self.errors.append(RuntimeError(f"{name} of device {of}"))
                return fake_cublas.INTERNAL_ERROR
            return int(call(*arguments))

        return checked


order: list[tuple[Any, ...]] = []
"""What events and copies between GPUs were queued: ("record", device), ("wait", device, the
event's), ("copy", device, from, to, bytes)."""

peers: set[tuple[int, int]] = set()
"""Which GPUs may write to which."""


def copy_to_peer(to: int, to_device: int, of: int, of_device: int, size: int, stream: int) -> None:
    """`cudaMemcpyPeerAsync`."""
    if stream != Stream.on.get(current.device, Stream.null).ptr:
        raise RuntimeError(f"the stream is not the current one of device {current.device}")
    order.append(("copy", current.device, of_device, to_device, size))
    fake_cupy.queue(lambda: ctypes.memmove(to, of, size))


def copy_here(to: int, of: int, size: int, kind: int, stream: int) -> None:
    """`cudaMemcpyAsync` on one device."""
    if stream != Stream.on.get(current.device, Stream.null).ptr:
        raise RuntimeError(f"the stream is not the current one of device {current.device}")
    fake_cupy.queue(lambda: ctypes.memmove(to, of, size))
    launched.append((current.device, "memcpy"))


def allow_peer(peer: int) -> None:
    """`cudaDeviceEnablePeerAccess`."""
    if (current.device, peer) in peers:
        raise ArithmeticError("cudaErrorPeerAccessAlreadyEnabled")
    peers.add((current.device, peer))


launched: list[tuple[int, str]] = []
"""The devices and the names of kernels, in order."""


class Cupy(fake_cupy.Module):
    __version__ = "14"

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool()
        self.cuda = types.SimpleNamespace(
            runtime=types.SimpleNamespace(
                getDevice=lambda: current.device, getDeviceCount=lambda: 2,
                CUDARuntimeError=ArithmeticError, memcpyPeerAsync=copy_to_peer,
                memcpyAsync=copy_here, memcpyDeviceToDevice=3,
                deviceCanAccessPeer=lambda device, peer: 1, deviceEnablePeerAccess=allow_peer,
                memGetInfo=lambda: (1 << 30, 1 << 31),
            ),
            function=types.SimpleNamespace(CPointer=int, CIntptr=int),
            driver=types.SimpleNamespace(
                funcSetAttribute=lambda *_: None, CUDADriverError=ArithmeticError
            ),
            Device=Device, Module=Module, Stream=Stream, Event=Event, MemoryPool=Pool,
            get_current_stream=lambda: Stream.on.get(current.device, Stream.null),
            get_elapsed_time=lambda a, b: 0.0,
            using_allocator=lambda _: contextlib.nullcontext(),
            PinnedMemoryPointer=fake_cupy.PinnedMemoryPointer,
        )  # fmt: skip

    def is_available(self) -> bool:
        return True

    def get_default_memory_pool(self) -> Pool:
        return self.pool

    def asnumpy(self, x: Any, out: Any = None, blocking: bool = True) -> np.ndarray:
        if blocking:
            return super().asnumpy(x)
        out[...] = x.here()._host
        return out


@contextlib.contextmanager
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cupy]:
    """A block in which "cuda:0" and "cuda:1" are the devices of such a machine."""
    cupy, libraries = Cupy(), Libraries()
    pinned: Any = types.ModuleType("cupyx")
    pinned.empty_pinned = lambda shape, dtype: np.empty(shape, dtype)
    Stream.null, Stream.on = NullStream(), {}

    def address(self: CupyRuntime, x: Any) -> int:
        start, stop = np.lib.array_utils.byte_bounds(x._host)
        libraries.memory[start] = max(libraries.memory.get(start, 0), stop - start)
        if fake_cupy.capture.work is not None:
            libraries.kept.append(x._host)
        return int(x.data.ptr)

    for target, name, value in (
        (driver, "device_count", lambda: 2),
        (compilation, "compile_all", lambda *_: None),
        (compilation, "cubin", lambda family, *_: family.encode()),
        (compilation, "compiled", lambda source, *_: source.encode()),
        (cublas, "load", lambda _: libraries),
        (cublas_lt, "load", lambda _: libraries),
        (CupyRuntime, "address", address),
        (CupyRuntime, "by_value", lambda self, structure: structure),
        (CupyRuntime, "real", lambda self, value, dtype: dtype.type(value)),
    ):
        monkeypatch.setattr(target, name, value)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupyx", pinned)
    for log in (launched, order, peers):
        log.clear()  # type: ignore[attr-defined]
    factory, before = registry._factories["cuda"], list(placement.device_contexts)
    backends.register("cuda", factory)
    try:
        yield cupy
    finally:
        backends.register("cuda", factory)
        placement.device_contexts[:] = before
        placement.direct_carriers.clear()
        current.device = registry.current.index = 0
    assert libraries.errors == []
