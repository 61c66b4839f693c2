"""Masters of 16-bit parameters: float32 tensors that an optimiser steps in their place.

A step of a bfloat16 weight is often less than half a unit of its last place, and is lost when it is
rounded (Micikevicius et al. 2018, "Mixed Precision Training", section 3.1). With `master_weights`
the state of a parameter has a float32 copy of it, "master_param", and buffers of float32; the rule
is applied to these, and the parameter gets the master's numbers, rounded. So what is written to the
parameter by others between two steps is lost: who gives a model other weights gives the optimiser
their state, too, or takes "master_param" out of it.
"""

from __future__ import annotations

from typing import Any

from gradient.dtypes import DType, float32
from gradient.optim.options import Group
from gradient.tensor import Tensor

MASTER = "master_param"


def has_master(p: Tensor, group: Group) -> bool:
    """Whether a parameter is stepped by a master: it is of 16 bits, and the group says so."""
    return bool(group.get("master_weights")) and p.dtype.itemsize == 2


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
