"""Lion."""

from __future__ import annotations

from typing import ClassVar

from gradient.backends.options import LionOptions
from gradient.checks import Limits
from gradient.optim.gradients import grads_of
from gradient.optim.masters import kind_of, state_dtype, stepped
from gradient.optim.numbers import decay_factor, rate
from gradient.optim.optimizer import Optimizer, Params
from gradient.optim.options import Group, decay_rates, non_negative, options
from gradient.tensor import Tensor
from gradient.tensor.foreach import arrays, batches, writing

__all__ = ["Lion"]


class Lion(Optimizer):
    """Lion (Chen et al. 2023, algorithm 2): steps by the sign of an averaged gradient.

        p = p - lr * (sign(beta1 * m + (1 - beta1) * grad) + weight_decay * p)
        m = beta2 * m + (1 - beta2) * grad

    It has one buffer, where Adam has two. Its steps are larger than Adam's, so the authors (section
    5) recommend a learning rate 3 to 10 times smaller than AdamW's, and a weight decay larger by
    the same factor.

    Args:
        betas: the weight of the buffer in the step, and the decay rate of the buffer; in [0, 1).
        weight_decay: decoupled weight decay.
        master_weights: keep a float32 master of each 16-bit parameter, and float32 averages, in the
            state (`gradient.optim.masters`).
    """

    limits: ClassVar[Limits] = {
        "lr": non_negative,
        "betas": decay_rates,
        "weight_decay": non_negative,
    }

    _steps_masters = _step_supports_amp_scaling = True

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        master_weights: bool = False,
    ) -> None:
        super().__init__(params, options(locals()))

    def update(self, params: list[Tensor], group: Group) -> None:
        for p in params:
            if not self.state[p]:
                zeros = p.new_zeros(p.shape, dtype=state_dtype(p, group))
                self.state[p]["exp_avg"] = zeros
        beta1, beta2 = group["betas"]
        for backend, (_, masters), batch in batches(params, lambda p: kind_of(p, group)):
            weights = [stepped(p, group, self.state[p]) for p in batch] if masters else batch
            with writing(batch, "Lion.step"):
                backend.lion_step(
                    arrays(weights),
                    grads_of(batch),
                    self._state_arrays(batch, "exp_avg"),
                    LionOptions(
                        lr=rate(group),
                        beta1=float(beta1),
                        beta2=float(beta2),
                        kept=decay_factor(group),
                        maximize=group["maximize"],
                    ),
                    self._found_inf_beside(batch[0]),
                    arrays(batch) if masters else None,
                )
