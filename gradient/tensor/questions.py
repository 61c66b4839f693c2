"""Questions about tensors whose answer is a Python value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradient.autograd.variable import Variable
from gradient.dtypes import BY_NUMPY
from gradient.tensor.arguments import tensor_of
from gradient.tensor.packed import same

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor

__all__ = [
    "allclose",
    "equal",
    "is_floating_point",
    "is_tensor",
    "numel",
]


def is_tensor(value: Any) -> bool:
    """Whether `value` is a Tensor."""
    return isinstance(value, Variable)


def numel(input: Tensor) -> int:
    """The number of elements."""
    return tensor_of("numel", input).numel()


def allclose(
    input: Tensor,
    other: Tensor,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    equal_nan: bool = False,
) -> bool:
    """Whether all elements are close (see `Tensor.isclose`)."""
    close = tensor_of("allclose", input).isclose(
        tensor_of("allclose", other), rtol, atol, equal_nan
    )
    return bool(close.all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Same shape and same elements; of packed tensors, the same blocks of the same dtype."""
    packed = [tensor_of("equal", x).dtype.is_packed for x in (input, other)]
    if any(packed):
        return all(packed) and same(input, other)
    return input.array.shape == other.array.shape and bool((input == other).all())


def is_floating_point(input: Tensor) -> bool:
    """Whether the dtype of `input` is a floating-point one."""
    return BY_NUMPY[tensor_of("is_floating_point", input).array.dtype].is_floating_point
