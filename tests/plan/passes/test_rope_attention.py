"""A write to a cache and the attention that reads it, as one call or as two."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradient.backends.options import AttentionOptions, SlotMap
from gradient.plan.calls import Buffer, Call, Ref
from gradient.plan.passes import with_rope_attention
from gradient.plan.plan import Plan

Q, K, V, COS, SIN, KEYS, VALUES, ROWS, AT, ROTATED, OUT, OTHER = map(Ref, range(12))
SLOTS = SlotMap(AT, 8, 8, {})
OPTIONS = AttentionOptions(0.5, True)
UPDATE = Call(
    "rope_update", (Q, K, V, (COS, SIN), False, (KEYS, VALUES), (ROWS, AT)), {},
    (ROTATED, None, None), (KEYS, VALUES),
)  # fmt: skip
ATTENTION = Call("cached_attention", (ROTATED, (KEYS,), (VALUES,), SLOTS, OPTIONS), {}, OUT)
VIEW = Call("reshape", (V, (1,)), {}, OTHER, view=True)


def plan(*calls: Call, outputs: tuple[Ref, ...] = (OUT,)) -> Plan:
    number = np.dtype(np.float32)
    buffers = [Buffer((1,), number, (4,), "internal", Ref(i)) for i in range(12)]
    buffers[OTHER] = replace(buffers[OTHER], root=V)
    return Plan(tuple(buffers), calls, (), outputs)


@pytest.mark.parametrize("between", [(), (VIEW,)])
def test_they_are_one_call(between: tuple[Call, ...]) -> None:
    found = with_rope_attention(plan(UPDATE, *between, ATTENTION)).calls
    both = Call(
        "rope_attention", (*UPDATE.args, SLOTS, OPTIONS), {}, (OUT, None, None), (KEYS, VALUES)
    )
    assert found == (*between, both)


@pytest.mark.parametrize(
    "calls",
    [
        (UPDATE, Call("add", (V, 1), {}, OTHER), ATTENTION),
        (UPDATE, replace(ATTENTION, args=(ROTATED, (VALUES,), (KEYS,), SLOTS, OPTIONS))),
        (UPDATE, replace(ATTENTION, args=(Q, (KEYS,), (VALUES,), SLOTS, OPTIONS))),
        (UPDATE, ATTENTION, Call("add", (ROTATED, 1), {}, OTHER)),
        (ATTENTION,),
    ],
)
def test_they_are_two(calls: tuple[Call, ...]) -> None:
    assert with_rope_attention(plan(*calls)).calls == calls


def test_rotated_queries_that_come_out_are_made() -> None:
    whole = plan(UPDATE, ATTENTION, outputs=(ROTATED, OUT))
    assert with_rope_attention(whole).calls == whole.calls
