"""Variants of Adam: Adamax, NAdam and RAdam."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from gradient.checks import Limits
from gradient.optim.adam import Adam
from gradient.optim.optimizer import Optimizer, Params, with_weight_decay
from gradient.optim.options import Group, non_negative, options
from gradient.tensor import Tensor

__all__ = ["Adamax", "NAdam", "RAdam"]


class Adamax(Optimizer):
    """Adamax (Kingma and Ba 2015, algorithm 2): Adam with the largest gradient for the scale.

        g = grad + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        u = max(beta2 * u, |g| + eps)
        p = p - lr / (1 - beta1^t) * m / u

    Args:
        betas: decay rates of the mean and of the maximum, in [0, 1).
        eps: keeps the denominator from zero.
        weight_decay: L2 penalty, added to the gradient.
    """

    limits: ClassVar[Limits] = Adam.limits

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        super().__init__(params, options(locals()))

    def update(self, params: list[Tensor], group: Group) -> None:
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        for p in params:
            state = self.counted(p, "exp_avg", "exp_inf")
            grad = with_weight_decay(p, group)
            m = state["exp_avg"].mul_(beta1).add_(grad, alpha=1 - beta1)
            u = state["exp_inf"]
            u.copy_((u * beta2).maximum(grad.abs() + group["eps"]))
            p.sub_(m / u, alpha=lr / (1 - beta1 ** state["step"]))


class NAdam(Optimizer):
    """NAdam (Dozat 2016): Adam that looks ahead along the momentum, as Nesterov's method does.

        mu(t) = beta1 * (1 - 0.96^(t * momentum_decay) / 2)
        m, v as in Adam;  d = sqrt(v / (1 - beta2^t)) + eps
        p = p - lr * (1 - mu(t)) / (1 - mu(1) ... mu(t)) * g / d
              - lr * mu(t + 1) / (1 - mu(1) ... mu(t + 1)) * m / d

    Args:
        betas: decay rates of the two moments, in [0, 1).
        eps: keeps the denominator from zero.
        weight_decay: L2 penalty, added to the gradient.
        momentum_decay: how fast mu rises to beta1.
        decoupled_weight_decay: shrink the parameters directly, as `AdamW` does.
    """

    limits: ClassVar[Limits] = {**Adam.limits, "momentum_decay": non_negative}
    numbers: ClassVar[Mapping[str, type[int] | type[float]]] = {"step": int, "mu_product": float}

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(params, options(locals()))

    def update(self, params: list[Tensor], group: Group) -> None:
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        for p in params:
            state = self.counted(p, "exp_avg", "exp_avg_sq")
            step = state["step"]
            mu, mu_next = (
                beta1 * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"])) for t in (step, step + 1)
            )
            state["mu_product"] = state.get("mu_product", 1.0) * mu
            grad = with_weight_decay(p, group)
            m = state["exp_avg"].mul_(beta1).add_(grad, alpha=1 - beta1)
            v = state["exp_avg_sq"].mul_(beta2).add_(grad * grad, alpha=1 - beta2)
            d = (v / (1 - beta2**step)).sqrt() + group["eps"]
            p.sub_(grad / d, alpha=lr * (1 - mu) / (1 - state["mu_product"]))
            p.sub_(m / d, alpha=lr * mu_next / (1 - state["mu_product"] * mu_next))


class RAdam(Optimizer):
    """RAdam (Liu et al. 2020, algorithm 2): Adam's adaptive rate only once it can be trusted.

        n_max = 2 / (1 - beta2) - 1
        n = n_max - 2 t beta2^t / (1 - beta2^t)
        r = sqrt((n - 4) (n - 2) n_max / ((n_max - 4) (n_max - 2) n))
        p = p - lr * m / (1 - beta1^t) * (r * sqrt(1 - beta2^t) / (sqrt(v) + eps) if n > 5 else 1)

    with the moments m and v of Adam: n says how many gradients v is the mean of.

    Args:
        betas: decay rates of the two moments, in [0, 1).
        eps: keeps the denominator from zero.
        weight_decay: L2 penalty, added to the gradient.
        decoupled_weight_decay: shrink the parameters directly, as `AdamW` does.
    """

    limits: ClassVar[Limits] = Adam.limits

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(params, options(locals()))

    def update(self, params: list[Tensor], group: Group) -> None:
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        n_max = 2 / (1 - beta2) - 1
        for p in params:
            state = self.counted(p, "exp_avg", "exp_avg_sq")
            grad = with_weight_decay(p, group)
            m = state["exp_avg"].mul_(beta1).add_(grad, alpha=1 - beta1)
            v = state["exp_avg_sq"].mul_(beta2).add_(grad * grad, alpha=1 - beta2)
            v_correction = 1 - beta2 ** state["step"]
            n = n_max - 2 * state["step"] * (1 - v_correction) / v_correction
            rate = lr / (1 - beta1 ** state["step"])
            if n <= 5:
                p.sub_(m, alpha=rate)
                continue
            r = (n - 4) * (n - 2) * n_max / ((n_max - 4) * (n_max - 2) * n)
            p.sub_(m / (v.sqrt() + group["eps"]), alpha=rate * math.sqrt(r * v_correction))
