"""Adam and AdamW."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from gradient.backends.options import AdamWOptions
from gradient.checks import Limits
from gradient.optim.gradients import grads_of, with_weight_decay
from gradient.optim.masters import has_master, stepped
from gradient.optim.numbers import changing, rate, setting
from gradient.optim.optimizer import Optimizer, Params
from gradient.optim.options import Group, decay_rates, non_negative, options
from gradient.tensor import Tensor
from gradient.tensor.foreach import arrays, batches, writing

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1): steps from running moments of the gradient.

        g = grad + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g²
        p = p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    All parameters of a group are updated by one call to the backend. The moments have the dtype of
    the parameter, or of its float32 master.

    Args:
        betas: decay rates of the two moments, in [0, 1).
        eps: keeps the denominator from zero.
        weight_decay: L2 penalty, added to the gradient (see `AdamW` for the decoupled one).
        amsgrad: divide by the largest second moment so far (Reddi et al. 2018, section 5).
        decoupled_weight_decay: shrink the parameters directly, as `AdamW` does.
        foreach, capturable, fused: accepted as in PyTorch, without effect.
        master_weights: keep a float32 master of each 16-bit parameter, and float32 moments, in the
            state (`gradient.optim.masters`).
    """

    limits: ClassVar[Limits] = {
        "lr": non_negative,
        "betas": decay_rates,
        "eps": non_negative,
        "weight_decay": non_negative,
    }

    _steps_masters = True

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        master_weights: bool = False,
    ) -> None:
        super().__init__(params, options(locals()))

    @property
    def _step_supports_amp_scaling(self) -> bool:
        return not any(group["amsgrad"] for group in self.param_groups)

    def update(self, params: list[Tensor], group: Group) -> None:
        buffers = ["exp_avg", "exp_avg_sq"]
        if group["amsgrad"]:
            buffers.append("max_exp_avg_sq")
        for p in params:
            self.counted(p, *buffers, group=group)
        if group["amsgrad"]:
            for p in params:
                self._amsgrad_update(p, group)
            return

        beta1, beta2 = setting(group, "betas", 0), setting(group, "betas", 1)
        weight_decay = setting(group, "weight_decay")

        with_masters = bool(group.get("master_weights"))

        def count(p: Tensor) -> tuple[int, Any, bool]:
            step = self.state[p]["step"]
            master = with_masters and has_master(p, group)
            return 0 if isinstance(step, Tensor) else step, p.dtype, master

        # A parameter without a gradient in some step has a smaller count than the others.
        for backend, (step, _, masters), batch in batches(params, count):
            found_inf = self._found_inf_beside(batch[0])
            weights = [stepped(p, group, self.state[p]) for p in batch] if masters else batch
            with writing(batch, f"{type(self).__name__}.step"):
                backend.adamw_step(
                    arrays(weights),
                    grads_of(batch),
                    self._state_arrays(batch, "exp_avg"),
                    self._state_arrays(batch, "exp_avg_sq"),
                    AdamWOptions(
                        lr=rate(group),
                        beta1=beta1,
                        beta2=beta2,
                        eps=group["eps"],
                        weight_decay=weight_decay,
                        step=step,
                        decoupled=group["decoupled_weight_decay"],
                        maximize=group["maximize"],
                    ),
                    None if found_inf is None else self._state_arrays(batch, "step"),
                    found_inf,
                    arrays(batch) if masters else None,
                )

    def _amsgrad_update(self, p: Tensor, group: Group) -> None:
        state = self.state[p]
        weight = stepped(p, group, state)
        beta1, beta2 = (float(beta) for beta in group["betas"])
        grad = with_weight_decay(p, group, weight)
        m, v, v_max = state["exp_avg"], state["exp_avg_sq"], state["max_exp_avg_sq"]
        m.mul_(beta1).add_(grad, alpha=1 - beta1)
        v.mul_(beta2).add_(grad * grad, alpha=1 - beta2)
        v_max.copy_(v_max.maximum(v))
        v_correction = changing(_v_correction, state, beta2)
        step_size = changing(_step_size, state, group, beta1)
        weight.sub_(m / (v_max.sqrt() / v_correction + group["eps"]), alpha=step_size)
        if weight is not p:
            p.copy_(weight)


def _v_correction(state: dict[str, Any], beta2: float) -> float:
    return math.sqrt(1 - beta2 ** state["step"])


def _step_size(state: dict[str, Any], group: Group, beta1: float) -> float:
    return rate(group) / (1 - beta1 ** float(state["step"]))


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

        p = p - lr * weight_decay * p, then Adam's step without a penalty in the gradient

    The decay then does not pass through the moments, so it shrinks all weights alike. The arguments
    are those of `Adam`; weight_decay is 0.01 if not given.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        master_weights: bool = False,
    ) -> None:
        given = options(locals())
        Optimizer.__init__(self, params, {**given, "decoupled_weight_decay": True})
