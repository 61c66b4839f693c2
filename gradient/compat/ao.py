"""`ao.quantization` for models that can be quantised in PyTorch: here they compute in floats.

`gradient.quantization` packs weights instead.
"""

from __future__ import annotations

from typing import Any, NoReturn

from gradient.errors import BackendError
from gradient.nn.linear import Identity
from gradient.nn.module import Module
from gradient.tensor import Tensor
from gradient.tensor.joining import cat

__all__ = [
    "DeQuantStub",
    "FloatFunctional",
    "QConfig",
    "QuantStub",
    "convert",
    "fuse_modules",
    "fuse_modules_qat",
    "prepare",
    "prepare_qat",
    "quantize_dynamic",
]


class QuantStub(Identity):
    """Where numbers would become integers; they stay what they are."""

    def __init__(self, qconfig: Any = None) -> None:
        super().__init__()


class DeQuantStub(QuantStub):
    """Where integers would become floats again."""


class FloatFunctional(Module):
    """Functions as methods, which PyTorch replaces by those of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.activation_post_process = Identity()

    def forward(self, x: Tensor) -> NoReturn:
        raise BackendError("FloatFunctional: call its methods: add, mul, cat, matmul ...")

    def add(self, x: Tensor, y: Any) -> Tensor:
        return x + y

    def mul(self, x: Tensor, y: Any) -> Tensor:
        return x * y

    add_scalar, mul_scalar = add, mul

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        return x @ y

    def cat(self, x: Any, dim: int = 0) -> Tensor:
        return cat(x, dim)

    def add_relu(self, x: Tensor, y: Tensor) -> Tensor:
        return (x + y).relu()


def prepare(*args: Any, **options: Any) -> NoReturn:
    raise BackendError("ao.quantization: gradient.quantization.quantize packs a model's weights")


prepare_qat = convert = fuse_modules = fuse_modules_qat = quantize_dynamic = QConfig = prepare
