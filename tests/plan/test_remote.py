"""A plan as one message: a training step runs on a backend of opaque handles, one message a step,
and the message is plain data."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import backends, nn, optim
from gradient.plan import Plan, PlanError, record
from gradient.plan.calls import Buffer, Call, Ref
from gradient.plan.executors.remote import PlanRunner, RemoteExecutor
from gradient.plan.messages import encode
from support.array_backends import Handle

pytestmark = pytest.mark.cpu_only


def test_a_training_step_is_one_message() -> None:
    gradient.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Dropout(0.25), nn.Linear(16, 3))
    optimizer = optim.AdamW(model.parameters(), lr=0.05)
    data = [(gradient.randn(5, 6), gradient.randint(0, 3, (5,))) for _ in range(6)]

    def step(x: gradient.Tensor, y: gradient.Tensor) -> gradient.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    step(*data[0])
    recording = record(step, *data[1], inputs=data[1])
    ref = next(ref for t, ref in recording.survivors if t is recording.result)
    plan = replace(recording.plan, outputs=(ref,))
    runner = PlanRunner(backends.get("handle"))
    messages: list[Any] = []

    def send(message: list[Any]) -> Any:
        messages.append(message)
        return runner(message)

    executor = RemoteExecutor(plan, send)
    assert all(isinstance(x, Handle) for x in runner.plans[0][1].values())
    weight = next(Ref(i) for i, b in enumerate(plan.buffers) if b.array is model[0].weight.array)
    for x, y in data[2:]:
        (loss,) = executor.run([x.array, y.array], recording.readers.next_numbers())
        expected = step_without_moving(step, x, y, recording)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        np.testing.assert_allclose(executor.read(weight), model[0].weight.numpy(force=True), 1e-4)
    assert [m[0] for m in messages] == ["plan", *(["run", "read"] * 4)]
    assert json.loads(json.dumps(messages[0][:2])) == messages[0][:2]


def step_without_moving(step: Any, x: Any, y: Any, recording: Any) -> float:
    """An eager step that draws the numbers which the replay before it drew."""
    for generator, blocks in recording.readers.drawn:
        generator.offset -= blocks
    return float(step(x, y).item())


def test_what_is_no_plain_data_is_refused() -> None:
    buffer = Buffer((2,), np.dtype(np.float32), (4,), "input", Ref(0))
    call = Call("linear", (Ref(0), object()), {})
    with pytest.raises(PlanError, match="object cannot be sent"):
        encode(Plan((buffer,), (call,), (Ref(0),)))
