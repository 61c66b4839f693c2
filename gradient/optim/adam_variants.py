"""Variants of Adam: Adamax, NAdam and RAdam."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from gradient.checks import Limits
from gradient.optim.adam import Adam
from gradient.optim.gradients import with_weight_decay
from gradient.optim.numbers import changing, rate
from gradient.optim.optimizer import Optimizer, Params
from gradient.optim.options import Group, non_negative, options
from gradient.tensor import Tensor

__all__ = ["Adamax", "NAdam", "RAdam"]

State = dict[str, Any]


class Adamax(Optimizer):
    """Adamax (Kingma and Ba 2015, algorithm 2): Adam scaled by a decaying maximum of gradients.

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
        master_weights: bool = False,
    ) -> None:
        super().__init__(params, options(locals()))

    def update(self, params: list[Tensor], group: Group) -> None:
        beta1, beta2 = group["betas"]
        for p in params:
            state = self.counted(p, "exp_avg", "exp_inf")
            grad = with_weight_decay(p, group)
            m = state["exp_avg"].mul_(beta1).add_(grad, alpha=1 - beta1)
            u = state["exp_inf"]
            u.copy_((u * beta2).maximum(grad.abs() + group["eps"]))
            p.sub_(m / u, alpha=changing(_step_size, state, group))


class NAdam(Optimizer):
    """NAdam (Dozat 2016): Adam with Nesterov momentum.

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
        master_weights: bool = False,
    ) -> None:
        super().__init__(params, options(locals()))

    def update(self, params: list[Tensor], group: Group) -> None:
        beta1, beta2 = group["betas"]
        for p in params:
            state = self.counted(p, "exp_avg", "exp_avg_sq")
            state["mu_product"] = changing(_mu_product, state, group)
            grad = with_weight_decay(p, group)
            m = state["exp_avg"].mul_(beta1).add_(grad, alpha=1 - beta1)
            v = state["exp_avg_sq"].mul_(beta2).add_(grad * grad, alpha=1 - beta2)
            d = (v / changing(_correction, state, beta2)).sqrt() + group["eps"]
            p.sub_(grad / d, alpha=changing(_gradient_rate, state, group))
            p.sub_(m / d, alpha=changing(_momentum_rate, state, group))


class RAdam(Optimizer):
    """RAdam (Liu et al. 2020, algorithm 2): Adam whose adaptive rate starts once its variance is
    small enough.

        n = n_max - 2 t beta2^t / (1 - beta2^t)
        r = sqrt((n - 4) (n - 2) n_max / ((n_max - 4) (n_max - 2) n))
        p = p - lr * m / (1 - beta1^t) * (r * sqrt(1 - beta2^t) / (sqrt(v) + eps) if n > 5 else 1)

    with the moments m and v of Adam; n is the number of gradients that v is a mean of.

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
        master_weights: bool = False,
    ) -> None:
        super().__init__(params, options(locals()))

    def update(self, params: list[Tensor], group: Group) -> None:
        beta1, beta2 = group["betas"]
        for p in params:
            state = self.counted(p, "exp_avg", "exp_avg_sq")
            grad = with_weight_decay(p, group)
            m = state["exp_avg"].mul_(beta1).add_(grad, alpha=1 - beta1)
            v = state["exp_avg_sq"].mul_(beta2).add_(grad * grad, alpha=1 - beta2)
            if changing(_is_short, state, beta2):
                p.sub_(m, alpha=changing(_step_size, state, group))
            else:
                adapted = changing(_adapted_step_size, state, group)
                p.sub_(m / (v.sqrt() + group["eps"]), alpha=adapted)


# Numbers of their steps ---------------------------------------------------------------------------


def _correction(state: State, beta: float) -> float:
    return 1 - float(beta) ** float(state["step"])


def _step_size(state: State, group: Group) -> float:
    return rate(group) / _correction(state, group["betas"][0])


def _mu(state: State, group: Group, ahead: int) -> float:
    time = (state["step"] + ahead) * float(group["momentum_decay"])
    return float(group["betas"][0] * (1 - 0.5 * 0.96**time))


def _mu_product(state: State, group: Group) -> float:
    return float(state.get("mu_product", 1.0) * _mu(state, group, 0))


def _gradient_rate(state: State, group: Group) -> float:
    return float(rate(group) * (1 - _mu(state, group, 0)) / (1 - state["mu_product"]))


def _momentum_rate(state: State, group: Group) -> float:
    mu = _mu(state, group, 1)
    return float(rate(group) * mu / (1 - state["mu_product"] * mu))


def _length(state: State, beta2: float) -> tuple[float, float]:
    """Return the number of gradients that the second moment is a mean of: now, and in the limit."""
    n_max = 2 / (1 - beta2) - 1
    v_correction = _correction(state, beta2)
    return n_max - 2 * state["step"] * (1 - v_correction) / v_correction, n_max


def _is_short(state: State, beta2: float) -> bool:
    return _length(state, beta2)[0] <= 5


def _adapted_step_size(state: State, group: Group) -> float:
    beta2 = group["betas"][1]
    n, n_max = _length(state, beta2)
    r = (n - 4) * (n - 2) * n_max / ((n_max - 4) * (n_max - 2) * n)
    return _step_size(state, group) * math.sqrt(r * _correction(state, beta2))
