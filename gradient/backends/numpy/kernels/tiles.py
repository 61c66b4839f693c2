"""Products of small matrices, a tile of the result at a time in registers.

Every element is one chain of multiplications and additions in the order of k: the same bits
whichever rows and columns are computed with it.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from numba.core import cgutils

from gradient.backends.numpy.kernels.building import (
    Rows,
    add_products,
    begin_sums,
    hold_loads,
    read,
    write,
)
from gradient.backends.numpy.kernels.compilation import subroutine
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.llvm_types import I64
from gradient.backends.numpy.kernels.vectors import BYTES, lanes, vector_of

ROWS = 12 if BYTES == 64 else 4
"""Rows of a tile, of two vectors each, as many as there are registers for."""

UNROLLED = 4
"""Columns of `a` in a round of a tile's loop."""


def _tile(rows: int, vectors: int = 2) -> Any:
    """An intrinsic tile(a, a_at, a_row, a_column, b, b_at, b_row, count, c, c_at, c_row, add).

    c (rows, vectors) = or += a (rows, count) @ b (count, vectors). All are flat arrays; of each is
    said where it begins and how far apart its rows are, of a its columns as well.
    """

    @emitted()
    def tile(builder, a, a_at, a_row, a_column, b, b_at, b_row, count, c, c_at, c_row, add):
        vector = vector_of(b.type.pointee)
        width, size = vector.count, BYTES // vector.count

        def each_vector(start: Any) -> list[Any]:
            return [builder.gep(start, [I64(j * width)]) for j in range(vectors)]

        a_rows = Rows(builder, builder.gep(a, [a_at]), a_row, rows)
        right = cgutils.alloca_once_value(builder, builder.gep(b, [b_at]))
        held = builder.gep(c, [c_at])
        c_rows = [builder.gep(held, [builder.mul(c_row, I64(i))]) for i in range(rows)]
        sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(rows)]
        outs, totals = list(chain(*map(each_vector, c_rows))), list(chain(*sums))
        begin_sums(builder, add, totals, outs, size)

        def multiply(columns: int) -> None:
            """Add the products of so many columns of `a` and rows of `b`."""
            a_rows.look()
            b_here = builder.load(right)
            for column in range(columns):
                numbers = [read(builder, each, vector, size) for each in each_vector(b_here)]
                b_here = builder.gep(b_here, [b_row])
                at = builder.mul(a_column, I64(column))
                for row, total in enumerate(sums):
                    place = builder.gep(a_rows.row(row), [at])
                    add_products(builder, place, numbers, total)
                hold_loads(builder)
            a_rows.move(builder.mul(a_column, I64(columns)))
            builder.store(b_here, right)

        with cgutils.for_range(builder, builder.udiv(count, I64(UNROLLED)), intp=I64):
            multiply(UNROLLED)
        with cgutils.for_range(builder, builder.urem(count, I64(UNROLLED)), intp=I64):
            multiply(1)
        for out, each in zip(outs, totals, strict=True):
            write(builder, builder.load(each), out, size)

    return tile


# Global names, for the cache on disk does not find kernels that refer to anything else.
tile_1, tile_2, tile_4, tile_6 = _tile(1), _tile(2), _tile(4), _tile(6)
tile_8, tile_10, tile_12, tile_rows = _tile(8), _tile(10), _tile(12), _tile(ROWS)
narrow_tile_4, narrow_tile_rows = _tile(4, 1), _tile(ROWS, 1)


@subroutine
def product(a, row, column, b, b_row, c, c_row, m, k, n, add):
    """c (m, n) = or += a (m, k) @ b (k, n), where a's element (i, p) is a[i * row + p * column].

    m is a multiple of 4 and n one of a vector.
    """
    width = lanes(b)
    j = 0
    while j + 2 * width <= n:
        i = 0
        while i + ROWS <= m:
            tile_rows(a, i * row, row, column, b, j, b_row, k, c, i * c_row + j, c_row, add)
            i += ROWS
        while i < m:
            tile_4(a, i * row, row, column, b, j, b_row, k, c, i * c_row + j, c_row, add)
            i += 4
        j += 2 * width
    if j < n:
        i = 0
        while i + ROWS <= m:
            narrow_tile_rows(a, i * row, row, column, b, j, b_row, k, c, i * c_row + j, c_row, add)
            i += ROWS
        while i < m:
            narrow_tile_4(a, i * row, row, column, b, j, b_row, k, c, i * c_row + j, c_row, add)
            i += 4
