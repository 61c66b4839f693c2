"""Fused calls on the CPU: generated kernels, bound to the places of a plan's buffers."""

from __future__ import annotations

from typing import Any

from gradient.backends.numpy import fused, kernels
from gradient.plan.calls import Call
from gradient.plan.errors import PlanError
from gradient.plan.executors.program import task

FUSED = "fused"
"""The op of a call that is an expression over its arguments; its pieces are what was fused."""


def runs(call: Call) -> bool:
    """Whether a call should not be split into its pieces, if there are kernels."""
    return call.op == FUSED and kernels.available()


def lowering(
    args: tuple[Any, ...], options: dict[str, Any], out: Any
) -> list[tuple[Any, tuple[Any, ...]]]:
    """One task, with fixed arguments."""
    found = fused.bound(options["expression"], args, out, options["exact"])
    if found is None:
        raise PlanError("a chain was fused whose arrays cannot be walked together")
    kernel, rows, chunk, arguments = found
    return [(task, (kernel, rows, chunk, *arguments))]
