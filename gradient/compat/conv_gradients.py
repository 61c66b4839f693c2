"""`nn.grad`: the gradients of convolutions as functions, for backward passes written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradient import functional as F
from gradient.autograd import enable_grad, grad
from gradient.tensor import Tensor
from gradient.tensor.creation import zeros

__all__ = [
    "conv1d_input",
    "conv1d_weight",
    "conv2d_input",
    "conv2d_weight",
    "conv3d_input",
    "conv3d_weight",
]


def _of_input(conv: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def gradient(
        input_size: Sequence[int],
        weight: Tensor,
        grad_output: Tensor,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> Tensor:
        with enable_grad():
            x = zeros(input_size, dtype=weight.dtype, device=weight.device, requires_grad=True)
            y = conv(x, weight, None, stride, padding, dilation, groups)
        return _grad(y, x, grad_output, weight)

    return _named(gradient, conv, "input")


def _of_weight(conv: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def gradient(
        input: Tensor,
        weight_size: Sequence[int],
        grad_output: Tensor,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> Tensor:
        with enable_grad():
            w = zeros(weight_size, dtype=input.dtype, device=input.device, requires_grad=True)
            y = conv(input, w, None, stride, padding, dilation, groups)
        return _grad(y, w, grad_output, input)

    return _named(gradient, conv, "weight")


def _grad(y: Tensor, x: Tensor, grad_output: Tensor, other: Tensor) -> Tensor:
    again = grad_output.requires_grad or other.requires_grad
    (found,) = grad(y, x, grad_output, create_graph=again)
    return found


def _named(function: Any, conv: Callable[..., Tensor], of: str) -> Callable[..., Tensor]:
    function.__name__ = function.__qualname__ = f"{conv.__name__}_{of}"
    function.__doc__ = f"The gradient of `{conv.__name__}` for its {of}, of that of its result."
    named: Callable[..., Tensor] = function
    return named


conv1d_input, conv1d_weight = _of_input(F.conv1d), _of_weight(F.conv1d)
conv2d_input, conv2d_weight = _of_input(F.conv2d), _of_weight(F.conv2d)
conv3d_input, conv3d_weight = _of_input(F.conv3d), _of_weight(F.conv3d)
