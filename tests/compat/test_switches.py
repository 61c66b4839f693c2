"""Names by which scripts ask for the machine, or switch what is no choice here."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import gradient

t: Any = gradient


def test_kernels_of_attention_are_remembered() -> None:
    cuda = t.backends.cuda
    for name in ("flash", "mem_efficient", "math", "cudnn"):
        set_, get = getattr(cuda, f"enable_{name}_sdp"), getattr(cuda, f"{name}_sdp_enabled")
        assert get()
        set_(False)
        assert not get()
        set_(True)
    assert cuda.preferred_linalg_library("magma") == "default"
    assert cuda.is_built() is t.cuda.is_available()


def test_a_gpus_properties() -> None:
    if not t.cuda.is_available():
        for ask in (t.cuda.get_device_properties, t.cuda.get_device_capability):
            with pytest.raises(RuntimeError, match="the driver sees"):
                ask(0)
        assert t.cuda.get_arch_list() == []
        assert "no GPU" in t.cuda.memory_summary()
        return
    found = t.cuda.get_device_properties(0)
    assert found.name == t.cuda.get_device_name(0) and found.total_memory > 2**30
    assert t.cuda.get_device_capability() == (found.major, found.minor)
    assert found.multi_processor_count > 0
    assert f"sm_{found.major}{found.minor}" in t.cuda.get_arch_list()


def test_states_of_all_generators() -> None:
    states = t.cuda.get_rng_state_all()
    first = t.rand(3)
    t.cuda.set_rng_state_all(states)
    assert t.equal(t.rand(3), first)
    t.cuda.set_rng_state(states[0])
    assert t.equal(t.rand(3), first)


def test_a_device_by_other_names() -> None:
    assert t.get_device_module("cpu") is t.cpu and t.cpu.device_count() == 1
    assert t.get_device_module("cuda:0") is t.cuda
    for other in ("nn", "meta"):
        with pytest.raises(RuntimeError):
            t.get_device_module(other)
    assert t.xpu.device_count() == t.mps.current_allocated_memory() == 0
    assert t.accelerator.current_device_index() == t.cuda.current_device()
    assert t.amp.is_autocast_available("cpu") and not t.amp.is_autocast_available("tpu")


def test_whether_anomalies_are_looked_for() -> None:
    assert not t.is_anomaly_enabled()
    with t.autograd.detect_anomaly(check_nan=False):
        assert t.is_anomaly_enabled() and not t.is_anomaly_check_nan_enabled()
    t.set_deterministic_debug_mode("warn")
    t.set_warn_always(True)
    t.clear_autocast_cache()
    assert not t.is_storage(t.ones(1))


def test_modules_of_names() -> None:
    types = importlib.import_module("gradient.types")
    assert isinstance(3, types.Number) and isinstance("cpu", types.Device)
    overrides = importlib.import_module("gradient.overrides")
    assert not overrides.has_torch_function((t.ones(1),)) and overrides.is_tensor_like(t.ones(1))
    assert overrides.handle_torch_function(t.add, (), 1, t.ones(1)).item() == 2
    serialization = importlib.import_module("gradient.serialization")
    serialization.add_safe_globals([dict])
    with serialization.safe_globals([dict]):
        assert serialization.get_safe_globals() == []


def test_capsules() -> None:
    x = t.arange(3.0)
    y = importlib.import_module("gradient.utils.dlpack").from_dlpack(t.to_dlpack(x))
    x[0] = 9
    assert y.tolist() == [9, 1, 2]
