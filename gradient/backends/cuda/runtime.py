"""The backend's access to a GPU through CuPy: memory of arrays, launches, copies.

Tests replace it by an object that runs the same kernels on the CPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import operator
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.cuda import compilation, driver
from gradient.backends.cuda.arithmetic import Arithmetic, give_operators
from gradient.backends.cuda.cublas import Cublas
from gradient.backends.cuda.cublas_lt import CublasLt
from gradient.backends.cuda.graphs import GraphRecorder
from gradient.backends.cuda.launching import EACH
from gradient.backends.cuda.memory import InFlight, Peaks
from gradient.backends.packed import memory_of
from gradient.backends.recording_backend import OpaqueArray
from gradient.backends.required import Shape
from gradient.errors import BackendError, DeviceError

ALREADY_THERE = contextlib.nullcontext()
MAX_DYNAMIC_SHARED = 8
"""CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES of the driver's interface."""


class CupyRuntime:
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
        self._pointer: Any = cupy.cuda.function.CPointer
        # A cache of ints as kernel arguments. CuPy takes 0.24 us to make one; nearly all are sizes
        # and strides, which recur.
        self.integer: Any = functools.lru_cache(4096)(cupy.cuda.function.CIntptr)
        self.new_array: Any = type("Array", (cupy.ndarray,), {"__slots__": ()})
        self.arithmetic = Arithmetic(self)
        give_operators(self.new_array, self)
        self._modules: dict[Any, Any] = {}
        self._functions: dict[str, Any] = {}
        self._compiled: set[str] = set()
        self._peers: set[int] = set()
        self._shared_allowed: dict[str, int] = {}
        self._lock = threading.Lock()
        self._thread = threading.local()

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

    @property
    def architecture(self) -> str:
        """The architecture for NVRTC, such as "sm_80"; for an H100 "sm_90a", with features that no
        later GPU has."""
        return f"sm_{self._device.compute_capability}{'a' if self.has_warpgroups else ''}"

    @functools.cached_property
    def has_tensor_cores(self) -> bool:
        """Whether the GPU has the instructions of `tensor_cores.cuh`: an A100 or later."""
        return int(self._device.compute_capability) >= 80

    @functools.cached_property
    def has_warpgroups(self) -> bool:
        """Whether the GPU has the instructions of `warpgroups.cuh`: only H100 and its kin (9.0)."""
        return int(self._device.compute_capability) == 90

    @functools.cached_property
    def has_float8_products(self) -> bool:
        """Whether tensor cores multiply 8-bit floats: on an L4, an H100, or later."""
        return int(self._device.compute_capability) >= 89

    def launch(
        self,
        family: str,
        kernel: str,
        dtype: str,
        grid: tuple[int, ...],
        block: int,
        *arguments: Any,
        shared: int = 0,
        early: bool = False,
    ) -> None:
        """Queue a kernel of kernels/FAMILY.cu for a dtype: `grid` blocks of `block` threads, with
        `shared` bytes of shared memory. Arguments are arrays, None (a null pointer), Python ints
        (64 bits), NumPy scalars of the kernel's types, and NumPy arrays of one structure, which are
        passed by value. With `early`, in a graph, it may start before its predecessor has ended,
        and itself waits for that (`following.cuh`)."""
        if self._is_elsewhere():  # another GPU may have become the current one
            with self.on_device():
                self.launch(
                    family, kernel, dtype, grid, block, *arguments, shared=shared, early=early
                )
            return
        name = f"{kernel}_{dtype}"
        function = self._functions.get(name) or self._load(family, name, dtype)
        if shared:
            self._allow_shared(function, name, shared)
        if early and self.launches_early and getattr(self._thread, "captures", False):
            given = [self._argument(a) for a in arguments]
            status = driver.launch_early(function.ptr, grid, block, shared, self.stream(), given)
            if status == 0:
                return
            self.launches_early = False
        self._call(function, name, grid, block, arguments, shared)

    def _call(
        self,
        function: Any,
        name: str,
        grid: tuple[int, ...],
        block: int,
        arguments: tuple[Any, ...],
        shared: int = 0,
    ) -> None:
        number, structure = self.integer, np.ndarray
        values = [
            number(a) if type(a) is int else self.by_value(a) if type(a) is structure else a
            for a in arguments
        ]
        try:
            function(grid, (block,), values, shared)
        except self.xp.cuda.driver.CUDADriverError as error:
            raise self._not_launched(name, grid, block, shared, error) from error

    def _not_launched(
        self, name: str, grid: tuple[int, ...], block: int, shared: int, error: Exception
    ) -> BackendError:
        return BackendError(
            f"cuda:{self.index}: kernel {name} was not launched, of {grid} blocks of {block} "
            f"threads with {shared:,} bytes of shared memory: {error}; or an earlier kernel failed"
        )

    @functools.cached_property
    def launches_early(self) -> bool:
        """Whether kernels in graphs may start before their predecessors have ended. Set it to False
        only for debugging: results do not depend on it."""
        return int(self._device.compute_capability) >= 90 and driver.launches_early()

    @contextlib.contextmanager
    def capturing(self) -> Iterator[None]:
        """Context in which this thread captures a graph. Outside of graphs kernels do not start
        early, as they might read weights that other kernels are still writing."""
        self._thread.captures = True
        try:
            yield
        finally:
            self._thread.captures = False

    def _argument(self, x: Any) -> Any:
        """An argument of a launch as a ctypes value; for NumPy values, their bytes."""
        if x is None:
            return ctypes.c_void_p(0)
        if isinstance(x, self.xp.ndarray):
            return ctypes.c_void_p(self.address(x))
        return ctypes.c_longlong(x) if type(x) is int else ctypes.create_string_buffer(x.tobytes())

    def by_value(self, structure: Any) -> Any:
        """An object that CuPy accepts as an argument by value. (For a NumPy array, CuPy's own
        conversion takes longer than the rest of a launch.)"""
        return self._pointer(ctypes.addressof(ctypes.c_char.from_buffer(structure)))

    def launcher(self, family: str, kernel: str, dtype: str) -> Callable[..., None]:
        """A function that queues a kernel with blocks of 256 threads: a launch with everything
        prepared but the number of blocks and the arguments, which are arrays, None, and what
        `integer`, `real` and `by_value` give."""
        name = f"{kernel}_{dtype}"
        function = self._functions.get(name) or self._load(family, name, dtype)
        block, refused = (EACH,), self.xp.cuda.driver.CUDADriverError

        def launch(blocks: int, *arguments: Any) -> None:
            try:
                function((blocks,), block, arguments)
            except refused as error:
                raise self._not_launched(name, (blocks,), EACH, 0, error) from error

        return launch

    def real(self, value: float, dtype: np.dtype) -> Any:
        """A float32 or float64 argument: a pointer to its bits."""
        bits = np.array(value, dtype).tobytes()
        return self.integer(int.from_bytes(bits, sys.byteorder, signed=True))

    def launch_source(
        self, source: str, grid: tuple[int, ...], block: int, *arguments: Any
    ) -> None:
        """Queue the kernel `fused` of a generated source."""
        with self.on_device():
            function = self._functions.get(source)
            if function is None:
                code = compilation.compiled(source, "fused.cu", self.architecture)
                function = self._module(source, code).get_function("fused")
                self._functions[source] = function
            self._call(function, "fused", grid, block, arguments)

    def _allow_shared(self, function: Any, name: str, shared: int) -> None:
        """Allow a kernel more than 48 KiB of shared memory, which is needed once. Shared memory
        declared in its source counts towards the 48."""
        if self._shared_allowed.get(name, 0) >= shared:
            return
        with self._lock:  # else a thread that sets less could undo another's setting
            if self._shared_allowed.get(name, 0) < shared:
                self.use()
                self.xp.cuda.driver.funcSetAttribute(function.ptr, MAX_DYNAMIC_SHARED, shared)
                self._shared_allowed[name] = shared

    @functools.cached_property
    def max_shared(self) -> int:
        """The most shared memory of a block, in bytes: 163 KiB on an A100, 227 on an H100, 99 on
        many others."""
        return int(self._device.attributes["MaxSharedMemoryPerBlockOptin"])

    @functools.cached_property
    def multiprocessors(self) -> int:
        """The number of multiprocessors: 108 on an A100, 132 on an H100."""
        return int(self._device.attributes["MultiProcessorCount"])

    def _load(self, family: str, name: str, dtype: str) -> Any:
        with self._lock:
            self.use()
            key = family, dtype
            if key not in self._modules:
                if dtype not in self._compiled:  # all its families will be needed
                    self._compiled.add(dtype)
                    compilation.compile_all(self.architecture, dtype)
                self._module(key, compilation.cubin(family, dtype, self.architecture))
            function = self._functions[name] = self._modules[key].get_function(name)
        return function

    def _module(self, key: Any, code: bytes) -> Any:
        module = self.xp.cuda.Module()
        try:
            module.load(code)
        except self.xp.cuda.driver.CUDADriverError as error:
            raise DeviceError(
                f"cuda:{self.index}: kernels were not loaded: {error}; if it says so again, delete "
                f"{compilation.cache_folder()}, where they are kept"
            ) from error
        self._modules[key] = module  # only after its functions have loaded
        return module

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
