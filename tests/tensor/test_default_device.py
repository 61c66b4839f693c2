"""The device of tensors that are not told where to be."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest

import gradient
from gradient import nn
from support import array_backends  # noqa: F401  (it registers the device "bare")

pytestmark = pytest.mark.cpu_only


@pytest.fixture
def bare():
    gradient.set_default_device("bare")
    yield
    gradient.set_default_device(None)


def test_what_is_made_without_a_device(bare):
    assert gradient.get_default_device() == "bare"
    x = gradient.ones(2, 3)
    made = [
        x,
        gradient.tensor([1.0]),
        gradient.as_tensor(np.ones(2)),
        gradient.arange(3),
        gradient.eye(2),
        gradient.full((2,), 1.0),
        gradient.linspace(0, 1, 3),
        gradient.rand(2),
        gradient.randint(0, 3, (2,)),
        gradient.randperm(4),
        gradient.zeros_like(x),
        nn.Linear(3, 2).weight,
        nn.BatchNorm1d(3).running_mean,
        nn.Linear(3, 2)(x),
    ]
    assert {str(each.device) for each in made} == {"bare"}


def test_what_has_a_device_keeps_it(bare):
    x = gradient.ones(2, device="cpu")
    kept = [
        x + 1,
        gradient.zeros_like(x),
        x.new_zeros(3),
        gradient.tensor([1.0], device="cpu"),
        gradient.from_numpy(np.ones(2)),
        gradient.tensor(x),
        gradient.get_rng_state(),
    ]
    assert {str(each.device) for each in kept} == {"cpu"}


def test_blocks_nest_and_end():
    assert gradient.get_default_device() == "cpu"
    with gradient.device("bare") as entered:
        assert entered == "bare" and gradient.ones(1).device == "bare"
        with gradient.device("cpu"):
            assert gradient.ones(1).device == "cpu"
        assert gradient.ones(1).device == "bare"
        with pytest.raises(RuntimeError, match="stop"), gradient.device("cpu"):
            raise RuntimeError("stop")
        assert gradient.get_default_device() == "bare"
    assert gradient.ones(1).device == "cpu"


def test_other_threads_have_their_own(bare):
    found = []
    thread = threading.Thread(target=lambda: found.append(str(gradient.ones(1).device)))
    thread.start()
    thread.join()
    assert found == ["cpu"]


def test_a_compiled_function_is_recorded_for_each():
    made = gradient.compile(lambda x: x + gradient.ones(3, device=x.device))
    assert made(gradient.ones(3)).tolist() == [2, 2, 2]
    with gradient.device("bare"):
        x = gradient.ones(3, device="cpu")
        assert made(x).tolist() == [2, 2, 2]


def test_a_device_that_is_not_known():
    with pytest.raises(RuntimeError, match="device 'nowhere' is not known"):
        gradient.set_default_device("nowhere")
    assert gradient.get_default_device() == "cpu"


def test_the_device_of_tensors_cannot_be_changed():
    x = gradient.ones(1)
    with pytest.raises(AttributeError, match="type cannot be changed"):
        x.device.type = "cuda"
    with pytest.raises(AttributeError, match="index cannot be changed"):
        x.device.index = 1
    assert x.device == gradient.device("cpu") == gradient.zeros(1).device
    for device in (x.device, gradient.device("cuda:1")):
        assert device == pickle.loads(pickle.dumps(device)) == copy.deepcopy(device)
        assert (device.type, device.index) == (copy.copy(device).type, copy.copy(device).index)
