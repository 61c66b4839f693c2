"""The gradient along which a rule descends: negated, or with weight decay, as its group says."""

from __future__ import annotations

from typing import Any

from gradient.optim.numbers import shrinking
from gradient.optim.options import Group
from gradient.tensor import Tensor
from gradient.tensor.foreach import arrays


def grad_of(p: Tensor) -> Tensor:
    """The gradient of a parameter that is stepped, and so has one."""
    grad: Any = p.grad
    return grad


def grads_of(params: list[Tensor]) -> list[Any]:
    """The arrays of their gradients, for the backend."""
    grads: Any = [p.grad for p in params]
    return arrays(grads)


def descent(p: Tensor, group: Group) -> Tensor:
    """The gradient to descend along: negated for `maximize`."""
    return -grad_of(p) if group["maximize"] else grad_of(p)


def with_weight_decay(p: Tensor, group: Group, weight: Tensor | None = None) -> Tensor:
    """The gradient to descend along, with the L2 penalty of `weight`: `p`, or its master, in whose
    dtype it is; where the decay is decoupled, the weight is shrunk."""
    grad = descent(p, group)
    if weight is None:
        weight = p
    elif weight is not p:
        grad = grad.to(weight.dtype)
    if group.get("decoupled_weight_decay"):
        weight.mul_(shrinking(group))
    elif group["weight_decay"] != 0:
        grad = grad + group["weight_decay"] * weight
    return grad
