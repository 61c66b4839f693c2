"""SGD, and ASGD, which averages its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gradient.backends.options import SGDOptions
from gradient.checks import Limits, Relation, number
from gradient.optim.gradients import grads_of, with_weight_decay
from gradient.optim.masters import has_master, state_dtype, stepped
from gradient.optim.numbers import changing, has_momentum, rate, setting
from gradient.optim.optimizer import Optimizer, Params
from gradient.optim.options import Group, non_negative, options
from gradient.tensor import Tensor
from gradient.tensor.foreach import arrays, batches, writing

__all__ = ["ASGD", "SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent, optionally with (Nesterov) momentum.

        g = grad + weight_decay * p
        b = momentum * b + (1 - dampening) * g        (b = g at the first step)
        p = p - lr * (g + momentum * b if nesterov else b)

    As in PyTorch (and unlike in Sutskever et al. 2013), the learning rate multiplies the velocity b
    when it is applied, not the gradients when they are accumulated.

    Args:
        momentum: decay of the velocity; 0: no velocity.
        dampening: the fraction of each gradient that is not added to the velocity.
        weight_decay: L2 penalty, added to the gradient.
        nesterov: use Nesterov momentum; needs momentum and no dampening.
        foreach, fused: accepted as in PyTorch, without effect.
        master_weights: keep a float32 master of each 16-bit parameter, and a float32 velocity, in
            the state (`gradient.optim.masters`).
    """

    limits: ClassVar[Limits] = {
        **dict.fromkeys(("lr", "momentum", "weight_decay"), non_negative),
        "dampening": number(),
    }
    relations: ClassVar[Sequence[Relation]] = (
        Relation(
            ("nesterov", "momentum", "dampening"),
            lambda nesterov, momentum, dampening: not nesterov or (momentum > 0 and dampening == 0),
            "nesterov needs momentum > 0 and dampening == 0, got momentum {momentum} and "
            "dampening {dampening}",
        ),
    )

    _steps_masters = True

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        master_weights: bool = False,
    ) -> None:
        super().__init__(params, options(locals()))

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """False with dampening: if the first step is skipped, the velocity is 0 and not absent, and
        the next gradient would be dampened."""
        return not any(group["momentum"] and group["dampening"] for group in self.param_groups)

    def update(self, params: list[Tensor], group: Group) -> None:
        with_momentum = has_momentum(group)
        momentum = setting(group, "momentum") if with_momentum else 0.0
        weight_decay = setting(group, "weight_decay")
        with_masters = bool(group.get("master_weights"))

        def kind(p: Tensor) -> tuple[bool, bool]:
            first = with_momentum and self.state[p].get("momentum_buffer") is None
            return first, with_masters and has_master(p, group)

        for backend, (first, masters), batch in batches(params, kind):
            if first:
                for p in batch:
                    zeros = p.new_zeros(p.shape, dtype=state_dtype(p, group))
                    self.state[p]["momentum_buffer"] = zeros
            weights = [stepped(p, group, self.state[p]) for p in batch] if masters else batch
            with writing(batch, "SGD.step"):
                backend.sgd_step(
                    arrays(weights),
                    grads_of(batch),
                    self._state_arrays(batch, "momentum_buffer") if with_momentum else None,
                    SGDOptions(
                        lr=rate(group),
                        momentum=momentum,
                        dampening=group["dampening"],
                        weight_decay=weight_decay,
                        nesterov=group["nesterov"],
                        maximize=group["maximize"],
                        first=first,
                    ),
                    self._found_inf_beside(batch[0]),
                    arrays(batch) if masters else None,
                )


class ASGD(Optimizer):
    """Averaged stochastic gradient descent (Polyak and Juditsky 1992).

        g = grad + weight_decay * p
        p = (1 - lambd * eta) * p - eta * g,   eta = lr / (1 + lambd * lr * t) ** alpha
        ax = ax + (p - ax) / max(1, t - t0)

    The average is in `state[p]["ax"]`; the parameters themselves are not averaged.

    Args:
        lambd: decay of the parameters.
        alpha: exponent of the decay of the learning rate.
        t0: the step at which averaging starts.
        weight_decay: L2 penalty, added to the gradient.
    """

    limits: ClassVar[Limits] = {
        **dict.fromkeys(("lr", "weight_decay"), non_negative),
        **dict.fromkeys(("lambd", "alpha", "t0"), number()),
    }
    numbers: ClassVar[Mapping[str, type[int] | type[float]]] = {
        "step": int,
        "eta": float,
        "mu": float,
    }

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        *,
        master_weights: bool = False,
    ) -> None:
        super().__init__(params, options(locals()))

    def update(self, params: list[Tensor], group: Group) -> None:
        for p in params:
            state = self.counted(p, "ax")
            grad = with_weight_decay(p, group)
            p.mul_(changing(_kept, state, group)).sub_(grad, alpha=changing(_eta, state, group))
            state["ax"].add_(p - state["ax"], alpha=changing(_mu, state))
            state["eta"] = changing(_next_eta, state, group)
            state["mu"] = changing(_next_mu, state, group)


def _eta(state: dict[str, Any], group: Group) -> float:
    return float(state["eta"]) if "eta" in state else rate(group)


def _mu(state: dict[str, Any]) -> float:
    return float(state.get("mu", 1.0))


def _kept(state: dict[str, Any], group: Group) -> float:
    return 1 - float(group["lambd"]) * _eta(state, group)


def _next_eta(state: dict[str, Any], group: Group) -> float:
    lr, alpha = rate(group), float(group["alpha"])
    return float(lr / (1 + group["lambd"] * lr * state["step"]) ** alpha)


def _next_mu(state: dict[str, Any], group: Group) -> float:
    return 1 / max(1.0, state["step"] - float(group["t0"]))
