"""Kernels as tasks of a plan: which calls become one, runs of them in one call, the same bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient.backends.numpy import threads
from gradient.plan import record
from gradient.plan.executors import CpuExecutor

pytestmark = pytest.mark.cpu_only

SHAPE = (40, 512)  # enough elements for kernels


def grads(function: Any) -> Any:
    def run(x: gradient.Tensor) -> list[gradient.Tensor]:
        leaf = x.detach().requires_grad_()
        out = function(leaf)
        (grad,) = gradient.autograd.grad(out, [leaf], out.detach())
        return [out.detach(), grad]

    return run


def attention(x: gradient.Tensor) -> gradient.Tensor:
    q = x.reshape(1, 40, 8, 64).transpose(1, 2)
    return F.scaled_dot_product_attention(q, q * 0.5, q * 2, is_causal=True)


CASES: dict[str, tuple[Any, int]] = {
    "softmax": (lambda x: F.softmax(x, -1), 2),
    "log_softmax": (lambda x: F.log_softmax(x, -1), 2),
    "gelu": (F.gelu, 2),
    "silu": (F.silu, 2),
    "layer_norm": (lambda x: F.layer_norm(x, (512,), gradient.ones(512), gradient.ones(512)), 1),
    "rms_norm": (lambda x: F.rms_norm(x, (512,), gradient.ones(512)), 1),
    "attention": (attention, 0),
    "chain": (lambda x: F.softmax(F.gelu(F.silu(x)), -1), 6),
}
"""A function, and how many tasks its forward and backward pass have at least."""


@pytest.mark.parametrize("name", CASES)
def test_kernels_become_tasks_with_the_same_bits(name: str) -> None:
    function, least = CASES[name]
    run = grads(function)
    x, other = gradient.randn(*SHAPE), gradient.randn(*SHAPE)
    recording = record(run, x, inputs=[x])
    refs = {id(t): ref for t, ref in recording.survivors}
    plan = replace(recording.plan, outputs=tuple(refs[id(t)] for t in recording.result))
    executor = CpuExecutor(plan, poison=True)
    lists = [args[0] for step, args in executor.program if step is threads.run_tasks]
    assert sum(map(len, lists)) >= least
    for t in (other, x):
        for got, want in zip(executor.run([t.array], {}), run(t), strict=True):
            assert np.asarray(want.array).tobytes() == got.tobytes()


def test_consecutive_tasks_are_one_call() -> None:
    x = gradient.randn(*SHAPE)
    recording = record(lambda x: F.softmax(F.gelu(F.silu(x)), -1), x, inputs=[x])
    ((_, ref),) = recording.survivors
    executor = CpuExecutor(replace(recording.plan, outputs=(ref,)))
    ((function, (tasks,)),) = executor.program
    assert function is threads.run_tasks and len(tasks) == 3
