"""Functions of vectors, for kernels that keep them in registers.

A loop over a function of numbers is turned into vectors as well, but in an order and of a width
that LLVM chooses for each loop; here they are given.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir

from gradient.backends.numpy.kernels import functions
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.llvm_types import I32
from gradient.backends.numpy.kernels.vectors import name_of

LEAST_EXPONENT = -86.6
"""Where e^x is about 2^-125: below, steps would have subnormal results, which are slow."""

LEAST_RESULTS = {32: -103.98, 64: -745.14}
"""By the bits of floats, where e^x is half of the smallest: below it is 0."""


def _all(kind: Any, number: float | int) -> Any:
    """A vector whose elements are all a number."""
    return ir.Constant(kind, [number] * kind.count)


class _Bits(NamedTuple):
    """Of a type of floats: how many, those of the mantissa, and the exponent's bias."""

    all: int
    mantissa: int
    bias: int


def _bits_of(floats: Any) -> _Bits:
    single = isinstance(floats.element, ir.FloatType)
    return _Bits(32, 23, 127) if single else _Bits(64, 52, 1023)


def _exp_parts(builder: Any, x: Any, biases: int = 1) -> tuple[Any, Any]:
    """n + `biases` times the exponent's bias, in the lowest bits of integers, and e^r - 1 of e^x =
    2^n e^r: `functions.exp` has the formula."""
    f: Any = functions  # numbers of different types
    floats, bits = x.type, _bits_of(x.type)
    if bits.all == 32:
        log2_e, rounding = f.LOG2_E4, f.ROUND4
        high, low, coefficients = f.LOG_2_HIGH4, f.LOG_2_LOW4, f.EXP4
    else:
        log2_e, rounding = f.LOG2_E8, f.ROUND8
        high, low, coefficients = f.LOG_2_HIGH8, f.LOG_2_LOW8, f.EXP8
    rounding = _all(floats, float(rounding) + biases * bits.bias)
    type_ = ir.FunctionType(floats, [floats] * 3)
    fma = builder.module.declare_intrinsic(f"llvm.fmuladd.{name_of(floats)}", fnty=type_)
    shifted = builder.call(fma, [x, _all(floats, float(log2_e)), rounding])
    n = builder.fsub(shifted, rounding)
    r = builder.call(fma, [n, _all(floats, -float(high)), x])
    r = builder.call(fma, [n, _all(floats, -float(low)), r])
    p = _all(floats, float(coefficients[0]))
    for coefficient in coefficients[1:]:
        p = builder.call(fma, [p, r, _all(floats, float(coefficient))])
    p = builder.call(fma, [p, builder.fmul(r, r), r])
    return builder.bitcast(shifted, ir.VectorType(ir.IntType(bits.all), floats.count)), p


def _power_parts(builder: Any, x: Any) -> tuple[Any, Any]:
    """2^n and e^r - 1 of e^x = 2^n e^r, where n is at most 128 (of float64 1024)."""
    n, p = _exp_parts(builder, x)
    return builder.bitcast(builder.shl(n, _all(n.type, _bits_of(x.type).mantissa)), x.type), p


@emitted(lambda x: x)
def exp_of_nonpositive(builder, x):
    """e^x for elements of at most 0: see `functions.exp`; 0 where that is below 2^-125."""
    large = builder.fcmp_unordered(">", x, _all(x.type, LEAST_EXPONENT))
    power, p = _power_parts(builder, x)
    y = builder.fmul(builder.fadd(p, _all(x.type, 1.0)), power)
    return builder.select(large, y, _all(x.type, 0.0))


@emitted(lambda x: x)
def full_exp_of_nonpositive(builder, x):
    """e^x for elements of at most 0, down to the smallest number, in a few steps more than
    `exp_of_nonpositive`; of what is 0, such as a masked score's, no step has a subnormal result,
    which would be slow."""
    kind, bits = x.type, _bits_of(x.type)
    zero = _all(kind, 0.0)
    large = builder.fcmp_unordered(">", x, _all(kind, LEAST_RESULTS[bits.all]))
    n, p = _exp_parts(builder, builder.select(large, x, zero), biases=2)
    # Of n, with its bias of twice the exponent's, each half is a power with its bias.
    exponent = _all(n.type, 2 * bits.bias + 1 << bits.mantissa)
    half = builder.and_(builder.shl(n, _all(n.type, bits.mantissa - 1)), exponent)
    rest = builder.sub(builder.shl(n, _all(n.type, bits.mantissa)), half)
    first, second = (builder.bitcast(each, kind) for each in (half, rest))
    y = builder.fmul(builder.fmul(builder.fadd(p, _all(kind, 1.0)), first), second)
    return builder.select(large, y, zero)


def _at_most(builder: Any, x: Any, limit: float) -> Any:
    """The smaller of each element and the limit; NaN stays NaN."""
    limits = _all(x.type, limit)
    return builder.select(builder.fcmp_unordered("<", x, limits), x, limits)


@emitted(lambda x: x)
def sigmoid(builder, x):
    """1 / (1 + e^-x)"""
    single = isinstance(x.type.element, ir.FloatType)
    # e^-x, from where 1 + e^-x is 1 to where it is infinite.
    low, high = (-87.0, 89.0) if single else (-708.0, 710.0)
    minus = _at_most(builder, builder.fneg(x), high)
    limits = _all(x.type, low)
    minus = builder.select(builder.fcmp_unordered(">", minus, limits), minus, limits)
    power, p = _power_parts(builder, minus)
    one = _all(x.type, 1.0)
    e = builder.fmul(builder.fadd(p, one), power)
    return builder.fdiv(one, builder.fadd(one, e))


@emitted(lambda x: x)
def tanh(builder, x):
    """See `functions.tanh`."""
    kind = x.type
    name = name_of(kind)
    declare = builder.module.declare_intrinsic
    fabs = declare(f"llvm.fabs.{name}", fnty=ir.FunctionType(kind, [kind]))
    size = builder.call(fabs, [x])
    limit = 20.0 if name.endswith("f32") else 40.0
    power, p = _power_parts(builder, _at_most(builder, builder.fadd(size, size), limit))
    fma = declare(f"llvm.fmuladd.{name}", fnty=ir.FunctionType(kind, [kind] * 3))
    e = builder.call(fma, [power, p, builder.fsub(power, _all(kind, 1.0))])
    y = builder.fdiv(e, builder.fadd(e, _all(kind, 2.0)))
    copysign = declare(f"llvm.copysign.{name}", fnty=ir.FunctionType(kind, [kind] * 2))
    return builder.call(copysign, [y, x])


def _reduction(combine: Any) -> Any:
    """An intrinsic that makes one number of a vector's, by halves: i and i + n / 2, then so on."""

    @emitted(lambda x: x.element)
    def reduce(builder, x):
        while x.type.count > 1:
            n = x.type.count // 2
            halves = [
                builder.shuffle_vector(x, x, ir.Constant(ir.VectorType(I32, n), list(numbers)))
                for numbers in (range(n), range(n, 2 * n))
            ]
            x = combine(builder, *halves)
        return builder.extract_element(x, I32(0))

    return reduce


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _sum(builder: Any, a: Any, b: Any) -> Any:
    return builder.fadd(a, b)


# Global names, for the cache on disk does not find kernels that refer to anything else.
largest_element, sum_of_elements = _reduction(_larger), _reduction(_sum)
