"""Predicates: `isclose`, and functions and methods that return Python values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradient.autograd.variable import Variable
from gradient.dtypes import BY_NUMPY
from gradient.errors import ArgumentError, ShapeError, sentence
from gradient.tensor.arguments import flag_of, number_of, tensor_of
from gradient.tensor.arithmetic import same_dtype
from gradient.tensor.base import TensorBase
from gradient.tensor.packed import same

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor

__all__ = ["allclose", "equal", "is_floating_point", "is_tensor", "numel"]


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
    """Whether shape and elements are equal; for packed tensors, dtype and blocks."""
    packed = [tensor_of("equal", x).dtype.is_packed for x in (input, other)]
    if any(packed):
        return all(packed) and same(input, other)
    return input.array.shape == other.array.shape and bool((input == other).all())


def is_floating_point(input: Tensor) -> bool:
    """Whether the dtype of `input` is a floating-point one."""
    return BY_NUMPY[tensor_of("is_floating_point", input).array.dtype].is_floating_point


class Predicates(TensorBase):
    """Predicates as methods of Tensor."""

    __slots__ = ()

    def allclose(
        self: Any, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
    ) -> bool:
        """Whether all elements are close (see `isclose`)."""
        return allclose(self, other, rtol, atol, equal_nan)

    def equal(self: Any, other: Tensor) -> bool:
        """Whether shape and elements are equal."""
        return equal(self, tensor_of("equal", other))

    def isclose(
        self,
        other: Tensor,
        rtol: float = 1e-5,
        atol: float = 1e-8,
        equal_nan: bool = False,
    ) -> Tensor:
        """|self - other| <= atol + rtol * |other|, elementwise, as a bool tensor; the inputs
        broadcast. Equal infinities are close, NaN only to NaN and with `equal_nan`. Raises
        DTypeError for different dtypes."""
        same_dtype("isclose", "other", self, other)
        equal_nan = flag_of("isclose", "equal_nan", equal_nan)
        for name, value in (("rtol", rtol), ("atol", atol)):
            if not number_of("isclose", name, value) >= 0:
                raise ArgumentError(sentence("isclose", f"{name} of at least 0", value))
        x: Any = self
        close = x == other
        if rtol or atol:  # else compare exactly: large integers lose digits as floats
            if x.array.dtype.kind in "biu":  # their differences may overflow
                x, other = x.float(), other.float()
            gap = (x - other).abs()
            close = close | (gap <= other.abs() * rtol + atol) & gap.isfinite()
        return close | x.isnan() & other.isnan() if equal_nan else close

    def is_nonzero(self: Any) -> bool:
        """Whether the only element is not 0."""
        if self.numel() != 1:
            raise ShapeError(sentence("is_nonzero", "one element", self.numel()))
        return bool(self)

    def is_same_size(self: Any, other: Tensor) -> bool:
        """Whether the shapes are the same."""
        return self.array.shape == tensor_of("is_same_size", other).array.shape

    def is_signed(self: Any) -> bool:
        """Whether the dtype has negative numbers."""
        return self.array.dtype.kind not in "ub"

    def get_device(self: Any) -> int:
        """The number of the device, -1 for the CPU."""
        index = self.device.index
        return -1 if index is None or self.device.type == "cpu" else index

    def ndimension(self: Any) -> int:
        """The number of dimensions."""
        return self.ndim
