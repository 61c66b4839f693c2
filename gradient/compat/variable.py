"""`autograd.Variable`, which is a tensor since PyTorch 0.4."""

from __future__ import annotations

from typing import Any

from gradient.tensor import Tensor

__all__ = ["Variable"]


class _Tensors(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, Tensor)


class Variable(metaclass=_Tensors):
    """`Variable(x, requires_grad=True)`: the tensor, asked for a gradient if so told."""

    def __new__(cls, data: Tensor, requires_grad: bool = False, volatile: bool = False) -> Any:
        return data.detach().requires_grad_() if requires_grad else data
