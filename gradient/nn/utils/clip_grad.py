"""Gradient clipping, against too large steps where the loss is steep (Pascanu et al. 2013)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable

from gradient.autograd import no_grad
from gradient.errors import AutogradError, TypeMismatch, sentence
from gradient.ops import reduce
from gradient.tensor import Tensor
from gradient.tensor.arguments import number_of, shown
from gradient.tensor.creation import zeros
from gradient.tensor.foreach import arrays, batches, writing
from gradient.tensor.joining import stack

__all__ = ["clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]


def _tensors(caller: str, given: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """A tensor, or several, as a list."""
    result = [given] if isinstance(given, Tensor) else given
    result = list(result) if isinstance(result, Iterable) else [result]
    for value in result:
        if not isinstance(value, Tensor):
            raise TypeMismatch(sentence(caller, "a Tensor or an iterable of Tensors", shown(given)))
    return result


def _order(norm_type: float | str) -> float:
    if isinstance(norm_type, str):
        with contextlib.suppress(ValueError):
            return float(norm_type)
    return float(number_of("get_total_norm", "norm_type", norm_type))


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float | str = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients, in place, so that their norm as one vector is at most `max_norm`.

    Returns the norm before clipping, a tensor without dimensions. Raises AutogradError if
    `error_if_nonfinite` and the norm is infinite or not a number.
    """
    parameters = _tensors("clip_grad_norm_", parameters)
    max_norm = number_of("clip_grad_norm_", "max_norm", max_norm)
    grads = [g for p in parameters if (g := p.grad) is not None]
    total = get_total_norm(grads, norm_type, error_if_nonfinite)
    _scale(grads, max_norm, total)
    return total


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float | str = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all tensors taken as one vector, a 0-d tensor (0 for no tensors). `norm_type` may
    also be a string: "inf"."""
    tensors = _tensors("get_total_norm", tensors)
    norm_type = _order(norm_type)
    if not tensors:
        return zeros(())
    with no_grad():
        backend, device, dtype = tensors[0].backend, tensors[0].device, tensors[0].dtype
        if (
            norm_type == 2
            and dtype.is_floating_point
            and all([t.backend is backend and t.dtype is dtype for t in tensors])
        ):
            total = reduce.total_norm(*tensors)
        else:
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
    parameters = _tensors("clip_grads_with_norm_", parameters)
    _scale([g for p in parameters if (g := p.grad) is not None], max_norm, total_norm)


def _scale(grads: list[Tensor], max_norm: float, total_norm: Tensor) -> None:
    with no_grad():
        # Always multiplied, by 1 if need be: looking at the number would wait for the device.
        scale = (float(max_norm) / (total_norm + 1e-6)).clamp(max=1.0)
        for backend, device, batch in batches(grads, lambda grad: grad.device):
            with writing(batch, "clip_grads_with_norm_"):
                backend.foreach_mul(arrays(batch), scale.to(device).array)


def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Cut every element of every gradient off at `-clip_value` and `clip_value`, in place."""
    parameters = _tensors("clip_grad_value_", parameters)
    limit = number_of("clip_grad_value_", "clip_value", clip_value)
    with no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.clamp_(-float(limit), float(limit))
