"""Products x @ W.T in float32, W read as it is stored, for one row of x and for many.

Every output is one chain of multiplications and additions in the order of k, a vector of outputs at
a time. So it is the same bits however many rows are computed together. For that W is transposed on
its way: a square of it in registers for few rows, where reading W takes longest anyway; for many a
panel of it, made once, which stays in the cache while all rows pass.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from gradient.backends.numpy.kernels import instructions
from gradient.backends.numpy.kernels.building import add_products, begin_sums, read, rows_of, write
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.llvm_types import F32, I32, I64, vector_of
from gradient.backends.numpy.kernels.stored import (
    FLOAT32,
    exchange,
    read_floats,
    transpose,
    write_columns,
)
from gradient.backends.numpy.kernels.vectors import BYTES, LANES, lanes

FEW = 12
"""Rows of x up to which W is transposed anew for each few of them."""

DEPTH = 256
"""Of k, in a panel."""

NEAR = 480
"""Rows of x of which as many columns, and the sums with several panels, stay in the cache."""

AHEAD = 256
"""Numbers of a row of W ahead of which `few` asks for the next: as many rows as a vector has
elements are more streams, each soon at the end of its page, than processors fetch ahead by
themselves."""

ROWS = 12 if BYTES == 64 else 4
"""Rows of x whose sums with a panel are in registers together."""

SOME = LANES[types.float32]
FLOATS = vector_of(F32, SOME)


def few(rows: int) -> Any:
    """An intrinsic few(x, x_at, x_row, w, w_at, w_row, last, k, out, out_at, out_row).

    It computes `rows` outputs each for as many rows of W as a vector has elements, those after
    `last` (0 to that less one) being the last again. x, w and out are flat, with where the first
    row begins in each, and the length of their rows.
    """

    @emitted()
    def outputs(builder, x, x_at, x_row, w, w_at, w_row, last, k, out, out_at, out_row):
        x_rows = rows_of(builder, x, x_at, x_row, rows)
        w_rows = rows_of(builder, w, w_at, w_row, SOME, last)
        sums = [cgutils.alloca_once(builder, FLOATS) for _ in range(rows)]
        for total in sums:
            builder.store(ir.Constant(FLOATS, None), total)

        def fetch_ahead(at: Any) -> None:
            """Ask for the cache lines that are AHEAD of number `at` of the rows; behind their
            end, for those of the rows that come next."""
            ahead = builder.add(at, I64(AHEAD))
            behind = builder.icmp_signed(">=", ahead, w_row)
            next_rows = builder.add(ahead, builder.mul(w_row, I64(SOME - 1)))
            ahead = builder.select(behind, next_rows, ahead)
            for row in w_rows:
                instructions.prefetch(builder, builder.gep(row, [ahead]))

        def add(p: Any, column: Any) -> None:
            """The products of column p of W."""
            for row, total in zip(x_rows, sums, strict=True):
                add_products(builder, builder.gep(row, [p]), [column], [total])

        whole = builder.sub(k, builder.urem(k, I64(SOME)))
        with cgutils.for_range_slice(builder, I64(0), whole, I64(SOME), intp=I64) as (p, _):
            square = [read(builder, builder.gep(row, [p]), FLOATS) for row in w_rows]
            fetch_ahead(p)
            for i, column in enumerate(exchange(builder, square)):
                add(builder.add(p, I64(i)), column)
        with cgutils.for_range_slice(builder, whole, k, I64(1), intp=I64) as (p, _):
            column = ir.Constant(FLOATS, ir.Undefined)
            for i, row in enumerate(w_rows):
                number = builder.load(builder.gep(row, [p]))
                column = builder.insert_element(column, number, I32(i))
            add(p, column)

        outs = rows_of(builder, out, out_at, out_row, rows)
        for to, total in zip(outs, sums, strict=True):
            write(builder, builder.load(total), to, 1)

    return outputs


def many(rows: int) -> Any:
    """An intrinsic many(x, x_at, x_row, panel, count, part, part_at, add).

    part (rows, pair) = or += x (rows, count) @ panel (count, pair), where a pair is two vectors'
    numbers; the sums stay in registers while k runs.
    """

    @emitted()
    def outputs(builder, x, x_at, x_row, panel, count, part, part_at, add):
        vectors = FLOATS.as_pointer()
        x_rows = rows_of(builder, x, x_at, x_row, rows)
        first = builder.bitcast(panel, vectors)
        held = builder.bitcast(builder.gep(part, [part_at]), vectors)
        sums = [[cgutils.alloca_once(builder, FLOATS) for _ in range(2)] for _ in range(rows)]
        outs = [builder.gep(held, [I64(i)]) for i in range(2 * rows)]
        totals = list(chain(*sums))
        begin_sums(builder, add, totals, outs)
        with cgutils.for_range(builder, count, intp=I64) as loop:
            at = builder.mul(loop.index, I64(2))
            both = [builder.gep(first, [builder.add(at, I64(j))]) for j in range(2)]
            both = [read(builder, each, FLOATS) for each in both]
            for row, pair in zip(x_rows, sums, strict=True):
                add_products(builder, builder.gep(row, [loop.index]), both, pair)
        for to, total in zip(outs, totals, strict=True):
            write(builder, builder.load(total), to)

    return outputs


# Global names, for the cache on disk does not find kernels that refer to anything else.
few_1, few_2, few_4 = few(1), few(2), few(4)
many_4, many_rows = many(4), many(ROWS)


@ordered_subroutine
def copy_floats(x, at, n, out, out_at):
    """out[out_at : out_at + n] = x[at : at + n], by vectors."""
    read_floats(FLOAT32, x.view(np.uint8), 4 * at, n, out, out_at)


@ordered_subroutine
def panel_of(weight, w_at, w_row, columns, count, rows, panel):
    """panel (count, pair) = the transpose of `columns` rows of W, `count` numbers of each."""
    width = lanes(panel)
    pair, row = 2 * width, DEPTH + width
    for j in range(columns):
        copy_floats(weight, w_at + j * w_row, count, rows, j * row)
    for j in range(0, columns, width):
        for p in range(0, count, width):
            transpose(rows, j * row + p, row, panel, p * pair + j, pair)


@ordered_subroutine
def add_panel(x, at, x_row, rows, panel, count, part, part_at, add):
    """`many` of so many rows, and of those up to the next multiple of 4."""
    pair, i = 2 * lanes(x), 0
    while i < rows:
        here, to = at + i * x_row, part_at + i * pair
        if i + ROWS <= rows:
            many_rows(x, here, x_row, panel, count, part, to, add)
            i += ROWS
        else:
            many_4(x, here, x_row, panel, count, part, to, add)
            i += 4


@ordered_kernel
def copy_rows(start, stop, x, k, out, out_row):
    """The rows start to stop of x, k numbers each, `out_row` apart."""
    for i in range(start, stop):
        copy_floats(x, i * k, k, out, i * out_row)


@ordered_kernel
def linear(start, stop, x, x_row, rows, weight, n, k, bias, out):
    """out (M, N)[:, start:stop] = x (M, K) @ weight (N, K)[start:stop].T (+ bias), all flat.

    x's rows are `x_row` apart, and there are as many as a multiple of 4, of which `out`, as bytes,
    has the first M. bias (N,) may be of size 0.
    """
    width = lanes(x)
    if rows <= FEW:
        part = np.empty(FEW * width, x.dtype)
        for j in range(start, stop, width):
            columns = min(width, stop - j)
            w, last, i = j * k, columns - 1, 0
            while i + 4 <= rows:
                few_4(x, i * x_row, x_row, weight, w, k, last, k, part, i * width, width)
                i += 4
            if i + 2 <= rows:
                few_2(x, i * x_row, x_row, weight, w, k, last, k, part, i * width, width)
                i += 2
            if i < rows:
                few_1(x, i * x_row, x_row, weight, w, k, last, k, part, i * width, width)
            write_columns(part, width, rows, columns, bias, j, FLOAT32, 4, out, 4 * j, n)
        return
    pair, near = 2 * width, (min(rows, NEAR) + 3) // 4 * 4
    panels = (stop - start + pair - 1) // pair
    w_rows = np.zeros(pair * (DEPTH + width), x.dtype)
    panel = np.zeros((DEPTH + width) * pair, x.dtype)
    part = np.empty(panels * near * pair, x.dtype)
    for top in range(0, rows, NEAR):
        m = min(NEAR, rows - top)
        for p in range(0, k, DEPTH):
            count = min(DEPTH, k - p)
            for number in range(panels):
                j = start + number * pair
                columns = min(pair, stop - j)
                panel_of(weight, j * k + p, k, columns, count, w_rows, panel)
                to = number * near * pair
                add_panel(x, top * x_row + p, x_row, m, panel, count, part, to, p > 0)
        for number in range(panels):
            j = start + number * pair
            sums, to = part[number * near * pair :], 4 * (top * n + j)
            columns = min(pair, stop - j)
            write_columns(sums, pair, m, columns, bias, j, FLOAT32, 4, out, to, n)
