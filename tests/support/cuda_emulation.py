"""Kernels of the CUDA backend on the CPU: compiled by g++ and run by `cuda_emulator/emulator.h`."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import functools
import hashlib
import math
import os
import re
import subprocess
import tempfile
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gradient.backends.cuda import kernels
from gradient.backends.cuda.arithmetic import Arithmetic, give_operators
from gradient.backends.cuda.cublas import Cublas
from gradient.backends.cuda.cublas_lt import CublasLt
from gradient.backends.cuda.launching import EACH
from gradient.backends.cuda.runtime import CupyRuntime
from gradient.backends.recording_backend import OpaqueArray
from support import fake_cublas, fake_cupy

HEADERS = Path(__file__).with_name("cuda_emulator")
OPTIONS = (
    *("-std=c++17", "-O1", "-w", "-U_FORTIFY_SOURCE", "-ffp-contract=off"),
    *("-fsanitize=alignment", "-fPIC"),
    "-fno-gnu-unique",  # each library has a state of its own
)
RACES = ("-DRACES", "-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0")
FOLDERS = [f"-I{HEADERS}", f"-I{kernels.FOLDER}"]
ORDERS = (0, 1, 2)
"""The orders in which a block's warps run: first to last, last to first, mixed."""

_extents: dict[int, tuple[int, int]] = {}
"""The first and last byte of arrays whose address a structure may hold."""
finds_races = False
"""Whether kernels are compiled so that races are found (`cuda_emulator/races.h`)."""

_lock = threading.Lock()


def library(name: str, source: str | None = None) -> ctypes.CDLL:
    """The kernels of `name`.cu, or of `source`, with a function `launch_KERNEL` for each."""
    return _library(name, source, (*OPTIONS, *RACES) if finds_races else OPTIONS)


@functools.cache
def _library(name: str, source: str | None, options: tuple[str, ...]) -> ctypes.CDLL:
    text = _prepared(name, source)
    expanded = _expanded(text, options)
    launches = ""
    for kernel in _exported(expanded):
        launches += (
            f'extern "C" const char* launch_{kernel}(const unsigned* grid, const unsigned* block, '
            "size_t shared, int order, const char* types, void** arguments) { return "
            f"emulator::launch({kernel}, grid, block, shared, order, types, arguments); }}\n"
        )
    launches += 'extern "C" long long bank_conflicts() { return emulator::state.bank_conflicts; }\n'
    launches += 'extern "C" long long waits() { return emulator::state.waits; }\n'
    launches += 'extern "C" long long fetches() { return emulator::state.fetches; }\n'
    launches += 'extern "C" void end_at_waits(int on) { emulator::state.ends_at_waits = on; }\n'
    if "-DRACES" in options:
        launches += (
            'extern "C" void watch_arrays(int count, const uintptr_t* starts, const uintptr_t* '
            "stops) { emulator::watch_arrays(count, starts, stops); }\n"
        )
    return ctypes.CDLL(str(_compiled(text + launches, expanded + launches, options)))


def is_wrong(check: Callable[[], bool]) -> bool:
    """Whether a check that kernels are wrong says so, or ends its process.

    It runs in a fork, for a kernel that reads a place too early may write outside its arrays.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        child = os.fork()
    if child == 0:
        faulthandler.disable()
        try:
            os._exit(check())
        finally:
            os._exit(2)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code != 2, "the check raised"
    return code != 0


def bank_conflicts(kernels: ctypes.CDLL) -> int:
    """How many matrices the kernels of a library have read by `ldmatrix` from rows that lie in the
    same banks of shared memory, which a GPU reads one after the other."""
    kernels.bank_conflicts.restype = ctypes.c_longlong
    conflicts: int = kernels.bank_conflicts()
    return conflicts


def fetches(kernels: ctypes.CDLL) -> int:
    """How many cache lines the kernels of a library have fetched to the L2 cache."""
    kernels.fetches.restype = ctypes.c_longlong
    count: int = kernels.fetches()
    return count


@contextlib.contextmanager
def ending_at_waits(kernels: ctypes.CDLL) -> Iterator[Callable[[], int]]:
    """Threads end where they would wait for the kernel before (`following.cuh`): how many did."""
    kernels.waits.restype = ctypes.c_longlong
    before = kernels.waits()
    kernels.end_at_waits(1)
    try:
        yield lambda: kernels.waits() - before
    finally:
        kernels.end_at_waits(0)


def kernel_names(name: str) -> list[str]:
    """The kernels that `name`.cu exports."""
    return _exported(_expanded(_prepared(name, None), OPTIONS))


def _prepared(name: str, source: str | None) -> str:
    """The text that g++ compiles."""
    text = (kernels.FOLDER / f"{name}.cu").read_text() if source is None else source
    # An array whose size the launch gives.
    shared = r"extern\s+__shared__\s+([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;"
    text = re.sub(shared, r"\1* \2 = static_cast<\1*>(emulator::dynamic_shared());", text)
    return f'#include "emulator.h"\n#line 1 "{name}.cu"\n{text}\n'


def _expanded(text: str, options: tuple[str, ...]) -> str:
    """The same with what it includes, macros expanded."""
    return _run(["g++", *options, *FOLDERS, "-E", "-P", "-x", "c++", "-"], text)


def _exported(expanded: str) -> list[str]:
    return re.findall(r'extern "C" +void (\w+)\(', expanded)


def _compiled(text: str, expanded: str, options: tuple[str, ...]) -> Path:
    """The shared library, compiled if no earlier run left one of the same expanded text."""
    digest = hashlib.sha256("\n".join([expanded, *options]).encode())
    built = _cache() / f"{digest.hexdigest()[:20]}.so"
    if not built.exists():
        partial = built.with_name(f"{built.name}.{os.getpid()}")
        code = partial.with_name(f"{partial.name}.o")  # of this process alone, too
        # Linked apart from it, `-fsanitize` brings no library: the emulator has what is called.
        command = ["g++", *options, f"-I{_header(options).parent}", *FOLDERS]
        _run([*command, "-c", "-x", "c++", "-", "-o", str(code)], text)
        _run(["g++", "-shared", str(code), "-o", str(partial)], "")
        code.unlink()
        partial.replace(built)  # whole or not at all, for another process may look
    return built


@functools.cache
def _header(options: tuple[str, ...]) -> Path:
    """`emulator.h` as g++ reads it quickly: alone it took 0.4 s of each library's 0.9."""
    header = HEADERS / "emulator.h"
    texts = [path.read_text() for path in sorted(HEADERS.glob("*.h"))]
    version = _run(["g++", "--version"], "")
    digest = hashlib.sha256("\n".join([*texts, version, *options]).encode())
    built = _cache() / digest.hexdigest()[:20] / "emulator.h.gch"
    if not built.exists():
        built.parent.mkdir(exist_ok=True)
        partial = built.with_name(f"{built.name}.{os.getpid()}")
        _run(["g++", *options, "-x", "c++-header", str(header), "-o", str(partial)], "")
        partial.replace(built)
    return built


def _cache() -> Path:
    cache = Path(tempfile.gettempdir()) / f"gradient-cuda-emulation-{os.getuid()}"
    cache.mkdir(exist_ok=True)
    return cache


def _run(command: list[str], text: str) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


class EmulatedRuntime:
    """The GPU of the tests: NumPy's arrays, and kernels that run when they are launched."""

    xp: Any = np
    compiled_dtype = "float32"
    max_shared, multiprocessors = 227 << 10, 132
    has_tensor_cores = has_float8_products = has_warpgroups = True

    def __init__(self, order: int = 0):
        self.order = order
        self.launched: list[str] = []
        self.copied: list[str] = []
        """The same of the family `copies`, and copies by the driver."""
        self.cublas = fake_cublas.Library(self.launched)

    @functools.cached_property
    def blas(self) -> Cublas:
        return Cublas(self, self.cublas)

    @functools.cached_property
    def blas_lt(self) -> CublasLt:
        return CublasLt(self, self.blas, self.cublas)

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
        name = f"{kernel}_{dtype}"
        if shared > self.max_shared:
            raise RuntimeError(f"{name} asks for {shared} bytes of shared memory")
        launch(library(family), name, grid, block, *arguments, shared=shared, order=self.order)
        (self.copied if family == "copies" else self.launched).append(name)

    integer = by_value = staticmethod(lambda x: x)
    is_contiguous = staticmethod(lambda x: isinstance(x, np.ndarray) and x.flags.c_contiguous)
    with_operators = staticmethod(lambda x: x)
    count = 1

    @functools.cached_property
    def arithmetic(self) -> Arithmetic:
        return Arithmetic(self)

    def launcher(self, family: str, kernel: str, dtype: str) -> Callable[..., None]:
        return lambda blocks, *arguments: self.launch(
            family, kernel, dtype, (blocks,), EACH, *arguments
        )

    def real(self, value: float, dtype: np.dtype) -> Any:
        return dtype.type(value)

    def clear(self, x: Any) -> None:
        x[...] = 0
        self.copied.append("memset")

    def launch_source(
        self, source: str, grid: tuple[int, ...], block: int, *arguments: Any, early: bool = False
    ) -> None:
        launch(library("fused", source), "fused", grid, block, *arguments, order=self.order)
        self.launched.append("fused")

    def copy_bytes(self, x: Any, out: Any) -> None:
        np.copyto(out, x)
        self.copied.append("memcpy")

    def on_device(self) -> Any:
        return contextlib.nullcontext()

    def new_array(self, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        return fake_cupy.unwritten(shape, dtype)

    def address(self, x: np.ndarray) -> int:
        start, stop = np.lib.array_utils.byte_bounds(x)
        self.cublas.memory[start] = max(self.cublas.memory.get(start, 0), stop - start)
        if finds_races:
            _extents[x.ctypes.data] = start, stop
        return x.ctypes.data

    def stream(self) -> int:
        return 7

    def reserve(self, size: int) -> Any:
        return self.new_array((size,), np.dtype(np.uint8))

    def is_pinned(self, x: np.ndarray) -> bool:
        return False

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return np.empty(shape, dtype)

    def queue_to_numpy(self, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        out[...] = x
        return out

    def to_numpy(self, x: np.ndarray) -> np.ndarray:
        return np.array(x)

    def synchronize(self) -> None:
        pass


class FakeGraph:
    """Work that `fake_cupy` has captured."""

    def __init__(self, work: list[Any]):
        self.work, self.launches = work, 0

    @property
    def nodes(self) -> int:
        """The number of kernels, copies and memsets in it."""
        return sum(not isinstance(each, fake_cupy.Allocating) for each in self.work)

    def launch(self) -> None:
        self.launches += 1
        for each in self.work:
            each()


class FakeRecorder:
    """`cuda.graphs.GraphRecorder` over `fake_cupy`: nothing is done while it captures."""

    nbytes = 0

    def __init__(self) -> None:
        self.graphs: list[FakeGraph] = []

    def run(self, program: Any) -> Any:
        return program()

    def capture(self, program: Any) -> Any:
        fake_cupy.capture.work = work = []
        try:
            result = program()
        finally:
            fake_cupy.capture.work = None
        self.graphs.append(FakeGraph(work))
        return self.graphs[-1], result


class FakeStream:
    """CuPy's stream, and how much of its work is done: what the test lets it do, or waits for.

    Copies to the host that are queued are made then, and not before.

    Attributes:
        copies: those that are not made yet: the number of the next event, and the arrays.
    """

    def __init__(self) -> None:
        self.recorded, self.finished = 0, 0
        self.copies: list[tuple[int, Any, Any]] = []
        self._lock = threading.Lock()

    def copy(self, x: np.ndarray, out: np.ndarray) -> None:
        """Queue out[...] = x, of what x holds now; until it is made, `out` holds NaN or -1."""
        out[...] = fake_cupy.unwritten(out.shape, out.dtype)
        with self._lock:
            self.copies.append((self.recorded + 1, np.array(x), out))

    def record(self) -> int:
        """Record an event; return its number."""
        with self._lock:  # threads share the stream
            self.recorded += 1
            return self.recorded

    def finish(self, at: int | None = None) -> None:
        """Do the work before an event, or all."""
        with self._lock:
            self.finished = self.recorded if at is None else max(self.finished, at)
            done = self.recorded + 1 if at is None else at
            for number, x, out in self.copies:
                if number <= done:
                    out[...] = x
            self.copies = [each for each in self.copies if each[0] > done]


class FakeEvent:
    """CuPy's event: done when its stream is."""

    def record(self, stream: FakeStream) -> None:
        self.stream, self.at = stream, stream.record()

    @property
    def done(self) -> bool:
        return self.at <= self.stream.finished

    def synchronize(self) -> None:
        """Wait for the work before it."""
        fake_cupy.waits.append("event")
        self.stream.finish(self.at)


class FakeRuntime(EmulatedRuntime):
    """The same with arrays that keep CuPy's rules (`fake_cupy`): for the backend's own Python."""

    xp = fake_cupy.module
    OpaqueArray.register(fake_cupy.ndarray)
    queue_from_numpy = CupyRuntime.queue_from_numpy
    read_later = CupyRuntime.read_later
    record_stream = CupyRuntime.record_stream
    in_flight = CupyRuntime.in_flight

    def __init__(self, order: int = 0):
        super().__init__(order)
        self.new_array: Any = type("Array", (fake_cupy.ndarray,), {"__slots__": ()})
        give_operators(self.new_array, self)
        self.default = FakeStream()
        self.reset_peaks()

    def current_stream(self) -> FakeStream:
        return self.default

    def new_event(self, timed: bool, blocking: bool) -> FakeEvent:
        return FakeEvent()

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        size = math.prod(shape)
        memory = fake_cupy.PinnedMemoryPointer(max(1, size * dtype.itemsize))
        return np.frombuffer(memory, dtype, size).reshape(shape)

    def is_pinned(self, x: np.ndarray) -> bool:
        return fake_cupy.is_pinned(x)

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
        if any(isinstance(a, np.ndarray) and a.dtype.names is None for a in arguments):
            raise TypeError("a kernel was given NumPy's array")
        if max((*grid, 1, 1)[1:3]) > 65535 or 0 in grid:
            raise ValueError(f"a grid of {grid} blocks cannot be launched")
        hosts = [a._host if isinstance(a, fake_cupy.ndarray) else a for a in arguments]
        run = super().launch
        fake_cupy.queue(lambda: run(family, kernel, dtype, grid, block, *hosts, shared=shared))

    is_contiguous = CupyRuntime.is_contiguous
    with_operators, clear = CupyRuntime.with_operators, CupyRuntime.clear

    def copy_bytes(self, x: Any, out: Any) -> None:
        run, x, out = super().copy_bytes, x._host, out._host
        fake_cupy.queue(lambda: run(x, out))

    def launch_source(
        self, source: str, grid: tuple[int, ...], block: int, *arguments: Any, early: bool = False
    ) -> None:
        hosts = [a._host if isinstance(a, fake_cupy.ndarray) else a for a in arguments]
        run = super().launch_source
        fake_cupy.queue(lambda: run(source, grid, block, *hosts, early=early))

    def address(self, x: Any) -> int:
        if fake_cupy.capture.work is not None:
            self.cublas.kept.append(x._host)
        return super().address(x._host)

    def empty_cache(self) -> None:
        pass

    def reset_peaks(self) -> None:
        self.peaks = types.SimpleNamespace(allocated=1 << 20, reserved=1 << 21)

    def queue_to_numpy(self, x: Any, out: np.ndarray | None = None) -> np.ndarray:
        out = self.pinned(x.shape, x.dtype) if out is None else out
        self.default.copy(x._host, out)
        self.in_flight.keep(out)
        return out

    def graph_recorder(self) -> FakeRecorder:
        return FakeRecorder()

    def to_numpy(self, x: Any) -> np.ndarray:
        values: np.ndarray = self.xp.asnumpy(x)
        self.default.finish()
        return values

    def synchronize(self) -> None:
        fake_cupy.waits.append("synchronize")
        self.default.finish()
        self.in_flight.release()


def launch(
    kernels: ctypes.CDLL,
    name: str,
    grid: tuple[int, ...],
    block: int,
    *arguments: Any,
    shared: int = 0,
    order: int = 0,
) -> None:
    """Runs a kernel of a library to its end. What CuPy would refuse is refused."""
    if type(grid) is not tuple:  # Cython takes no class that is derived from it
        raise TypeError(f"a grid is a tuple, got {type(grid).__name__}")
    types, values = "", []
    for argument in arguments:
        if argument is None:
            types, value = types + "P", ctypes.c_void_p(None)
        elif isinstance(argument, np.ndarray) and argument.dtype.names:  # a struct, by its value
            if argument.size != 1 or not (argument.flags.writeable and argument.flags.c_contiguous):
                raise TypeError(f"one structure that may be written, got {argument!r}")
            types, value = types + "s", ctypes.create_string_buffer(argument.tobytes())
        elif isinstance(argument, np.ndarray):
            types, value = types + "P", ctypes.c_void_p(argument.ctypes.data)
        elif type(argument) is int:  # of a bool CuPy makes a byte
            types, value = types + "q", ctypes.c_longlong(argument)
        else:
            kind = {"f": ctypes.c_float, "d": ctypes.c_double, "q": ctypes.c_longlong}
            char = {"l": "q"}.get(argument.dtype.char, argument.dtype.char)
            types, value = types + char, kind[char](argument.item())
        values.append(value)
    pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
    if hasattr(kernels, "watch_arrays"):
        _watch_arrays(kernels, arguments)
    run = getattr(kernels, f"launch_{name}")
    run.restype = ctypes.c_char_p
    three = ctypes.c_uint * 3
    with _lock:
        error = run(
            three(*(*grid, 1, 1)[:3]),
            three(block, 1, 1),
            ctypes.c_size_t(shared),
            order,
            types.encode(),
            pointers,
        )
    if error:
        raise RuntimeError(f"{name} {error.decode()}")


def _watch_arrays(kernels: ctypes.CDLL, arguments: tuple[Any, ...]) -> None:
    """Tells a library that finds races where the next launch's arrays are."""
    extents = []
    for argument in arguments:
        if not isinstance(argument, np.ndarray):
            continue
        if argument.dtype.names:
            memory = argument.tobytes()
            words = np.frombuffer(memory[: len(memory) // 8 * 8], np.uint64).tolist()
            extents += [_extents[word] for word in words if word in _extents]
        else:
            extents.append(np.lib.array_utils.byte_bounds(argument))
    disjoint: list[list[int]] = []
    for start, stop in sorted(extents):
        if disjoint and start < disjoint[-1][1]:
            disjoint[-1][1] = max(stop, disjoint[-1][1])
        elif start < stop:
            disjoint.append([start, stop])
    starts, stops = zip(*disjoint, strict=True) if disjoint else ((), ())
    addresses = ctypes.c_size_t * len(disjoint)
    kernels.watch_arrays(len(disjoint), addresses(*starts), addresses(*stops))
