"""Elementwise functions composed of other ops: methods of Tensor."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradient.autograd.explain import mismatch
from gradient.autograd.numbers import apart, on_one_device
from gradient.autograd.promotion import refuse_complex
from gradient.autograd.variable import Variable, wrap
from gradient.dtypes import (
    HALF_PRECISION,
    bool_,
    complex128,
    finfo,
    float64,
    get_default_dtype,
    result_type,
)
from gradient.errors import DTypeError, ShapeError, sentence
from gradient.ops import comparison, complex_numbers, elementwise, trigonometry
from gradient.tensor.arguments import number_of, tensor_of
from gradient.tensor.arithmetic import floating, integral
from gradient.tensor.base import TensorBase
from gradient.tensor.packed import refuse
from gradient.tensor.reductions import return_type

if TYPE_CHECKING:
    from gradient.autograd.variable import Number
    from gradient.tensor.core import Tensor


@return_type("frexp")
class _MantissaAndExponent(NamedTuple):
    mantissa: Tensor
    exponent: Tensor


class RealFunctions(TensorBase):
    """deg2rad, hypot, copysign, fmax, sinc and similar functions."""

    __slots__ = ()

    def positive(self: Any) -> Tensor:
        """self. Raises DTypeError for bools."""
        return +self

    def deg2rad(self: Any) -> Tensor:
        """self * pi / 180, elementwise. Integers and bools are converted to the default float
        dtype. Raises DTypeError for complex numbers."""
        refuse_complex("deg2rad", [self.dtype])
        return self * (math.pi / 180)

    def rad2deg(self: Any) -> Tensor:
        """self * 180 / pi, elementwise. Integers and bools are converted to the default float
        dtype. Raises DTypeError for complex numbers."""
        refuse_complex("rad2deg", [self.dtype])
        return self * (180 / math.pi)

    def frac(self: Any) -> Tensor:
        """self - trunc(self), elementwise. Raises DTypeError for integers, bools and complex
        numbers."""
        floating("frac", self)
        return elementwise.sub(self, elementwise.trunc(self))

    def signbit(self: Any) -> Tensor:
        """Whether the sign bit of self is set, elementwise, as a bool tensor: True for -0.0, False
        for bools. Raises DTypeError for complex numbers."""
        if not self.is_floating_point():
            return self < 0 if self.dtype is not bool_ else self != self
        refuse("signbit", self)
        return wrap(self.backend.signbit(self.array), self.backend)

    def sinc(self: Any) -> Tensor:
        """sin(pi self) / (pi self), and 1 at 0, elementwise. Integers and bools are converted to
        float32."""
        if self.is_floating_point() and self.dtype.itemsize < 4:  # pi x has more than 16 bits
            return self.float().sinc().to(self.dtype)
        x = (self if self.dtype.is_complex else _float(self)) * math.pi
        # Near 0, use the Taylor series: the derivatives of the quotient fail there.
        near = x.detach().abs() < 1e-2
        square = (x * x).masked_fill(~near, 0.0)
        series = 1 - square / 6 * (1 - square / 20 * (1 - square / 42 * (1 - square / 72)))
        safe = x.masked_fill(near, 1.0)
        return comparison.where(series, trigonometry.sin(safe) / safe, condition=near.array)

    def hypot(self: Any, other: Tensor) -> Tensor:
        """sqrt(self^2 + other^2), elementwise, without overflow of the squares. The inputs
        broadcast and are converted to one dtype. Raises DTypeError where both are integers or
        bools, and for complex numbers."""
        if not result_type(self, tensor_of("hypot", other)).is_floating_point:
            floating("hypot", self)
        return elementwise.hypot(self, other)

    def copysign(self: Any, other: Tensor | Number) -> Tensor:
        """|self| with the sign of other, elementwise; the sign of -0.0 counts. The inputs
        broadcast; integers and bools are converted to floats. Raises DTypeError for complex
        numbers."""
        if isinstance(other, Variable):
            return elementwise.copysign(self, other)
        x = _float(self)
        return elementwise.copysign(x, x.new_tensor(number_of("copysign", "other", other)))

    def nextafter(self: Any, other: Tensor) -> Tensor:
        """The floating-point number next to self in the direction of other, elementwise. The inputs
        broadcast and are converted to one dtype. Raises DTypeError where both are integers or
        bools, and for complex numbers."""
        if not result_type(self, tensor_of("nextafter", other)).is_floating_point:
            floating("nextafter", self)
        return elementwise.nextafter(self, other)

    def fmax(self: Any, other: Tensor) -> Tensor:
        """max(self, other), elementwise; NaN only where both are. The inputs broadcast and are
        converted to one dtype. Raises DTypeError for complex numbers."""
        return _extreme(self, tensor_of("fmax", other), comparison.ge)

    def fmin(self: Any, other: Tensor) -> Tensor:
        """min(self, other), elementwise; NaN only where both are. The inputs broadcast and are
        converted to one dtype. Raises DTypeError for complex numbers."""
        return _extreme(self, tensor_of("fmin", other), comparison.le)

    def nan_to_num(
        self, nan: float | None = 0.0, posinf: float | None = None, neginf: float | None = None
    ) -> Tensor:
        """self, elementwise, with NaN replaced by `nan`, and infinities by `posinf` and `neginf`
        or, where these are None, the largest and the least number of the dtype. Integers are
        copied; of complex numbers, real and imaginary parts are replaced."""
        if integral(self):
            return self.clone()
        if self.dtype.is_complex:
            parts = complex_numbers.view_as_real(self)
            return complex_numbers.view_as_complex(parts.nan_to_num(nan, posinf, neginf))
        limits = finfo(self.dtype)
        nan = 0.0 if nan is None else nan
        x = comparison.where(nan, self, condition=comparison.isnan(self).array)
        high = limits.max if posinf is None else posinf
        low = limits.min if neginf is None else neginf
        x = comparison.where(high, x, condition=comparison.eq(self, float("inf")).array)
        return comparison.where(low, x, condition=comparison.eq(self, float("-inf")).array)

    def float_power(self: Any, exponent: Tensor | Number) -> Tensor:
        """self ** exponent, elementwise, in float64, or complex128 where either is complex. The
        inputs broadcast."""
        base: Any = _in_float64("input", self)
        return base ** _in_float64("exponent", exponent)

    def ldexp(self: Any, other: Tensor) -> Tensor:
        """self * 2^other, elementwise; where self is floating and other integer, without overflow
        of 2^other. The inputs broadcast."""
        exponent: Any = tensor_of("ldexp", other)
        fractional = exponent.is_floating_point() or exponent.is_complex()
        if fractional or not self.is_floating_point():
            return self * 2.0**exponent
        if self.dtype is not float64:  # one factor is enough: beyond these it is 0 or infinite
            return (self.to(float64) * _power_of_2(exponent.long().clamp(-400, 400))).to(self.dtype)
        # With three factors, each of which float64 can represent.
        whole = exponent.long().clamp(-2200, 2200)
        part = whole // 3
        rest = (whole - part) // 2
        scaled = self
        for power in (part, rest, whole - part - rest):
            scaled = scaled * _power_of_2(power)
        return scaled

    def frexp(self: Any) -> _MantissaAndExponent:
        """(mantissa, exponent) with self = mantissa * 2^exponent, elementwise, 0.5 <= |mantissa| <
        1 and an int32 exponent. Raises DTypeError for integers, bools and complex numbers."""
        if not self.is_floating_point():
            raise DTypeError(sentence("frexp", "a floating-point dtype", self.dtype))
        backend = self.backend

        exponent = wrap(backend.of_values(_exponents, self.array), backend)

        def power_of_two(of: Tensor) -> Tensor:
            return wrap(backend.of_values(_powers_of_two, of.array), backend).to(self.dtype)

        low = -exponent // 2  # in two steps, as 2^1074 is no number
        mantissa = self * power_of_two(low) * power_of_two(-exponent - low)
        return _MantissaAndExponent(mantissa, exponent)

    def logaddexp(self: Any, other: Tensor | Number) -> Tensor:
        """log(e^self + e^other), elementwise, without overflow. The inputs broadcast and are
        converted to one dtype. Raises DTypeError where both are integers or bools."""
        if integral(self) and integral(tensor_of("logaddexp", other)):
            floating("logaddexp", self)
        return elementwise.logaddexp(self, tensor_of("logaddexp", other))

    def logaddexp2(self: Any, other: Tensor) -> Tensor:
        """log2(2^self + 2^other), elementwise, without overflow. The inputs broadcast and are
        converted to one dtype. Raises DTypeError where both are integers or bools, and for complex
        numbers."""
        refuse_complex("logaddexp2", [self.dtype, tensor_of("logaddexp2", other).dtype])
        if not result_type(self, other).is_floating_point:
            floating("logaddexp2", self)
        x, y = _floats("logaddexp2", self, other)
        if x.dtype in HALF_PRECISION:  # rounded once
            return x.float().logaddexp2(y.float()).to(x.dtype)
        return elementwise.logaddexp(x * math.log(2), y * math.log(2)) / math.log(2)


def _exponents(host: np.ndarray) -> np.ndarray:
    """Return the exponents of `frexp`, int32."""
    return np.frexp(host if host.dtype.char in "fd" else host.astype(np.float32))[1]


def _powers_of_two(exponents: np.ndarray) -> np.ndarray:
    """Return 2^n in float64 for integers from -1022 to 1023, made from the bits of the result."""
    powers: np.ndarray = ((exponents.astype(np.int64) + 1023) << 52).view(np.float64)
    return powers


def _power_of_2(exponent: Any) -> Tensor:
    """Like `_powers_of_two`, for a tensor of int64."""
    bits: Any = (exponent + 1023) * (1 << 52)
    power: Tensor = bits.view(float64)
    return power


def _float(x: Any) -> Tensor:
    if x.is_floating_point():
        return x
    refuse_complex(sys._getframe(1).f_code.co_name, [x.dtype])
    return x.float()


def _floats(caller: str, x: Any, other: Any) -> tuple[Tensor, Tensor]:
    """Cast both to their common floating-point dtype."""
    dtype = result_type(x, tensor_of(caller, other))
    if not dtype.is_floating_point:
        dtype = get_default_dtype()
    return x.to(dtype), other.to(dtype)


def _in_float64(argument: str, value: Any) -> Tensor | complex:
    if isinstance(value, TensorBase):
        return value.to(complex128 if value.dtype.is_complex else float64)
    number = number_of("float_power", argument, value, takes_complex=True)
    return number if isinstance(number, complex) else float(number)


def _extreme(x: Any, other: Any, wins: Any) -> Tensor:
    """Select the operand that wins, or the one that is not NaN."""
    if not (x.is_floating_point() or other.is_floating_point()):
        takes = wins(x, other)
    else:
        takes = wins(x, other) | other.detach().isnan()
    return comparison.where(x, other, condition=takes.array)


class NumberFunctions(TensorBase):
    """heaviside, gcd, lcm, bit shifts, and tests for infinities."""

    __slots__ = ()

    def heaviside(self: Any, values: Tensor) -> Tensor:
        """0 where self < 0, 1 where self > 0, `values` where self is 0, elementwise; no gradient.
        The inputs broadcast. Raises DTypeError for different dtypes."""
        if self.dtype is not tensor_of("heaviside", values).dtype:
            expected = f"values of dtype {self.dtype}"
            raise DTypeError(sentence("heaviside", expected, values.dtype))
        x = self.detach()
        steps = (x > 0).to(self.dtype) if self.dtype is not bool_ else x
        return comparison.where(values.detach(), steps, condition=(x == 0).array)

    def isreal(self: Any) -> Tensor:
        """Whether the imaginary part is 0, elementwise, as a bool tensor; True for real dtypes."""
        x = self.detach()
        return x.imag == 0 if x.is_complex() else x.new_ones(x.shape, dtype=bool_)

    def isposinf(self: Any) -> Tensor:
        """Whether self is positive infinity, elementwise, as a bool tensor."""
        return self.detach() == math.inf if self.is_floating_point() else self.detach() != self

    def isneginf(self: Any) -> Tensor:
        """Whether self is negative infinity, elementwise, as a bool tensor."""
        return self.detach() == -math.inf if self.is_floating_point() else self.detach() != self

    def gcd(self: Any, other: Tensor) -> Tensor:
        """The greatest common divisor of self and other, elementwise, without a gradient. The
        inputs broadcast and are converted to one dtype. Raises DTypeError for anything but
        integers."""
        return _of_integers("gcd", np.gcd, self, other)

    def lcm(self: Any, other: Tensor) -> Tensor:
        """The least common multiple of self and other, elementwise, without a gradient. The inputs
        broadcast and are converted to one dtype. Raises DTypeError for anything but integers."""
        return _of_integers("lcm", np.lcm, self, other)

    def bitwise_left_shift(self: Any, other: Tensor | Number) -> Tensor:
        """self << other, elementwise; 0 where other is negative or not below the number of bits.
        The inputs broadcast and are converted to one dtype. Raises DTypeError for anything but
        integers."""
        return _of_integers("bitwise_left_shift", _shifted_left, self, other)

    def bitwise_right_shift(self: Any, other: Tensor | Number) -> Tensor:
        """self >> other, elementwise, filling up with the sign bit; other is taken as the number of
        bits less 1 where it is negative or above. The inputs broadcast and are converted to one
        dtype. Raises DTypeError for anything but integers."""
        return _of_integers("bitwise_right_shift", _shifted_right, self, other)

    __lshift__ = bitwise_left_shift
    __rshift__ = bitwise_right_shift

    def __rlshift__(self: Any, other: Tensor | Number) -> Tensor:
        return _of_integers("bitwise_left_shift", _shifted_left, other, self)

    def __rrshift__(self: Any, other: Tensor | Number) -> Tensor:
        return _of_integers("bitwise_right_shift", _shifted_right, other, self)


def _of_integers(caller: str, function: Any, x: Any, other: Any) -> Tensor:
    """Apply a NumPy function to two integer arrays, one of which may be a number."""
    tensors: list[Any] = [value for value in (x, other) if isinstance(value, Variable)]
    for value in (x, other):
        if not isinstance(value, (Variable, int)):
            number = number_of(caller, "other", value)
            raise DTypeError(sentence(caller, "integers", number))
    dtype = result_type(x, other)
    if dtype.kind != "int":
        raise DTypeError(sentence(caller, "integers", dtype))
    if len(tensors) == 2 and tensors[0].backend is not tensors[1].backend:
        placed = on_one_device(tensors)
        if placed is None:
            raise apart(caller, tensors)
        x, other = tensors = placed
    backend = tensors[0].backend
    numbers = [
        np.asarray(value).astype(dtype.numpy) if isinstance(value, int) else None
        for value in (x, other)
    ]

    def computed(*arrays: np.ndarray) -> np.ndarray:
        given = iter(arrays)
        first, second = (next(given) if number is None else number for number in numbers)
        with np.errstate(all="ignore"):
            return np.asarray(function(first, second), first.dtype)

    try:
        found = backend.of_values(computed, *(t.to(dtype).array for t in tensors))
    except ValueError:
        shapes = [tuple(getattr(each, "shape", ())) for each in (x, other)]
        listed = f"input {shapes[0]}, other {shapes[1]}"
        raise ShapeError(f"{caller}: {mismatch(shapes)} ({listed})") from None
    return wrap(found, backend)


def _are_bits(by: Any, count: int) -> bool:
    """Whether all are numbers of bits below `count`."""
    return by.size > 0 and bool(by.min() >= 0) and bool(by.max() < count)


def _shifted_left(x: Any, by: Any) -> np.ndarray:
    if _are_bits(by, 8 * x.dtype.itemsize):
        shifted: np.ndarray = x << by
        return shifted
    inside = (by >= 0) & (by < 8 * x.dtype.itemsize)
    return np.where(inside, x << np.where(inside, by, 0), 0)


def _shifted_right(x: Any, by: Any) -> np.ndarray:
    most = 8 * x.dtype.itemsize - 1
    if _are_bits(by, most + 1):
        return x >> by
    shifted = x >> np.where((by >= 0) & (by <= most), by, most)
    return shifted if x.dtype.kind == "i" else np.where((by >= 0) & (by <= most), shifted, 0)
