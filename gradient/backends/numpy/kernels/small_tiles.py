"""The innermost part of products of small matrices: a tile of the result, with sums in
registers.

Unlike those of `gemm_tile`, they read operands where these are, and take any number of columns.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from gradient.backends.numpy.kernels.building import Rows, add_products, hold_loads, read, write
from gradient.backends.numpy.kernels.compilation import ordered_subroutine
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.gemm_tile import ROWS, SHORT
from gradient.backends.numpy.kernels.llvm_types import I32, I64
from gradient.backends.numpy.kernels.vectors import first_flags, lanes, name_of, vector_of

UNROLLED = 4
"""Columns of `a` in a round of a tile's loop."""


def _tile(height: int, vectors: int, turned: bool) -> Any:
    """An intrinsic tile(a, a_at, a_apart, b, b_at, b_row, columns, count, c, c_at, c_row, begin,
    add): c (height, columns) = a (height, count) @ b (count, columns), for as many columns as end
    in the last one of so many vectors. All are flat arrays of one float dtype.

    Numbers of a row of `a` are neighbours, and rows `a_apart`; if `turned`, those of a column are,
    and columns `a_apart`. Sums begin with what is in c if `begin`, which is added to them in the
    end if `add`.
    """

    @emitted()
    def tile(
        builder, a, a_at, a_apart, b, b_at, b_row, columns, count, c, c_at, c_row, begin, add
    ):  # fmt: skip
        vector = vector_of(a.type.pointee)
        width = vector.count
        inside = first_flags(builder, builder.sub(columns, I64((vectors - 1) * width)), width)
        zeros = ir.Constant(vector, None)

        def row_of(start: Any) -> list[Any]:
            return [builder.gep(start, [I64(i * width)]) for i in range(vectors)]

        def load(places: list[Any]) -> list[Any]:
            """The vectors of a row: of the last one only what is in the columns."""
            place = builder.bitcast(places[-1], vector.as_pointer())
            kind = ir.FunctionType(vector, [place.type, I32, inside.type, vector])
            masked = builder.module.declare_intrinsic(
                f"llvm.masked.load.{name_of(vector)}.p0", fnty=kind
            )
            last = builder.call(masked, [place, I32(4), inside, zeros])
            return [*(read(builder, each, vector) for each in places[:-1]), last]

        def store(values: list[Any], places: list[Any]) -> None:
            for value, place in zip(values[:-1], places[:-1], strict=True):
                write(builder, value, place)
            place = builder.bitcast(places[-1], vector.as_pointer())
            kind = ir.FunctionType(ir.VoidType(), [vector, place.type, I32, inside.type])
            masked = builder.module.declare_intrinsic(
                f"llvm.masked.store.{name_of(vector)}.p0", fnty=kind
            )
            builder.call(masked, [values[-1], place, I32(4), inside])

        held = builder.gep(c, [c_at])
        outs = [row_of(builder.gep(held, [builder.mul(c_row, I64(i))])) for i in range(height)]
        sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in outs]
        with builder.if_else(begin) as (then, otherwise):
            with then:
                for row, places in zip(sums, outs, strict=True):
                    for total, value in zip(row, load(places), strict=True):
                        builder.store(value, total)
            with otherwise:
                for total in chain(*sums):
                    builder.store(zeros, total)
        a_rows = Rows(builder, builder.gep(a, [a_at]), a_apart, 1 if turned else height)
        right = cgutils.alloca_once_value(builder, builder.gep(b, [b_at]))

        def multiply(rounds: int) -> None:
            """Add the products of so many columns of `a` and rows of `b`."""
            a_rows.look()
            here = builder.load(right)
            column = a_rows.row(0)
            for step in range(rounds):
                numbers = load(row_of(here))
                for i, row in enumerate(sums):
                    if turned:
                        at = builder.gep(column, [I64(i)])
                    else:
                        at = builder.gep(a_rows.row(i), [I64(step)])
                    add_products(builder, at, numbers, row)
                if turned:
                    column = builder.gep(column, [a_apart])
                here = builder.gep(here, [b_row])
                hold_loads(builder)
            a_rows.move(builder.mul(a_apart, I64(rounds)) if turned else I64(rounds))
            builder.store(here, right)

        with cgutils.for_range(builder, builder.udiv(count, I64(UNROLLED)), intp=I64):
            multiply(UNROLLED)
        with cgutils.for_range(builder, builder.urem(count, I64(UNROLLED)), intp=I64):
            multiply(1)
        with builder.if_then(add):
            for row, places in zip(sums, outs, strict=True):
                for total, value in zip(row, load(places), strict=True):
                    builder.store(builder.fadd(value, builder.load(total)), total)
        for row, places in zip(sums, outs, strict=True):
            store([builder.load(total) for total in row], places)

    return tile


(
    wide_rows, wide_short_rows, narrow_rows, narrow_short_rows,
    wide_columns, wide_short_columns, wide_row, narrow_columns, narrow_short_columns, narrow_row,
) = (
    _tile(height, vectors, turned)
    for turned, heights in ((False, (ROWS, SHORT)), (True, (ROWS, SHORT, 1)))
    for vectors in (2, 1)
    for height in heights
)  # fmt: skip


@ordered_subroutine
def sums_of_rows(
    height, a, a_at, a_row, a_column, b, b_at, b_row, columns, count, c, c_at, c_row, begin, add
):  # fmt: skip
    """`_tile` of ROWS, SHORT or one row of `a`, of which one of `a_row` and `a_column` is 1, and up
    to two vectors of columns."""
    wide = columns > lanes(b)
    if height == 1 and wide:
        wide_row(a, a_at, a_column, b, b_at, b_row, columns, count, c, c_at, c_row, begin, add)
    elif height == 1:
        narrow_row(a, a_at, a_column, b, b_at, b_row, columns, count, c, c_at, c_row, begin, add)
    elif a_column == 1 and height == ROWS and wide:
        wide_rows(a, a_at, a_row, b, b_at, b_row, columns, count, c, c_at, c_row, begin, add)
    elif a_column == 1 and height == ROWS:
        narrow_rows(a, a_at, a_row, b, b_at, b_row, columns, count, c, c_at, c_row, begin, add)
    elif a_column == 1 and wide:
        wide_short_rows(a, a_at, a_row, b, b_at, b_row, columns, count, c, c_at, c_row, begin, add)
    elif a_column == 1:
        narrow_short_rows(
            a, a_at, a_row, b, b_at, b_row, columns, count, c, c_at, c_row, begin, add
        )  # fmt: skip
    elif height == ROWS and wide:
        wide_columns(a, a_at, a_column, b, b_at, b_row, columns, count, c, c_at, c_row, begin, add)
    elif height == ROWS:
        narrow_columns(
            a, a_at, a_column, b, b_at, b_row, columns, count, c, c_at, c_row, begin, add
        )  # fmt: skip
    elif wide:
        wide_short_columns(
            a, a_at, a_column, b, b_at, b_row, columns, count, c, c_at, c_row, begin, add
        )  # fmt: skip
    else:
        narrow_short_columns(
            a, a_at, a_column, b, b_at, b_row, columns, count, c, c_at, c_row, begin, add
        )  # fmt: skip


@ordered_subroutine
def height_of(left):
    """The rows of the next tile, if so many are left."""
    return ROWS if left >= ROWS else SHORT if left >= SHORT else 1
