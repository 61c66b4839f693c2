"""How kernels are launched: what CuPy is given, and what is said where it or the driver refuses."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import threading
from collections import namedtuple
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gradient import backends
from gradient.backends import registry
from gradient.backends.cuda import compilation, driver, multi_gpu
from gradient.backends.cuda.arithmetic import STRIDES
from gradient.backends.cuda.copies import WALK
from gradient.backends.cuda.grouped import ADDRESSES, RANGE
from gradient.backends.cuda.indexed import PICKS
from gradient.backends.cuda.launching import COUNT, DIVISOR, NUMBER
from gradient.backends.cuda.optimizers import ADAM, SIGNS, TENSORS
from gradient.backends.cuda.quantized import CODEBOOK
from gradient.backends.cuda.runtime import CupyRuntime
from gradient.errors import BackendError, DeviceError
from support import cuda_emulation, fake_cupy

pytestmark = pytest.mark.cpu_only
STRUCTURES = (
    *(ADAM, ADDRESSES, CODEBOOK, COUNT, DIVISOR, NUMBER, PICKS, RANGE, SIGNS, STRIDES, TENSORS),
    WALK,
)


class CUDADriverError(RuntimeError):
    pass


class Cupy:
    """CuPy's modules, as far as a launch on one GPU needs them."""

    ndarray = fake_cupy.ndarray

    def __init__(self) -> None:
        self.cuda = self.driver = self
        self.CUDADriverError = CUDADriverError
        self.limits: dict[int, int] = {}
        self.set_limit = self.limits.__setitem__
        self.fails = False

    def funcSetAttribute(self, function: int, attribute: int, value: int) -> None:  # noqa: N802
        self.set_limit(function, value)

    def Module(self) -> Module:  # noqa: N802
        return Module(self)


class Module:
    """Which has functions once it is loaded."""

    def __init__(self, cupy: Cupy):
        self.cupy, self.is_loaded = cupy, False

    def load(self, code: bytes) -> None:
        if self.cupy.fails:
            raise CUDADriverError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")
        self.is_loaded = True

    def get_function(self, name: str) -> Function:
        assert self.is_loaded
        return Function(self.cupy)


class Function:
    ptr = 7

    def __init__(self, cupy: Cupy):
        self.cupy, self.launches = cupy, 0

    def __call__(self, grid: Any, block: Any, values: Any, shared: int) -> None:
        if self.cupy.fails or shared > self.cupy.limits.get(self.ptr, 48 << 10):
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        self.launches += 1


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(compilation, "compile_all", lambda *_: None)
    monkeypatch.setattr(compilation, "cubin", lambda *_: b"code")
    monkeypatch.setattr(compilation, "compiled", lambda *_: b"code")
    made: Any = CupyRuntime.__new__(CupyRuntime)
    made.index, made.count, made.xp = 0, 1, Cupy()
    made._modules, made._functions, made._compiled = {}, {}, set()
    made._shared_allowed, made._lock, made.integer = {}, threading.Lock(), int
    made._device = SimpleNamespace(use=lambda: None, compute_capability="90")
    return made


def test_what_the_driver_refuses_is_told_with_the_kernel(runtime: Any) -> None:
    """And the next launch goes on."""
    given = ("norms", "layer_norm", "float32", (3, 70000), 256)
    runtime.launch(*given)
    runtime.xp.fails = True
    for launch in (
        lambda: runtime.launch(*given, shared=4096),
        lambda: runtime.launch_source("source", (3, 70000), 256),
    ):
        runtime._functions["source"] = runtime._functions["layer_norm_float32"]
        with pytest.raises(BackendError, match=r"of \(3, 70000\) blocks of 256 .*: CUDA_ERROR_INV"):
            launch()
    with pytest.raises(BackendError, match=r"cuda:0: kernel layer_norm_float32 .* 4,096 bytes"):
        runtime.launch(*given, shared=4096)
    runtime.xp.fails = False
    runtime.launch(*given, shared=4096)
    assert runtime._functions["layer_norm_float32"].launches == 2


def test_kernels_that_could_not_be_loaded_are_loaded_later(runtime: Any) -> None:
    """Memory was full, say. (CuPy's module is there before it holds anything.)"""
    runtime.xp.fails = True
    for _ in range(2):
        with pytest.raises(DeviceError, match="not loaded: CUDA_ERROR_OUT_OF_MEMORY.*cuda, where"):
            runtime.launch("norms", "layer_norm", "float32", (1,), 32)
        with pytest.raises(DeviceError, match="not loaded"):
            runtime.launch_source("source", (1,), 32)
    runtime.xp.fails = False
    runtime.launch("norms", "layer_norm", "float32", (1,), 32)
    runtime.launch_source("source", (1,), 32)
    assert [f.launches for f in runtime._functions.values()] == [1, 1]


def test_threads_do_not_take_shared_memory_from_each_other(runtime: Any) -> None:
    """One asks for less, after another was given more and before that has launched its kernel."""
    launch = lambda shared: runtime.launch("f", "k", "float32", (1,), 32, shared=shared)  # noqa: E731
    other = threading.Thread(target=launch, args=(100 << 10,))
    has_more, has_less = threading.Event(), threading.Event()

    def set_limit(function: int, value: int) -> None:
        if value == 60 << 10:
            other.start()
            has_more.wait(0.2)
        runtime.xp.limits[function] = value
        if value == 60 << 10:
            has_less.set()
        else:
            has_more.set()
            has_less.wait(10)

    launch(0)
    runtime.xp.set_limit = set_limit
    launch(60 << 10)
    other.join()
    launch(100 << 10)
    assert runtime._functions["k_float32"].launches == 4


def test_arguments_of_early_launches_are_those_of_others(runtime: Any) -> None:
    """Structures and numbers of any type, byte by byte."""
    told = np.zeros(1, NUMBER)
    told["value"], told["at"] = 0.5, 1 << 40
    for x in (np.float32(0.5), np.float64(-1), np.int64(-3), told):
        assert bytes(runtime._argument(x)).startswith(x.tobytes())
    assert runtime._argument(-5).value == -5
    assert not runtime._argument(None).value
    x = fake_cupy.ndarray(np.zeros(3))
    assert runtime._argument(x).value == x.data.ptr
    for wrong in (True, 0.5, [1]):
        with pytest.raises(AttributeError):
            runtime._argument(wrong)


# CuPy's own function, which looks at all arguments before it asks the driver for anything ---------


def refusal_of(grid: Any, *arguments: Any) -> type[Exception] | None:
    """What CuPy raises for a launch; None if it would have asked the driver."""
    cupy = pytest.importorskip("cupy", exc_type=ImportError)
    if driver.device_count():
        pytest.skip("it would be launched")
    function = cupy.cuda.function.Function
    try:
        function.__new__(function)(grid, (32,), arguments, 0, stream=SimpleNamespace(ptr=0))
    except cupy.cuda.runtime.CUDARuntimeError:
        return None
    except (TypeError, ValueError, OverflowError) as error:
        return type(error)
    raise AssertionError("a launch without a GPU")


Grid = namedtuple("Grid", "x y")


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        ((None, 0, -1, 2**63 - 1, -(2**63), np.float32(1), np.float64(2), np.int64(3)), None),
        ((2**64,), OverflowError),
        (([1],), TypeError),
        (("a",), TypeError),
    ],
)
def test_cupy_takes_what_kernels_are_given(arguments: tuple[Any, ...], refused: Any) -> None:
    assert refusal_of((1,), *arguments) is refused


@pytest.mark.parametrize("kind", STRUCTURES, ids=lambda kind: kind.names[0])
def test_cupy_takes_structures_by_their_address(kind: np.dtype) -> None:
    cupy = pytest.importorskip("cupy", exc_type=ImportError)
    runtime: Any = CupyRuntime.__new__(CupyRuntime)
    runtime._pointer = cupy.cuda.function.CPointer
    told = np.zeros(1, kind)
    pointer = runtime.by_value(told)
    assert pointer.ptr == told.ctypes.data
    assert refusal_of((1,), pointer) is None


def test_an_int_is_64_bits_that_live_as_long_as_what_points_to_them() -> None:
    """For kept ones, too; and of a bool CuPy makes a byte, so that kernels get none."""
    pointer = pytest.importorskip("cupy", exc_type=ImportError).cuda.function.CIntptr
    runtime: Any = CupyRuntime.__new__(CupyRuntime)
    given = []
    runtime.integer, runtime.by_value = functools.lru_cache(4)(pointer), None
    for x in (0, 5, -5, 2**63 - 1, -(2**63), *range(100, 110), 5):
        runtime._call(lambda *a: given.extend(a[2]), "k", (1,), 32, (x,))
        assert ctypes.string_at(given[-1].ptr, 8) == np.int64(x).tobytes()
        assert refusal_of((1,), given[-1]) is None
    assert ctypes.string_at(given[1].ptr, 8) == np.int64(5).tobytes()
    with pytest.raises(OverflowError):
        runtime.integer(2**63)


def test_cupy_makes_64_bits_of_an_int_and_8_of_a_bool() -> None:
    scalar = pytest.importorskip("cupy._core._scalar", exc_type=ImportError).CScalar
    for x in (5, -5, 2**63 - 1):
        number = scalar(x)
        assert ctypes.string_at(number.ptr, 8) == np.int64(x).tobytes()
    assert scalar(True).dtype == bool


@pytest.mark.parametrize("grid", [Grid(1, 2), [1, 2], (1, 2**31)])
def test_grids_that_cupy_refuses_are_refused_by_the_stand_in(grid: Any) -> None:
    assert refusal_of(grid, 1) in (TypeError, OverflowError)
    runtime = cuda_emulation.FakeRuntime()
    with pytest.raises((TypeError, ValueError)):
        runtime.launch("norms", "layer_norm", "float32", grid, 32, 1)


@pytest.mark.parametrize("told", [np.zeros(2, COUNT), np.frombuffer(bytes(16), COUNT)])
def test_structures_that_cannot_be_given_are_refused_by_the_stand_in(told: np.ndarray) -> None:
    with pytest.raises(TypeError, match="one structure"):
        cuda_emulation.launch(None, "kernel", (1,), 32, told)  # type: ignore[arg-type]


# Processes ----------------------------------------------------------------------------------------


class Library:
    """The driver's, which a forked child finds initialised and of no use."""

    def __init__(self) -> None:
        self.owner: int | None = None

    def cuInit(self, flags: int) -> int:  # noqa: N802
        self.owner = os.getpid()
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 1
        return 0 if self.owner == os.getpid() else 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_process_is_told_that_it_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not the process that it comes from has a backend, which both would use."""
    factory, library = registry._factories["cuda"], Library()
    monkeypatch.setattr(driver.ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(driver, "_started_by", [])
    monkeypatch.setitem(sys.modules, "cupy", None)

    def in_a_child() -> bool:
        try:
            backends.get("cuda:0")
        except DeviceError as error:
            return "forked" in str(error) and "spawn" in str(error)
        return False

    driver.driver.cache_clear()
    try:
        assert driver.device_count() == 1
        with pytest.raises(DeviceError, match="CuPy is not installed"):
            multi_gpu.open_backend(0)
        assert cuda_emulation.is_wrong(in_a_child)
        monkeypatch.setitem(registry._made, "cuda:0", object())  # type: ignore[arg-type]
        assert cuda_emulation.is_wrong(in_a_child)
    finally:
        driver.driver.cache_clear()
        with contextlib.suppress(KeyError):
            backends.register("cuda", factory)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_process_frees_nothing_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """To unload its kernels is an error there, which Python would print."""
    freed = []

    class Held:
        def __del__(self) -> None:
            freed.append(os.getpid())

    monkeypatch.setitem(registry._made, "cuda:0", Held())  # type: ignore[arg-type]
    assert cuda_emulation.is_wrong(lambda: not registry.made("cuda") and not freed)
