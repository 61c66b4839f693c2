"""Master weights: float32 copies of 16-bit parameters, which an optimiser updates instead of them.

A step of a bfloat16 weight is often smaller than half a unit in its last place, and then rounding
loses it (Micikevicius et al. 2018, "Mixed Precision Training", section 3.1). With `master_weights`
the state of a parameter holds a float32 copy of it, "master_param", and float32 buffers. The update
rule works on these; then the master is rounded and written to the parameter. So a step overwrites
any other change of the parameter. After loading new weights into a model, load the optimiser's
state too, or delete "master_param" from it.
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
    """Whether a parameter has a master: it has a 16-bit dtype, and the group asks for masters."""
    return bool(group.get("master_weights")) and p.dtype.itemsize == 2


def kind_of(p: Tensor, group: Group) -> tuple[DType, bool]:
    """A key that is equal for all parameters that one call to a backend can update."""
    return p.dtype, has_master(p, group)


def state_dtype(p: Tensor, group: Group) -> DType:
    """The dtype of a parameter's state."""
    return float32 if has_master(p, group) else p.dtype


def stepped(p: Tensor, group: Group, state: dict[str, Any]) -> Tensor:
    """Return the tensor that the rule updates: the parameter, or its master (made if absent)."""
    if not has_master(p, group):
        return p
    if MASTER not in state:
        state[MASTER] = p.detach().to(float32)
    master: Tensor = state[MASTER]
    return master


@contextmanager
def masters_of(
    params: list[Tensor], group: Group, state: dict[Tensor, dict[str, Any]]
) -> Iterator[list[Tensor]]:
    """A context for a rule that does not support masters. It gives the list of parameters with
    masters in place of those that have one; each master has the gradient and the state of its
    parameter. At the end the masters are rounded and written to the parameters."""
    if not group.get("master_weights"):
        yield params
        return
    masters = {p: stepped(p, group, state[p]) for p in params if has_master(p, group)}
    for p, master in masters.items():
        del state[p][MASTER]  # the rule finds only its own state, empty before the first step
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
