"""Plans as graphs that a device captures: over `fake_cupy`, which does nothing while capturing."""

from __future__ import annotations

import importlib
import shutil
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import nn
from gradient.backends.cuda.backend import CudaBackend
from gradient.models.llama import LlamaConfig, LlamaMLP
from gradient.models.moe import Router, SparseMoe
from gradient.nn import functional as F  # noqa: N812
from gradient.plan.step import RecordedStep, Replay
from support import fake_cupy
from support.cuda_emulation import FakeRecorder, FakeRuntime
from support.fake_device import DEVICE

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]


@pytest.fixture(autouse=True)
def _no_waits() -> Iterator[None]:
    fake_cupy.waits.clear()
    yield
    fake_cupy.waits.clear()


def executors(compiled: Any) -> list[Any]:
    return [
        variant.executor
        for signature in compiled.signatures.values()
        for variant in signature.variants
    ]


def values(t: gradient.Tensor) -> np.ndarray:
    return t.backend.to_numpy(t.array)


def test_a_function_is_captured_once_and_launched_again() -> None:
    weight = gradient.tensor(np.linspace(-1, 1, 12).reshape(4, 3), device=DEVICE)

    @gradient.compile
    def f(x: gradient.Tensor) -> gradient.Tensor:
        return F.gelu(x @ weight + 1).softmax(-1) * 2

    draw = np.random.default_rng(0).standard_normal
    outs = []
    for _ in range(7):
        x = draw((2, 4))
        outs.append(f(gradient.tensor(x, device=DEVICE)))
        eager = F.gelu(gradient.tensor(x) @ gradient.tensor(values(weight)) + 1).softmax(-1) * 2
        np.testing.assert_allclose(values(outs[-1]), eager.numpy(), rtol=1e-12)
    [executor] = executors(f)
    [graph] = executor.recorder.graphs
    assert executor.program == [graph]
    assert graph.launches == 3  # seen, recorded twice, and run once call by call
    assert len({values(out).tobytes() for out in outs}) == 7  # results keep what they hold
    assert "is in no graph" not in str(executor)


def test_results_that_are_not_wanted_are_not_copied() -> None:
    x = gradient.tensor(np.arange(6.0).reshape(2, 3), device=DEVICE)
    step = RecordedStep(lambda x: (x + 1, x * 2, x - 3), [x], [])
    replay, copied = Replay(step, []), x.backend.runtime.copied
    for wanted in (None, 2, 0, 1, None):  # the first runs call by call
        copied.clear()
        found = replay(x.array, outputs=wanted)
        expected = [(x + 1).tolist(), (x * 2).tolist(), (x - 3).tolist()][:wanted]
        assert [t.tolist() for t in found] == expected
        assert copied == ["memcpy"] * (1 + len(expected))  # of the input, and these


class Model(nn.Module):
    """A language model of one layer, in small."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.norm = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24)
        self.head = nn.Linear(8, 11)

    def forward(self, tokens: gradient.Tensor) -> gradient.Tensor:
        x = self.embed(tokens)
        q, k, v = self.qkv(self.norm(x)).reshape(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + F.dropout(out.transpose(1, 2).reshape(2, 5, 8), 0.1)
        return self.head(F.gelu(x))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_training_step_is_one_graph(dtype: str) -> None:
    """The optimiser's step and learning rate and the offsets of random numbers change: they lie on
    the device. Losses are those of eager steps, to the last bit."""
    losses = []
    for compiled in (False, True):
        gradient.manual_seed(3)
        model = Model().to(DEVICE, getattr(gradient, dtype))
        optimizer = gradient.optim.AdamW(model.parameters(), lr=0.05)

        def step(
            tokens: gradient.Tensor, model: Any = model, optimizer: Any = optimizer
        ) -> gradient.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(tokens).reshape(-1, 11), (tokens.reshape(-1) + 1) % 11)
            loss.backward()
            optimizer.step()
            return loss

        run: Any = gradient.compile(step) if compiled else step
        found = []
        for i in range(9):
            tokens = gradient.tensor((np.arange(10).reshape(2, 5) + i) % 11, device=DEVICE)
            fake_cupy.waits.clear()
            optimizer.param_groups[0]["lr"] = 0.05 - 0.004 * i
            found.append(run(tokens))
            assert fake_cupy.waits == [], i
        losses.append([values(loss).astype(float).item() for loss in found])
    assert losses[0] == losses[1]
    assert losses[0][-1] < losses[0][0]
    [executor] = executors(run)
    assert executor.alone == {}
    [graph] = executor.program
    assert graph.launches >= 4


def trained(model: nn.Module, compiled: bool, after: Any = lambda model: None) -> Any:
    """A step of the model, that goes on with what is done `after` each call."""
    optimizer = gradient.optim.AdamW(model.parameters(), lr=0.05)

    def step(x: gradient.Tensor) -> gradient.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    run: Any = gradient.compile(step) if compiled else step
    draw = np.random.default_rng(0).standard_normal
    for _ in range(9):
        run(gradient.tensor(draw((3, 4)).astype(np.float32), device=DEVICE))
        after(model)
    return run


def small_model() -> nn.Module:
    gradient.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).to(DEVICE)


def test_gradients_lie_where_the_graph_leaves_them() -> None:
    """The next step finds that nobody has them, and uploads its numbers together."""
    places: list[list[int]] = []

    def note(model: nn.Module) -> None:
        places.append([p.grad.backend.address(p.grad.array) for p in model.parameters()])
        if len(places) < 9:
            fake_cupy.uploads.clear()

    run = trained(small_model(), True, note)
    assert len(fake_cupy.uploads) == 2  # the input, and the numbers
    assert places[-1] == places[-2] == places[-3] != places[2]
    [executor] = executors(run)
    assert executor.is_free() is False  # the model has gradients still
    assert len(executor._lent) == 4


KEPT = {
    "a tensor": lambda p: p.grad,
    "its array": lambda p: p.grad.array,
    "a view": lambda p: p.grad[:1],
    "a view of a view": lambda p: p.grad.reshape(-1)[1:][::2],
    "what shares it": lambda p: p.grad.detach(),
    "windows": lambda p: p.grad.unfold(0, 1, 1),
    "other strides": lambda p: p.grad.as_strided((1,), (1,)).detach(),
    "its memory": lambda p: p.grad.array.data,
}


@pytest.mark.parametrize("what", KEPT)
def test_gradients_that_are_kept_stay_as_they_are(what: str) -> None:
    found = []
    for compiled in (False, True):
        kept, then = [], []

        def keep(model: nn.Module, kept: Any = kept, then: Any = then) -> None:
            if len(then) == 5:  # from some step on
                kept += [KEPT[what](p) for p in model.parameters()]
            then.append([values(p.grad) for p in model.parameters()])

        run = trained(small_model(), compiled, keep)
        if what != "its memory":
            arrays = [x if what == "its array" else x.array for x in kept]
            found.append((then, [x._host.copy() for x in arrays]))
    for eager, replayed in zip(*found, strict=True):
        for a, b in zip(eager, replayed, strict=True):
            for x, y in zip(a, b, strict=True) if isinstance(a, list) else [(a, b)]:
                np.testing.assert_array_equal(x, y)
    [executor] = executors(run)
    assert executor._lent == set()


def test_what_another_stream_uses_is_not_lent_again() -> None:
    backend = gradient.backends.get(DEVICE)

    def use(model: nn.Module) -> None:
        backend.record_stream(model[0].weight.grad.array, backend.runtime.default)

    [executor] = executors(trained(small_model(), True, use))
    assert executor._lent == set()


def stride_tricks() -> Any:
    return importlib.import_module("cupy.lib.stride_tricks")


@pytest.mark.parametrize(
    "take",
    [
        lambda x: x,
        lambda x: x[:1],
        lambda x: x[1:][::-1],
        lambda x: x.T,
        lambda x: x.reshape(x.shape),
        lambda x: x[None, :, 3:5],
        lambda x: x.view(),
        lambda x: x.data,
        lambda x: x.data.mem,
        lambda x: stride_tricks().as_strided(x, (2, 2), x.strides)[...],
    ],
)
@pytest.mark.parametrize("lent", [lambda x: x, lambda x: x.T, lambda x: x[2:]])
def test_cupys_own_arrays_are_held_by_their_views(lent: Any, take: Any) -> None:
    """CuPy's classes over memory of the host, of which they read nothing."""
    cupy = pytest.importorskip("cupy")
    host = np.zeros(64, np.float32)
    memory = cupy.cuda.UnownedMemory(host.ctypes.data, host.nbytes, host, 0)
    x = lent(cupy.ndarray((8, 8), np.float32, cupy.cuda.MemoryPointer(memory, 0)))
    owner = x if x.base is None else x.base
    watched = [x, owner, x.data, owner.data, x.data.mem]
    before = [*map(sys.getrefcount, watched)]
    taken = take(x)
    assert [*map(sys.getrefcount, watched)] != before
    del taken
    assert [*map(sys.getrefcount, watched)] == before


@pytest.mark.parametrize("packed", [None, "q4_0"])
def test_experts_are_in_a_graph(packed: str | None) -> None:
    """How many tokens each expert gets is another number in each replay, and never read."""
    gradient.manual_seed(0)
    moe = SparseMoe(
        Router(32, 5, top_k=2, normalize=True),
        [
            LlamaMLP(
                LlamaConfig(
                    hidden_size=32,
                    intermediate_size=64,
                    num_attention_heads=4,
                    num_key_value_heads=4,
                )
            )
            for _ in range(5)
        ],
        F.silu,
    ).to(DEVICE)
    if packed is not None:
        gradient.quantization.quantize_(moe.experts, packed)

    @gradient.compile
    def f(x: gradient.Tensor) -> gradient.Tensor:
        with gradient.no_grad():
            return moe(x)

    draw = np.random.default_rng(0).standard_normal
    for tokens in (4, 40):
        for _ in range(6):
            x = gradient.tensor(draw((1, tokens, 32)).astype(np.float32), device=DEVICE)
            fake_cupy.waits.clear()
            out = f(x)
            assert fake_cupy.waits == []
            with gradient.no_grad():
                np.testing.assert_array_equal(values(out), values(moe(x)))
    for executor in executors(f):
        assert len(executor.recorder.graphs) == 1
        assert "is in no graph" not in str(executor)


def test_a_call_that_reads_values_stays_between_graphs() -> None:
    matrix = gradient.tensor(np.diag([2.0, 3.0]), device=DEVICE)

    @gradient.compile
    def f(x: gradient.Tensor) -> gradient.Tensor:
        return gradient.linalg.inv(matrix + x).exp() + 1

    for i in range(6):
        x = np.full((2, 2), 0.125 * i)
        out = f(gradient.tensor(x, device=DEVICE))
        expected = np.exp(np.linalg.inv(np.diag([2.0, 3.0]) + x)) + 1
        np.testing.assert_allclose(values(out), expected, rtol=1e-12)
    [executor] = executors(f)
    assert len(executor.recorder.graphs) == 2
    assert list(executor.alone.values()) == ["takes values to the host, or from it"]
    assert "inv" in str(executor)
    assert "is in no graph: takes values to the host" in str(executor)


def test_what_another_thread_reads_meanwhile_keeps_no_call_out_of_a_graph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exp = CudaBackend.exp

    def slow(self: CudaBackend, x: Any) -> Any:
        if fake_cupy.capture.work is None:
            thread = threading.Thread(target=gradient.ones(1, device=DEVICE).tolist)
            thread.start()
            thread.join()
        return exp(self, x)

    monkeypatch.setattr(CudaBackend, "exp", slow)
    x = gradient.tensor(np.arange(3.0), device=DEVICE)
    replay = Replay(RecordedStep(lambda x: (x.exp().log(),), [x], []), [])
    for _ in range(3):
        replay(x.array)
    assert not replay.executor.alone and len(replay.executor.recorder.graphs) == 1


def test_a_call_that_cannot_be_captured_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    argsort = CudaBackend.argsort

    def refusing(self: CudaBackend, x: Any, axis: int) -> Any:
        if fake_cupy.capture.work is not None:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: no sorting here")
        return argsort(self, x, axis)

    monkeypatch.setattr(CudaBackend, "argsort", refusing)

    @gradient.compile
    def f(x: gradient.Tensor) -> gradient.Tensor:
        return (x * 2).argsort() + 1

    for i in range(7):
        x = np.random.default_rng(i).standard_normal(9)
        out = f(gradient.tensor(x, device=DEVICE))
        np.testing.assert_array_equal(values(out), np.argsort(x) + 1)
    [executor] = executors(f)
    assert "cudaErrorStreamCaptureUnsupported: no sorting here" in str(executor)
    assert len(executor.alone) == 1
    assert [g.launches > 0 for g in executor.recorder.graphs if g in executor.program] == [True] * 2


def test_one_more_run_finds_all_that_cannot_be_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are; a capture may also fail at its end, and say nothing of a call."""
    log = CudaBackend.log

    def refusing(self: CudaBackend, x: Any) -> Any:
        if fake_cupy.capture.work is not None:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported")
        return log(self, x)

    capture = FakeRecorder.capture

    def failing(self: FakeRecorder, program: Any) -> Any:
        before = len(quiet)
        made = capture(self, program)
        if len(quiet) > before:
            raise RuntimeError("cudaErrorStreamCaptureInvalidated")
        return made

    quiet: list[int] = []
    exp = CudaBackend.exp

    def spoiling(self: CudaBackend, x: Any) -> Any:
        if fake_cupy.capture.work is not None:
            quiet.append(1)
        return exp(self, x)

    monkeypatch.setattr(CudaBackend, "log", refusing)
    monkeypatch.setattr(CudaBackend, "exp", spoiling)
    monkeypatch.setattr(FakeRecorder, "capture", failing)

    @gradient.compile(fuse=False)
    def f(x: gradient.Tensor) -> gradient.Tensor:
        for _ in range(5):
            x = (x.exp() + 1).log() * 2
        return x

    for i in range(8):
        x = np.random.default_rng(i).standard_normal(9)
        expected = x
        for _ in range(5):
            expected = np.log(np.exp(expected) + 1) * 2
        np.testing.assert_allclose(values(f(gradient.tensor(x, device=DEVICE))), expected, 1e-12)
    [executor] = executors(f)
    assert "not captured yet" not in str(executor)
    assert [executor.calls[i].op for i in sorted(executor.alone)] == ["exp", "log"] * 5
    kept = [g for g in executor.program if not isinstance(g, range)]
    assert [g.launches for g in kept] == [3] * len(kept)


def test_generation_launches_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decode step is captured: the tokens are those of the same model on the CPU."""
    from gradient.generation import generate
    from gradient.models import LlamaConfig, LlamaForCausalLM

    gradient.manual_seed(0)
    config = LlamaConfig(
        vocab_size=17, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    options: Any = {"max_new_tokens": 50, "temperature": 0, "compile": True}
    [expected] = generate(model, [[3, 5, 7]], **options)
    recorders: list[Any] = []
    make = FakeRuntime.graph_recorder
    monkeypatch.setattr(
        FakeRuntime, "graph_recorder", lambda self: recorders.append(make(self)) or recorders[-1]
    )
    [got] = generate(model.to(DEVICE), [[3, 5, 7]], **options)
    assert got.token_ids == expected.token_ids
    assert got.timings.not_replayed is None
    assert got.timings.replayed_steps > 20
    assert sum(graph.launches for each in recorders for graph in each.graphs) > 20
