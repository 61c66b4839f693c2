"""What scripts ask `gradient.cuda` before they choose a device."""

from __future__ import annotations

import pytest

import gradient
from gradient.backends.cuda import driver


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


def test_threads_can_be_set():
    before = gradient.get_num_threads()
    try:
        gradient.set_num_threads(1)
        assert gradient.get_num_threads() == 1
    finally:
        gradient.set_num_threads(before)
    with pytest.raises(ValueError, match="expected a positive int, got 0"):
        gradient.set_num_threads(0)
