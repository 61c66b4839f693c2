"""Recording: what is noted of a run, that the run stays a real one, and what ends it."""

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

import gradient
import gradient.functional as F
from gradient import nn, optim
from gradient.backends.recording_backend import RecordedArray
from gradient.plan import HostNumber, PlanError, record
from gradient.plan.plan import Plan

pytestmark = pytest.mark.cpu_only


def ops(plan: Plan) -> list[str]:
    return [call.op for call in plan.calls]


def test_a_plan_lists_what_was_asked_of_the_backend() -> None:
    x, w = gradient.ones(2, 3), gradient.ones(3)
    recording = record(lambda x: F.gelu(x * w).sum(), x, inputs=[x])
    plan = recording.plan
    assert ops(plan) == ["mul", "gelu", "sum"]
    mul, gelu, total = plan.calls
    assert [plan.buffers[ref].kind for ref in mul.inputs] == ["input", "external"]
    assert plan.buffers[mul.inputs[1]].array is w.array
    assert gelu.pieces and gelu.outputs == gelu.pieces[-1].outputs
    assert total.inputs == gelu.outputs
    assert recording.result.item() == F.gelu(x * w).sum().item()


def _line_of(function: Callable[..., Any]) -> int:
    return function.__code__.co_firstlineno


def test_calls_name_the_line_of_the_program() -> None:
    x = gradient.ones(2)

    def double() -> gradient.Tensor:
        return x * 2

    (call,) = record(double).plan.calls
    assert call.line == f"{__file__}:{_line_of(double) + 1}"


def test_memory_order_is_what_it_is_in_eager_execution() -> None:
    x = gradient.ones(2, 3)
    assert ops(record(lambda: x.t().contiguous()).plan) == ["permute", "copy"]


def test_views_share_their_root_and_writes_name_it() -> None:
    x = gradient.ones(4, 3)

    def write() -> None:
        x[1:3].t().mul_(2)

    plan = record(write).plan
    root = next(i for i, b in enumerate(plan.buffers) if b.array is x.array)
    assert [call.view for call in plan.calls if call.op in ("getitem", "permute")] == [True, True]
    (written,) = [call for call in plan.calls if call.writes]
    assert written.writes == plan.written == (root,)
    assert x.tolist() == [[1.0] * 3, [2.0] * 3, [2.0] * 3, [1.0] * 3]


def test_the_recorded_run_is_a_real_run() -> None:
    """Results, gradients and parameters are those of eager execution; tensors hold real arrays."""

    def training(recorded: bool) -> list[gradient.Tensor]:
        gradient.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.LayerNorm(16), nn.Linear(16, 4))
        optimizer = optim.AdamW(model.parameters(), lr=0.1)
        x, y = gradient.randn(5, 8), gradient.randint(0, 4, (5,))

        def step() -> gradient.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        losses = [step(), record(step).result if recorded else step(), step()]
        return [*losses, *model.parameters(), *(p.grad for p in model.parameters())]

    for eager, recorded in zip(training(False), training(True), strict=True):
        assert not isinstance(recorded.array, RecordedArray)
        assert eager.tolist() == recorded.tolist()


def test_a_graph_that_outlives_the_recording_can_be_differentiated() -> None:
    w = gradient.ones(3, requires_grad=True)
    loss = record(lambda: (w * w).sum()).result
    loss.backward()
    assert w.grad is not None and w.grad.tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("reads", "named"),
    [
        (lambda x: x.sum().item(), "item"),
        (lambda x: bool(x.sum() > 0), "bool"),
        (lambda x: x.numpy(), "numpy"),
        (lambda x: repr(x), "repr"),
        (lambda x: x.tolist(), "tolist"),
        (lambda x: float(x.sum()), "float"),
        (lambda x: x[x > 0], "mask"),
        (lambda x: x.nonzero(), "nonzero"),
    ],
)
def test_a_value_read_on_the_host_is_refused_by_name_and_line(reads: Any, named: str) -> None:
    x = gradient.ones(3)
    line = reads.__code__.co_firstlineno
    with pytest.raises(PlanError, match=rf"{named}(?s:.*){__file__}:{line}"):
        record(lambda: reads(x * 2))
    recording = record(lambda: reads(x * 2), strict=False)
    assert named in str(recording.broken)
    assert str(recording.result) == str(reads(x * 2))  # the run went on, with the value


def test_other_threads_are_not_recorded() -> None:
    shared = gradient.ones(3)
    seen: list[Any] = []

    def elsewhere() -> None:
        out = (shared + 1).exp()
        seen.extend([out.array, out.tolist(), shared.numpy().tolist()])

    def here() -> gradient.Tensor:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return shared * 3

    plan = record(here).plan
    assert ops(plan) == ["mul"]
    assert not isinstance(seen[0], RecordedArray)
    assert seen[1] == (shared + 1).exp().tolist() and seen[2] == [1.0, 1.0, 1.0]


def test_gradients_are_unscaled_and_looked_at() -> None:
    p = nn.Parameter(gradient.ones(3))

    def step(x: gradient.Tensor) -> gradient.Tensor:
        p.grad = None
        (p * x).sum().backward()
        grad, found_inf = p.grad.array, gradient.zeros(())  # type: ignore[union-attr]
        factor = gradient.full((), 0.5)
        p.backend.foreach_unscale([grad], factor.array, found_inf.array)
        return found_inf

    compiled = gradient.compile(step, fullgraph=True)
    for value in (4.0, 2.0, 8.0, float("inf"), 6.0):
        found_inf = compiled(gradient.tensor([value, 2.0, 2.0]))
        assert found_inf.item() == (value == float("inf"))
        assert p.grad.tolist() == [value / 2, 1.0, 1.0]  # type: ignore[union-attr]


def test_an_error_leaves_no_recorded_array_behind() -> None:
    x = gradient.ones(3)
    kept = []

    def fails() -> None:
        kept.append(x * 2)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        record(fails)
    assert kept[0].tolist() == [2.0, 2.0, 2.0] and x.tolist() == [1.0, 1.0, 1.0]
    assert type(x.backend).__name__ == "NumpyBackend"


def test_numbers_that_change_have_a_reader() -> None:
    gradient.manual_seed(3)
    p = gradient.ones(4, requires_grad=True)
    optimizer = optim.AdamW([p], lr=0.5)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 1, 0.1)

    def step() -> None:
        (p * gradient.rand(4)).sum().backward()
        optimizer.step()

    step()
    recording = record(step)
    names = [number.name.split()[0] for number in recording.plan.numbers]
    assert sorted(names) == ["key", "lr", "offset", *["setting"] * 3, "step"]
    assert all(isinstance(number, HostNumber) for number in recording.plan.numbers)
    scheduler.step()
    offset = gradient.default_generator.offset
    numbers = sorted(recording.readers.next_numbers().values())
    settings = [0.9, 0.999, 0.01]  # betas and weight decay
    assert numbers == sorted([3, 0.05, offset, 3, *settings])  # the key is the seed
    recording.readers.replayed()
    assert optimizer.state[p]["step"] == 3 and gradient.default_generator.offset == offset + 1


def test_generators_at_the_same_place_are_told_apart() -> None:
    def run(wrap: Any) -> list[Any]:
        first, second = gradient.Generator(), gradient.Generator()

        @wrap
        def f(x: gradient.Tensor) -> gradient.Tensor:
            return gradient.rand(2, generator=second) + x * gradient.rand(2, generator=first)

        found = []
        for i in range(9):
            if i == 6:
                first.manual_seed(5)
            found.append(f(gradient.full((2,), float(i))).tolist())
        return found

    assert run(gradient.compile) == run(lambda f: f)


def test_a_function_that_seeds_a_generator_is_not_replayed() -> None:
    def seeds(x: gradient.Tensor) -> gradient.Tensor:
        gradient.manual_seed(3)
        return x * gradient.rand(2)

    def forks(x: gradient.Tensor) -> gradient.Tensor:
        with gradient.random.fork_rng():
            gradient.manual_seed(3)
            first = x * gradient.rand(2)
        return first + gradient.rand(2)

    def run(f: Any) -> list[Any]:
        found = []
        for seed in (3, 3, 3, 3, 4, 5, 3):
            gradient.manual_seed(seed)
            found.append((f(gradient.ones(2)).tolist(), gradient.get_rng_state().tolist()))
        return found

    for f in (seeds, forks):
        with pytest.warns(UserWarning, match="it seeds a generator"):
            assert run(gradient.compile(f)) == run(f)


@pytest.mark.parametrize(
    "ask",
    [
        lambda generator: gradient.get_rng_state(),
        lambda generator: generator.get_state(),
        lambda generator: generator.clone_state().get_state(),
        lambda generator: gradient.initial_seed(),
        lambda generator: gradient.full((1,), generator.initial_seed() % 97),
    ],
    ids=["the default one's", "one's own", "a clone", "the seed", "computed with"],
)
def test_a_function_that_asks_for_a_generators_state_is_not_replayed(ask: Any) -> None:
    generator = gradient.Generator()

    def f(x: gradient.Tensor) -> Any:
        return x * 2, ask(generator)

    def run(f: Any) -> list[Any]:
        found = []
        for seed in (3, 3, 3, 3, 4, 5):
            gradient.manual_seed(seed)
            generator.manual_seed(seed)
            answer = f(gradient.ones(2))[1]
            found.append(answer.tolist() if isinstance(answer, gradient.Tensor) else answer)
        return found

    with pytest.warns(UserWarning, match="it (asks|seeds) a generator"):
        assert run(gradient.compile(f)) == run(f)


def test_what_only_comes_back_to_a_place_of_the_stream_is_replayed() -> None:
    layer = gradient.nn.Dropout(0.5)

    def f(x: gradient.Tensor) -> gradient.Tensor:
        with gradient.random.fork_rng():
            first = x * gradient.rand(64)
        y = gradient.utils.checkpoint.checkpoint(lambda x: layer(x), x.requires_grad_())
        (grad,) = gradient.autograd.grad(y.sum(), x)
        return (first + gradient.rand(64) + grad).detach()

    def run(f: Any) -> list[Any]:
        gradient.manual_seed(3)
        return [f(gradient.ones(64)).tolist() for _ in range(8)]

    assert run(gradient.compile(f, fullgraph=True)) == run(f)


def test_gradients_of_dropout_by_two_generators_of_one_seed() -> None:
    def run(wrap: Any) -> list[Any]:
        first, second = gradient.Generator(), gradient.Generator()

        @wrap
        def f(x: gradient.Tensor) -> gradient.Tensor:
            x = x.detach().requires_grad_()
            kept = [F.dropout(x, 0.5, generator=each).sum() for each in (first, second)]
            return gradient.autograd.grad(kept[0] + 2 * kept[1], x)[0]

        found = []
        for i in range(9):
            first.manual_seed(1 if i < 6 else i)
            second.manual_seed(1)
            found.append(f(gradient.ones(16)).tolist())
        return found

    with pytest.warns(UserWarning, match="several generators"):
        compiled = run(gradient.compile)
    assert compiled == run(lambda f: f)


def test_the_listing_has_a_line_for_each_call() -> None:
    x = gradient.ones(2, 3)
    text = str(record(lambda: (x * 2).sum()).plan)
    first, *calls = text.splitlines()
    assert first.startswith("plan: 2 calls; external 24 B")
    assert calls[0].startswith("%1 = mul(%0, 2)") and "float32[2, 3]  24 B" in calls[0]
    assert "test_recording.py:" in calls[0]


def test_a_recorded_tensor_says_how_it_lies_in_memory() -> None:
    x = gradient.ones(2, 3)
    seen = record(lambda: [(x * 2).t().stride(), x.t().is_contiguous(), x.stride()]).result
    assert seen == [(1, 3), False, (3, 1)]


@pytest.mark.parametrize("collect", [False, True])
def test_tensors_are_whole_again_whenever_python_collects_garbage(collect: bool) -> None:
    kept: list[gradient.Tensor] = []

    def run(x: gradient.Tensor) -> gradient.Tensor:
        kept.append(x * 2)
        if collect:
            gc.collect()
        kept.append(kept[0] + x)
        return x.detach()

    x = gradient.ones(3, requires_grad=True)
    enabled = gc.isenabled()
    record(run, x, inputs=[x])
    assert gc.isenabled() is enabled
    assert [t.tolist() for t in kept] == [[2.0] * 3, [3.0] * 3]
    kept[1].sum().backward()
    assert x.grad is not None and x.grad.tolist() == [3.0] * 3


def test_a_recording_leaves_no_cycles_behind() -> None:
    """What a run has noted goes with it, not when the collector comes by."""
    layer = nn.Linear(4, 4)
    x = gradient.randn(2, 4)

    def step(x: gradient.Tensor) -> gradient.Tensor:
        layer.zero_grad()
        loss = layer(x).square().mean()
        loss.backward()
        return loss.detach()

    record(step, x, inputs=[x])
    gc.collect()
    gc.disable()
    try:
        record(step, x, inputs=[x])
        assert gc.collect() < 10
    finally:
        gc.enable()
