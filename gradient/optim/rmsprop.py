"""RMSprop, and Rprop, which it comes from."""

from __future__ import annotations

from typing import ClassVar

from gradient.checks import Limits, number, pair
from gradient.optim.numbers import rate
from gradient.optim.optimizer import Optimizer, Params, descent, with_weight_decay
from gradient.optim.options import Group, non_negative, options
from gradient.tensor import Tensor
from gradient.tensor.joining import where

__all__ = ["RMSprop", "Rprop"]


class RMSprop(Optimizer):
    """RMSprop (Hinton 2012, lecture 6e): gradients divided by their running root mean square.

        g = grad + weight_decay * p
        v = alpha * v + (1 - alpha) * g²
        p = p - lr * g / (sqrt(v) + eps)

    As in PyTorch, eps is added outside the root (TensorFlow adds it inside).

    Args:
        alpha: decay rate of the squared average.
        eps: keeps the denominator from zero.
        weight_decay: L2 penalty, added to the gradient.
        momentum: decay of a velocity that collects the scaled gradients; 0 keeps none.
        centered: divide by the standard deviation instead (Graves 2013, section 4.2).
    """

    limits: ClassVar[Limits] = dict.fromkeys(
        ("lr", "eps", "momentum", "weight_decay", "alpha"), non_negative
    )

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(params, options(locals()))

    def update(self, params: list[Tensor], group: Group) -> None:
        lr, alpha, momentum = rate(group), group["alpha"], group["momentum"]
        buffers = ["square_avg"]
        if momentum > 0:
            buffers.append("momentum_buffer")
        if group["centered"]:
            buffers.append("grad_avg")
        for p in params:
            state = self.counted(p, *buffers)
            grad = with_weight_decay(p, group)
            square_avg = state["square_avg"].mul_(alpha).add_(grad * grad, alpha=1 - alpha)
            if group["centered"]:
                grad_avg = state["grad_avg"].mul_(alpha).add_(grad, alpha=1 - alpha)
                spread = (square_avg - grad_avg * grad_avg).sqrt()
            else:
                spread = square_avg.sqrt()
            scaled = grad / (spread + group["eps"])
            if momentum > 0:
                scaled = state["momentum_buffer"].mul_(momentum).add_(scaled)
            p.sub_(scaled, alpha=lr)


class Rprop(Optimizer):
    """Resilient propagation (Riedmiller and Braun 1993): steps by the gradient's sign alone.

        s = s * (etas[1] where g keeps its sign, etas[0] where it changes), within step_sizes
        p = p - s * sign(g), but where the sign has changed

    For gradients of all the data: with batches the signs change by chance.

    Args:
        lr: the first size of each parameter's steps.
        etas: by what a step's size shrinks, in (0, 1), and grows, above 1.
        step_sizes: the least and the largest size of a step.
    """

    limits: ClassVar[Limits] = {
        "lr": non_negative,
        "etas": pair(number(above=0, below=1), number(above=1)),
        "step_sizes": pair(number(), number()),
    }

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(params, options(locals()))

    def update(self, params: list[Tensor], group: Group) -> None:
        (shrink, grow), (least, largest) = group["etas"], group["step_sizes"]
        for p in params:
            state = self.counted(p, "prev")
            if "step_size" not in state:
                state["step_size"] = p.new_full(p.shape, float(group["lr"]))
            grad = descent(p, group)
            agreement = grad * state["prev"]
            size = state["step_size"]
            changed = where(agreement < 0, size * shrink, size)
            changed = where(agreement > 0, size * grow, changed)
            size.copy_(changed.clamp(least, largest))
            grad = grad.masked_fill(agreement < 0, 0)
            p.sub_(grad.sign() * size)
            state["prev"].copy_(grad)
