"""Arithmetic on `Vector`: Python's operators, and a few functions, each one or two instructions.

So a kernel that computes the same thing for several neighbours reads as if it did it for one.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.vectors import Vector, name_of


def _define(function: Any, instruction: str) -> None:
    """Have a binary operator of Python apply to two vectors of one type."""

    class Template(AbstractTemplate):
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and isinstance(args[0], Vector) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments)

    infer_global(function)(Template)
    lower_builtin(function, Vector, Vector)(lower)


for _function, _instruction in (
    (operator.add, "fadd"),
    (operator.iadd, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define(_function, _instruction)


@emitted(lambda a, b, x, y: x)
def where_less(builder, a, b, x, y):
    """x where a < b, else y."""
    return builder.select(builder.fcmp_ordered("<", a, b), x, y)


def _pairs(comparison: str) -> Any:
    """Of each pair of elements the one that compares so with the other; of a NaN and a number, one
    of the two."""

    @emitted(lambda a, b: a)
    def chosen(builder, a, b):
        return builder.select(builder.fcmp_ordered(comparison, a, b), a, b)

    return chosen


def _elements(name: str) -> Any:
    """LLVM's function `name` of each element."""

    @emitted(lambda x: x)
    def applied(builder, x):
        return _call(builder, name, x)

    return applied


minimum, maximum = _pairs("<"), _pairs(">")
absolute, square_root = _elements("fabs"), _elements("sqrt")
rint = _elements("rint")  # the nearest integer, of two the even one


@emitted(lambda x: x)
def to_half(builder, x):
    """float32 numbers rounded to what 16 bits hold."""
    return builder.fpext(builder.fptrunc(x, _halves(x)), x.type)


@emitted(lambda x: x)
def to_half_beyond(builder, x):
    """float32 numbers rounded to what 16 bits hold, away from 0."""
    halves = _halves(x)
    half = builder.fptrunc(x, halves)
    # Of 16-bit floats of one sign, the next further from 0 is the next integer.
    integers = ir.VectorType(ir.IntType(16), halves.count)
    one = ir.Constant(integers, [1] * halves.count)
    further = builder.bitcast(builder.add(builder.bitcast(half, integers), one), halves)
    near = builder.fpext(half, x.type)
    short = builder.fcmp_ordered("<", _call(builder, "fabs", near), _call(builder, "fabs", x))
    return builder.select(short, builder.fpext(further, x.type), near)


def _call(builder: Any, name: str, value: Any) -> Any:
    """LLVM's function of one vector."""
    function = builder.module.declare_intrinsic(
        f"llvm.{name}.{name_of(value.type)}", fnty=ir.FunctionType(value.type, [value.type])
    )
    return builder.call(function, [value])


def _halves(value: Any) -> Any:
    return ir.VectorType(ir.HalfType(), value.type.count)
