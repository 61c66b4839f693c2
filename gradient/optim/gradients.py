"""The gradient that an update rule uses: negated for `maximize`, with weight decay added."""

from __future__ import annotations

from typing import Any

from gradient.optim.numbers import decay_factor
from gradient.optim.options import Group
from gradient.tensor import Tensor
from gradient.tensor.foreach import arrays


def grad_of(p: Tensor) -> Tensor:
    """Return the gradient of a parameter, which must have one."""
    grad: Any = p.grad
    return grad


def grads_of(params: list[Tensor]) -> list[Any]:
    """Return the arrays of the gradients, for the backend."""
    grads: Any = [p.grad for p in params]
    return arrays(grads)


def descent(p: Tensor, group: Group) -> Tensor:
    """Return the gradient, negated for `maximize`."""
    return -grad_of(p) if group["maximize"] else grad_of(p)


def with_weight_decay(p: Tensor, group: Group, weight: Tensor | None = None) -> Tensor:
    """Return the gradient, negated for `maximize`, plus the L2 penalty of `weight` (`p` or its
    master), in the dtype of `weight`. With decoupled decay, shrink `weight` in place instead."""
    grad = descent(p, group)
    if weight is None:
        weight = p
    elif weight is not p:
        grad = grad.to(weight.dtype)
    if group.get("decoupled_weight_decay"):
        weight.mul_(decay_factor(group))
    elif group["weight_decay"] != 0:
        grad = grad + group["weight_decay"] * weight
    return grad
