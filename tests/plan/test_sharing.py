"""The plans of a compiled function take turns in one arena."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import nn, optim
from gradient.plan.sharing import Arena, SharedArena, own_arena
from gradient.plan.variant import Variant

pytestmark = pytest.mark.cpu_only

WIDTH = 512


def network() -> nn.Module:
    gradient.manual_seed(0)
    return nn.Sequential(
        *(nn.Linear(64, WIDTH), nn.GELU(), nn.Dropout(0.1)),
        *(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, 8)),
    )


def training(wrap: Callable[..., Any]) -> tuple[Any, nn.Module]:
    model = network()
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    @wrap
    def step(x: gradient.Tensor) -> gradient.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step, model


def batches(sizes: Sequence[int]) -> list[gradient.Tensor]:
    return [gradient.full((n, 64), 1 / (2 + i)) for i, n in enumerate(sizes)]


def losses(step: Any, sizes: Sequence[int]) -> list[float]:
    gradient.manual_seed(1)
    return [step(x).item() for x in batches(sizes)]


def variants(compiled: Any) -> list[Variant]:
    return [v for s in compiled.signatures.values() for v in s.variants]


def arenas(compiled: Any) -> set[int]:
    return {id(v.executor.arena) for v in variants(compiled)}


def eagerly(function: Any) -> Any:
    return function


@pytest.mark.parametrize(
    "sizes",
    [
        [512] * 4 + [300] * 3 + [512, 300] * 3,
        [300] * 4 + [512] * 3 + [300, 512] * 3,
        [256] * 4 + [1536] * 4 + [256] * 3 + [700] * 4 + [256, 700, 1536] * 2,
    ],
    ids=["a smaller one", "a larger one", "a much larger one, which replaces the arena"],
)
def test_batches_of_several_sizes_run_in_one_arena(sizes: list[int]) -> None:
    expected = losses(training(eagerly)[0], sizes)
    fast, _ = training(gradient.compile(fullgraph=True))
    assert losses(fast, sizes) == expected
    assert len(variants(fast)) == len(set(sizes))
    assert len(arenas(fast)) == 1
    assert all(s.replays >= 2 for s in fast.signatures.values())
    own = {v.executor.nbytes for v in variants(fast)}
    shared = variants(fast)[0].executor.arena.memory
    assert all(np.may_share_memory(shared, v.executor._memory) for v in variants(fast))
    assert max(own) > min(own)


@pytest.mark.parametrize("poison", [False, True])
def test_what_is_in_the_arena_does_not_matter(poison: bool) -> None:
    sizes = [512] * 4 + [300] * 4
    expected = losses(training(eagerly)[0], [*sizes, *[512, 300] * 3])
    fast, _ = training(gradient.compile(fullgraph=True))
    found = losses(fast, sizes)
    for variant in variants(fast):
        variant.executor.poison = poison
    found += [fast(x).item() for x in batches([*sizes, *[512, 300] * 3])[len(sizes) :]]
    assert found == expected


@pytest.mark.parametrize("held", ["tensor", "array"])
def test_a_gradient_that_is_held_outlives_the_other_plan(held: str) -> None:
    fast, model = training(gradient.compile(fullgraph=True))
    sizes = [512] * 4 + [300] * 4
    for x in batches(sizes):
        fast(x)
    kept = []
    for x in batches([512, 300] * 4):
        fast(x)
        grad: Any = model[3].weight.grad  # type: ignore[index]
        kept.append((grad if held == "tensor" else grad.numpy(), grad.numpy().copy()))
    for now, was in kept:
        assert np.asarray(now.numpy() if held == "tensor" else now).tobytes() == was.tobytes()
    assert not any(v.lends for v in variants(fast))
    before = [id(v.executor.arena) for v in variants(fast)]
    for x in batches([512, 300] * 2):  # copies are given now, so all stays as it is
        fast(x)
    assert [id(v.executor.arena) for v in variants(fast)] == before


def test_other_sizes_of_a_module_before_the_backward_pass() -> None:
    """What a backward pass is to read stays until it has run."""

    def run(model: Any, order: str) -> list[bytes]:
        found = []
        for i in range(12):
            model.zero_grad()
            large, small = batches([512, 300])
            first = model(large + i)
            if order == "both" and i > 3:
                second = model(small + i)
                with gradient.no_grad():
                    found.append(model(small).numpy().tobytes())
                (first.square().mean() + second.square().mean()).backward()
            else:
                first.square().mean().backward()
                second = model(small + i)
                second.square().mean().backward()
            found += [p.grad.numpy().tobytes() for p in model.parameters()]
        return found

    for order in ("one by one", "both"):
        model = network()
        gradient.manual_seed(1)
        expected = run(model, order)
        compiled: Any = gradient.compile(network(), fullgraph=True)
        gradient.manual_seed(1)
        assert run(compiled, order) == expected, order


def test_a_module_s_sizes_share_while_one_is_differentiated_at_a_time() -> None:
    compiled: Any = gradient.compile(network(), fullgraph=True)
    for x in batches([512] * 5 + [300] * 5 + [512, 300] * 3):
        compiled.zero_grad()
        compiled(x).square().mean().backward()
    found = [v for s in compiled.signatures.values() for v in s.variants]
    assert len(found) == 2
    assert len({id(v.executor.arena) for v in found}) == 1


def test_a_shared_arena_is_replaced_by_a_larger_one_only_where_it_is_free() -> None:
    class Call:
        executor: Any = object()

    give = SharedArena()
    first = give(1000)
    assert give(2000) is first and first.memory.size == 2000
    call = Call()
    first.call = weakref.ref(call)
    other = give(500)
    assert other is not first and not first.retired
    call.executor = None
    second = give(2001)
    assert first.retired and not first.is_free()
    assert give(10) is second
    del second, other
    gc.collect()
    assert give(10).memory.size == 20  # nobody had the old one


def test_lent_memory_is_given_to_nobody() -> None:
    arena = own_arena(1 << 20)
    assert isinstance(arena, Arena)
    lent = arena.loans.lend(arena.memory[:64])
    assert not arena.is_free()
    del lent
    assert arena.is_free()


def test_a_backward_pass_in_another_thread_keeps_the_arena() -> None:
    """Until it is over, not only until it has begun."""
    compiled: Any = gradient.compile(network(), fullgraph=True)
    (x,) = batches([512])
    for _ in range(5):
        compiled.zero_grad()
        y = compiled(x)
        y.square().mean().backward()
    (signature,) = compiled.signatures.values()
    (variant,) = signature.variants
    executor = variant.executor
    inside, go_on = threading.Event(), threading.Event()
    finish = type(executor).finish

    def slowly(*given: Any) -> Any:
        inside.set()
        assert go_on.wait(30)
        return finish(executor, *given)

    executor.finish = slowly
    y = compiled(x)
    thread = threading.Thread(target=lambda: y.square().mean().backward())
    thread.start()
    assert inside.wait(30)
    other = variant.free_executor()
    go_on.set()
    thread.join()
    assert other is not None and other[0] is not executor
