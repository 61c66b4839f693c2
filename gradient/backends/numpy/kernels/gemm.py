"""Float32 products a @ b of matrices in any layout, cut into blocks of the result.

A block packs what it reads of `a` into tiles of ROWS rows, and of `b` one panel of two vectors'
columns at a time, DEPTH of k at a time: the block of `a` stays in the second cache, the panel in
the first (Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008, section
4). A tile's sums with a panel stay in registers. Rows of `a` whose elements are neighbours in
memory are read where they are: as quick in the loop, and without the time to pack them.

Every element is one chain of multiplications and additions in the order of k, or one chain for each
DEPTH of k, whose results are added in order: the same bits however the result is cut into blocks,
and whatever other rows and columns it has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from gradient.backends.numpy.kernels import instructions
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.stored import transpose
from gradient.backends.numpy.kernels.vectors import BYTES, LANES, intrinsic, load, store

DEPTH = 256
"""Of k, in a packed block."""

ROWS = 12 if BYTES == 64 else 6
"""Rows of a tile: with two vectors each, as many as there are registers for."""

SHORT = 4
"""Rows of the tiles that take what is left."""

WIDTH = LANES[types.float32]
PAIR = 2 * WIDTH
"""Columns of a panel."""

SQUARE = 16
"""Rows of k that are copied together, so that the lines of the cache that tiles share are read
once."""

I64 = ir.IntType(64)


def _tile(height: int) -> Any:
    """An intrinsic tile(a, a_at, a_row, a_column, b, b_at, count, c, c_at, c_row, begin, add).

    c (height, PAIR) = a (height, count) @ b (count, PAIR), flat float32 arrays all. The rows of `a`
    and its columns are `a_row` and `a_column` apart, those of c `c_row` and 1; `b` is packed. Sums
    begin with what is in c if `begin`, which is added to them in the end if `add`.
    """

    @intrinsic
    def tile(context, a, a_at, a_row, a_column, b, b_at, count, c, c_at, c_row, begin, add):
        def generate(context, builder, signature, arguments):
            a_, a_at_, a_row_, a_column_, b_, b_at_, count_, *rest = arguments
            c_, c_at_, c_row_, begin_, add_ = rest
            vector = ir.VectorType(ir.FloatType(), WIDTH)
            fma = builder.module.declare_intrinsic(
                f"llvm.fmuladd.v{WIDTH}f32", fnty=ir.FunctionType(vector, [vector] * 3)
            )

            def place(array: Any, value: Any, at: Any) -> Any:
                return builder.gep(context.make_array(array)(context, builder, value).data, [at])

            def pair(start: Any) -> list[Any]:
                starts = [start, builder.gep(start, [I64(WIDTH)])]
                return [builder.bitcast(each, vector.as_pointer()) for each in starts]

            def read(pointer: Any) -> Any:
                value = builder.load(pointer)
                value.align = 4
                return value

            def splat(number: Any) -> Any:
                one = builder.insert_element(ir.Constant(vector, ir.Undefined), number, I64(0))
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), None)
                return builder.shuffle_vector(one, one, zeros)

            first, right = place(a, a_, a_at_), place(b, b_, b_at_)
            rows = [builder.gep(first, [builder.mul(a_row_, I64(i))]) for i in range(height)]
            held = place(c, c_, c_at_)
            outs = [pair(builder.gep(held, [builder.mul(c_row_, I64(i))])) for i in range(height)]
            for out in outs:
                for each in out:
                    instructions.prefetch(builder, each)
            sums = [[cgutils.alloca_once(builder, vector) for _ in range(2)] for _ in range(height)]
            with builder.if_else(begin_) as (then, otherwise):
                with then:
                    for out, total in zip(outs, sums, strict=True):
                        for to, each in zip(out, total, strict=True):
                            builder.store(read(to), each)
                with otherwise:
                    for each in (each for total in sums for each in total):
                        builder.store(ir.Constant(vector, [0.0] * WIDTH), each)
            with cgutils.for_range(builder, count_, intp=I64) as loop:
                panel = pair(builder.gep(right, [builder.mul(loop.index, I64(PAIR))]))
                column = builder.mul(loop.index, a_column_)
                numbers = [read(pointer) for pointer in panel]
                for row, total in zip(rows, sums, strict=True):
                    factor = splat(builder.load(builder.gep(row, [column])))
                    for number, each in zip(numbers, total, strict=True):
                        builder.store(builder.call(fma, [number, factor, builder.load(each)]), each)
                # Loads stay behind this: LLVM would bring forward so many that sums lose their
                # registers.
                builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)
            with builder.if_else(add_) as (then, otherwise):
                for branch, adds in ((then, True), (otherwise, False)):
                    with branch:
                        for out, total in zip(outs, sums, strict=True):
                            for to, each in zip(out, total, strict=True):
                                result = builder.load(each)
                                if adds:
                                    result = builder.fadd(read(to), result)
                                builder.store(result, to).align = 4
            return context.get_dummy_value()

        n = types.int64
        return types.void(a, n, n, n, b, n, n, c, n, n, types.boolean, types.boolean), generate

    return tile


tile, short_tile = _tile(ROWS), _tile(SHORT)


@ordered_subroutine
def pack_rows(a, at, row, column, m, count, beyond, out, to):
    """m rows and `count` columns of `a` as tiles (count, ROWS), zeros after the last row. `beyond`
    is how many rows of `a` there are from the first one on."""
    size = ROWS * count
    if row == 1:
        for p in range(0, count, SQUARE):
            last = min(count, p + SQUARE)
            for i in range(0, m, ROWS):
                place, start, q = to + i // ROWS * size, at + i, p
                if i + WIDTH <= beyond:
                    while q < min(last, count - 1):
                        # What is written behind these numbers is written again.
                        store(out, place + q * ROWS, load(a, start + q * column))
                        q += 1
                while q < last:
                    for r in range(ROWS):
                        number = a[start + q * column + r] if i + r < m else out.dtype.type(0)
                        out[place + q * ROWS + r] = number
                    q += 1
        return
    for i in range(0, m, ROWS):
        place, p = to + i // ROWS * size, 0
        if column == 1 and i + WIDTH <= beyond:
            while p + WIDTH <= count:
                transpose(a, at + i * row + p, row, out, place + p * ROWS, ROWS)
                p += WIDTH
        while p < count:
            for r in range(ROWS):
                if i + r < m:
                    out[place + p * ROWS + r] = a[at + (i + r) * row + p * column]
                else:
                    out[place + p * ROWS + r] = 0
            p += 1


@ordered_subroutine
def pack_columns(b, at, row, column, count, n, out, to):
    """`count` rows and n (up to PAIR) columns of `b` as a panel (count, PAIR), zeros after the last
    column."""
    if n < PAIR:
        for p in range(count * PAIR):
            out[to + p] = 0
        whole = n // WIDTH * WIDTH if column == 1 else 0
        for p in range(count):
            if whole > 0:
                store(out, to + p * PAIR, load(b, at + p * row))
            for j in range(whole, n):
                out[to + p * PAIR + j] = b[at + p * row + j * column]
    elif column == 1:
        for p in range(count):
            store(out, to + p * PAIR, load(b, at + p * row))
            store(out, to + p * PAIR + WIDTH, load(b, at + p * row + WIDTH))
    else:
        p = 0
        if row == 1:
            while p + WIDTH <= count:
                transpose(b, at + p, column, out, to + p * PAIR, PAIR)
                transpose(b, at + p + WIDTH * column, column, out, to + p * PAIR + WIDTH, PAIR)
                p += WIDTH
        while p < count:
            for j in range(PAIR):
                out[to + p * PAIR + j] = b[at + p * row + j * column]
            p += 1


@ordered_subroutine
def corner_of(
    a, a_at, a_row, a_column, b, b_at, count, corner, c, to, c_row, rows, columns, begin, add
):  # fmt: skip
    """`tile`, of so many rows and columns."""
    for r in range(rows):
        for q in range(columns):
            corner[r * PAIR + q] = c[to + r * c_row + q]
    if rows == SHORT:
        short_tile(a, a_at, a_row, a_column, b, b_at, count, corner, 0, PAIR, begin, add)
    else:
        tile(a, a_at, a_row, a_column, b, b_at, count, corner, 0, PAIR, begin, add)
    for r in range(rows):
        for q in range(columns):
            c[to + r * c_row + q] = corner[r * PAIR + q]


@ordered_subroutine
def add_to_columns(bias, first, rows, c, at, c_row, columns):
    """c (rows, columns) += bias[:, None], from its number `first` on."""
    for i in range(rows):
        for j in range(columns):
            c[at + i * c_row + j] += bias[first + i]


@ordered_subroutine
def add_to_rows(bias, first, columns, c, at, c_row, rows):
    """c (rows, columns) += bias, from its number `first` on."""
    for i in range(rows):
        for j in range(columns):
            c[at + i * c_row + j] += bias[first + j]


@ordered_kernel
def product(
    start, stop, a, a_starts, a_row, a_column, b, b_starts, b_row, b_column, bias, upright,
    c, c_row, m, n, k, block_rows, block_columns, chained,
):  # fmt: skip
    """c (batch, M, N) = a (batch, M, K) @ b (batch, K, N) (+ bias (N,), or (M, 1) if `upright`):
    its blocks start to stop.

    a and b are flat arrays: of each are said where the matrices of the batch begin, and how far
    apart rows and columns are. The matrices of c follow one another, its rows are `c_row` apart;
    bias may be of size 0. A sum is one chain if `chained`.
    """
    down, across = (m + block_rows - 1) // block_rows, (n + block_columns - 1) // block_columns
    high = (min(block_rows, m) + ROWS - 1) // ROWS * ROWS
    depth = min(DEPTH, k)
    packed = np.empty(depth * (high + PAIR) + 2 * PAIR + 16, np.float32)
    panel_at = (-packed.ctypes.data % 64) // 4  # both begin at a line of the cache
    rows_at = panel_at + depth * PAIR
    corner = np.zeros(ROWS * PAIR, np.float32)
    for number in range(start, stop):
        matrix, block = number // (down * across), number % (down * across)
        top, left = block % down * block_rows, block // down * block_columns
        bottom, right = min(top + block_rows, m), min(left + block_columns, n)
        c_at = matrix * m * c_row
        unpacked = top  # the rows before this one are read where they are
        if a_column == 1:
            unpacked = bottom - (bottom - top) % ROWS % SHORT
        for p in range(0, k, DEPTH):
            count, begin, add = min(DEPTH, k - p), p > 0 and chained, p > 0 and not chained
            a_at = a_starts[matrix] + p * a_column
            if unpacked < bottom:
                pack_rows(
                    a, a_at + unpacked * a_row, a_row, a_column, bottom - unpacked, count,
                    m - unpacked, packed, rows_at,
                )  # fmt: skip
            for j in range(left, right, PAIR):
                columns = min(PAIR, right - j)
                at = b_starts[matrix] + p * b_row + j * b_column
                pack_columns(b, at, b_row, b_column, count, columns, packed, panel_at)
                i = top
                while i < bottom:
                    part, to = rows_at + (i - unpacked) * count, c_at + i * c_row + j
                    rows = min(ROWS, bottom - i)
                    if i < unpacked and rows < ROWS:
                        rows = SHORT
                    if i < unpacked and columns == PAIR and rows == SHORT:
                        short_tile(
                            a, a_at + i * a_row, a_row, a_column, packed, panel_at, count,
                            c, to, c_row, begin, add,
                        )  # fmt: skip
                    elif i < unpacked and columns == PAIR:
                        tile(
                            a, a_at + i * a_row, a_row, a_column, packed, panel_at, count,
                            c, to, c_row, begin, add,
                        )  # fmt: skip
                    elif i < unpacked:
                        corner_of(
                            a, a_at + i * a_row, a_row, a_column, packed, panel_at, count,
                            corner, c, to, c_row, rows, columns, begin, add,
                        )  # fmt: skip
                    elif columns == PAIR and rows == ROWS:
                        tile(
                            packed, part, 1, ROWS, packed, panel_at, count, c, to, c_row, begin, add
                        )  # fmt: skip
                    else:
                        corner_of(
                            packed, part, 1, ROWS, packed, panel_at, count, corner, c, to, c_row,
                            rows, columns, begin, add,
                        )  # fmt: skip
                    if bias.size > 0 and p + count == k:
                        if upright:
                            add_to_columns(bias, i, rows, c, to, c_row, columns)
                        else:
                            add_to_rows(bias, j, columns, c, to, c_row, rows)
                    i += rows
