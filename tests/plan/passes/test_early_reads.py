"""Which fused calls may read before the kernels before them have ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

import gradient
from gradient import Tensor
from gradient.backends.cuda.fused import FUSING
from gradient.plan import record
from gradient.plan.passes import with_early_reads, with_fused_chains
from support.fake_device import DEVICE

pytestmark = pytest.mark.cpu_only


def of_what_was_there(x: Tensor, y: Tensor) -> Tensor:
    return x * 2 + y.view(3, 2)[0, 0]


def of_what_is_written_later(x: Tensor, y: Tensor) -> Tensor:
    out = x * 2 + y
    y.zero_()
    return out


def of_what_was_written(x: Tensor, y: Tensor) -> Tensor:
    y.zero_()
    return x * 2 + y


def of_a_view_that_was_written(x: Tensor, y: Tensor) -> Tensor:
    y[1:].zero_()
    return x * 2 + y


def of_a_result(x: Tensor, y: Tensor) -> Tensor:
    return (x.cumsum(0) * 2 + y) * 3


@pytest.mark.parametrize(
    ("function", "early"),
    [
        (of_what_was_there, True),
        (of_what_is_written_later, True),
        (of_what_was_written, False),
        (of_a_view_that_was_written, False),
        (of_a_result, False),
    ],
)
def test_calls_that_read_early(function, early: bool) -> None:
    x, y = (gradient.ones(6, device=DEVICE) for _ in range(2))
    recording = record(function, x, y, inputs=[x], device=DEVICE)
    [out] = [ref for t, ref in recording.survivors if t is recording.result]
    plan = replace(recording.plan, outputs=(out,))
    plan = with_early_reads(with_fused_chains(plan, exact=True, fusing=FUSING))
    [call] = [call for call in plan.calls if call.op == "fused"]
    assert call.options.get("early_reads", False) == early
