"""Functions of vectors of float32, for kernels that keep them in registers.

A loop over a function of numbers is turned into vectors as well, but in an order and of a width
that LLVM chooses for each loop; here they are given.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from gradient.backends.numpy.kernels.functions import (
    EXP4,
    LOG2_E4,
    LOG_2_HIGH4,
    LOG_2_LOW4,
    ROUND4,
    ROUND_BITS4,
)
from gradient.backends.numpy.kernels.vectors import intrinsic

LEAST_EXPONENT = -86.6
"""Where e^x is about 2^-125: below, steps would have subnormal results, which are slow."""


@intrinsic
def exp_of_nonpositive(context, x):
    """e^x for elements of at most 0: see `functions.exp`; 0 where that is below 2^-125."""

    def generate(context, builder, signature, arguments):
        (x_,) = arguments
        floats = x_.type
        ints = ir.VectorType(ir.IntType(32), floats.count)

        def all_(number: float | int, kind: Any = floats) -> Any:
            return ir.Constant(kind, [number] * kind.count)

        name = f"llvm.fmuladd.v{floats.count}f32"
        type_ = ir.FunctionType(floats, [floats] * 3)
        fma = builder.module.declare_intrinsic(name, fnty=type_)
        large = builder.fcmp_unordered(">", x_, all_(LEAST_EXPONENT))
        shifted = builder.call(fma, [x_, all_(float(LOG2_E4)), all_(float(ROUND4))])
        n = builder.fsub(shifted, all_(float(ROUND4)))
        r = builder.call(fma, [n, all_(-float(LOG_2_HIGH4)), x_])
        r = builder.call(fma, [n, all_(-float(LOG_2_LOW4)), r])
        p = all_(float(EXP4[0]))
        for coefficient in EXP4[1:]:
            p = builder.call(fma, [p, r, all_(float(coefficient))])
        p = builder.call(fma, [p, builder.fmul(r, r), r])
        bits = builder.sub(builder.bitcast(shifted, ints), all_(int(ROUND_BITS4) - 127, ints))
        power = builder.bitcast(builder.shl(bits, all_(23, ints)), floats)
        y = builder.fmul(builder.fadd(p, all_(1.0)), power)
        return builder.select(large, y, all_(0.0))

    return x(x), generate


def _reduction(combine: Any) -> Any:
    """An intrinsic that makes one number of a vector's, by halves: i and i + n / 2, then so on."""

    @intrinsic
    def reduce(context, x):
        def generate(context, builder, signature, arguments):
            (value,) = arguments
            while value.type.count > 1:
                n = value.type.count // 2
                halves = [
                    builder.shuffle_vector(
                        value,
                        value,
                        ir.Constant(
                            ir.VectorType(ir.IntType(32), n), list(range(first, first + n))
                        ),
                    )
                    for first in (0, n)
                ]
                value = combine(builder, *halves)
            return builder.extract_element(value, ir.IntType(32)(0))

        return x.element(x), generate

    return reduce


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _sum(builder: Any, a: Any, b: Any) -> Any:
    return builder.fadd(a, b)


# Global names, for the cache on disk does not find kernels that refer to anything else.
largest_element, sum_of_elements = _reduction(_larger), _reduction(_sum)
