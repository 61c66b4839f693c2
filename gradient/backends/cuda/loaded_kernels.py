"""Kernels on one GPU: their modules, loaded at first use, their launches and arguments."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gradient.backends.cuda import compilation, driver
from gradient.backends.cuda.launching import EACH
from gradient.errors import BackendError, DeviceError

MAX_DYNAMIC_SHARED = 8
"""CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES of the driver's interface."""
SHARED_PERCENTAGE = 9
"""CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT."""


class LoadedKernels:
    """The part of `CupyRuntime` that loads and launches kernels."""

    xp: Any
    index: int
    address: Any
    on_device: Callable[[], Any]
    use: Callable[[], None]
    stream: Callable[[], int]
    _device: Any
    _is_elsewhere: Callable[[], bool]

    def _begin_launches(self, cupy: Any) -> None:
        self._pointer: Any = cupy.cuda.function.CPointer
        # A cache of ints as kernel arguments. CuPy takes 0.24 us to make one; nearly all are sizes
        # and strides, which recur.
        self.integer: Any = functools.lru_cache(4096)(cupy.cuda.function.CIntptr)
        self._modules: dict[Any, Any] = {}
        self._functions: dict[str, Any] = {}
        self._compiled: set[str] = set()
        self._shared_allowed: dict[str, int] = {}
        self._early: set[str] = set()
        self._lock = threading.Lock()
        self._thread = threading.local()

    @property
    def compiled_dtype(self) -> str:
        """A dtype whose kernels are compiled already, for a kernel that is the same for all."""
        return min(self._compiled, default="float32")

    @property
    def architecture(self) -> str:
        """The architecture for NVRTC, such as "sm_80"; for an H100 "sm_90a", with features that no
        later GPU has."""
        return f"sm_{self._device.compute_capability}{'a' if self.has_warpgroups else ''}"

    @functools.cached_property
    def has_warpgroups(self) -> bool:
        """Whether the GPU has the instructions of `warpgroups.cuh`: only H100 and its kin (9.0)."""
        return int(self._device.compute_capability) == 90

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
        if early and self._may_be_early():
            if name not in self._early:
                self._prefer_shared(function, name)
            if self._called_early(function, grid, block, arguments, shared):
                return
        self._call(function, name, grid, block, arguments, shared)

    def _may_be_early(self) -> bool:
        return self.launches_early and getattr(self._thread, "captures", False)

    def _called_early(
        self,
        function: Any,
        grid: tuple[int, ...],
        block: int,
        arguments: tuple[Any, ...],
        shared: int = 0,
    ) -> bool:
        """Queue a kernel that may start before its predecessor has ended; False if the driver does
        not support that, and then none is tried any more."""
        given = [self._argument(a) for a in arguments]
        status = driver.launch_early(function.ptr, grid, block, shared, self.stream(), given)
        if status:
            self.launches_early = False
        return status == 0

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
        self, source: str, grid: tuple[int, ...], block: int, *arguments: Any, early: bool = False
    ) -> None:
        """Queue the kernel `fused` of a generated source; `early` as in `launch`."""
        with self.on_device():
            function = self._functions.get(source)
            if function is None:
                code = compilation.compiled(source, "fused.cu", self.architecture)
                function = self._module(source, code).get_function("fused")
                self._functions[source] = function
            if (
                early
                and self._may_be_early()
                and self._called_early(function, grid, block, arguments)
            ):
                return
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

    def _prefer_shared(self, function: Any, name: str) -> None:
        """Prefer shared memory to L1 cache. A multiprocessor divides one memory between them, and
        changes that only while it is idle, so kernels that overlap need the same division."""
        self.use()
        self.xp.cuda.driver.funcSetAttribute(function.ptr, SHARED_PERCENTAGE, 100)
        self._early.add(name)

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
