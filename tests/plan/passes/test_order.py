"""The order of calls that holds less: which go first, and what must stay where it is."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.plan import Plan, record
from gradient.plan.calls import BOUNDARY, Buffer, Call, Ref
from gradient.plan.executors import CpuExecutor
from gradient.plan.passes import with_less_held

pytestmark = pytest.mark.cpu_only


def ordered(text: str, outputs: str = "") -> str:
    """The names of the results of calls, in order, after the pass.

    A line is a call: its result and the bytes that this has, after = what it reads, after < what it
    writes. A result without bytes is a view of what is read first. Without a name it is a check.
    `w` is a parameter.
    """
    refs = {"w": Ref(0)}
    buffers = [Buffer((64,), np.dtype(np.uint8), (1,), "external", Ref(0), np.zeros(64, np.uint8))]
    calls = []
    for line in filter(None, map(str.strip, text.splitlines())):
        made, _, rest = line.partition("=")
        reads, _, writes = (part.split() for part in rest.partition("<"))
        name, *nbytes = made.split() or [""]
        out = None
        if name not in ("", BOUNDARY):
            out = refs[name] = Ref(len(buffers))
            root = out if nbytes else buffers[refs[reads[0]]].root
            shape = (int(nbytes[0]) if nbytes else 1,)
            buffers.append(Buffer(shape, np.dtype(np.uint8), (1,), "internal", root))
        given = tuple(refs[each] for each in reads)
        written = tuple(refs[each] for each in writes)
        view = out is not None and not nbytes
        calls.append(Call(name or "check", given, {}, out, written, view))
    left = tuple(refs[each] for each in outputs.split())
    passed = with_less_held(Plan(tuple(buffers), tuple(calls), (), left))
    assert sorted(map(id, passed.calls)) == sorted(map(id, calls))
    return " ".join(call.op for call in passed.calls)


STEP = """
    x 100 = w
    g 50 = x
    input_grad 100 = g w
    t = g
    weight_grad 20 = t x
    sum 1 = input_grad weight_grad
"""


def test_what_frees_more_than_it_makes_goes_before_what_makes_more() -> None:
    # With the view that it needs. x is free before the gradient of the input takes memory.
    assert ordered(STEP) == "x g t weight_grad input_grad sum"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("weight_grad 20", "weight_grad 100"),  # makes as much as it frees
        ("sum 1 =", "sum 1 = x"),  # x is needed later
        ("input_grad 100 = g w", "input_grad 100 = g x"),  # which frees it as well
        ("weight_grad 20 = t x", "weight_grad 20 = t x input_grad"),
        ("t = g", "= g\nt = g"),  # a check, on which what comes after may rely
        ("t = g", f"{BOUNDARY} =\nt = g"),
        ("input_grad 100 = g w", "input_grad 100 = g < x"),
        ("weight_grad 20 = t x", "weight_grad 20 = t x < w"),
    ],
)
def test_other_calls_stay(old: str, new: str) -> None:
    text = STEP.replace(old, new)
    names = [line.split()[0] for line in text.strip().splitlines()]
    assert ordered(text) == " ".join("check" if name == "=" else name for name in names)


def test_what_leaves_the_plan_is_not_freed() -> None:
    assert ordered(STEP, "sum weight_grad") == ordered(STEP)
    assert ordered(STEP, "sum x") == "x g input_grad t weight_grad sum"


def test_nothing_goes_before_what_frees_more() -> None:
    text = """
        x 100 = w
        big 1000 = w
        small 1 = big
        less 20 = x
        sum 1 = small less
    """
    assert ordered(text) == "x big small less sum"


def test_calls_are_crossed_one_after_the_other() -> None:
    text = """
        x 100 = w
        y 60 = w
        first 30 = x
        second 30 = x y
        third 10 = y
        last 1 = x first second third
    """
    # `second` would free y in the place of `third`.
    assert ordered(text) == "x y first second third last"
    text = text.replace("second 30 = x y", "second 30 = x")
    assert ordered(text) == "x y third first second last"


def test_an_empty_plan_stays() -> None:
    assert ordered("") == ""


def test_replays_give_the_same_bits_in_less_memory() -> None:
    gradient.manual_seed(0)
    first, second = gradient.nn.Linear(64, 256, bias=False), gradient.nn.Linear(256, 256)

    def step(x: gradient.Tensor) -> Any:
        first.zero_grad()
        second.zero_grad()
        loss = second(first(x).sin()).square().mean()
        loss.backward()
        return second.weight.grad

    x = gradient.randn(512, 64)
    step(x)
    recording = record(step, x, inputs=[x])
    refs = {id(t): ref for t, ref in recording.survivors}
    grads = [first.weight.grad, second.weight.grad]
    outputs = tuple(refs[id(grad)] for grad in grads)
    plan = dataclasses.replace(recording.plan.expanded(), outputs=outputs)
    passed = with_less_held(plan)
    assert [call.op for call in passed.calls] != [call.op for call in plan.calls]
    found = [CpuExecutor(each, poison=True).run([x.array], {}) for each in (plan, passed)]
    for one, other, grad in zip(*found, grads, strict=True):
        assert grad is not None
        assert one.tobytes() == other.tobytes() == grad.numpy().tobytes()
