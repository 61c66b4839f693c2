"""The arena of a compiled step is no larger than what an eager one holds at its peak."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import nn, optim
from gradient.backends.numpy import kernels, workspace
from gradient.backends.numpy.workspace import Workspace, working_in
from gradient.plan import record
from gradient.plan.executors import CpuExecutor

pytestmark = pytest.mark.cpu_only


def peak(call: Callable[[], object]) -> int:
    """Bytes of arrays that a call holds at most, beside those from before."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def perceptron() -> nn.Module:
    layers: list[nn.Module] = [nn.Linear(64, 256)]
    for _ in range(4):
        layers += [nn.GELU(), nn.LayerNorm(256), nn.Dropout(0.1), nn.Linear(256, 256)]
    return nn.Sequential(*layers)


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.1, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Each thread that takes part packs weights into memory of its own."""
    threads = gradient.get_num_threads()
    gradient.set_num_threads(1)
    yield
    gradient.set_num_threads(threads)


@pytest.mark.parametrize(
    ("make", "shape"), [(perceptron, (512, 64)), (encoder, (8, 64, 64))], ids=["mlp", "encoder"]
)
def test_the_arena_is_at_most_what_eager_holds(
    one_thread: None, make: Any, shape: tuple[int, ...]
) -> None:
    model = make()
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    def step(x: gradient.Tensor) -> gradient.Tensor:
        optimizer.zero_grad()
        loss = model(x).pow(2).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    x = gradient.randn(*shape)
    fast: Any = gradient.compile(step, fullgraph=True)
    for _ in range(6):
        fast(x)
    (signature,) = fast.signatures.values()
    (variant,) = signature.variants
    eager = peak(lambda: step(x))
    replayed = peak(lambda: fast(x))
    assert signature.replays >= 2
    # What comes out, gradients among it, is copied: eager's own are part of its peak.
    assert variant.executor.nbytes - x.nbytes <= eager, fast.explain()
    assert replayed <= sum(p.nbytes for p in model.parameters()) + 2 * x.nbytes


def test_memory_that_kernels_hand_on_is_laid_out_with_the_buffers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where none of the gaps between these is large enough."""
    if not kernels.available():
        pytest.skip("no kernels: NumPy's functions take memory of their own")
    gradient.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(9216, 10)),
    )

    def step(x: gradient.Tensor) -> gradient.Tensor:
        model.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss.detach()

    x = gradient.randn(64, 1, 28, 28)
    step(x)
    plan = record(step, x, inputs=[x]).plan
    plan = replace(plan, outputs=plan.calls[-1].outputs)
    executor = CpuExecutor(plan)
    monkeypatch.setattr("gradient.plan.executors.cpu.SPARED", 1 << 40)
    simple = CpuExecutor(plan)
    assert executor.nbytes + (1 << 20) < simple.nbytes
    found = [each.run([x.array], {})[0].tobytes() for each in (executor, simple)]
    assert found[0] == found[1]


def test_a_recorded_run_holds_what_eager_holds(one_thread: None) -> None:
    """What it drops is dropped: the gradients of the step before, above all."""
    model = nn.Sequential(*[nn.Linear(512, 512) for _ in range(4)])

    def step(x: gradient.Tensor) -> gradient.Tensor:
        model.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss.detach()

    x = gradient.randn(8, 512)
    step(x)
    eager = peak(lambda: [step(x) for _ in range(2)])
    model.zero_grad()
    recorded = peak(lambda: [step(x), record(step, x, inputs=[x])])
    assert recorded <= eager + (1 << 20)  # a layer's weight


def test_a_recording_that_waits_for_another_holds_no_gradients() -> None:
    model = nn.Linear(64, 64)

    @gradient.compile(fullgraph=True)
    def step(x: gradient.Tensor) -> gradient.Tensor:
        model.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss.detach()

    x = gradient.randn(8, 64)
    step(x)  # eager
    step(x)  # recorded, and compared with the next
    gone = weakref.ref(model.weight.grad.array)  # type: ignore[union-attr]
    model.zero_grad()
    gc.collect()
    assert gone() is None
    model.weight.grad, model.bias.grad = gradient.zeros(64, 64), gradient.zeros(64)
    losses = [step(x).item() for _ in range(4)]
    assert len(set(losses)) == 1
    (signature,) = step.signatures.values()  # type: ignore[attr-defined]
    assert signature.replays >= 2


def trained(held: Callable[[nn.Module], object] = lambda model: None) -> tuple[Any, Any, list[Any]]:
    """A compiled step of a model with large gradients, what `held` kept after each, and the
    gradients, step by step."""
    gradient.manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 512), nn.Linear(512, 512))

    def step(x: gradient.Tensor) -> gradient.Tensor:
        model.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss.detach()

    fast: Any = gradient.compile(step, fullgraph=True)
    kept, grads = [], []
    for i in range(8):
        x = gradient.full((4, 512), float(i))
        fast(x)
        found = [p.grad.numpy().copy() for p in model.parameters()]  # type: ignore[union-attr]
        kept.append(held(model))
        step_grads = [p.grad for p in model.parameters()]
        for p in model.parameters():
            p.grad = None
        step(x)  # eager
        for p, was, own in zip(model.parameters(), found, step_grads, strict=True):
            assert (p.grad.numpy() == was).all()  # type: ignore[union-attr]
            p.grad = own
        del p, own, step_grads
        grads.append(found)
    (signature,) = fast.signatures.values()
    (variant,) = signature.variants
    return variant, kept, grads


def test_gradients_lie_in_the_arena_until_the_next_step() -> None:
    variant, _, _ = trained()
    assert variant.lends
    weight = next(t for t in variant.leaves if t.ndim == 2)
    before = weight.grad.array
    assert np.may_share_memory(before, variant.executor._memory)
    assert not weight.backend.is_view(before) and before.flags.writeable


@pytest.mark.parametrize(("width", "lent"), [(127, False), (128, True)])
def test_a_gradient_is_copied_where_that_is_as_quick(width: int, lent: bool) -> None:
    layer = nn.Linear(width, width)

    @gradient.compile(fullgraph=True)
    def step(x: gradient.Tensor) -> gradient.Tensor:
        layer.zero_grad()
        loss = layer(x).square().mean()
        loss.backward()
        return loss.detach()

    x = gradient.randn(4, width)
    for _ in range(5):
        step(x)
    (signature,) = step.signatures.values()  # type: ignore[attr-defined]
    (variant,) = signature.variants
    grad: Any = layer.weight.grad
    assert np.may_share_memory(grad.array, variant.executor._memory) is lent
    # What was recorded is held once: as it is run.
    assert not variant.plan.calls and variant.optimized is variant.executor.plan


@pytest.mark.parametrize(
    "held",
    [
        lambda model: model[0].weight.grad,
        lambda model: model[0].weight.grad.view(-1)[5:],
        lambda model: model[0].weight.grad.numpy(),
        lambda model: model[0].weight.grad.detach(),
        lambda model: memoryview(model[0].weight.grad.numpy()),
    ],
    ids=["tensor", "view", "array", "detached", "buffer"],
)
def test_a_gradient_that_is_held_keeps_its_values(held: Any) -> None:
    variant, kept, grads = trained(held)
    assert not variant.lends  # any more
    for value, (first, *_) in zip(kept, grads, strict=True):
        found = np.asarray(value.numpy() if isinstance(value, gradient.Tensor) else value)
        assert found.tobytes() == first.tobytes()[-found.nbytes :]


def test_a_gradient_that_only_its_parameter_has_moves_out_of_the_way() -> None:
    layer = nn.Linear(512, 512)
    compiled: Any = gradient.compile(layer, fullgraph=True)
    x = gradient.randn(4, 512)
    for i in range(8):
        y = compiled(x + i)
        if i:
            lying = layer.weight.grad.numpy().copy()  # type: ignore[union-attr]
            assert (lying == before).all()  # noqa: F821
        layer.zero_grad()
        y.square().sum().backward()
        before = layer.weight.grad.numpy().copy()  # type: ignore[union-attr] # noqa: F841
        layer.weight.grad.mul_(1)  # type: ignore[union-attr]
    (signature,) = compiled.signatures.values()
    (variant,) = signature.variants
    assert signature.replays >= 5 and variant.lends
    assert np.may_share_memory(
        layer.weight.grad.array,  # type: ignore[union-attr]
        variant.differentiable.executors[0][0]._memory,
    )


def test_convolutions_take_their_memory_from_the_arena(one_thread: None) -> None:
    """What they copy of what is not contiguous, and of what is spread, lies there."""
    if not kernels.available():
        pytest.skip("no kernels: NumPy's functions take memory of their own")
    gradient.manual_seed(0)
    first, second = nn.ConvTranspose2d(64, 32, 2, 2), nn.Conv2d(64, 4, 1)

    def step(x: gradient.Tensor, y: gradient.Tensor) -> gradient.Tensor:
        first.zero_grad()
        second.zero_grad()
        found = second(gradient.cat([y, first(x)], 1))
        loss = found.transpose(1, 3).log_softmax(-1).square().mean()
        loss.backward()
        return loss.detach()

    x, y = gradient.randn(4, 64, 32, 32), gradient.randn(4, 32, 64, 64)
    step(x, y)
    plan = record(step, x, y, inputs=[x, y]).plan
    grads = tuple(each.outputs[0] for each in plan.calls if each.op == "convolution_weight_grad")
    executor = CpuExecutor(replace(plan, outputs=grads), poison=True)
    assert "by the kernel to_panels, the kernel copy_strided" in str(executor)
    found: list[np.ndarray] = []
    assert peak(lambda: found.extend(executor.run([x.array, y.array], {}))) < 1 << 18
    step(x, y)
    expected = second.weight.grad, first.weight.grad
    for given, grad in zip(found, expected, strict=True):
        assert grad is not None and given.tobytes() == grad.numpy().tobytes()


def test_activations_of_expanded_gradients_take_theirs_from_the_arena(one_thread: None) -> None:
    """As of an average over pixels: kernels want a copy of it."""
    if not kernels.available():
        pytest.skip("no kernels: NumPy's functions take memory of their own")
    weight = gradient.randn(512, 512, requires_grad=True)

    def step(x: gradient.Tensor) -> Any:
        weight.grad = None
        (x * weight).relu().mean(1).square().sum().backward()
        return weight.grad

    x = gradient.randn(512, 512)
    step(x)
    recording = record(step, x, inputs=[x])
    (output,) = (ref for t, ref in recording.survivors if t is recording.result)
    executor = CpuExecutor(replace(recording.plan, outputs=(output,)), poison=True)
    assert "the kernel copy_runs, the kernel relu_grad" in str(executor)
    found: list[np.ndarray] = []
    assert peak(lambda: found.extend(executor.run([x.array], {}))) < x.nbytes + (1 << 16)
    assert found[0].tobytes() == recording.result.numpy().tobytes()


@pytest.mark.parametrize("axes", [(0, 1), (1, 0)], ids=["contiguous", "transposed"])
def test_dropout_writes_to_its_place(axes: tuple[int, int]) -> None:
    if not kernels.available():
        pytest.skip("no kernels: NumPy's functions take memory of their own")

    def step(x: gradient.Tensor) -> gradient.Tensor:
        return F.dropout(x.permute(axes), 0.25).sum()

    x, fast = gradient.rand(512, 600), gradient.compile(step, fullgraph=True)
    for seed in range(5):
        gradient.manual_seed(seed)
        expected = step(x).item()
        gradient.manual_seed(seed)
        assert fast(x).item() == expected
    assert peak(lambda: fast(x)) < 1 << 16


def test_rows_of_an_embedding_are_written_to_their_place() -> None:
    if not kernels.available():
        pytest.skip("no kernels: NumPy's functions take memory of their own")
    weight, ids = gradient.randn(100, 256), gradient.arange(1280).reshape(8, 160) % 100
    step = gradient.compile(lambda ids: F.embedding(ids, weight).sum(), fullgraph=True)
    expected = [step(ids).item() for _ in range(5)]
    assert peak(lambda: step(ids)) < 1 << 16
    assert len(set(expected)) == 1


def test_a_workspace_gives_the_place_of_the_result_once() -> None:
    place, block = np.zeros((2, 3), np.float32), np.zeros(128, np.uint8)
    with working_in(Workspace(place, block)):
        other = workspace.result((3, 3), np.float32)  # of another size
        result = workspace.result((6,), np.float32)
        again = workspace.result((2, 3), np.float32)
        beyond = workspace.empty((1,), np.float32)
    assert np.may_share_memory(result, place)
    assert np.may_share_memory(other, block) and np.may_share_memory(again, block)
    assert not np.may_share_memory(other, again)
    assert not any(np.may_share_memory(beyond, x) for x in (place, block))
    assert workspace.empty((1,), np.float32).base is None  # as ever


def open_batch(batch: Any) -> gradient.Tensor:
    while not isinstance(batch, gradient.Tensor):
        (batch,) = batch.values() if isinstance(batch, dict) else batch
    return batch


@pytest.mark.parametrize("train", [False, True], ids=["no backward pass", "trained"])
@pytest.mark.parametrize("wrapped", [lambda x: x, lambda x: [x], lambda x: {"x": (x,)}])
def test_the_batches_that_were_recorded_are_not_kept(wrapped: Any, train: bool) -> None:
    layer = nn.Linear(4, 4)

    @gradient.compile(fullgraph=True)
    def step(batch: Any) -> gradient.Tensor:
        x = open_batch(batch)
        loss = layer(x).square().mean()
        if train:
            layer.zero_grad()
            loss.backward()
        return loss.detach()

    gone = []
    for _ in range(6):
        x = gradient.randn(3, 4)
        gone.append((weakref.ref(x), weakref.ref(x.array)))
        step(wrapped(x))
        del x
        gc.collect()
        assert all(ref() is None for refs in gone for ref in refs)
    (signature,) = step.signatures.values()  # type: ignore[attr-defined]
    assert signature.replays == 3
