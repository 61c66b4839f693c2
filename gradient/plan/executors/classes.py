"""Losses of class indices as tasks; indices that are inputs are checked before all tasks run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradient import backends
from gradient.backends.numpy import kernels, norms
from gradient.plan.calls import Call, Ref
from gradient.plan.executors.program import Step, early, task


def lower(call: Call, args: Any, out: Any, given: Callable[[Ref], bool]) -> list[Step] | None:
    """The tasks of a call on these arrays and places; None if it is no such loss. `given` says
    whether a buffer is an input of the plan, so that it can be checked early."""
    if call.op not in ("cross_entropy", "cross_entropy_grad") or call.options or call.numbers:
        return None
    is_grad = call.op == "cross_entropy_grad"
    target = call.args[2 if is_grad else 1]
    logits, classes, ignore_index = args[1:3] + args[5:6] if is_grad else args[:3]
    places = [out] if is_grad else list(out)
    operands = [x for x in args if isinstance(x, np.ndarray)]
    if not (
        isinstance(target, Ref)
        and given(target)
        and classes.dtype == np.int64
        and all(isinstance(x, np.ndarray) and x.flags.carray for x in (*operands, *places))
        and all(x.dtype == logits.dtype for x in (*operands, *places) if x is not classes)
        and kernels.supports(logits)
    ):
        return None
    backend: Any = backends.get("cpu")
    wrong = np.zeros(1, np.int64)
    if is_grad and out.ctypes.data == logits.ctypes.data:
        launch = norms.class_launch("cross_entropy_grad_in_place", operands, *args[-2:], wrong)
    else:
        launch = norms.class_launch(call.op, operands, *args[-2:], *places, wrong)
    return [
        (early, (backend.check_targets, classes, logits.shape[1], ignore_index)),
        (task, launch),
    ]
