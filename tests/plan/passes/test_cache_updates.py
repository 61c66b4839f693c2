"""Rotations and writes to a cache as one call: what is taken together, and what must stay apart."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import Tensor
from gradient.ops.fused import rope
from gradient.plan import record
from gradient.plan.executors import executor_for
from gradient.plan.passes import with_cache_updates, without_dead_calls
from support.fake_device import DEVICE

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]

H, H_KV, D, SLOTS = 4, 2, 16, 9


def tensor(*shape: int, seed: int = 0) -> Tensor:
    values = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return gradient.tensor(values, device=DEVICE).to(gradient.bfloat16)


class Layer:
    """A cache, angles, and the places of new tokens."""

    def __init__(self, tokens: int) -> None:
        self.keys, self.values = (tensor(1, H_KV, SLOTS, D, seed=n) for n in (1, 2))
        self.cos, self.sin = (tensor(1, 1, tokens, D // 2, seed=n) for n in (3, 4))
        self.rows = gradient.tensor([[0]], device=DEVICE)
        self.slots = gradient.tensor([list(range(5, 5 + tokens))], device=DEVICE)

    def heads(self, x: Tensor) -> list[Tensor]:
        B, T, _ = x.shape
        parts = x.split([H * D, H_KV * D, H_KV * D], -1)
        return [part.reshape(B, T, -1, D).transpose(1, 2) for part in parts]

    def turned(self, x: Tensor) -> Tensor:
        return rope(x, cos=self.cos.array, sin=self.sin.array)

    def store(self, buffer: Tensor, part: Tensor) -> None:
        buffer[self.rows, :, self.slots] = part.transpose(1, 2)


def usual(layer: Layer, x: Tensor) -> Tensor:
    q, k, v = layer.heads(x)
    q, k = layer.turned(q), layer.turned(k)
    layer.store(layer.keys, k)
    layer.store(layer.values, v)
    return q @ layer.keys.repeat_interleave(2, 1).transpose(2, 3)


def keys_read_between(layer: Layer, x: Tensor) -> Tensor:
    q, k, v = layer.heads(x)
    q, k = layer.turned(q), layer.turned(k)
    layer.store(layer.keys, k)
    scores = q @ layer.keys.repeat_interleave(2, 1).transpose(2, 3)
    layer.store(layer.values, v)
    return scores


def keys_read_elsewhere(layer: Layer, x: Tensor) -> Tensor:
    q, k, v = layer.heads(x)
    q, k = layer.turned(q), layer.turned(k)
    layer.store(layer.keys, k)
    layer.store(layer.values, v)
    return gradient.cat([q, k], 1)


def not_turned(layer: Layer, x: Tensor) -> Tensor:
    q, k, v = layer.heads(x)
    layer.store(layer.keys, k)
    layer.store(layer.values, v)
    return layer.turned(q)


def to_one_place(layer: Layer, x: Tensor) -> Tensor:
    q, k, v = layer.heads(x)
    q, k = layer.turned(q), layer.turned(k)
    layer.store(layer.keys, k)
    layer.store(layer.keys, v)
    return q * 1


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize(
    ("function", "together"),
    [
        (usual, True),
        (keys_read_between, False),
        (keys_read_elsewhere, False),
        (not_turned, False),
        (to_one_place, False),
    ],
)
def test_what_is_one_call(
    function: Callable[[Layer, Tensor], Tensor], together: bool, tokens: int
) -> None:
    layer, width = Layer(tokens), (H + 2 * H_KV) * D
    x = tensor(1, tokens, width, seed=7)
    read = x.backend.to_numpy
    with gradient.no_grad():
        function(layer, x)
        recording: Any = record(lambda x: function(layer, x), x, inputs=[x], device=DEVICE)
        refs = {id(t): ref for t, ref in recording.survivors}
        plan = replace(recording.plan, outputs=(refs[id(recording.result)],))
        before = without_dead_calls(plan)
        plan = with_cache_updates(before)
        counted = [call.op for call in plan.calls if call.op in ("rope", "assign", "rope_update")]
        if together:
            assert counted == ["rope_update"]
        else:
            assert plan.calls == before.calls
        executor = executor_for(plan, x.backend)
        for seed in (7, 8, 9):
            x = tensor(1, tokens, width, seed=seed)
            [found] = executor.run([x.array], {})
            held = [read(t.array).tobytes() for t in (layer.keys, layer.values)]
            expected = function(layer, x)
            assert read(found).tobytes() == read(expected.array).tobytes()
            assert held == [read(t.array).tobytes() for t in (layer.keys, layer.values)]
