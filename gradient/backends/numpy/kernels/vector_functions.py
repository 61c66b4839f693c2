"""Functions of vectors, for kernels that keep them in registers.

A loop over a function of numbers is turned into vectors as well, but in an order and of a width
that LLVM chooses for each loop; here they are given.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from gradient.backends.numpy.kernels import functions
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.llvm_types import I32
from gradient.backends.numpy.kernels.vectors import name_of

LEAST_EXPONENT = -86.6
"""Where e^x is about 2^-125: below, steps would have subnormal results, which are slow."""


def _all(kind: Any, number: float | int) -> Any:
    """A vector whose elements are all a number."""
    return ir.Constant(kind, [number] * kind.count)


def _exp_parts(builder: Any, x: Any) -> tuple[Any, Any]:
    """2^n and e^r - 1 of e^x = 2^n e^r, where n is at most 128 (of float64 1024): `functions.exp`
    has the formula."""
    f: Any = functions  # numbers of different types
    floats = x.type
    if isinstance(floats.element, ir.FloatType):
        bits, mantissa, bias = 32, 23, 127
        log2_e, rounding, rounding_bits = f.LOG2_E4, f.ROUND4, f.ROUND_BITS4
        high, low, coefficients = f.LOG_2_HIGH4, f.LOG_2_LOW4, f.EXP4
    else:
        bits, mantissa, bias = 64, 52, 1023
        log2_e, rounding, rounding_bits = f.LOG2_E8, f.ROUND8, f.ROUND_BITS8
        high, low, coefficients = f.LOG_2_HIGH8, f.LOG_2_LOW8, f.EXP8
    ints = ir.VectorType(ir.IntType(bits), floats.count)
    type_ = ir.FunctionType(floats, [floats] * 3)
    fma = builder.module.declare_intrinsic(f"llvm.fmuladd.{name_of(floats)}", fnty=type_)
    shifted = builder.call(fma, [x, _all(floats, float(log2_e)), _all(floats, float(rounding))])
    n = builder.fsub(shifted, _all(floats, float(rounding)))
    r = builder.call(fma, [n, _all(floats, -float(high)), x])
    r = builder.call(fma, [n, _all(floats, -float(low)), r])
    p = _all(floats, float(coefficients[0]))
    for coefficient in coefficients[1:]:
        p = builder.call(fma, [p, r, _all(floats, float(coefficient))])
    p = builder.call(fma, [p, builder.fmul(r, r), r])
    power = builder.sub(builder.bitcast(shifted, ints), _all(ints, int(rounding_bits) - bias))
    return builder.bitcast(builder.shl(power, _all(ints, mantissa)), floats), p


@emitted(lambda x: x)
def exp_of_nonpositive(builder, x):
    """e^x for elements of at most 0: see `functions.exp`; 0 where that is below 2^-125."""
    large = builder.fcmp_unordered(">", x, _all(x.type, LEAST_EXPONENT))
    power, p = _exp_parts(builder, x)
    y = builder.fmul(builder.fadd(p, _all(x.type, 1.0)), power)
    return builder.select(large, y, _all(x.type, 0.0))


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
    power, p = _exp_parts(builder, minus)
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
    power, p = _exp_parts(builder, _at_most(builder, builder.fadd(size, size), limit))
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
