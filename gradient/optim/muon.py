"""Muon: momentum steps, orthogonalized."""

from __future__ import annotations

import math
from typing import ClassVar

from gradient.checks import Limit, Limits, integer, number, one_of, optional
from gradient.dtypes import float32
from gradient.optim.numbers import changing, decay_factor, rate
from gradient.optim.optimizer import Optimizer, Params
from gradient.optim.options import Group, non_negative, options
from gradient.tensor import Tensor

__all__ = ["Muon"]


def newton_schulz(
    matrix: Tensor,
    coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
    steps: int = 5,
    eps: float = 1e-7,
) -> Tensor:
    """Approximate the nearest orthogonal matrix: U Vᵀ for matrix = U S Vᵀ.

    Each step applies the odd polynomial a x + b x³ + c x⁵ to all singular values, by matrix
    products. The default coefficients (Jordan et al. 2024) have a steep slope at zero instead of
    convergence to 1: singular values end between about 0.7 and 1.2, which trains as well.

    It is computed in float32. PyTorch rounds to bfloat16 after each product, which changes the
    result by 1 to 2 per cent.

    Args:
        matrix: (M, N).
        coefficients: a, b and c.
        steps: the number of times that the polynomial is applied.
        eps: the smallest divisor for the norm.

    Returns:
        (M, N), float32.
    """
    a, b, c = coefficients
    x = matrix.to(float32)
    is_tall = matrix.shape[0] > matrix.shape[1]
    if is_tall:  # so that the products below are of the smaller side's size
        x = x.T
    # The Frobenius norm is at least the largest singular value: afterwards none is above one.
    x = x / (x * x).sum().sqrt().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if is_tall else x


class Muon(Optimizer):
    """Muon (Jordan et al. 2024): momentum steps, orthogonalized, for weight matrices.

        b = momentum * b + (1 - momentum) * grad
        u = (1 - momentum) * grad + momentum * b if nesterov else b
        p = p - lr * weight_decay * p - lr * ratio(M, N) * newton_schulz(u)

    Published at kellerjordan.github.io/posts/muon. It is meant for the matrices of hidden layers;
    use `AdamW` for biases, gains, embeddings and the output layer.

    Args:
        params: parameters, named parameters or group dicts; all of shape (M, N).
        weight_decay: decoupled weight decay.
        momentum: decay rate of the averaged gradient.
        nesterov: use Nesterov momentum.
        ns_coefficients, eps, ns_steps: arguments of `newton_schulz`.
        adjust_lr_fn: ratio(M, N). "original" (or None): sqrt(max(1, M / N)); "match_rms_adamw":
            0.2 sqrt(max(M, N)), with which AdamW's learning rate and weight decay can be used (Liu
            et al. 2025, section 2.2).
    """

    limits: ClassVar[Limits] = {
        "lr": non_negative,
        "momentum": non_negative,
        "weight_decay": non_negative,
        "ns_coefficients": Limit(
            "three numbers",
            lambda abc: (
                isinstance(abc, tuple | list) and len(abc) == 3 and all(map(number().holds, abc))
            ),
        ),
        "eps": number(),
        "ns_steps": integer(0, 99),
        "adjust_lr_fn": optional(one_of("original", "match_rms_adamw")),
        "params": Limit(
            "of shape (M, N)",
            lambda params: all(p.ndim == 2 for p in params),
            fix="give the others to AdamW",
            show=lambda params: ", ".join(str(tuple(p.shape)) for p in params if p.ndim != 2),
        ),
    }

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        master_weights: bool = False,
    ) -> None:
        super().__init__(params, options(locals()))

    def update(self, params: list[Tensor], group: Group) -> None:
        momentum = group["momentum"]
        for p in params:
            state = self.state[p]
            if not state:
                state["momentum_buffer"] = p.new_zeros(p.shape)
            buffer = state["momentum_buffer"].mul_(momentum).add_(p.grad, alpha=1 - momentum)
            direction = (1 - momentum) * p.grad + momentum * buffer if group["nesterov"] else buffer
            direction = newton_schulz(
                direction, group["ns_coefficients"], group["ns_steps"], group["eps"]
            )
            p.mul_(decay_factor(group))
            p.sub_(direction.to(p.dtype), alpha=changing(_step_size, p, group))


def _step_size(p: Tensor, group: Group) -> float:
    return rate(group) * _shape_ratio(p, group["adjust_lr_fn"])


def _shape_ratio(p: Tensor, adjust_lr_fn: str | None) -> float:
    rows, columns = p.shape
    if adjust_lr_fn == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))
