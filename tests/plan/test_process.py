"""Plans on a device in another process: a replay is one message, and gives what eager steps do."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

import gradient
import gradient.functional as F
from gradient import backends, hub, nn, optim
from gradient.plan import PlanError
from gradient.plan.executors import process
from gradient.plan.step import Replay
from support.array_backends import PROOFS
from support.paths import GOLDEN

HAS_MLX = importlib.util.find_spec("mlx") is not None
PLACES = [
    "process",
    pytest.param("metal", marks=pytest.mark.skipif(not HAS_MLX, reason='extra "metal" absent')),
]
pytestmark = pytest.mark.cpu_only
assert "process" in PROOFS  # the example plugin's device


@contextlib.contextmanager
def messages(place: str) -> Iterator[list[str]]:
    """What the client queues inside, none of which may be sent."""
    client: Any = backends.get(place)
    client = client.client
    client.flush()
    before, kinds = client.sent, []
    yield kinds
    kinds += [msgpack.unpackb(item[0])[0] for item in client.queue]
    assert client.sent == before


@pytest.mark.parametrize("place", PLACES)
def test_a_compiled_training_step_is_one_message(place: str) -> None:
    """Dropout, a schedule of the learning rate, clipping and AdamW's count of steps included."""

    def losses(device: str, compiled: bool) -> list[float]:
        gradient.manual_seed(0)
        layers = nn.Linear(6, 16), nn.GELU(), nn.Dropout(0.25), nn.LayerNorm(16), nn.Linear(16, 3)
        model = nn.Sequential(*layers).to(device)
        optimizer = optim.AdamW(model.parameters(), lr=0.05)
        schedule = optim.lr_scheduler.StepLR(optimizer, 3, 0.5)

        def step(x: gradient.Tensor, y: gradient.Tensor) -> gradient.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            return loss.detach()

        run = gradient.compile(step, fullgraph=True) if compiled else step
        found = []
        for i in range(8):
            x, y = gradient.randn(5, 6).to(device), gradient.randint(0, 3, (5,)).to(device)
            if compiled and i > 2:
                with messages(device) as queued:
                    loss = run(x, y)
                assert queued == ["run"]
            else:
                loss = run(x, y)
            found.append(loss.item())
            schedule.step()
        if compiled:
            assert "5 replayed" in run.explain()  # type: ignore[attr-defined]
        return found

    eager = losses("cpu", False)
    assert losses(place, True) == pytest.approx(eager, abs=1e-4)
    assert losses(place, True) == losses(place, False)


@pytest.mark.parametrize("place", PLACES)
def test_views_writes_and_results_that_are_memory_from_before(place: str) -> None:
    cache = gradient.zeros(4, 3, device=place)
    rows = cache.t()[1:]

    @gradient.compile(fullgraph=True)
    def step(x: gradient.Tensor) -> tuple[gradient.Tensor, gradient.Tensor]:
        cache[1:3].mul_(2)
        rows[0] += x
        return cache.view(-1)[2:], rows.sum(0)

    expected = gradient.zeros(4, 3)
    for i in range(6):
        x = gradient.arange(4, dtype=gradient.float32) + i
        shown, total = step(x.to(place))
        expected[1:3].mul_(2)
        expected.t()[1] += x
        assert cache.tolist() == expected.tolist()
        assert shown.tolist() == expected.view(-1)[2:].tolist()
        assert total.tolist() == expected.t()[1:].sum(0).tolist()
    shown.fill_(7)
    assert cache[1].tolist() == [7, 7, 7]


def test_what_is_differentiated_outside_runs_eagerly() -> None:
    model = nn.Linear(3, 2).to("process")
    with pytest.raises(PlanError, match="differentiated|compile the backward pass with it"):
        compiled = gradient.compile(model, fullgraph=True)
        for _ in range(4):
            compiled(gradient.ones(2, 3, device="process")).sum().backward()


def test_graphs_are_forgotten() -> None:
    backend: Any = backends.get("process")
    backend.synchronize()

    @gradient.compile(fullgraph=True)
    def step(x: gradient.Tensor) -> gradient.Tensor:
        return x.exp() + 1

    for _ in range(4):
        step(gradient.ones(3, device="process"))
    backend.synchronize()
    (number,) = {v.executor.graph.number for s in step.signatures.values() for v in s.variants}
    assert number not in backend.client.forgotten
    step.signatures.clear()
    assert number in backend.client.forgotten
    backend.synchronize()
    assert not backend.client.forgotten


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["gpt2_tiny", "llama_tiny/llama"])
def test_a_decoding_step_is_one_message(
    name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def texts(device: str, compiled: bool) -> list[int]:
        lm = hub.load(GOLDEN / name, device=device)
        options = {"max_new_tokens": 24, "temperature": 0, "ignore_eos": True}
        return list(lm.generate([5, 3, 8], compile=compiled, **options).token_ids)

    run = Replay.__call__
    kinds: list[list[str]] = []

    def noted(self: Replay, given: Any, outputs: int | None = None) -> gradient.Tensor:
        assert given.id  # of a view, which is taken now
        with messages(place) as queued:
            found = run(self, given, outputs=outputs)
        kinds.append(queued)
        return found

    expected = texts("cpu", False)
    monkeypatch.setattr(Replay, "__call__", noted)
    assert texts(place, True) == expected
    assert len(kinds) > 10
    assert {tuple(each) for each in kinds} == {("run",)}


@pytest.mark.parametrize("place", PLACES)
def test_a_later_text_takes_over_the_plan_that_was_sent(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []

    class Counted(process.Graph):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            sent.append(self.number)

    monkeypatch.setattr(process, "Graph", Counted)
    lm = hub.load(GOLDEN / "gpt2_tiny", device=place)
    options: dict[str, Any] = {"temperature": 0, "ignore_eos": True}
    lm.generate([5, 3, 8], compile=True, max_new_tokens=24, **options)
    for prompt in ([5, 3, 8], [7, 9, 2, 11], [4]):
        found = lm.generate(prompt, max_new_tokens=8, **options)
        assert found.timings.replayed_steps == 7 and len(sent) == 1
        expected = lm.generate(prompt, max_new_tokens=8, compile=False, **options)
        assert found.token_ids == expected.token_ids


@pytest.mark.parametrize("place", PLACES)
def test_a_sampled_text_is_that_of_the_modules(place: str) -> None:
    lm = hub.load(GOLDEN / "gpt2_tiny", device=place)
    options: dict[str, Any] = {"temperature": 0.8, "seed": 1, "ignore_eos": True}
    found = lm.generate([1, 2, 3], max_new_tokens=20, compile=True, **options)
    expected = lm.generate([1, 2, 3], max_new_tokens=20, compile=False, **options)
    assert found.token_ids == expected.token_ids
    assert found.timings.replayed_steps > 10
