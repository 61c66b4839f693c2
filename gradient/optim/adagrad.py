"""Adagrad and Adadelta."""

from __future__ import annotations

from typing import Any, ClassVar

from gradient.checks import Limits, number
from gradient.optim.gradients import with_weight_decay
from gradient.optim.numbers import changing, rate
from gradient.optim.optimizer import Optimizer, Params
from gradient.optim.options import Group, non_negative, options
from gradient.tensor import Tensor

__all__ = ["Adadelta", "Adagrad"]


class Adagrad(Optimizer):
    """Adagrad (Duchi et al. 2011): divides gradients by the root of the sum of their past squares.

        g = grad + weight_decay * p
        s = s + g²
        p = p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)

    Args:
        lr_decay: how fast the learning rate falls with the step count t.
        weight_decay: L2 penalty, added to the gradient.
        initial_accumulator_value: the initial value of s.
        eps: keeps the denominator from zero.
    """

    limits: ClassVar[Limits] = dict.fromkeys(
        ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"), non_negative
    )

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        master_weights: bool = False,
    ) -> None:
        super().__init__(params, options(locals()))

    def update(self, params: list[Tensor], group: Group) -> None:
        for p in params:
            state = self.state[p]
            if not state:
                state["step"] = 0
                state["sum"] = p.new_full(p.shape, group["initial_accumulator_value"])
            state["step"] += 1

            grad = with_weight_decay(p, group)
            total = state["sum"].add_(grad * grad)
            step_size = changing(_step_size, state, group)
            p.sub_(grad / (total.sqrt() + group["eps"]), alpha=step_size)


def _step_size(state: dict[str, Any], group: Group) -> float:
    return rate(group) / (1 + (state["step"] - 1) * float(group["lr_decay"]))


class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012, algorithm 1): steps scaled by the ratio of the root mean squares of
    past updates and past gradients.

        g = grad + weight_decay * p
        v = rho * v + (1 - rho) * g²
        d = sqrt(u + eps) / sqrt(v + eps) * g
        u = rho * u + (1 - rho) * d²
        p = p - lr * d

    Args:
        lr: scales the step.
        rho: decay rate of both running means, in [0, 1].
        eps: keeps the roots from zero, and so sets the size of the first step.
        weight_decay: L2 penalty, added to the gradient.
    """

    limits: ClassVar[Limits] = {
        "lr": non_negative,
        "rho": number(0, 1),
        "eps": non_negative,
        "weight_decay": non_negative,
    }

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
        master_weights: bool = False,
    ) -> None:
        super().__init__(params, options(locals()))

    def update(self, params: list[Tensor], group: Group) -> None:
        lr, rho, eps = rate(group), group["rho"], group["eps"]
        for p in params:
            state = self.counted(p, "square_avg", "acc_delta")
            grad = with_weight_decay(p, group)
            square_avg = state["square_avg"].mul_(rho).add_(grad * grad, alpha=1 - rho)
            acc_delta = state["acc_delta"]
            delta = (acc_delta + eps).sqrt() / (square_avg + eps).sqrt() * grad
            acc_delta.mul_(rho).add_(delta * delta, alpha=1 - rho)
            p.sub_(delta, alpha=lr)
