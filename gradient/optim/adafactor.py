"""Adafactor."""

from __future__ import annotations

import math
from typing import ClassVar

from gradient.checks import Limits, number, optional, pair
from gradient.dtypes import finfo
from gradient.optim.gradients import descent
from gradient.optim.optimizer import Optimizer, Params
from gradient.optim.options import Group, non_negative, options
from gradient.tensor import Tensor

__all__ = ["Adafactor"]


class Adafactor(Optimizer):
    """Adafactor (Shazeer and Stern 2018, algorithms 4 and 5): Adam with a factored second moment.

        r, c = running means of the rows and of the columns of grad², with decay 1 - t^beta2_decay
        v = r cᵀ / mean(r)
        u = grad / max(sqrt(v), eps1),   u = u / max(1, RMS(u) / d)
        p = (1 - lr * weight_decay) p - max(eps2, RMS(p)) * min(lr, 1 / sqrt(t)) * u

    The state of a matrix (M, N) has M + N numbers, where Adam's has 2 M N. A vector's state is v.

    Args:
        lr: the largest step relative to the parameter.
        beta2_decay: the exponent, at most 0, of the step count in the decay of the means.
        eps: eps1, the smallest divisor (None: that of the dtype), and eps2, the smallest scale of a
            parameter.
        d: the largest root mean square of an update.
        weight_decay: decoupled weight decay.
    """

    limits: ClassVar[Limits] = {
        "lr": non_negative,
        "beta2_decay": number(at_most=0),
        "eps": pair(optional(number(0)), number(0)),
        "d": number(1),
        "weight_decay": non_negative,
    }

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        master_weights: bool = False,
    ) -> None:
        super().__init__(params, options(locals()))

    def update(self, params: list[Tensor], group: Group) -> None:
        lr, (eps1, eps2) = float(group["lr"]), group["eps"]
        for p in params:
            state = self.state[p]
            grad = descent(p, group)
            if not state:
                state["step"] = 0
                if p.ndim > 1:
                    state["row_var"] = p.new_zeros((*p.shape[:-1], 1))
                    state["col_var"] = p.new_zeros((*p.shape[:-2], 1, p.shape[-1]))
                else:
                    state["variance"] = p.new_zeros(p.shape)
            state["step"] += 1

            weight = state["step"] ** group["beta2_decay"]
            size = max(eps2, _rms(p)) * min(lr, 1 / math.sqrt(state["step"]))
            p.mul_(1 - lr * group["weight_decay"])
            squares = grad * grad
            least = finfo(p.dtype).eps if eps1 is None else eps1
            if p.ndim > 1:
                rows, columns = state["row_var"], state["col_var"]
                _approach(rows, squares.mean(-1, keepdim=True), weight)
                _approach(columns, squares.mean(-2, keepdim=True), weight)
                v = rows @ columns / rows.mean(-2, keepdim=True).clamp(min=least)
            else:
                v = _approach(state["variance"], squares, weight)
            update = grad / v.sqrt().clamp(min=least)
            p.sub_(update, alpha=size / max(1.0, _rms(update) / group["d"]))


def _approach(mean: Tensor, value: Tensor, weight: float) -> Tensor:
    """Update a running mean, in place: `mean + weight * (value - mean)`."""
    return mean.mul_(1 - weight).add_(value, alpha=weight)


def _rms(x: Tensor) -> float:
    """The root of the mean square."""
    return math.sqrt((x * x).mean().item()) if x.numel() else 0.0
