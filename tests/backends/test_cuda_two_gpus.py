"""Two GPUs in one thread: whatever is asked of a tensor runs on its GPU, and changes no other."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import backends, nn
from gradient.backends import placement
from gradient.backends.cuda.multi_gpu import MultiGpuBackend
from gradient.nn import functional as F  # noqa: N812
from gradient.testing import TABLE, Row, assert_close
from support import fake_cupy
from support.two_gpus import Cupy, Stream, launched, order, peers, two_gpus

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]
DEVICES = ("cuda:0", "cuda:1")


@pytest.fixture(autouse=True)
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cupy]:
    fake_cupy.waits.clear()
    with two_gpus(monkeypatch) as cupy:
        yield cupy
    fake_cupy.waits.clear()


def number_of(t: gradient.Tensor) -> int:
    array: Any = t.array
    return int(array.number)


def other_is_current(device: str) -> int:
    """Makes the GPU that is not this one the thread's current one."""
    fake_cupy.current.device = 1 - int(device[-1])
    return fake_cupy.current.device


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_ops_and_their_gradients(row: Row) -> None:
    """Forward and backward on each GPU by turns, while the other is current."""
    expected = np.asarray(row.reference(*row.samples()))
    for device in ("cuda:1", "cuda:0"):
        before = other_is_current(device)
        inputs = [
            gradient.tensor(a, device=device, requires_grad=row.differentiable)
            for a in row.samples()
        ]
        out = row.run(*inputs)
        assert number_of(out) == int(device[-1])
        assert_close(out.cpu().numpy() if not out.requires_grad else out.detach().cpu().numpy(),
                     expected, rtol=1e-11, atol=1e-11, check_dtype=False)  # fmt: skip
        if row.differentiable:
            out.backward(gradient.ones_like(out))
            assert all(number_of(t.grad) == int(device[-1]) for t in inputs if t.grad is not None)
        assert fake_cupy.current.device == before


def test_kernels_and_products_are_queued_on_the_gpu_of_their_arrays() -> None:
    x = {device: gradient.randn(3, 8).to(device) for device in DEVICES}
    w = {device: gradient.randn(5, 8).to(device) for device in DEVICES}
    b = {device: gradient.randn(5).to(device) for device in DEVICES}
    for device in (*DEVICES, *DEVICES):
        launched.clear()
        out = F.linear(x[device], w[device], b[device]).softmax(-1)
        (x[device] @ w[device].T).exp()
        assert {number for number, _ in launched} == {int(device[-1])}
        assert number_of(out) == int(device[-1])
    runtimes: list[Any] = [backends.get(device).runtime for device in DEVICES]  # type: ignore[attr-defined]
    assert runtimes[0].blas is not runtimes[1].blas


def test_gradients_go_from_one_gpu_to_the_other() -> None:
    x = gradient.tensor([1.0, 2.0], device="cuda:0", requires_grad=True)
    y = x * 3
    there = y.to("cuda:1")
    loss = (there * there + there).sum() + (y * 2).sum().to("cuda:1")
    loss.backward()
    assert x.grad is not None and number_of(x.grad) == 0
    assert x.grad.cpu().tolist() == [3 * (2 * 3 + 1 + 2), 3 * (2 * 6 + 1 + 2)]


def copies() -> list[Any]:
    return [entry[1:] for entry in order if entry[0] == "copy"]


def test_a_copy_to_another_gpu_does_not_touch_the_host() -> None:
    x = gradient.randn(3, 4).to("cuda:0")
    fake_cupy.waits.clear()
    fake_cupy.uploads.clear()
    order.clear()
    for device in (0, 1):  # whichever is current
        fake_cupy.current.device = device
        y = x.to("cuda:1")
        assert number_of(y) == 1 and fake_cupy.current.device == device
    # The source's stream copies, after the target's has memory for it, which waits for the copy.
    assert order[:5] == [
        ("record", 1), ("wait", 0, 1), ("copy", 0, 0, 1, 48), ("record", 0), ("wait", 1, 0),
    ]  # fmt: skip
    assert len(order) == 10 and peers == {(0, 1)}
    assert fake_cupy.waits == fake_cupy.uploads == []
    assert y.tolist() == x.tolist()


@pytest.mark.parametrize("non_blocking", [False, True])
def test_what_is_copied_between_gpus(non_blocking: bool) -> None:
    whole = gradient.arange(24).reshape(2, 3, 4)
    for x in (
        whole.transpose(0, 2), whole[:, ::2], whole[1, 2, 3], whole[:0], whole > 3,
        whole.to(gradient.bfloat16), whole.to(gradient.complex64),
    ):  # fmt: skip
        order.clear()
        y = x.to("cuda:1").to("cuda:0", non_blocking=non_blocking)
        assert (y.shape, y.dtype, number_of(y)) == (x.shape, x.dtype, 0)
        assert y.tolist() == x.tolist()
        size = x.numel() * x.dtype.itemsize
        assert copies() == ([(1, 1, 0, size)] if size else [])
    x = gradient.zeros(3, device="cuda:0")
    x.copy_(gradient.tensor([1, 2, 3], device="cuda:1"))
    assert x.tolist() == [1, 2, 3]
    module = nn.Linear(2, 3, device="cuda:0")
    order.clear()
    module.to("cuda:1")
    assert copies() == [(0, 0, 1, 24), (0, 0, 1, 12)]


def test_packed_weights_and_gradients_are_copied_directly() -> None:
    weight = gradient.quantization.quantize(gradient.randn(4, 64), gradient.q8_0).to("cuda:0")
    order.clear()
    there = weight.to("cuda:1")
    assert sum(entry[-1] for entry in copies()) == 4 * 2 * 34
    assert there.dequantize().tolist() == weight.dequantize().tolist()
    x = gradient.ones(2, device="cuda:1", requires_grad=True)
    order.clear()
    (x * 2).to("cuda:0").sum().backward()
    assert copies() == [(1, 1, 0, 8), (0, 0, 1, 8)]
    assert x.grad is not None and x.grad.tolist() == [2, 2]


def test_a_copy_is_queued_on_streams_that_were_chosen() -> None:
    cuda: Any = gradient.cuda
    x = gradient.ones(3, device="cuda:1")
    with cuda.stream(cuda.Stream("cuda:1")), cuda.stream(cuda.Stream("cuda:0")):
        y = x.to("cuda:0")
    assert y.tolist() == [1, 1, 1]


def test_a_compiled_function_that_copies_to_another_gpu_runs_eagerly() -> None:
    f = gradient.compile(lambda x: ((x + 1) * 2).to("cuda:1").exp() * 3)
    x = gradient.tensor([0.25, 0.5], device="cuda:0")
    with pytest.warns(UserWarning, match=r"runs eagerly: Tensor.to reads the value"):
        outs = [f(x) for _ in range(4)]
    for out in outs:
        assert number_of(out) == 1
        expected = (((x.cpu() + 1) * 2).exp() * 3).numpy()
        np.testing.assert_allclose(out.cpu().numpy(), expected, rtol=1e-6)


def test_the_current_gpu_is_what_cuda_means() -> None:
    cuda: Any = gradient.cuda
    made = gradient.ones(2, device="cuda")
    cuda.set_device(1)
    assert cuda.current_device() == fake_cupy.current.device == 1
    assert number_of(gradient.ones(2, device="cuda")) == 1
    assert number_of(made.cuda()) == number_of(nn.Linear(2, 2).cuda().weight) == 1
    assert made.device == "cuda:0" and made.device != "cuda"
    assert made.cuda(0) is made
    assert cuda.Stream().device == cuda.current_stream().device == gradient.device("cuda:1")
    assert cuda.memory_allocated() == 101
    cuda.synchronize()
    for device in (-1, 1, "cuda", "cuda:1", gradient.device("cuda:1")):
        cuda.set_device(device)
        assert cuda.current_device() == 1
    cuda.set_device("cuda:0")
    assert cuda.current_device() == fake_cupy.current.device == 0


def test_a_block_has_its_gpu() -> None:
    cuda: Any = gradient.cuda
    there = gradient.ones(2, device="cuda:1")
    again = cuda.device("cuda:1")
    with again:
        assert number_of(gradient.ones(2, device="cuda")) == fake_cupy.current.device == 1
        with cuda.device(0), again, cuda.device(None), cuda.device(-1), cuda.device("cuda"):
            assert cuda.current_device() == 1
        with cuda.device_of(gradient.ones(2, device="cuda:0")):
            assert cuda.current_device() == fake_cupy.current.device == 0
        with cuda.device_of(gradient.ones(2)):
            assert cuda.current_device() == 1
        cuda.set_device(0)
    assert cuda.current_device() == fake_cupy.current.device == 0
    with pytest.raises(ZeroDivisionError), cuda.device_of(there):
        _ = 1 / (cuda.current_device() - 1)
    assert cuda.current_device() == 0
    with cuda.stream(cuda.Stream(1)):
        assert cuda.current_device() == 1
    assert cuda.current_device() == 0
    for wrong in (2, "cuda:2"):
        with pytest.raises(RuntimeError, match="this machine has 2 usable CUDA devices"):
            cuda.device(wrong).__enter__()
        with pytest.raises(RuntimeError, match="this machine has 2 usable CUDA devices"):
            cuda.set_device(wrong)
    with pytest.raises(RuntimeError, match=r"cuda.set_device: expected a device of type cuda"):
        cuda.set_device("cpu")
    with pytest.raises(RuntimeError, match=r"cuda.device: expected a device of type cuda"):
        cuda.device(gradient.device("cpu"))
    assert cuda.current_device() == fake_cupy.current.device == 0


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 11)

    def forward(self, tokens: gradient.Tensor) -> gradient.Tensor:
        return self.head(F.dropout(F.gelu(self.norm(self.embed(tokens))), 0.1))


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD", "RMSprop", "Lion", "NAdam", "Muon"])
def test_models_train_by_turns(optimizer: str) -> None:
    models, losses = {}, {}
    for device in DEVICES:
        gradient.manual_seed(0)
        models[device] = Model()
    if optimizer == "Muon":
        for model in models.values():
            model.norm = nn.Identity()
            model.head = nn.Linear(8, 11, bias=False)
    for device, model in models.items():
        gradient.manual_seed(1)
        model.head.reset_parameters()
        model.to(device)
    steps = {
        d: getattr(gradient.optim, optimizer)(m.parameters(), lr=0.01) for d, m in models.items()
    }
    for i in range(3):
        for device in DEVICES:
            gradient.manual_seed(i)
            tokens = gradient.arange(10, device=device)
            loss = F.cross_entropy(models[device](tokens), (tokens + 1) % 11)
            steps[device].zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(models[device].parameters(), 1.0)
            steps[device].step()
            losses.setdefault(device, []).append(loss.item())
    assert losses["cuda:0"] == losses["cuda:1"]
    assert losses["cuda:1"][-1] < losses["cuda:1"][0]
    for device, model in models.items():
        assert {number_of(p) for p in model.parameters()} == {int(device[-1])}


def test_a_step_is_captured_on_its_gpu() -> None:
    f = gradient.compile(lambda x: F.gelu(x + 1).softmax(-1) * 2)
    for _ in range(7):
        for device in DEVICES:
            x = gradient.randn(2, 4)
            out = f(x.to(device))
            expected = F.gelu(x + 1).softmax(-1) * 2
            assert number_of(out) == int(device[-1])
            np.testing.assert_allclose(out.cpu().numpy(), expected.numpy(), rtol=1e-5)
    executors = [v.executor for s in f.signatures.values() for v in s.variants]  # type: ignore[attr-defined]
    graphs = [part for e in executors for part in e.program if hasattr(part, "launches")]
    assert sorted(graph.number for graph in graphs) == [0, 1]
    assert all(graph.launches > 0 for graph in graphs)


def test_another_thread_begins_with_the_first_gpu() -> None:
    x, found = gradient.ones(3, device="cuda:1"), []
    cuda: Any = gradient.cuda
    cuda.set_device(1)

    def work() -> None:
        assert fake_cupy.current.device == cuda.current_device() == 0
        found.append((x * 2 + 1).exp())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert number_of(found[0]) == 1


def test_streams_and_events() -> None:
    cuda: Any = gradient.cuda
    for device in ("cuda:1", "cuda:0"):
        other_is_current(device)
        stream, default = cuda.Stream(device), cuda.default_stream(device)
        assert cuda.current_stream(device) == default
        with cuda.stream(stream):
            assert cuda.current_stream(device) == stream
            gradient.ones(2, device="cuda:0").add(gradient.ones(2, device="cuda:0"))
        for each in (stream, default):
            event = cuda.Event(enable_timing=True)
            event.record(each)
            each.wait_event(event)
            each.wait_stream(default)
            each.synchronize()
            assert each.query()
        x = gradient.ones(2, device=device)
        x.record_stream(stream)
        del x
        cuda.synchronize(device)
    assert set(Stream.on.values()) == {Stream.null}


def test_memory_is_asked_for_each_gpu(cupy: Cupy) -> None:
    cuda: Any = gradient.cuda
    for device in DEVICES:
        gradient.ones(1, device=device)
    assert [cuda.memory_allocated(device) for device in DEVICES] == [100, 101]
    assert [cuda.memory_reserved(device) for device in DEVICES] == [200, 201]
    cuda.empty_cache()
    assert sorted(cupy.pool.freed) == [0, 1]


def test_copies_that_are_not_waited_for() -> None:
    pinned = gradient.ones(3)
    for device in ("cuda:1", "cuda:0"):
        other_is_current(device)
        x = pinned.to(device, non_blocking=True)
        assert number_of(x) == int(device[-1])
        assert x.to("cpu", non_blocking=True).tolist() == [1, 1, 1]
        assert x[x > 0].cpu().tolist() == [1, 1, 1]
        assert gradient.from_dlpack(x).device == gradient.device(device)


def test_an_index_out_of_range_is_told_by_its_gpu() -> None:
    table = {device: gradient.ones(3, 2, device=device) for device in DEVICES}
    logits = table["cuda:1"].requires_grad_()
    F.cross_entropy(logits, gradient.tensor([0, 5, 1], device="cuda:1"))
    assert table["cuda:0"].sum().item() == 6
    with pytest.raises(IndexError, match="cuda:1"):
        logits.sum().item()
    assert logits.sum().item() == 6


def test_one_gpu_pays_for_nothing(cupy: Cupy) -> None:
    assert placement.device_contexts == []
    assert type(backends.get("cuda:1")) is MultiGpuBackend
    assert len(placement.device_contexts) == 1
    placement.device_contexts.clear()
    cupy.cuda.runtime.getDeviceCount = lambda: 1
    backends.register("cuda", backends.registry._factories["cuda"])
    assert type(backends.get("cuda")) is not MultiGpuBackend
    assert placement.device_contexts == []
