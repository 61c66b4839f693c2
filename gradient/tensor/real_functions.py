"""Elementwise functions that are composed of others: methods of Tensor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.autograd.variable import Variable, wrap
from gradient.dtypes import bool_, float64, get_default_dtype, int32, result_type
from gradient.errors import DTypeError, TypeMismatch, sentence
from gradient.ops import comparison, elementwise, trigonometry
from gradient.tensor.arguments import number_of, tensor_of
from gradient.tensor.arithmetic import floating
from gradient.tensor.base import TensorBase

if TYPE_CHECKING:
    from gradient.autograd.variable import Number
    from gradient.tensor.core import Tensor


class RealFunctions(TensorBase):
    """deg2rad, hypot, copysign, fmax, sinc and their like; what complex numbers would need,
    of real ones."""

    __slots__ = ()

    def positive(self: Any) -> Tensor:
        """The tensor itself."""
        return +self

    def deg2rad(self: Any) -> Tensor:
        """Degrees as radians."""
        return self * (math.pi / 180)

    def rad2deg(self: Any) -> Tensor:
        """Radians as degrees."""
        return self * (180 / math.pi)

    def sgn(self: Any) -> Tensor:
        """-1, 0 or 1, as `sign`."""
        return elementwise.sign(self)

    def signbit(self: Any) -> Tensor:
        """Whether the sign is negative: of -0, too."""
        if not self.is_floating_point():
            return self < 0 if self.dtype is not bool_ else self != self
        return wrap(self.backend.signbit(self.array), self.backend)

    def sinc(self: Any) -> Tensor:
        """sin(pi x) / (pi x), and 1 at 0."""
        if self.is_floating_point() and self.dtype.itemsize < 4:  # pi x has more than 16 bits
            return self.float().sinc().to(self.dtype)
        x = _float(self) * math.pi
        # Near 0 by its series: the quotient has no derivatives there.
        near = x.detach().abs() < 1e-2
        square = (x * x).masked_fill(~near, 0.0)
        series = 1 - square / 6 * (1 - square / 20 * (1 - square / 42 * (1 - square / 72)))
        safe = x.masked_fill(near, 1.0)
        return elementwise.where(series, trigonometry.sin(safe) / safe, condition=near.array)

    def hypot(self: Any, other: Tensor) -> Tensor:
        """sqrt(x^2 + y^2), without overflow of the squares."""
        if not result_type(self, tensor_of("hypot", other)).is_floating_point:
            floating("hypot", self)
        return elementwise.hypot(self, other)

    def copysign(self: Any, other: Tensor | Number) -> Tensor:
        """|x| with the sign of `other`."""
        x = _float(self)
        if not isinstance(other, Variable):
            other = x.new_tensor(number_of("copysign", "other", other))
        return elementwise.copysign(x, other)

    def nextafter(self: Any, other: Tensor) -> Tensor:
        """The number next to each, towards `other`."""
        if not result_type(self, tensor_of("nextafter", other)).is_floating_point:
            floating("nextafter", self)
        return elementwise.nextafter(self, other)

    def fmax(self: Any, other: Tensor) -> Tensor:
        """The larger; NaN only where both are."""
        return _extreme(self, tensor_of("fmax", other), comparison.ge)

    def fmin(self: Any, other: Tensor) -> Tensor:
        """The smaller; NaN only where both are."""
        return _extreme(self, tensor_of("fmin", other), comparison.le)

    def float_power(self: Any, exponent: Tensor | Number) -> Tensor:
        """The power in float64."""
        base: Any = _in_float64("input", self)
        return base ** _in_float64("exponent", exponent)

    def ldexp(self: Any, other: Tensor) -> Tensor:
        """x 2^other: for floating-point numbers and whole powers without overflow on the way."""
        exponent: Any = tensor_of("ldexp", other)
        if not self.is_floating_point() or exponent.is_floating_point():
            return self * 2.0**exponent
        # In float64, and by three factors, of which each is one of its numbers.
        whole = exponent.long().clamp(-2200, 2200)
        part = whole // 3
        rest = (whole - part) // 2
        scaled = self.to(float64)
        for power in (part, rest, whole - part - rest):
            scaled = scaled * 2.0 ** power.to(float64)
        return scaled.to(self.dtype)

    def frexp(self: Any) -> tuple[Tensor, Tensor]:
        """The mantissa, from 0.5 up to 1, and the exponent (int32) of 2."""
        if not self.is_floating_point():
            raise DTypeError(sentence("frexp", "a floating-point dtype", self.dtype))
        backend = self.backend
        _, exponents = np.frexp(backend.to_numpy(self.array).astype(np.float64))
        scale = wrap(backend.asarray(np.ldexp(1.0, -exponents // 2)), backend)
        rest = wrap(backend.asarray(np.ldexp(1.0, -exponents - -exponents // 2)), backend)
        mantissa = self * scale.to(self.dtype) * rest.to(self.dtype)
        return mantissa, wrap(backend.asarray(exponents), backend).to(int32)

    def logaddexp2(self: Any, other: Tensor) -> Tensor:
        """log2(2^x + 2^y)"""
        if not result_type(self, tensor_of("logaddexp2", other)).is_floating_point:
            floating("logaddexp2", self)
        x, y = _floats("logaddexp2", self, other)
        return elementwise.logaddexp(x * math.log(2), y * math.log(2)) / math.log(2)

    def angle(self: Any) -> Tensor:
        """The angle of a real number: 0, or pi below 0; NaN stays."""
        x = _float(self)
        own = x.detach()
        zeros = x.masked_fill(own == own, 0.0).masked_fill(own != own, math.nan)
        return zeros.masked_fill(own < 0, math.pi)

    def conj(self: Any) -> Tensor:
        """The conjugate: of real numbers themselves."""
        return self

    def conj_physical(self: Any) -> Tensor:
        """As `conj`."""
        return self

    def resolve_conj(self: Any) -> Tensor:
        """As `conj`."""
        return self

    def resolve_neg(self: Any) -> Tensor:
        """The tensor itself: no negation waits."""
        return self

    @property
    def real(self: Any) -> Tensor:
        """The real part: of real numbers themselves."""
        return self

    @property
    def H(self: Any) -> Tensor:  # noqa: N802 (PyTorch's name)
        """The conjugate transpose of a matrix."""
        if self.ndim not in (0, 2):
            raise TypeMismatch(sentence("H", "a matrix", f"{self.ndim} dimensions", "use mH"))
        return self.transpose(0, 1) if self.ndim else self

    @property
    def mH(self: Any) -> Tensor:  # noqa: N802
        """The conjugate transpose of the last two dimensions."""
        return self.mT


def _float(x: Any) -> Any:
    return x if x.is_floating_point() else x.float()


def _floats(caller: str, x: Any, other: Any) -> tuple[Any, Any]:
    """Both, of their common floating-point dtype."""
    dtype = result_type(x, tensor_of(caller, other))
    if not dtype.is_floating_point:
        dtype = get_default_dtype()
    return x.to(dtype), other.to(dtype)


def _in_float64(argument: str, value: Any) -> Any:
    if isinstance(value, TensorBase):
        return value.to(float64)
    return float(number_of("float_power", argument, value))


def _extreme(x: Any, other: Any, wins: Any) -> Any:
    """The operand that wins, or that is no NaN."""
    if not (x.is_floating_point() or other.is_floating_point()):
        takes = wins(x, other)
    else:
        takes = wins(x, other) | other.detach().isnan()
    return elementwise.where(x, other, condition=takes.array)
