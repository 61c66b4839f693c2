"""Training programs as they are published, compiled: equal to eager execution in every bit."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import nn, optim
from gradient.func import functional_call
from gradient.utils.checkpoint import checkpoint

pytestmark = pytest.mark.cpu_only

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def batches(n: int = 10) -> list[gradient.Tensor]:
    draw = np.random.default_rng(0)
    return [gradient.tensor(draw.standard_normal((4, 6)).astype(np.float32)) for _ in range(n)]


def net(inputs: int = 6, outputs: int = 3, dropout: float = 0.0) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, outputs)
    )


def gan(wrap: Wrap) -> list[Any]:
    generator, critic = net(4, 6), net(6, 1)
    of_generator, of_critic = optim.Adam(generator.parameters()), optim.Adam(critic.parameters())

    @wrap
    def judge(real: Any) -> Any:
        of_critic.zero_grad()
        fake = generator(gradient.randn(4, 4)).detach()
        scores = gradient.cat([critic(real), critic(fake)])
        truth = gradient.cat([gradient.ones(4, 1), gradient.zeros(4, 1)])
        loss = F.binary_cross_entropy_with_logits(scores, truth)
        loss.backward()
        of_critic.step()
        return loss.detach()

    @wrap
    def forge() -> Any:
        of_generator.zero_grad()
        loss = -critic(generator(gradient.randn(4, 4))).mean()
        loss.backward()
        of_generator.step()
        return loss.detach()

    return [(judge(x), forge()) for x in batches()] + [*generator.parameters()]


def accumulation_and_a_schedule(wrap: Wrap) -> list[Any]:
    model = net()
    optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)

    @wrap
    def micro_step(x: Any, share: float) -> Any:
        loss = model(x).square().mean() * share
        loss.backward()
        return loss.detach()

    @wrap
    def update() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()

    found = []
    for i, x in enumerate(batches(20)):
        found.append(micro_step(x, 0.5))
        if i % 2:
            update()
            schedule.step()
    return found + [*model.parameters()]


def momentum_encoder_with_a_queue(wrap: Wrap) -> list[Any]:
    model = net()
    slow = copy.deepcopy(model).requires_grad_(False)
    optimizer = optim.AdamW(model.parameters())
    queue = F.normalize(gradient.randn(8, 3), dim=1)

    @wrap
    def step(x: Any) -> Any:
        optimizer.zero_grad()
        with gradient.no_grad():
            for mine, other in zip(slow.parameters(), model.parameters(), strict=True):
                mine.mul_(0.9).add_(other, alpha=0.1)
            keys = F.normalize(slow(x + 0.1), dim=1)
        queries = F.normalize(model(x), dim=1)
        scores = gradient.cat([(queries * keys).sum(1, keepdim=True), queries @ queue.T], 1)
        loss = F.cross_entropy(scores / 0.07, gradient.zeros(4, dtype=gradient.int64))
        loss.backward()
        optimizer.step()
        with gradient.no_grad():
            queue.copy_(gradient.cat([queue[4:], keys]))
        return loss.detach()

    return [(step(x), queue.clone()) for x in batches()] + [*slow.parameters()]


def recurrence_with_teacher_forcing(wrap: Wrap) -> list[Any]:
    cell = nn.GRUCell(3, 3)
    optimizer = optim.RMSprop(cell.parameters())

    @wrap
    def step(x: Any, state: Any) -> Any:
        optimizer.zero_grad()
        given, loss = x[:, :3], gradient.zeros(())
        for _ in range(3):
            state = cell(given, state)
            loss = loss + (state - x[:, 3:]).square().mean()
            given = gradient.where(gradient.rand(()) < 0.5, x[:, 3:], state)
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach(), "state": state.detach()}

    found, state = [], gradient.zeros(4, 3)
    for x in batches():
        out = step(x, state)
        state = out["state"]
        found.append(tuple(out.values()))
    return found


def learning_to_learn(wrap: Wrap) -> list[Any]:
    model = net()
    optimizer = optim.SGD(model.parameters(), 0.1)

    @wrap
    def step(x: Any) -> Any:
        optimizer.zero_grad()
        weights = dict(model.named_parameters())
        loss = functional_call(model, weights, (x,)).square().mean()
        grads = gradient.autograd.grad(loss, [*weights.values()], create_graph=True)
        fast = {name: p - 0.1 * g for (name, p), g in zip(weights.items(), grads, strict=True)}
        loss = functional_call(model, fast, (x + 1,)).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return [step(x) for x in batches()] + [*model.parameters()]


def checkpoints_masks_and_hooks(wrap: Wrap) -> list[Any]:
    model = net(dropout=0.3)
    optimizer = optim.AdamW(model.parameters())
    for p in model.parameters():
        p.register_hook(lambda g: g.clamp(-0.1, 0.1))

    @wrap
    def step(x: Any, mask: Any) -> Any:
        optimizer.zero_grad()
        out = checkpoint(model, x.masked_fill(mask, 0.0), use_reentrant=False) * 2
        out[mask[:, :3]] = 1.0
        loss = out.square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return [step(x, x > 0) for x in batches()] + [*model.parameters()]


def sparse_updates_of_an_embedding(wrap: Wrap) -> list[Any]:
    table = nn.Embedding(20, 6, padding_idx=0)
    optimizer, seen = optim.Adagrad(table.parameters(), 0.1), gradient.zeros(20)

    @wrap
    def step(tokens: Any) -> Any:
        optimizer.zero_grad()
        loss = table(tokens).sum(1).square().mean()
        loss.backward()
        optimizer.step()
        seen.index_add_(0, tokens.flatten(), gradient.ones(12))
        return loss.detach()

    draw = np.random.default_rng(0)
    found = [step(gradient.tensor(draw.integers(0, 20, (4, 3)))) for _ in range(10)]
    return [*found, table.weight, seen]


def training_and_evaluating_by_turns(wrap: Wrap) -> list[Any]:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    optimizer, compiled = optim.AdamW(model.parameters()), wrap(model)
    found = []
    for i, x in enumerate(batches(30)):
        model.train(i % 3 > 0)
        out = compiled(x)
        if model.training:
            optimizer.zero_grad()
            out.square().mean().backward()
            optimizer.step()
        found.append(out.detach())
    return found + [*model.parameters(), *model.buffers()]


def weights_that_are_swapped(wrap: Wrap) -> list[Any]:
    model: Any = net()
    other = {name: value.clone() * 1.5 for name, value in model.state_dict().items()}
    compiled, found = wrap(lambda x: model(x).detach()), []
    for i, x in enumerate(batches(20)):
        if i == 6:
            model.load_state_dict(other)
        if i == 10:
            model[0].weight.data = model[0].weight.data * 2
        if i == 14:
            model[3] = nn.Linear(8, 3)
        found.append(compiled(x))
    return found


def a_thread_for_each_model(wrap: Wrap) -> list[Any]:
    models = [net(dropout=0.0) for _ in range(3)]
    found: dict[int, list[Any]] = {}

    def train(number: int) -> None:
        optimizer = optim.AdamW(models[number].parameters())

        @wrap
        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = models[number](x).square().mean()
            loss.backward()
            optimizer.step()
            return loss.detach()

        found[number] = [step(x) for x in batches(20)]

    threads = [threading.Thread(target=train, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [loss for i in range(3) for loss in found[i]] + [*models[0].parameters()]


PROGRAMS = [
    gan, accumulation_and_a_schedule, momentum_encoder_with_a_queue,
    recurrence_with_teacher_forcing, learning_to_learn, checkpoints_masks_and_hooks,
    sparse_updates_of_an_embedding, training_and_evaluating_by_turns, weights_that_are_swapped,
    a_thread_for_each_model,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_does_what_it_does_eagerly(program: Callable[[Wrap], list[Any]]) -> None:
    def run(wrap: Wrap) -> list[Any]:
        gradient.manual_seed(5)
        found = [each if isinstance(each, tuple) else (each,) for each in program(wrap)]
        return [[t.numpy(force=True).tobytes() for t in each] for each in found]

    compiled: list[Any] = []

    def strictly(function: Any) -> Any:
        compiled.append(gradient.compile(function, fullgraph=True))
        return compiled[-1]

    assert run(strictly) == run(lambda function: function)
    for each in compiled:
        assert any(s.replays >= 3 for s in each.signatures.values()), each.explain()
