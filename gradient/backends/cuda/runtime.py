"""The backend's access to a GPU through CuPy: memory of arrays, streams, copies.

Kernels are loaded and launched by the base class.

Tests replace it by an object that runs the same kernels on the CPU.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.cuda import driver
from gradient.backends.cuda.arithmetic import Arithmetic, give_operators
from gradient.backends.cuda.cublas import Cublas
from gradient.backends.cuda.cublas_lt import CublasLt
from gradient.backends.cuda.graphs import GraphRecorder
from gradient.backends.cuda.loaded_kernels import LoadedKernels
from gradient.backends.cuda.memory import InFlight, Peaks
from gradient.backends.packed import memory_of
from gradient.backends.recording_backend import OpaqueArray
from gradient.backends.required import Shape
from gradient.errors import DeviceError

ALREADY_THERE = contextlib.nullcontext()


class CupyRuntime(LoadedKernels):
    """One GPU through CuPy; its work is queued on CuPy's current stream."""

    def __init__(self, index: int):
        if driver.is_forked():
            raise DeviceError(
                f"device 'cuda:{index}': this process was forked from one that used CUDA, which it "
                'cannot: start it by spawn, as DataLoader(..., multiprocessing_context="spawn") '
                "does"
            )
        if not driver.device_count():
            raise DeviceError(
                f"device 'cuda:{index}': this machine has no NVIDIA GPU, or no driver for it"
            )
        try:
            import cupy
        except ImportError:
            raise DeviceError(
                f"device 'cuda:{index}': CuPy is not installed; "
                "pip install 'gradient-dl[cuda13]' (or cuda12, by your driver)"
            ) from None
        try:
            count = cupy.cuda.runtime.getDeviceCount() if cupy.is_available() else 0
        except cupy.cuda.runtime.CUDARuntimeError as error:  # the driver is too old
            raise DeviceError(
                f"device 'cuda:{index}': CUDA does not start: {error}; CuPy {cupy.__version__} "
                "may need a newer driver, or install gradient-dl[cuda12] in place of cuda13"
            ) from error
        if index >= count:
            raise DeviceError(
                f"device 'cuda:{index}': this machine has {count} usable CUDA devices"
            )
        try:
            with cupy.cuda.Device(index):
                cupy.cuda.runtime.memGetInfo()  # creates CUDA's context there
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise DeviceError(
                f"device 'cuda:{index}': the GPU takes no more programs: {error}; nvidia-smi says "
                "who uses it"
            ) from error
        self._begin(cupy, index, count)

    def _begin(self, cupy: Any, index: int, count: int) -> None:
        self.xp: Any = cupy
        OpaqueArray.register(cupy.ndarray)
        self.index, self.count = index, count
        self._device = cupy.cuda.Device(index)
        self._current_device = cupy.cuda.runtime.getDevice
        self._begin_launches(cupy)
        self.new_array: Any = type("Array", (cupy.ndarray,), {"__slots__": ()})
        self.arithmetic = Arithmetic(self)
        give_operators(self.new_array, self)
        self._peers: set[int] = set()

    def on_device(self) -> Any:
        """A context in which new arrays are on this GPU. (Each thread has its own current device,
        by default the first.)"""
        return self.xp.cuda.Device(self.index) if self._is_elsewhere() else ALREADY_THERE

    def _is_elsewhere(self) -> bool:
        """Whether another GPU is the thread's current one."""
        return self.count > 1 and self._current_device() != self.index

    def use(self) -> None:
        """Make this GPU the thread's current one, also for driver functions: these need its
        context, which a new thread does not have."""
        self._device.use()

    @functools.cached_property
    def has_tensor_cores(self) -> bool:
        """Whether the GPU has the instructions of `tensor_cores.cuh`: an A100 or later."""
        return int(self._device.compute_capability) >= 80

    @functools.cached_property
    def has_float8_products(self) -> bool:
        """Whether tensor cores multiply 8-bit floats: on an L4, an H100, or later."""
        return int(self._device.compute_capability) >= 89

    @functools.cached_property
    def max_shared(self) -> int:
        """The most shared memory of a block, in bytes: 163 KiB on an A100, 227 on an H100, 99 on
        many others."""
        return int(self._device.attributes["MaxSharedMemoryPerBlockOptin"])

    @functools.cached_property
    def multiprocessors(self) -> int:
        """The number of multiprocessors: 108 on an A100, 132 on an H100."""
        return int(self._device.attributes["MultiProcessorCount"])

    address: Any = operator.attrgetter("data.ptr")
    """The address of an array's first element."""

    is_contiguous: Any = operator.attrgetter("_c_contiguous")
    """Whether an array is in row-major order without gaps. (CuPy's `flags` takes 0.3 us.)"""

    def with_operators(self, x: Array) -> Array:
        """The array itself, which CuPy has made, in the class whose operators are kernels."""
        x.__class__ = self.new_array
        return x

    def clear(self, x: Array) -> None:
        """Queue zeros for all bytes of a contiguous array."""
        memory: Any = x.data
        memory.memset_async(0, x.nbytes)

    def stream(self) -> int:
        """The stream for queued work: CuPy's current one."""
        return int(self.xp.cuda.get_current_stream().ptr)

    def new_stream(self, priority: int) -> Any:
        """A stream that does not wait for the default one."""
        with self.on_device():
            return self.xp.cuda.Stream(non_blocking=True, priority=priority)

    def new_event(self, timed: bool, blocking: bool) -> Any:
        with self.on_device():
            return self.xp.cuda.Event(block=blocking, disable_timing=not timed)

    # The default stream has the same name on all GPUs: it means that of the current GPU.

    def record(self, event: Any, stream: Any) -> None:
        with self.on_device():
            event.record(stream)

    def wait_event(self, stream: Any, event: Any) -> None:
        with self.on_device():
            stream.wait_event(event)

    def synchronize_stream(self, stream: Any) -> None:
        with self.on_device():
            stream.synchronize()

    def is_done(self, stream: Any) -> bool:
        with self.on_device():
            return bool(stream.done)

    def current_stream(self) -> Any:
        with self.on_device():
            return self.xp.cuda.get_current_stream()

    def default_stream(self) -> Any:
        return self.xp.cuda.Stream.null

    def milliseconds_between(self, start: Any, end: Any) -> float:
        return float(self.xp.cuda.get_elapsed_time(start, end))

    def graph_recorder(self) -> GraphRecorder:
        return GraphRecorder(self)

    def reserve(self, size: int) -> Array:
        """Allocate uninitialised bytes of the GPU's memory."""
        with self.on_device():
            return self.xp.empty(size, np.uint8)

    @functools.cached_property
    def blas(self) -> Cublas:
        return Cublas(self)

    @functools.cached_property
    def blas_lt(self) -> CublasLt:
        return CublasLt(self, self.blas)

    def to_numpy(self, x: Array) -> np.ndarray:
        with self.on_device():
            return self.xp.asnumpy(x)

    def queue_to_numpy(self, x: Array, out: np.ndarray | None = None) -> np.ndarray:
        """Queue a copy to pinned host memory (`out`, if given); its values are valid when the work
        queued so far is done."""
        with self.on_device():
            out = self.pinned(x.shape, x.dtype) if out is None else out
            self.xp.asnumpy(x, out=out, blocking=False)
            self.in_flight.keep(out)
        return out

    def read_later(self, *arrays: Array) -> Callable[[], list[np.ndarray]]:
        """Queue copies to pinned host memory, and an event. The returned function waits for this
        event, so not for work that is queued later, and returns the copies."""
        copies = [self.queue_to_numpy(x) for x in arrays]
        copied = self.new_event(False, False)
        with self.on_device():
            copied.record(self.current_stream())

        def read() -> list[np.ndarray]:
            copied.synchronize()
            return copies

        return read

    def queue_from_numpy(self, x: np.ndarray) -> Array:
        """Copy to the GPU. From pinned memory the copy is asynchronous: the host must not write to
        that memory before it is done."""
        with self.on_device():
            out = self.with_operators(self.xp.asarray(x))
            if self.is_pinned(x):
                self.in_flight.keep(x)
        return out

    def copy_bytes(self, x: Array, out: Array) -> None:
        """Queue a copy of a contiguous array to `out`, which has the same memory order."""
        cuda = self.xp.cuda.runtime
        with self.on_device():
            cuda.memcpyAsync(
                self.address(out), self.address(x), x.nbytes, cuda.memcpyDeviceToDevice,
                self.stream(),
            )  # fmt: skip

    def copy_from(self, peer: CupyRuntime, x: Array) -> Array:
        """Copy another GPU's contiguous array without making the host, or other streams, wait. The
        copy runs on the other GPU's current stream, so that later work there can free the array.
        That stream first waits for this GPU's current stream, on which the copy's memory is
        allocated; this stream then waits for the copy."""
        with self.on_device():
            out: Array = self.xp.empty(x.shape, x.dtype)
        if not out.size:
            return out
        self._allow_peer(peer)
        here, there = self.current_stream(), peer.current_stream()
        is_free, is_made = self.new_event(False, False), peer.new_event(False, False)
        self.record(is_free, here)
        peer.wait_event(there, is_free)
        with peer.on_device():
            self.xp.cuda.runtime.memcpyPeerAsync(
                self.address(out), self.index, peer.address(x), peer.index, x.nbytes, there.ptr
            )
        peer.record(is_made, there)
        self.wait_event(here, is_made)
        return out

    def _allow_peer(self, peer: CupyRuntime) -> None:
        """Let another GPU write to this one's memory by their link, where they have one. (The
        driver copies by the host's memory where not.)"""
        if peer.index in self._peers:
            return
        self._peers.add(peer.index)
        cuda = self.xp.cuda.runtime
        if cuda.deviceCanAccessPeer(peer.index, self.index):
            # Other code in this process may have allowed it, or a GPU has its maximum of peers.
            with peer.on_device(), contextlib.suppress(cuda.CUDARuntimeError):
                cuda.deviceEnablePeerAccess(self.index)

    def pinned(self, shape: Shape, dtype: np.dtype) -> np.ndarray:
        """An uninitialised array in page-locked host memory."""
        import cupyx

        out: np.ndarray = cupyx.empty_pinned(shape, dtype)
        return out

    def is_pinned(self, x: np.ndarray) -> bool:
        return isinstance(memory_of(x), self.xp.cuda.PinnedMemoryPointer)

    @functools.cached_property
    def in_flight(self) -> InFlight:
        return InFlight(self)

    def record_stream(self, x: Array, stream: Any) -> None:
        """When the array is freed, do not reuse its memory before the work queued on the stream by
        then is done."""
        owner: Any = x if x.base is None else x.base
        self.in_flight.keep_when_freed(owner, owner.data.mem, stream)

    def synchronize(self) -> None:
        self._device.synchronize()
        self.in_flight.release()

    # Memory: CuPy's pool, which reports for the current device -----------------------------------

    def memory_allocated(self) -> int:
        """The bytes of blocks in use."""
        with self.on_device():
            return int(self.xp.get_default_memory_pool().used_bytes())

    def memory_reserved(self) -> int:
        """The bytes of all blocks of the pool."""
        with self.on_device():
            return int(self.xp.get_default_memory_pool().total_bytes())

    @functools.cached_property
    def peaks(self) -> Peaks:
        """The peaks of bytes in use and of the pool's bytes, since the first call of this."""
        pool, hook = self.xp.get_default_memory_pool(), self.xp.cuda.memory_hook.MemoryHook
        with self.on_device():
            return Peaks(pool, hook, self.index)

    def reset_peaks(self) -> None:
        with self.on_device():
            self.peaks.reset()

    def empty_cache(self) -> None:
        """Free the blocks that are not in use."""
        self.in_flight.release()
        with self.on_device():
            self.xp.get_default_memory_pool().free_all_blocks()

    def limit_memory(self, fraction: float) -> None:
        """Let the pool take this part of the GPU's memory (0: as much as there is)."""
        with self.on_device():
            self.xp.get_default_memory_pool().set_limit(fraction=fraction)

    def memory_of_device(self) -> tuple[int, int]:
        """Bytes free and bytes in all."""
        free, total = self._device.mem_info
        return int(free), int(total)
