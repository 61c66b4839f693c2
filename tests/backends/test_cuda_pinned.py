"""Pinned memory, copies that nobody waits for, and tensors that several streams use."""

from __future__ import annotations

import collections
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import backends, nn
from gradient.backends.cuda.backend import CudaBackend
from gradient.backends.cuda.memory import InFlight
from gradient.data import DataLoader, TensorDataset
from support import fake_cupy, fake_device
from support.cuda_emulation import FakeStream

pytestmark = pytest.mark.cpu_only


@pytest.fixture
def gpu() -> Iterator[Any]:
    """The stand-in for a GPU, as the device "cuda"."""
    with fake_device.as_cuda():
        be = backends.get("cuda")
        assert isinstance(be, CudaBackend)
        fake_cupy.waits.clear()
        fake_cupy.uploads.clear()
        yield be
    fake_cupy.waits.clear()
    fake_cupy.uploads.clear()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "bool", "q8_0"])
@pytest.mark.parametrize("shape", [(2, 32), (0, 32)], ids=str)
def test_a_tensor_in_pinned_memory(gpu: Any, dtype: str, shape: tuple[int, ...]) -> None:
    x = gradient.arange(int(np.prod(shape))).reshape(shape).float()
    x = gradient.quantization.quantize(x, dtype) if dtype == "q8_0" else x.to(dtype=dtype)
    assert not x.is_pinned()
    pinned = x.pin_memory()
    assert pinned.is_pinned() and pinned is not x and not x.is_pinned()
    assert pinned.pin_memory() is pinned
    assert pinned.device == x.device and pinned.dtype == x.dtype
    assert x.equal(pinned)
    on_gpu = pinned.to("cuda", non_blocking=True)
    assert on_gpu.device == gradient.device("cuda:0") and not on_gpu.is_pinned()
    assert on_gpu.cpu().equal(x)


def test_only_what_lies_in_pinned_memory_is_read_later(gpu: Any) -> None:
    plain = gradient.arange(6.0)
    pinned = plain.pin_memory()
    for x, non_blocking, how in (
        (plain, False, "staged"),
        (plain, True, "staged"),
        (pinned, False, "staged"),  # the program may write to it at once
        (pinned, True, "pinned"),
    ):
        fake_cupy.uploads.clear()
        x.to("cuda", non_blocking=non_blocking)
        x.cuda(non_blocking=non_blocking)
        assert fake_cupy.uploads == [(24, how)] * 2
    fake_cupy.uploads.clear()
    gradient.zeros(6, device="cuda").copy_(pinned, non_blocking=True)
    nn.Linear(2, 3).to("cuda", non_blocking=True)
    assert fake_cupy.uploads.count((24, "pinned")) == 1
    assert fake_cupy.waits == []


def test_pinned_memory_is_kept_until_it_was_read(gpu: Any) -> None:
    x = gradient.arange(6.0).pin_memory()
    memory = weakref.ref(x.array.base)
    y = x.to("cuda", non_blocking=True)
    del x
    assert memory() is not None
    gradient.cuda.synchronize()
    assert memory() is None
    copy = y.to("cpu", non_blocking=True)
    assert copy.is_pinned()
    memory = weakref.ref(copy.array.base)
    del copy
    assert memory() is not None
    gpu.runtime.default.finish()
    gpu.runtime.in_flight.release()
    assert memory() is None


def test_a_value_is_read_later(gpu: Any) -> None:
    """It is there when the copy was waited for, whatever is queued after it."""
    x = gradient.arange(3, device="cuda")
    first = gpu.read_later(x.array)
    x += 5
    second = gpu.read_later(x.array)
    assert fake_cupy.waits == []
    assert first().tolist() == [0, 1, 2]
    assert fake_cupy.waits == ["event"]
    assert second().tolist() == second().tolist() == [5, 6, 7]
    assert backends.get("cpu").read_later(np.arange(2))().tolist() == [0, 1]


def test_an_index_fault_belongs_to_what_was_queued_before_the_copy(gpu: Any) -> None:
    x = gradient.arange(3, device="cuda").array
    before = gpu.read_later(x)
    gpu.index_fault()[...] = 1
    after, last = gpu.read_later(x), gpu.read_later(x)
    assert before().tolist() == [0, 1, 2]
    with pytest.raises(IndexError, match="an op got earlier was out of range"):
        after()
    assert after().tolist() == last().tolist() == gpu.to_numpy(x).tolist() == [0, 1, 2]


def test_gradients_pass_through_pinned_memory(gpu: Any) -> None:
    x = gradient.arange(3.0).requires_grad_()
    (x.pin_memory() * 2).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2, 2, 2]


Point = collections.namedtuple("Point", "x y")


class Own:
    def pin_memory(self) -> str:
        return "own"


def test_a_loader_gives_batches_in_pinned_memory(gpu: Any) -> None:
    data = TensorDataset(gradient.arange(8.0).reshape(4, 2), gradient.arange(4))
    loader = DataLoader(data, batch_size=3, pin_memory=True)
    batches = list(loader)
    for batch in batches:
        assert all(x.is_pinned() for x in batch)
    assert batches[1][0].tolist() == [[6, 7]]
    assert [x.is_pinned() for x in next(iter(DataLoader(data, batch_size=3)))] == [False, False]
    whole = {"a": gradient.ones(2), "b": [(gradient.ones(1), "text")], "c": Point(3, Own())}
    found = next(iter(DataLoader([whole], batch_size=None, pin_memory=True)))
    assert found["a"].is_pinned() and found["b"][0][0].is_pinned() and found["b"][0][1] == "text"
    assert found["c"] == Point(3, "own")
    there = gradient.ones(2, device="cuda")
    assert next(iter(DataLoader([there], batch_size=None, pin_memory=True))) is there
    with pytest.raises(gradient.errors.DeviceError, match="expected one of"):
        gradient.ones(2).pin_memory("abacus")


def test_without_a_gpu_nothing_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    if gradient.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert not gradient.ones(2).is_pinned()
    with pytest.raises(RuntimeError, match="device 'cuda:0': this machine has no NVIDIA GPU"):
        gradient.ones(2).pin_memory()
    [batch] = DataLoader(gradient.ones(3), batch_size=3, pin_memory=True)
    assert not batch.is_pinned()
    with pytest.raises(ValueError, match="pin_memory"):
        DataLoader(gradient.ones(3), pin_memory=2)


def test_memory_that_another_stream_uses_is_kept_when_it_is_freed(gpu: Any) -> None:
    in_flight, other = gpu.runtime.in_flight, FakeStream()
    stream = gradient.cuda.Stream("cuda", _held=other)
    x = gradient.ones(4, device="cuda")
    x.record_stream(stream)
    view, memory = x[1:], weakref.ref(x.array._host)
    del x
    assert len(in_flight) == 0  # a view has the memory still
    del view
    assert len(in_flight) == 1 and memory() is not None
    in_flight.release()
    assert memory() is not None
    other.finish()
    in_flight.release()
    assert memory() is None and len(in_flight) == 0


def test_what_a_stream_cannot_use(gpu: Any) -> None:
    stream = gradient.cuda.Stream("cuda", _held=FakeStream())
    with pytest.raises(TypeError, match="record_stream: expected a cuda.Stream, got 3"):
        gradient.ones(1, device="cuda").record_stream(3)
    with pytest.raises(RuntimeError, match="expected a tensor on a GPU, got cpu"):
        gradient.ones(1).record_stream(stream)
    with pytest.raises(RuntimeError, match="expected a tensor on the CPU, got cuda:0"):
        gradient.ones(1, device="cuda").pin_memory()


def test_streams_are_done_in_any_order(gpu: Any) -> None:
    in_flight, slow, quick = InFlight(gpu.runtime), FakeStream(), FakeStream()
    in_flight.keep("slow", slow)
    in_flight.keep("quick", quick)
    quick.finish()
    in_flight.release()
    assert [held for _, held in in_flight._kept] == ["slow"]
