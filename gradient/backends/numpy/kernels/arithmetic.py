"""Steps that functions of numbers are made of: polynomials, choices, products in one rounding. They
are LLVM's instructions without a branch, so that it turns loops over them into vectors."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from gradient.backends.numpy.kernels.emitting import emitted

LONG = 14
"""Coefficients of a polynomial from which it is computed as two."""


def _of_numbers(builder: Any, name: str, *values: Any) -> Any:
    """LLVM's function `name` of numbers of one type."""
    kind = values[0].type
    letters = "f32" if isinstance(kind, ir.FloatType) else "f64"
    function = builder.module.declare_intrinsic(
        f"llvm.{name}.{letters}", fnty=ir.FunctionType(kind, [kind] * len(values))
    )
    return builder.call(function, values)


def polynomial(coefficients: tuple[Any, ...]) -> Any:
    """The intrinsic p(x), the highest power first. Long ones are two, of x^2, as each step of
    Horner's rule waits for the one before. (Assign it to a global name: the cache on disk does not
    find kernels that refer to anything else.)"""

    @emitted(lambda x: x)
    def value(builder, x):
        def horner(given: tuple[float, ...], x: Any) -> Any:
            p = ir.Constant(x.type, float(given[0]))
            for c in given[1:]:
                p = _of_numbers(builder, "fmuladd", p, x, ir.Constant(x.type, float(c)))
            return p

        if len(coefficients) < LONG:
            return horner(coefficients, x)
        square = builder.fmul(x, x)
        even, odd = coefficients[::-1][::2][::-1], coefficients[::-1][1::2][::-1]
        return _of_numbers(builder, "fmuladd", horner(odd, square), x, horner(even, square))

    return value


@emitted(lambda a, b, c: a)
def product_sum(builder, a, b, c):
    """a * b + c in one rounding, on every processor."""
    return _of_numbers(builder, "fma", a, b, c)


@emitted(lambda condition, a, b: a)
def choose(builder, condition, a, b):
    """a if the condition holds, else b. Both are computed first; Python's own expression may become
    a branch, which leaves no vectors."""
    return builder.select(condition, a, b)


@emitted(lambda x, y: x)
def with_sign(builder, x, y):
    """x with the sign bit of y."""
    return _of_numbers(builder, "copysign", x, y)


@emitted(lambda x: x)
def truncated(builder, x):
    """x rounded towards 0."""
    return _of_numbers(builder, "trunc", x)


@emitted(lambda x: x)
def floored(builder, x):
    """The largest integer that is at most x."""
    return _of_numbers(builder, "floor", x)


@emitted(lambda x: x)
def raised(builder, x):
    """The smallest integer that is at least x."""
    return _of_numbers(builder, "ceil", x)


@emitted(lambda x: x)
def rounded(builder, x):
    """The nearest integer, of two the even one."""
    return _of_numbers(builder, "rint", x)
