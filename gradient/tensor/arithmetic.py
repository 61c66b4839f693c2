"""Operators and elementwise methods of Tensor."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from gradient.autograd.variable import Variable
from gradient.dtypes import result_type
from gradient.errors import ArgumentError, DTypeError, ShapeError, TypeMismatch, sentence
from gradient.ops import elementwise as ops
from gradient.tensor.arguments import fitting, flag_of, int_of, number_of, tensor_of


def _reflected(function: Any) -> Any:
    def method(self: Any, other: Any) -> Any:
        return function(other, self)

    return method


def _operand(value: Any) -> bool:
    """Whether a comparison with `value` is elementwise (and not with some foreign object)."""
    return isinstance(value, (Variable, bool, int, float, np.ndarray, np.generic))


class Arithmetic:
    """Elementwise methods; see `gradient.ops.elementwise` for each formula and gradient."""

    __slots__ = ()

    array: Any

    __add__ = ops.add
    __radd__ = ops.add
    __sub__ = ops.sub
    __rsub__ = _reflected(ops.sub)
    __mul__ = ops.mul
    __rmul__ = ops.mul
    __truediv__ = ops.div
    __rtruediv__ = _reflected(ops.div)
    __floordiv__ = ops.floor_divide
    __rfloordiv__ = _reflected(ops.floor_divide)
    __mod__ = ops.remainder
    __rmod__ = _reflected(ops.remainder)
    __pow__ = ops.pow
    __rpow__ = _reflected(ops.pow)
    __neg__ = ops.neg
    __abs__ = ops.abs
    __and__ = ops.bitwise_and
    __rand__ = ops.bitwise_and
    __or__ = ops.bitwise_or
    __ror__ = ops.bitwise_or
    __xor__ = ops.bitwise_xor
    __rxor__ = ops.bitwise_xor
    __invert__ = ops.bitwise_not
    __lt__ = ops.lt
    __le__ = ops.le
    __gt__ = ops.gt
    __ge__ = ops.ge

    def __eq__(self, other: Any) -> Any:
        return ops.eq(self, other) if _operand(other) else NotImplemented

    def __ne__(self, other: Any) -> Any:
        return ops.ne(self, other) if _operand(other) else NotImplemented

    def __pos__(self) -> Any:
        if self.array.dtype.kind == "b":
            raise DTypeError(sentence("pos", "numbers", "bool", "cast with .to()"))
        return self

    def add(self, other: Any, *, alpha: float = 1) -> Any:
        """self + alpha other"""
        return ops.add(
            self, other if alpha == 1 and alpha is not True else _scaled("add", self, other, alpha)
        )

    def sub(self, other: Any, *, alpha: float = 1) -> Any:
        """self - alpha other"""
        return ops.sub(
            self, other if alpha == 1 and alpha is not True else _scaled("sub", self, other, alpha)
        )

    def rsub(self, other: Any, *, alpha: float = 1) -> Any:
        """other - alpha self"""
        return ops.sub(
            other, self if alpha == 1 and alpha is not True else _scaled("rsub", other, self, alpha)
        )

    def div(self, other: Any, *, rounding_mode: str | None = None) -> Any:
        """self / other, rounded towards zero ("trunc") or down ("floor") if asked."""
        if rounding_mode == "floor":
            return ops.floor_divide(self, other)
        if rounding_mode is None:
            return ops.div(self, other)
        if rounding_mode != "trunc":
            modes = "rounding_mode None, 'trunc' or 'floor'"
            kind = ArgumentError if isinstance(rounding_mode, str) else TypeMismatch
            raise kind(sentence("div", modes, repr(rounding_mode)))
        if not (_integral(self) and _integral(other)):
            return ops.trunc_divide(self, other)
        down, rest = ops.floor_divide(self, other), ops.remainder(self, other)
        return down + ((rest != 0) & (down < 0))  # one more where rounding down went beyond

    mul = multiply = ops.mul
    divide = true_divide = div
    subtract = sub
    floor_divide = ops.floor_divide
    remainder, fmod = ops.remainder, ops.fmod
    neg = negative = ops.neg
    abs = absolute = ops.abs
    sign = ops.sign
    floor, ceil, trunc, fix = ops.floor, ops.ceil, ops.trunc, ops.trunc
    exp, exp2, expm1 = ops.exp, ops.exp2, ops.expm1
    log, log2, log10, log1p = ops.log, ops.log2, ops.log10, ops.log1p
    sqrt, rsqrt, reciprocal = ops.sqrt, ops.rsqrt, ops.reciprocal
    sin, cos, tan = ops.sin, ops.cos, ops.tan
    asin = arcsin = ops.asin
    acos = arccos = ops.acos
    atan = arctan = ops.atan
    sinh, cosh, tanh = ops.sinh, ops.cosh, ops.tanh
    asinh = arcsinh = ops.asinh
    acosh = arccosh = ops.acosh
    atanh = arctanh = ops.atanh
    erf, erfc, sigmoid, relu = ops.erf, ops.erfc, ops.sigmoid, ops.relu
    eq, ne, lt, le, gt, ge = ops.eq, ops.ne, ops.lt, ops.le, ops.gt, ops.ge
    not_equal, less, less_equal = ops.ne, ops.lt, ops.le
    greater, greater_equal = ops.gt, ops.ge
    bitwise_and, bitwise_or = ops.bitwise_and, ops.bitwise_or
    bitwise_xor, bitwise_not = ops.bitwise_xor, ops.bitwise_not
    logical_and, logical_or = ops.logical_and, ops.logical_or
    logical_xor, logical_not = ops.logical_xor, ops.logical_not
    isnan, isfinite, isinf = ops.isnan, ops.isfinite, ops.isinf

    def pow(self, exponent: Any) -> Any:
        """self ** exponent"""
        return ops.pow(self, exponent)

    def maximum(self, other: Any) -> Any:
        """The larger of each pair; at a tie each gets half of the gradient."""
        return ops.maximum(self, tensor_of("maximum", other))

    def minimum(self, other: Any) -> Any:
        """The smaller of each pair; at a tie each gets half of the gradient."""
        return ops.minimum(self, tensor_of("minimum", other))

    def logaddexp(self, other: Any) -> Any:
        """log(e^self + e^other)"""
        if _integral(self) and _integral(tensor_of("logaddexp", other)):
            floating("logaddexp", self)
        return ops.logaddexp(self, tensor_of("logaddexp", other))

    def atan2(self, other: Any) -> Any:
        """The angle of the point (other, self)."""
        return ops.atan2(self, tensor_of("atan2", other))

    arctan2 = atan2

    def round(self, *, decimals: int = 0) -> Any:
        """To so many decimals (before the point where negative), halves to even."""
        if int_of("round", "decimals", decimals) == 0:
            return ops.round(self)
        floating("round", self)
        scale = 10.0 ** builtins.abs(decimals)
        if decimals > 0:
            return ops.div(ops.round(ops.mul(self, scale)), scale)
        return ops.mul(ops.round(ops.div(self, scale)), scale)

    def square(self) -> Any:
        """self * self"""
        return ops.pow(self, 2) if self.array.dtype.kind == "b" else ops.mul(self, self)

    def frac(self) -> Any:
        """The fraction, with self's sign."""
        floating("frac", self)
        return ops.sub(self, ops.trunc(self))

    def logit(self, eps: float | None = None) -> Any:
        """log(self / (1 - self)), of self held between eps and 1 - eps if `eps` is given."""
        return ops.logit(self, eps=None if eps is None else number_of("logit", "eps", eps))

    def lerp(self, end: Any, weight: Any) -> Any:
        """self + weight (end - self), from the nearer end, so that a weight of 1 gives `end`."""
        floating("lerp", self)
        same_dtype("lerp", "end", self, end)
        gap = ops.sub(end, self)
        if not isinstance(weight, Variable):
            weight = number_of("lerp", "weight", weight)
            if builtins.abs(weight) < 0.5:
                return ops.add(self, ops.mul(gap, weight))
            return ops.sub(end, ops.mul(gap, 1 - weight))
        near = ops.lt(ops.abs(weight), 0.5).array
        low, high = ops.mul(gap, weight), ops.mul(gap, ops.sub(1, weight))
        return ops.where(ops.add(self, low), ops.sub(end, high), condition=near)

    def addcmul(self, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
        """self + value tensor1 tensor2"""
        three = self, tensor_of("addcmul", tensor1), tensor_of("addcmul", tensor2)
        value = number_of("addcmul", "value", value)
        if all(_integral(t) for t in three):
            if all(_is_bool(t) for t in three):
                raise DTypeError(sentence("addcmul", "numbers", "bool", "cast with .to()"))
            value = int(value)  # integers stay integers, as PyTorch has it
        return ops.addcmul(*three, value=value)

    def addcdiv(self, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
        """self + value tensor1 / tensor2"""
        if _integral(tensor_of("addcdiv", tensor1)) and _integral(tensor_of("addcdiv", tensor2)):
            raise DTypeError(sentence("addcdiv", "floating-point tensors", "integers"))
        return ops.addcdiv(self, tensor1, tensor2, value=number_of("addcdiv", "value", value))

    def clamp(self, min: Any = None, max: Any = None) -> Any:
        """self held between `min` and `max`, numbers or tensors."""
        if min is None and max is None:
            raise ArgumentError("clamp: at least one of 'min' or 'max' must not be None")
        if isinstance(min, Variable) != isinstance(max, Variable) and None not in (min, max):
            # A number beside a 0-d tensor: both are numbers.
            min, max = number_of("clamp", "min", min), number_of("clamp", "max", max)
        tensors = isinstance(min, Variable), isinstance(max, Variable)
        for name, bound in (("min", min), ("max", max)):
            if bound is not None and not isinstance(bound, (int, float, Variable)):
                raise TypeMismatch(
                    sentence("clamp", f"a number or a Tensor as {name}", repr(bound))
                )
            if isinstance(bound, int):
                fitting("clamp", name, bound, self.dtype)  # type: ignore[attr-defined]
        if any(tensors):
            return ops.clamp_between(self, min, max)
        if self.array.dtype.kind in "biu":
            bounds = [bound for bound in (min, max) if bound is not None]
            self = self.to(result_type(self, *bounds))  # type: ignore[attr-defined]
            like = self.dtype  # type: ignore[attr-defined]
            if not like.is_floating_point:
                min = None if min is None else fitting("clamp", "min", min, like)
                max = None if max is None else fitting("clamp", "max", max, like)
        return ops.clamp(self, min=min, max=max)

    clip = clamp

    def clamp_min(self, min: Any) -> Any:
        return self.clamp(min=_bound("clamp_min", "min", min))

    def clamp_max(self, max: Any) -> Any:
        return self.clamp(max=_bound("clamp_max", "max", max))

    def where(self, condition: Any, other: Any) -> Any:
        """self where `condition` holds, else `other`."""
        return ops.where(self, other, condition=condition_of("where", condition))

    def masked_fill(self, mask: Any, value: Any) -> Any:
        """`value` where the bool tensor `mask` holds, else self."""
        if isinstance(value, Variable) and value.array.shape:
            got = tuple(value.array.shape)
            raise ShapeError(sentence("masked_fill", "a number or a 0-d Tensor as value", got))
        if not isinstance(value, Variable) or value.node is None:
            value = number_of("masked_fill", "value", value)
        like = self.dtype  # type: ignore[attr-defined]
        if not isinstance(value, Variable):
            value = fitting("masked_fill", "value", value, like)
        filled = ops.where(value, self, condition=condition_of("masked_fill", mask))
        return filled if filled.dtype is like else filled.to(like)

    def nan_to_num(self, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
        """NaN and infinities replaced; infinities by the dtype's limits unless given."""
        from gradient.dtypes import finfo

        if _integral(self):
            return self.clone()  # type: ignore[attr-defined]
        limits = finfo(self.dtype)  # type: ignore[attr-defined]
        x = ops.where(nan, self, condition=ops.isnan(self).array)
        high = limits.max if posinf is None else posinf
        low = limits.min if neginf is None else neginf
        x = ops.where(high, x, condition=ops.eq(self, float("inf")).array)
        return ops.where(low, x, condition=ops.eq(self, float("-inf")).array)

    def isclose(
        self, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
    ) -> Any:
        """|self - other| <= atol + rtol |other|, elementwise."""
        same_dtype("isclose", "other", self, other)
        equal_nan = flag_of("isclose", "equal_nan", equal_nan)
        for name, value in (("rtol", rtol), ("atol", atol)):
            if not number_of("isclose", name, value) >= 0:
                raise ArgumentError(sentence("isclose", f"{name} of at least 0", value))
        close = ops.eq(self, other)
        if self.array.dtype.kind == "b":
            return close
        bound = ops.add(ops.mul(ops.abs(other), rtol), atol)
        gap = ops.abs(ops.sub(self, other))
        close = ops.logical_or(close, ops.logical_and(ops.le(gap, bound), ops.isfinite(gap)))
        if equal_nan:
            close = ops.logical_or(close, ops.logical_and(ops.isnan(self), ops.isnan(other)))
        return close


def _integral(value: Any) -> bool:
    if isinstance(value, Variable):
        return value.array.dtype.kind in "biu"
    return isinstance(value, int)


def _bound(caller: str, name: str, value: Any) -> Any:
    if value is None:
        raise TypeMismatch(sentence(caller, f"a number or a Tensor as {name}", value))
    return value


def _scaled(caller: str, to: Any, value: Any, alpha: Any) -> Any:
    """alpha value, which is to be added to `to`: integers take whole ones alone."""
    if isinstance(alpha, float) and _integral(to) and _integral(value):
        raise ArgumentError(sentence(caller, "an int as alpha of integers", alpha))
    if _is_bool(to) and _is_bool(value):
        return (
            ops.logical_and(value, alpha) if isinstance(value, Variable) else bool(value and alpha)
        )
    if isinstance(alpha, bool):
        raise ArgumentError(sentence(caller, "a number as alpha of numbers", alpha))
    return ops.mul(value, alpha) if isinstance(value, Variable) else value * alpha


def _is_bool(value: Any) -> bool:
    return value.array.dtype.kind == "b" if isinstance(value, Variable) else isinstance(value, bool)


def floating(caller: str, x: Any) -> None:
    """Refuse integers and bools."""
    if _integral(x):
        dtype = x.dtype
        raise DTypeError(sentence(caller, "a floating-point dtype", dtype, "cast with .float()"))


def same_dtype(caller: str, name: str, x: Any, other: Any) -> None:
    """Refuse what is no tensor, or one of another dtype than x."""
    if tensor_of(caller, other).array.dtype != x.array.dtype:
        expected = f"{name} of the input's dtype {x.dtype}"
        raise DTypeError(sentence(caller, expected, other.dtype, "cast one with .to()"))


def condition_of(caller: str, condition: Any) -> Any:
    """The array of a condition: a bool tensor."""
    array = tensor_of(caller, condition).array
    if array.dtype.kind != "b":
        got = condition.dtype
        name = "mask" if caller == "masked_fill" else "condition"
        raise DTypeError(sentence(caller, f"a bool Tensor as {name}", got, f"use {name} != 0"))
    return array
