"""Gradient clipping, against too large steps where the loss is steep (Pascanu et al. 2013)."""

from __future__ import annotations

import math
from collections.abc import Iterable

from gradient.autograd import no_grad
from gradient.errors import AutogradError
from gradient.tensor import Tensor
from gradient.tensor.creation import zeros
from gradient.tensor.joining import stack


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients, in place, so that their norm as one vector is at most `max_norm`.

    Returns the norm before clipping, a tensor without dimensions. Raises AutogradError if
    `error_if_nonfinite` and the norm is infinite or not a number.
    """
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    grads = [p.grad for p in parameters if p.grad is not None]
    total = get_total_norm(grads, norm_type, error_if_nonfinite)
    clip_grads_with_norm_(parameters, max_norm, total)
    return total


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all tensors taken as one vector, a 0-d tensor (0 for no tensors)."""
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if not tensors:
        return zeros(())
    with no_grad():
        device = tensors[0].device
        norms = [tensor.norm(norm_type).to(device) for tensor in tensors]
        total = stack(norms).norm(norm_type)
    if error_if_nonfinite and not math.isfinite(float(total)):
        raise AutogradError(
            f"clip_grad_norm_: the gradients' norm is {float(total)}; to scale them regardless "
            "pass error_if_nonfinite=False"
        )
    return total


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    total_norm: Tensor,
    foreach: bool | None = None,
) -> None:
    """Scale all gradients, in place, by `max_norm / total_norm` if that is less than 1."""
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    with no_grad():
        # Always multiplied, by 1 if need be: looking at the number would wait for the device.
        scale = (float(max_norm) / (total_norm + 1e-6)).clamp(max=1.0)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(scale.to(parameter.grad.device))


def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Cut every element of every gradient off at `-clip_value` and `clip_value`, in place."""
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    with no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.clamp_(-float(clip_value), float(clip_value))
