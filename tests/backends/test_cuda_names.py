"""What scripts ask `gradient.cuda` before they choose a device."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar

import pytest

import gradient
from gradient import backends
from gradient.backends.cuda import driver
from gradient.backends.cuda.memory import Peaks
from gradient.backends.cuda.runtime import CupyRuntime


def test_a_script_can_ask_for_a_gpu():
    available = gradient.cuda.is_available()
    assert isinstance(available, bool)
    assert gradient.cuda.device_count() >= available
    device = "cuda" if available else "cpu"
    assert (gradient.ones(2, device=device) * 2).tolist() == [2, 2]


@pytest.mark.cpu_only
def test_a_machine_without_a_gpu_says_so():
    if driver.device_count():
        pytest.skip("this machine has a GPU")
    assert not gradient.cuda.is_available()
    with pytest.raises(RuntimeError, match="device 'cuda:0'"):
        gradient.zeros(1, device="cuda")
    with pytest.raises(RuntimeError, match="the driver sees 0 GPUs"):
        gradient.cuda.get_device_name()
    for choose in (gradient.cuda.set_device, lambda index: gradient.cuda.device(index).__enter__()):
        choose(0)
        with pytest.raises(RuntimeError, match="device 'cuda:1': this machine has no NVIDIA GPU"):
            choose(1)
    assert gradient.cuda.current_device() == 0


def test_threads_can_be_set():
    before = gradient.get_num_threads()
    try:
        gradient.set_num_threads(1)
        assert gradient.get_num_threads() == 1
    finally:
        gradient.set_num_threads(before)
    with pytest.raises(ValueError, match="expected a positive int, got 0"):
        gradient.set_num_threads(0)


class Pool:
    """CuPy's memory pool, as far as it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def used_bytes(self) -> int:
        return 512

    def total_bytes(self) -> int:
        return 2048

    def free_all_blocks(self) -> None:
        self.asked.append("free")

    def set_limit(self, *, fraction: float) -> None:
        self.asked.append(fraction)


def test_memory_is_asked_of_the_pool(monkeypatch: pytest.MonkeyPatch):
    pool, entered = Pool(), []

    class Runtime(CupyRuntime):
        def __init__(self, index: int):
            self.index, self.xp = index, self
            self._device = type("Device", (), {"mem_info": (3, 5)})

        def get_default_memory_pool(self) -> Pool:
            return pool

        def on_device(self) -> Any:
            entered.append(self.index)
            return contextlib.nullcontext()

    class Backend:
        name = "cuda"

        def __init__(self, device: str):
            self.runtime = Runtime(int(device.partition(":")[2]))

    monkeypatch.setattr(backends, "get", Backend)
    monkeypatch.setattr("gradient.compat.cuda.is_available", lambda: True)
    monkeypatch.setattr("gradient.compat.cuda.made", lambda _: [Backend("cuda:3")])
    assert gradient.cuda.memory_allocated() == gradient.cuda.memory_allocated("cuda:1") == 512
    assert gradient.cuda.memory_reserved(2) == 2048
    assert gradient.cuda.mem_get_info() == (3, 5)
    gradient.cuda.set_per_process_memory_fraction(0.5, 1)
    gradient.cuda.empty_cache()
    assert entered == [0, 1, 2, 1, 3]
    assert pool.asked == [0.5, "free"]
    with pytest.raises(ValueError, match="a fraction from 0 to 1"):
        gradient.cuda.set_per_process_memory_fraction(1.5)


class Hook:
    """CuPy's `MemoryHook`: once entered, it is told of each block."""

    entered: ClassVar[list[Any]] = []

    def __enter__(self) -> None:
        self.entered.append(self)


def test_peaks_are_counted_once_somebody_asks() -> None:
    pool = Pool()
    peaks = Peaks(pool, Hook, 1)
    [hook] = Hook.entered
    assert (peaks.allocated, peaks.reserved) == (512, 2048)
    for size in (1024, 512):
        hook.malloc_postprocess(device_id=1, size=3, mem_size=size, mem_ptr=0, pmem_id=0)
    hook.malloc_postprocess(device_id=0, size=3, mem_size=1 << 20, mem_ptr=0, pmem_id=0)
    hook.free_postprocess(device_id=1, mem_size=1024, mem_ptr=0, pmem_id=0)
    hook.malloc_postprocess(device_id=1, size=3, mem_size=512, mem_ptr=0, pmem_id=0)
    assert (peaks.used, peaks.allocated) == (1536, 2048)
    pool.total_bytes = lambda: 4096  # type: ignore[method-assign]
    hook.alloc_postprocess(device_id=1, mem_size=2048, mem_ptr=0)
    assert peaks.reserved == 4096
    peaks.reset()
    assert (peaks.allocated, peaks.reserved) == (512, 4096)


def test_the_hook_has_the_methods_that_cupy_calls() -> None:
    hook = pytest.importorskip("cupy").cuda.memory_hook.MemoryHook
    for name in ("malloc_postprocess", "free_postprocess", "alloc_postprocess", "__enter__"):
        assert callable(getattr(hook, name))


@pytest.mark.cpu_only
def test_memory_figures_without_a_gpu() -> None:
    if driver.device_count():
        pytest.skip("this machine has a GPU")
    gradient.cuda.reset_peak_memory_stats()
    assert gradient.cuda.max_memory_allocated() == gradient.cuda.max_memory_reserved() == 0
    assert gradient.cuda.memory_stats() == {}
    assert driver.architecture(0) == ""
