"""What the backend asks of a GPU: arrays' memory, launches, copies. CuPy answers.

Tests put another object in its place, which runs the same kernels on the CPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.cuda import compilation, driver
from gradient.backends.cuda.cublas import Cublas
from gradient.backends.cuda.cublas_lt import CublasLt
from gradient.backends.cuda.graphs import GraphRecorder
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
        except cupy.cuda.runtime.CUDARuntimeError as error:  # a driver that is too old for it
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
                cupy.cuda.runtime.memGetInfo()  # makes CUDA's context there
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
        self.new_array: Any = cupy.ndarray  # which `empty` calls, as often as anything
        self._pointer: Any = cupy.cuda.function.CPointer
        # An int as kernels get it. CuPy makes one in 0.24 us for each argument of each launch;
        # nearly all are sizes and strides, which come again.
        self._number: Any = functools.lru_cache(4096)(cupy.cuda.function.CIntptr)
        self._modules: dict[Any, Any] = {}
        self._functions: dict[str, Any] = {}
        self._compiled: set[str] = set()
        self._peers: set[int] = set()
        self._shared_allowed: dict[str, int] = {}
        self._lock = threading.Lock()
        self._thread = threading.local()

    def on_device(self) -> Any:
        """A context in which what is made lies on this GPU. (Each thread has a device of its own
        that is current, the first one until it is told another.)"""
        return self.xp.cuda.Device(self.index) if self._is_elsewhere() else ALREADY_THERE

    def _is_elsewhere(self) -> bool:
        """Whether another GPU is the thread's current one."""
        return self.count > 1 and self._current_device() != self.index

    def use(self) -> None:
        """Make this GPU the thread's current one, for functions of the driver, too: these need its
        context, which a new thread does not have before."""
        self._device.use()

    @property
    def architecture(self) -> str:
        """What NVRTC compiles for, such as "sm_80": of an H100 with what no later GPU has."""
        return f"sm_{self._device.compute_capability}{'a' if self.has_warpgroups else ''}"

    @functools.cached_property
    def has_tensor_cores(self) -> bool:
        """Whether there are the instructions of `tensor_cores.cuh`: on an A100 and what came
        after."""
        return int(self._device.compute_capability) >= 80

    @functools.cached_property
    def has_warpgroups(self) -> bool:
        """Whether there are the instructions of `warpgroups.cuh`: on an H100 and its kin alone."""
        return int(self._device.compute_capability) == 90

    @functools.cached_property
    def has_float8_products(self) -> bool:
        """Whether tensor cores multiply 8-bit floats: those of an L4 or H100, and later."""
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
        so many bytes of `shared` memory. Arguments are arrays, None for a null pointer, Python's
        ints for those of 64 bits, NumPy's scalars of the types that the kernel takes, and its
        arrays of one structure, which go by value. `early` lets it begin, in a graph, before the
        kernel queued before it has ended, for which it waits itself (`following.cuh`)."""
        if self._is_elsewhere():  # another thread, or an array elsewhere, may have changed it
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
        number = self._number
        values = [
            number(a) if type(a) is int else self._by_value(a) if type(a) is np.ndarray else a
            for a in arguments
        ]
        try:
            function(grid, (block,), values, shared)
        except self.xp.cuda.driver.CUDADriverError as error:
            raise BackendError(
                f"cuda:{self.index}: kernel {name} was not launched, of {grid} blocks of {block} "
                f"threads with {shared:,} bytes of shared memory: {error}; or an earlier kernel "
                "failed"
            ) from error

    @functools.cached_property
    def launches_early(self) -> bool:
        """Whether graphs have kernels begin before the ones before them have ended. Setting it
        False is for looking for faults: results do not hang on it."""
        return int(self._device.compute_capability) >= 90 and driver.launches_early()

    @contextlib.contextmanager
    def capturing(self) -> Iterator[None]:
        """While this thread captures a graph: outside of one, a kernel that begins early might
        read weights that others are still writing."""
        self._thread.captures = True
        try:
            yield
        finally:
            self._thread.captures = False

    def _argument(self, x: Any) -> Any:
        """An argument of a launch as ctypes has it: of what is NumPy's, the bytes."""
        if x is None:
            return ctypes.c_void_p(0)
        if isinstance(x, self.xp.ndarray):
            return ctypes.c_void_p(self.address(x))
        return ctypes.c_longlong(x) if type(x) is int else ctypes.create_string_buffer(x.tobytes())

    def _by_value(self, structure: Any) -> Any:
        """What CuPy takes for an argument that lies there. (Of an array it asks NumPy, in more time
        than all the rest of a launch.)"""
        return self._pointer(ctypes.addressof(ctypes.c_char.from_buffer(structure)))

    def launch_source(
        self, source: str, grid: tuple[int, ...], block: int, *arguments: Any
    ) -> None:
        """Queue the kernel `fused` of a source that was made for it."""
        with self.on_device():
            function = self._functions.get(source)
            if function is None:
                code = compilation.compiled(source, "fused.cu", self.architecture)
                function = self._module(source, code).get_function("fused")
                self._functions[source] = function
            self._call(function, "fused", grid, block, arguments)

    def _allow_shared(self, function: Any, name: str, shared: int) -> None:
        """More than 48 KiB of shared memory have to be asked for, once. What a kernel declares in
        its source counts towards the 48, so that less of what is asked for here may be too much."""
        if self._shared_allowed.get(name, 0) >= shared:
            return
        with self._lock:  # or a thread that asks for less would take back what another was given
            if self._shared_allowed.get(name, 0) < shared:
                self.use()
                self.xp.cuda.driver.funcSetAttribute(function.ptr, MAX_DYNAMIC_SHARED, shared)
                self._shared_allowed[name] = shared

    @functools.cached_property
    def max_shared(self) -> int:
        """Bytes of shared memory that a block can be given: 163 KiB on an A100, 227 on an H100, 99
        on many others."""
        return int(self._device.attributes["MaxSharedMemoryPerBlockOptin"])

    @functools.cached_property
    def multiprocessors(self) -> int:
        """How many it has: 108 on an A100, 132 on an H100."""
        return int(self._device.attributes["MultiProcessorCount"])

    def _load(self, family: str, name: str, dtype: str) -> Any:
        with self._lock:
            self.use()
            key = family, dtype
            if key not in self._modules:
                if dtype not in self._compiled:  # its families will be needed one after the other
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
        self._modules[key] = module  # only now: one that did not load has no functions
        return module

    def address(self, x: Array) -> int:
        """Where the array's first element lies."""
        memory: Any = x.data
        address: int = memory.ptr
        return address

    def stream(self) -> int:
        """The stream on which work is queued: CuPy's current one."""
        return int(self.xp.cuda.get_current_stream().ptr)

    def new_stream(self, priority: int) -> Any:
        """A stream that does not wait for the default one."""
        with self.on_device():
            return self.xp.cuda.Stream(non_blocking=True, priority=priority)

    def new_event(self, timed: bool, blocking: bool) -> Any:
        with self.on_device():
            return self.xp.cuda.Event(block=blocking, disable_timing=not timed)

    # The default stream has one name on all GPUs: it is that of the current one.

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
        """So many bytes of the GPU's memory, whatever they hold."""
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
        """A copy in pinned memory of the host, `out` if it is given, whose values have come when
        the work that is queued up to here is done."""
        with self.on_device():
            out = self.pinned(x.shape, x.dtype) if out is None else out
            self.xp.asnumpy(x, out=out, blocking=False)
            self.in_flight.keep(out)
        return out

    def queue_from_numpy(self, x: np.ndarray) -> Array:
        """A copy on the GPU. From pinned memory it is made while the host goes on, which must not
        write there before it is done."""
        with self.on_device():
            out: Array = self.xp.asarray(x)
            if self.is_pinned(x):
                self.in_flight.keep(x)
        return out

    def copy_bytes(self, x: Array, out: Array) -> None:
        """Queue a copy of an array whose bytes lie as those of `out` do, without gaps."""
        cuda = self.xp.cuda.runtime
        with self.on_device():
            cuda.memcpyAsync(
                self.address(out), self.address(x), x.nbytes, cuda.memcpyDeviceToDevice,
                self.stream(),
            )  # fmt: skip

    def copy_from(self, peer: CupyRuntime, x: Array) -> Array:
        """A copy of another GPU's array, which has no gaps, that neither the host nor work of other
        streams waits for. It is made on the other GPU's current stream: so what frees the array
        there comes after it. That stream first waits for this GPU's current one, on which the copy
        gets its memory, and this one then for the copy."""
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
            # Something else in this process may have allowed it, or a GPU have its most peers.
            with peer.on_device(), contextlib.suppress(cuda.CUDARuntimeError):
                cuda.deviceEnablePeerAccess(self.index)

    def pinned(self, shape: Shape, dtype: np.dtype) -> np.ndarray:
        """An array in page-locked memory of the host, whatever it holds."""
        import cupyx

        out: np.ndarray = cupyx.empty_pinned(shape, dtype)
        return out

    def is_pinned(self, x: np.ndarray) -> bool:
        return isinstance(memory_of(x), self.xp.cuda.PinnedMemoryPointer)

    @functools.cached_property
    def in_flight(self) -> InFlight:
        return InFlight(self)

    def record_stream(self, x: Array, stream: Any) -> None:
        """Have the array's memory serve nothing else, once it is freed, before what is queued on
        the stream by then is done."""
        owner: Any = x if x.base is None else x.base
        self.in_flight.keep_when_freed(owner, owner.data.mem, stream)

    def synchronize(self) -> None:
        self._device.synchronize()
        self.in_flight.release()

    # Memory is CuPy's: a pool, which answers for the device that is current ----------------------

    def memory_allocated(self) -> int:
        """Bytes of blocks in use."""
        with self.on_device():
            return int(self.xp.get_default_memory_pool().used_bytes())

    def memory_reserved(self) -> int:
        """Bytes of all blocks that the pool holds."""
        with self.on_device():
            return int(self.xp.get_default_memory_pool().total_bytes())

    @functools.cached_property
    def peaks(self) -> Peaks:
        """The most bytes that were in use, and that the pool held, since this was first asked."""
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
