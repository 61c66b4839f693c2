"""Operators and elementwise methods of Tensor."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any, Self, cast, get_args, overload

import numpy as np

from gradient.autograd.autocast import autocasts
from gradient.autograd.foreign import by_operand
from gradient.autograd.numbers import apart, placed_apart
from gradient.autograd.promotion import python_number
from gradient.autograd.variable import Variable
from gradient.backends.packed import is_packed
from gradient.dtypes import HALF_PRECISION, float32, result_type
from gradient.errors import ArgumentError, DTypeError, ShapeError, TypeMismatch, sentence
from gradient.ops import activation, comparison, elementwise, trigonometry
from gradient.tensor.arguments import fitting, int_of, number_of, tensor_of
from gradient.tensor.base import TensorBase
from gradient.tensor.float8 import where_float8
from gradient.tensor.views import in_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradient.autograd.variable import Number
    from gradient.backends.operators import ArrayOperators
    from gradient.tensor.core import Tensor


Operand = Variable | bool | int | float | complex | np.ndarray | np.generic
"""The types with which a comparison of a tensor is elementwise."""
OPERANDS = get_args(Operand)


def _reflected(
    function: Callable[[Variable | Number, Variable | Number], Tensor],
) -> Callable[[Variable, Variable | Number], Tensor]:
    """Return the operator with its operands swapped."""

    def method(self: Variable, other: Variable | Number) -> Tensor:
        return function(other, self)

    return method


class Arithmetic(TensorBase):
    """Elementwise methods; see `gradient.ops.elementwise` for each formula and gradient."""

    __slots__ = ()

    __add__ = elementwise.add
    __radd__ = elementwise.add
    __sub__ = elementwise.sub
    __rsub__ = _reflected(elementwise.sub)
    __mul__ = elementwise.mul
    __rmul__ = elementwise.mul
    __truediv__ = elementwise.div
    __rtruediv__ = autocasts("float32_on_gpu")(_reflected(elementwise.div))
    __floordiv__ = elementwise.floor_divide
    __rfloordiv__ = _reflected(elementwise.floor_divide)
    __mod__ = elementwise.remainder
    __rmod__ = _reflected(elementwise.remainder)
    __pow__ = elementwise.pow
    __rpow__ = _reflected(elementwise.pow)
    __neg__ = elementwise.neg
    __abs__ = elementwise.abs
    __and__ = comparison.bitwise_and
    __rand__ = comparison.bitwise_and
    __or__ = comparison.bitwise_or
    __ror__ = comparison.bitwise_or
    __xor__ = comparison.bitwise_xor
    __rxor__ = comparison.bitwise_xor
    __invert__ = comparison.bitwise_not
    __lt__ = comparison.lt
    __le__ = comparison.le
    __gt__ = comparison.gt
    __ge__ = comparison.ge

    # With other objects it is their comparison, or Python's default, a bool.
    @overload
    def __eq__(self, other: Operand) -> Tensor: ...
    @overload
    def __eq__(self, other: object) -> bool | Any: ...
    def __eq__(self, other: Any) -> Tensor | bool:
        if isinstance(other, OPERANDS):
            return comparison.eq(self, other)
        return by_operand("eq", "", self, other)

    @overload
    def __ne__(self, other: Operand) -> Tensor: ...
    @overload
    def __ne__(self, other: object) -> bool | Any: ...
    def __ne__(self, other: Any) -> Tensor | bool:
        if isinstance(other, OPERANDS):
            return comparison.ne(self, other)
        return by_operand("ne", "", self, other)

    def __pos__(self) -> Self:
        if self.array.dtype.kind == "b":
            raise DTypeError(sentence("pos", "numbers", "bool", "cast with .to()"))
        return self

    def add(self, other: Tensor | Number, *, alpha: Number = 1) -> Tensor:
        """self + alpha * other, elementwise. The inputs broadcast and are converted to one dtype
        (see `result_type`). Raises ArgumentError for a fractional alpha of integers."""
        if type(alpha) is int and alpha == 1:
            return elementwise.add(self, other)
        return _with_scaled("add", elementwise.add, self, other, alpha)

    def sub(self, other: Tensor | Number, *, alpha: Number = 1) -> Tensor:
        """self - alpha * other, elementwise. The inputs broadcast and are converted to one dtype
        (see `result_type`). Raises DTypeError for bools."""
        if type(alpha) is int and alpha == 1:
            return elementwise.sub(self, other)
        return _with_scaled("sub", elementwise.sub, self, other, alpha)

    def rsub(self, other: Tensor | Number, *, alpha: Number = 1) -> Tensor:
        """other - alpha * self, elementwise; see `sub`."""
        whole = type(alpha) is int and alpha == 1
        return elementwise.sub(other, self if whole else _scaled("rsub", other, self, alpha))

    def div(self, other: Tensor | Number, *, rounding_mode: str | None = None) -> Tensor:
        """self / other, elementwise; with `rounding_mode` "trunc" rounded towards 0, with "floor"
        down. The inputs broadcast; integers are divided as floats if not rounded. Raises
        ArgumentError for another mode, and where integers are divided by 0 with rounding."""
        if rounding_mode == "floor":
            return elementwise.floor_divide(self, other)
        if rounding_mode is None:
            return elementwise.div(self, other)
        if rounding_mode != "trunc":
            modes = "rounding_mode None, 'trunc' or 'floor'"
            kind = ArgumentError if isinstance(rounding_mode, str) else TypeMismatch
            raise kind(sentence("div", modes, repr(rounding_mode)))
        if not (integral(self) and integral(other)):
            return elementwise.trunc_divide(self, other)
        down, rest = elementwise.floor_divide(self, other), elementwise.remainder(self, other)
        return down + ((rest != 0) & (down < 0))  # add 1 where it was rounded down

    mul = multiply = elementwise.mul
    divide = true_divide = div
    subtract = sub
    floor_divide = elementwise.floor_divide
    remainder, fmod = elementwise.remainder, elementwise.fmod
    neg = negative = elementwise.neg
    abs = absolute = elementwise.abs
    sign = elementwise.sign
    floor = elementwise.floor
    ceil = elementwise.ceil
    trunc = elementwise.trunc
    fix = elementwise.trunc
    exp = elementwise.exp
    exp2 = elementwise.exp2
    expm1 = elementwise.expm1
    log = elementwise.log
    log2 = elementwise.log2
    log10 = elementwise.log10
    log1p = elementwise.log1p
    sqrt = elementwise.sqrt
    rsqrt = elementwise.rsqrt
    reciprocal = elementwise.reciprocal
    sin = trigonometry.sin
    cos = trigonometry.cos
    tan = trigonometry.tan
    asin = arcsin = trigonometry.asin
    acos = arccos = trigonometry.acos
    atan = arctan = trigonometry.atan
    sinh = trigonometry.sinh
    cosh = trigonometry.cosh
    tanh = trigonometry.tanh
    asinh = arcsinh = trigonometry.asinh
    acosh = arccosh = trigonometry.acosh
    atanh = arctanh = trigonometry.atanh
    erf = elementwise.erf
    erfc = elementwise.erfc
    erfinv = elementwise.erfinv
    sigmoid = activation.sigmoid
    relu = activation.relu
    eq = comparison.eq
    ne = not_equal = comparison.ne
    lt = less = comparison.lt
    le = less_equal = comparison.le
    gt = greater = comparison.gt
    ge = greater_equal = comparison.ge
    bitwise_and = comparison.bitwise_and
    bitwise_or = comparison.bitwise_or
    bitwise_xor = comparison.bitwise_xor
    bitwise_not = comparison.bitwise_not
    logical_and = comparison.logical_and
    logical_or = comparison.logical_or
    logical_xor = comparison.logical_xor
    logical_not = comparison.logical_not
    isnan = comparison.isnan
    isfinite = comparison.isfinite
    isinf = comparison.isinf

    def pow(self, exponent: Tensor | Number) -> Tensor:
        """self ** exponent, elementwise. The inputs broadcast and are converted to one dtype (see
        `result_type`). Raises DTypeError for a bool tensor to the power of bools."""
        return elementwise.pow(self, exponent)

    def maximum(self, other: Tensor | Number) -> Tensor:
        """max(self, other), elementwise; NaN where either is. The inputs broadcast and are
        converted to one dtype. At ties each gets half of the gradient. Raises DTypeError for
        complex numbers."""
        return comparison.maximum(self, tensor_of("maximum", other))

    def minimum(self, other: Tensor | Number) -> Tensor:
        """min(self, other), elementwise; NaN where either is. The inputs broadcast and are
        converted to one dtype. At ties each gets half of the gradient. Raises DTypeError for
        complex numbers."""
        return comparison.minimum(self, tensor_of("minimum", other))

    def atan2(self, other: Tensor | Number) -> Tensor:
        """The angle of the point (other, self) in radians, elementwise, from -pi to pi. The inputs
        broadcast and are converted to one floating dtype. Raises DTypeError for complex numbers."""
        return trigonometry.atan2(self, tensor_of("atan2", other))

    arctan2 = atan2

    def round(self, *, decimals: int = 0) -> Tensor:
        """self rounded to `decimals` places, elementwise, halves to even; a negative number counts
        places before the point. Raises DTypeError for bools and complex numbers, and for integers
        if `decimals` is not 0."""
        if int_of("round", "decimals", decimals) == 0:
            return elementwise.round(self)
        floating("round", self)
        if self.array.dtype.itemsize < 4:  # the products need more than 16 bits
            return self.to(dtype=float32).round(decimals=decimals).to(dtype=self.dtype)
        scale = 10.0 ** builtins.abs(decimals)
        if decimals > 0:
            return elementwise.div(elementwise.round(elementwise.mul(self, scale)), scale)
        return elementwise.mul(elementwise.round(elementwise.div(self, scale)), scale)

    @autocasts("float32_on_gpu")
    def square(self) -> Tensor:
        """self ** 2, elementwise, in the dtype of self."""
        return (
            elementwise.pow(self, 2)
            if self.array.dtype.kind == "b"
            else elementwise.mul(self, self)
        )

    def logit(self, eps: float | None = None) -> Tensor:
        """log(self / (1 - self)), elementwise, the inverse of sigmoid; self is clamped to [eps, 1 -
        eps] if `eps` is given. Integers and bools are converted to the default float dtype. Raises
        DTypeError for complex numbers."""
        return activation.logit(self, eps=None if eps is None else number_of("logit", "eps", eps))

    def lerp(self: Any, end: Tensor, weight: Tensor | Number) -> Tensor:
        """self + weight * (end - self), elementwise, exactly `end` for weight 1. `weight` is a
        number or a tensor; tensors broadcast. Raises DTypeError for integers and bools, and for
        different dtypes."""
        floating("lerp", self)
        same_dtype("lerp", "end", self, end)
        if isinstance(weight, Variable) and weight.array.shape:
            same_dtype("lerp", "weight", self, weight)
        if self.array.dtype in HALF_PRECISION:  # compute in float32, round once
            if isinstance(weight, Variable):
                by: Any = weight
                by = by.double()
            else:
                by = float32.rounded(number_of("lerp", "weight", weight))
            return self.double().lerp(end.double(), by).float().to(self.dtype)
        if not isinstance(weight, Variable):
            by = number_of("lerp", "weight", weight, takes_complex=True)
            return elementwise.lerp_by(self, end, weight=by)
        return elementwise.lerp(self, end, weight)

    def addcmul(self, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
        """self + value * tensor1 * tensor2, elementwise. The inputs broadcast and are converted to
        one dtype. Raises DTypeError where all are bools."""
        three = self, tensor_of("addcmul", tensor1), tensor_of("addcmul", tensor2)
        if type(value) is not float and type(value) is not int:
            value = number_of("addcmul", "value", value, takes_complex=True)
        if self.array.dtype.kind in "biu" and all(integral(t) for t in three):
            if all(_is_bool(t) for t in three):
                raise DTypeError(sentence("addcmul", "numbers", "bool", "cast with .to()"))
            # Integers stay integers, as in PyTorch.
            dtype = result_type(*(t.array for t in three))
            value = int(fitting("addcmul", "value", value, dtype).real)
            x, a, b = (t.to(dtype) for t in three)
            return x + a * b * value
        return elementwise.addcmul(*three, value=value)

    def addcdiv(self, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
        """self + value * tensor1 / tensor2, elementwise. The inputs broadcast and are converted to
        one dtype. Raises DTypeError where tensor1 and tensor2 are both integers or bools."""
        a, b = tensor_of("addcdiv", tensor1), tensor_of("addcdiv", tensor2)
        if a.array.dtype.kind in "biu" and integral(b):
            raise DTypeError(sentence("addcdiv", "floating-point tensors", "integers"))
        if type(value) is not float and type(value) is not int:
            value = number_of("addcdiv", "value", value, takes_complex=True)
        return elementwise.addcdiv(self, a, b, value=value)

    def clamp(
        self, min: Tensor | Number | None = None, max: Tensor | Number | None = None
    ) -> Tensor:
        """min(max(self, `min`), `max`), elementwise; a bound is a number, a tensor that broadcasts,
        or None. The result has the common dtype. The gradient of self is 0 outside the bounds.
        Raises ArgumentError if both are None, DTypeError for complex numbers."""
        if min is None and max is None:
            raise ArgumentError("clamp: at least one of 'min' or 'max' must not be None")
        if isinstance(min, Variable) != isinstance(max, Variable) and None not in (min, max):
            # One bound is a number, the other a 0-d tensor: use both as numbers.
            min, max = number_of("clamp", "min", min), number_of("clamp", "max", max)
        low: Any = python_number(min)
        high: Any = python_number(max)
        for name, bound in (("min", low), ("max", high)):
            if bound is not None and not isinstance(bound, (int, float, Variable)):
                raise TypeMismatch(
                    sentence("clamp", f"a number or a Tensor as {name}", repr(bound))
                )
        if isinstance(low, Variable) or isinstance(high, Variable):
            return comparison.clamp_between(self, low, high)
        x: TensorBase = self
        if self.array.dtype.kind in "biu":
            x = self.to(result_type(self, *(bound for bound in (low, high) if bound is not None)))
        low = None if low is None else fitting("clamp", "min", low, x.dtype)
        high = None if high is None else fitting("clamp", "max", high, x.dtype)
        return comparison.clamp(x, min=low, max=high)

    clip = clamp

    def clamp_min(self, min: Tensor | Number) -> Tensor:
        """`clamp(min=min)`: max(self, min), elementwise."""
        return self.clamp(min=_bound("clamp_min", "min", min))

    def clamp_max(self, max: Tensor | Number) -> Tensor:
        """`clamp(max=max)`: min(self, max), elementwise."""
        return self.clamp(max=_bound("clamp_max", "max", max))

    def where(self, condition: Tensor, other: Tensor | Number) -> Tensor:
        """self where the bool tensor `condition` is True, else `other`; all three broadcast."""
        array = condition_of("where", condition)
        if (placed := placed_apart("where", condition, self, other)) is not None:
            condition, x, other = placed
            return cast("Tensor", x.where(condition, other))
        if is_packed(self.array) or (isinstance(other, Variable) and is_packed(other.array)):
            return where_float8(condition, self, other)
        return comparison.where(self, other, condition=array)

    def masked_fill(self, mask: Tensor, value: Tensor | Number) -> Tensor:
        """`value`, a number or 0-d tensor, where the bool tensor `mask` is True, else self; `mask`
        and self broadcast, the dtype is that of self. Raises ShapeError for a `value` of more
        elements."""
        if isinstance(value, Variable) and value.array.shape:
            got = tuple(value.array.shape)
            raise ShapeError(sentence("masked_fill", "a number or a 0-d Tensor as value", got))
        if not isinstance(value, Variable) or (
            value.node is None and value.backend.reads_values and value.backend.has_values
        ):
            value = number_of("masked_fill", "value", value, takes_complex=True)
        like = self.dtype
        if not isinstance(value, Variable):
            value = fitting("masked_fill", "value", value, like)
            value = (
                int(value.real) if like.kind == "int" else value
            )  # integers do not become floats
        condition = condition_of("masked_fill", mask)
        if (placed := placed_apart("masked_fill", mask, self, value)) is not None:
            if placed[1].backend.device != self.backend.device:
                raise apart("masked_fill", (mask, self))
            condition, value = placed[0].array, placed[2]
            self = placed[1]
        filled = comparison.where(value, self, condition=condition)
        return in_order(filled if filled.dtype is like else filled.to(like))


def integral(value: Any) -> bool:
    """Whether a tensor or number is integer or bool."""
    if isinstance(value, Variable):
        return value.array.dtype.kind in "biu"
    return isinstance(value, int)


def _bound(caller: str, name: str, value: Tensor | Number | None) -> Tensor | Number:
    if value is None:
        raise TypeMismatch(sentence(caller, f"a number or a Tensor as {name}", value))
    return value


def _with_scaled(caller: str, op: Any, x: Any, other: Any, alpha: Any) -> Tensor:
    """Compute `op(x, alpha other)`. With 16-bit floats, alpha has 16 bits too, and the result is
    rounded once."""
    scaled = _scaled(caller, x, other, alpha)
    if not isinstance(scaled, Variable) or scaled.array.dtype not in HALF_PRECISION:
        return cast("Tensor", op(x, scaled))
    wide = x if isinstance(x, (int, float)) else x.float()
    result: Any = op(wide, other.float() * scaled.dtype.rounded(alpha))
    return cast("Tensor", result.to(scaled.dtype))


def _scaled(caller: str, to: Any, value: Any, alpha: Any) -> Tensor | Number:
    """Return alpha value in the dtype of its sum with `to`; for integers alpha must be an int."""
    alpha = number_of(caller, "alpha", alpha, takes_complex=True)
    if isinstance(alpha, float) and integral(to) and integral(value):
        raise ArgumentError(sentence(caller, "an int as alpha of integers", alpha))
    if caller != "add" and (_is_bool(to) or _is_bool(value)):
        fix = "invert a mask with ~"
        raise DTypeError(sentence("sub", "numbers", "bool", fix))
    if _is_bool(to) and _is_bool(value):
        return (
            comparison.logical_and(value, alpha)
            if isinstance(value, Variable)
            else bool(value and alpha)
        )
    if isinstance(alpha, bool):
        raise ArgumentError(sentence(caller, "a number as alpha of numbers", alpha))
    both = (v.array if isinstance(v, Variable) else v for v in (to, value))
    dtype = result_type(*both)
    alpha = fitting(caller, "alpha", alpha, dtype)
    if not isinstance(value, Variable):
        return value * alpha
    return elementwise.mul(elementwise.astype(value, dtype=dtype.numpy), alpha)


def _is_bool(value: Any) -> bool:
    return value.array.dtype.kind == "b" if isinstance(value, Variable) else isinstance(value, bool)


def floating(caller: str, x: Variable) -> None:
    """Refuse integers and bools."""
    if integral(x):
        dtype = x.dtype
        raise DTypeError(sentence(caller, "a floating-point dtype", dtype, "cast with .float()"))


def same_dtype(caller: str, name: str, x: Variable, other: Any) -> None:
    """Raise if `other` is not a tensor, or has another dtype than x."""
    if tensor_of(caller, other).array.dtype != x.array.dtype:
        expected = f"{name} of the input's dtype {x.dtype}"
        raise DTypeError(sentence(caller, expected, other.dtype, "cast one with .to()"))


def condition_of(caller: str, condition: Any) -> ArrayOperators:
    """Return the array of a condition, which must be a bool tensor."""
    array = tensor_of(caller, condition).array
    if array.dtype.kind != "b":
        got = condition.dtype
        name = "mask" if caller == "masked_fill" else "condition"
        raise DTypeError(sentence(caller, f"a bool Tensor as {name}", got, f"use {name} != 0"))
    return array
