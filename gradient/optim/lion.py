"""Lion."""

from __future__ import annotations

from typing import ClassVar

from gradient.checks import Limits
from gradient.optim.numbers import rate, shrinking
from gradient.optim.optimizer import Optimizer, Params, descent
from gradient.optim.options import Group, decay_rates, non_negative, options
from gradient.tensor import Tensor

__all__ = ["Lion"]


class Lion(Optimizer):
    """Lion (Chen et al. 2023, algorithm 2): steps of one size, by the sign of an averaged gradient.

        p = p - lr * (sign(beta1 * m + (1 - beta1) * grad) + weight_decay * p)
        m = beta2 * m + (1 - beta2) * grad

    It keeps one buffer where Adam keeps two. Its steps are larger than Adam's, so the authors
    (section 5) advise a learning rate 3 to 10 times smaller and a weight decay as many times larger
    than AdamW's.

    Args:
        betas: how much of the buffer enters the step, and how fast the buffer decays; in [0, 1).
        weight_decay: decoupled weight decay.
    """

    limits: ClassVar[Limits] = {
        "lr": non_negative,
        "betas": decay_rates,
        "weight_decay": non_negative,
    }

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, options(locals()))

    def update(self, params: list[Tensor], group: Group) -> None:
        lr, (beta1, beta2) = rate(group), group["betas"]
        for p in params:
            state = self.state[p]
            if not state:
                state["exp_avg"] = p.new_zeros(p.shape)
            grad = descent(p, group)
            m = state["exp_avg"]
            direction = (beta1 * m + (1 - beta1) * grad).sign()
            p.mul_(shrinking(group)).sub_(direction, alpha=lr)
            m.mul_(beta2).add_(grad, alpha=1 - beta2)
