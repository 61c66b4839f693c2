"""Gradients written over an operand at its last use. At the peak of a training step, early in the
backward pass, this saves a large array."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from gradient.backends.numpy import elementwise, kernels
from gradient.plan.calls import Buffer, Call, Ref
from gradient.plan.executors.program import Step, task

OPERANDS = {"cross_entropy_grad": 1, "gelu_grad": 0}
"""Which operand of a call its kernel can write over: the logits, and the gradient that arrives."""


def written_over(
    calls: Sequence[Call],
    buffers: Sequence[Buffer],
    lives: dict[Ref, tuple[int, int]],
    elsewhere: Collection[Ref],
    given: Callable[[Ref], bool],
) -> dict[Ref, Ref]:
    """Map each result that can be written over an operand to that operand, which must own all of
    its memory and have its last use there. Buffers in `elsewhere` are not moved. `given` says
    whether a buffer is an input of the plan. The lifetimes `lives` are updated: the operand's
    memory lives as long as the result.
    """
    places: dict[Ref, Ref] = {}
    for i, call in enumerate(calls):
        if call.op not in OPERANDS or call.options or call.numbers:
            continue
        x, out = call.args[OPERANDS[call.op]], call.out
        if not (isinstance(x, Ref) and isinstance(out, Ref)):
            continue
        if call.op == "cross_entropy_grad" and not given(call.args[2]):  # no task: see `classes`
            continue
        root = buffers[x].root
        alike = all(
            getattr(buffers[x], part) == getattr(buffers[out], part)
            for part in ("shape", "dtype", "strides")
        )
        if (
            alike
            and buffers[root].nbytes == buffers[x].nbytes
            and [buffers[ref].root for ref in call.inputs].count(root) == 1
            and root in lives
            and lives[root][1] == i
            and buffers[out].root == out
            and not {root, out} & {*elsewhere, *places}
        ):
            places[out] = x
            lives[root] = lives[root][0], lives[out][1]
    return places


def lower_gelu_grad(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
    """The task of GELU's gradient, for any place of its result; None if no kernel takes it."""
    g, x = args[:2]
    approximate = args[2] if len(args) > 2 else "none"
    arrays = (g, x, out)
    if options or not kernels.supports(x, g, out) or not all(a.flags.carray for a in arrays):
        return None
    return [(task, elementwise.gelu_grad_launch(g, x, approximate, out))]
