"""RMSprop, and Rprop, its predecessor."""

from __future__ import annotations

from typing import ClassVar

from gradient.backends.options import RMSpropOptions
from gradient.checks import Limits, number, pair
from gradient.optim.gradients import descent, grads_of
from gradient.optim.masters import kind_of, stepped
from gradient.optim.numbers import has_momentum, rate, setting
from gradient.optim.optimizer import Optimizer, Params
from gradient.optim.options import Group, non_negative, options
from gradient.tensor import Tensor
from gradient.tensor.foreach import arrays, batches, writing
from gradient.tensor.joining import where

__all__ = ["RMSprop", "Rprop"]


class RMSprop(Optimizer):
    """RMSprop (Hinton 2012, lecture 6e): divides gradients by their running root mean square.

        g = grad + weight_decay * p
        v = alpha * v + (1 - alpha) * g²
        p = p - lr * g / (sqrt(v) + eps)

    As in PyTorch, eps is added outside the root (TensorFlow adds it inside).

    Args:
        alpha: decay rate of the squared average.
        eps: keeps the denominator from zero.
        weight_decay: L2 penalty, added to the gradient.
        momentum: decay of a velocity, the running sum of scaled gradients; 0: no velocity.
        centered: divide by the standard deviation instead (Graves 2013, section 4.2).
        master_weights: keep a float32 master of each 16-bit parameter, and float32 averages, in the
            state (`gradient.optim.masters`).
    """

    limits: ClassVar[Limits] = dict.fromkeys(
        ("lr", "eps", "momentum", "weight_decay", "alpha"), non_negative
    )

    _steps_masters = _step_supports_amp_scaling = True

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
        *,
        master_weights: bool = False,
    ) -> None:
        super().__init__(params, options(locals()))

    def update(self, params: list[Tensor], group: Group) -> None:
        buffers = ["square_avg"]
        with_momentum = has_momentum(group)
        momentum, weight_decay = setting(group, "momentum"), setting(group, "weight_decay")
        if with_momentum:
            buffers.append("momentum_buffer")
        if group["centered"]:
            buffers.append("grad_avg")
        for p in params:
            self.counted(p, *buffers, group=group)
        for backend, (_, masters), batch in batches(params, lambda p: kind_of(p, group)):
            found_inf = self._found_inf_beside(batch[0])
            weights = [stepped(p, group, self.state[p]) for p in batch] if masters else batch
            with writing(batch, "RMSprop.step"):
                backend.rmsprop_step(
                    arrays(weights),
                    grads_of(batch),
                    self._state_arrays(batch, "square_avg"),
                    self._state_arrays(batch, "momentum_buffer") if with_momentum else None,
                    self._state_arrays(batch, "grad_avg") if group["centered"] else None,
                    RMSpropOptions(
                        lr=rate(group),
                        alpha=group["alpha"],
                        eps=group["eps"],
                        weight_decay=weight_decay,
                        momentum=momentum,
                        maximize=group["maximize"],
                    ),
                    None if found_inf is None else self._state_arrays(batch, "step"),
                    found_inf,
                    arrays(batch) if masters else None,
                )


class Rprop(Optimizer):
    """Resilient propagation (Riedmiller and Braun 1993): steps by the sign of the gradient.

        s = s * (etas[1] where g keeps its sign, etas[0] where it changes), within step_sizes
        p = p - s * sign(g), except where the sign has changed

    Use it with gradients of all the data: with batches, signs change by chance.

    Args:
        lr: the initial step size of all elements.
        etas: the factors by which a step size shrinks, in (0, 1), and grows, above 1.
        step_sizes: the smallest and the largest step size.
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
        master_weights: bool = False,
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
