"""Masters of 16-bit parameters: float32 tensors that an optimiser steps in their place.

A step of a bfloat16 weight is often less than half a unit of its last place, and is lost when it is
rounded (Micikevicius et al. 2018, "Mixed Precision Training", section 3.1). With `master_weights`
the state of a parameter has a float32 copy of it, "master_param", and buffers of float32; the rule
is applied to these, and the parameter gets the master's numbers, rounded. So what is written to the
parameter by others between two steps is lost: who gives a model other weights gives the optimiser
their state, too, or takes "master_param" out of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gradient.dtypes import DType, float32
from gradient.optim.gradients import grad_of
from gradient.optim.options import Group
from gradient.tensor import Tensor

MASTER = "master_param"


def has_master(p: Tensor, group: Group) -> bool:
    """Whether a parameter is stepped by a master: it is of 16 bits, and the group says so."""
    return bool(group.get("master_weights")) and p.dtype.itemsize == 2


def kind_of(p: Tensor, group: Group) -> tuple[DType, bool]:
    """What is alike of the parameters that one call to a backend steps."""
    return p.dtype, has_master(p, group)


def state_dtype(p: Tensor, group: Group) -> DType:
    """The dtype of what an optimiser remembers of a parameter."""
    return float32 if has_master(p, group) else p.dtype


def stepped(p: Tensor, group: Group, state: dict[str, Any]) -> Tensor:
    """What the rule is applied to: the parameter, or its master, which begins as its copy."""
    if not has_master(p, group):
        return p
    if MASTER not in state:
        state[MASTER] = p.detach().to(float32)
    master: Tensor = state[MASTER]
    return master


@contextmanager
def in_place_of(
    params: list[Tensor], group: Group, state: dict[Tensor, dict[str, Any]]
) -> Iterator[list[Tensor]]:
    """The parameters with masters in place of those that have one, each with the gradient and the
    state of its parameter, for a rule that knows nothing of them; after it the parameters get the
    masters' numbers."""
    if not group.get("master_weights"):
        yield params
        return
    masters = {p: stepped(p, group, state[p]) for p in params if has_master(p, group)}
    for p, master in masters.items():
        del state[p][MASTER]  # the rule finds its own alone: nothing, before the first step
        state[master] = state.pop(p)
        master.grad = grad_of(p).to(float32)
    try:
        yield [masters.get(p, p) for p in params]
    finally:
        for p, master in masters.items():
            state[p] = {**state.pop(master), MASTER: master}
            master.grad = None
    for p, master in masters.items():
        p.copy_(master)
