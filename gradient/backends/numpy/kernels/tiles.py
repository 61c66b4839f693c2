"""Products of small matrices, a tile of the result at a time in registers.

Every element is one chain of multiplications and additions in the order of k: the same bits
whichever rows and columns are computed with it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from gradient.backends.numpy.kernels.compilation import subroutine
from gradient.backends.numpy.kernels.vectors import BYTES, LANES, Vector, intrinsic, lanes

ROWS = 12 if BYTES == 64 else 4
"""Rows of a tile, of two vectors each, as many as there are registers for."""

UNROLLED = 4
"""Columns of `a` in a round of a tile's loop."""

I64 = ir.IntType(64)


def _tile(rows: int, vectors: int = 2) -> Any:
    """An intrinsic tile(a, a_at, a_row, a_column, b, b_at, b_row, count, c, c_at, c_row, add).

    c (rows, vectors) = or += a (rows, count) @ b (count, vectors). All are flat arrays; of each is
    said where it begins and how far apart its rows are, of a its columns as well.
    """

    @intrinsic
    def tile(context, a, a_at, a_row, a_column, b, b_at, b_row, count, c, c_at, c_row, add):
        def generate(context, builder, signature, arguments):
            a_, a_at_, a_row_, a_column_, b_, b_at_, b_row_, count_, *rest = arguments
            c_, c_at_, c_row_, add_ = rest
            width = LANES[b.dtype]
            vector = context.get_value_type(Vector(b.dtype))
            name = f"llvm.fmuladd.v{width}{'f32' if b.dtype == types.float32 else 'f64'}"
            type_ = ir.FunctionType(vector, [vector] * 3)
            fma = builder.module.declare_intrinsic(name, fnty=type_)
            size = b.dtype.bitwidth // 8

            def place(array: Any, value: Any, at: Any) -> Any:
                return builder.gep(context.make_array(array)(context, builder, value).data, [at])

            def each_vector(start: Any) -> list[Any]:
                starts = [builder.gep(start, [I64(j * width)]) for j in range(vectors)]
                return [builder.bitcast(each, vector.as_pointer()) for each in starts]

            def read(pointer: Any) -> Any:
                value = builder.load(pointer)
                value.align = size
                return value

            def splat(number: Any) -> Any:
                one = builder.insert_element(ir.Constant(vector, ir.Undefined), number, I64(0))
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), width), None)
                return builder.shuffle_vector(one, one, zeros)

            def variable(value: Any) -> Any:
                held = cgutils.alloca_once(builder, value.type)
                builder.store(value, held)
                return held

            # A row's number is 2**n + that of a pointer, or 0: the processor adds a distance times
            # 1, 2, 4 or 8 to an address without an instruction for it, which would take one of
            # FMA's places.
            first, right = place(a, a_, a_at_), variable(place(b, b_, b_at_))
            pointers = min(rows, 1 << max(0, rows.bit_length() - 2))
            starts = [builder.gep(first, [builder.mul(a_row_, I64(i))]) for i in range(pointers)]
            starts = [variable(each) for each in starts]
            held = place(c, c_, c_at_)
            c_rows = [builder.gep(held, [builder.mul(c_row_, I64(i))]) for i in range(rows)]
            outs = [each_vector(row) for row in c_rows]
            sums = [
                [cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(rows)
            ]
            with builder.if_else(add_) as (then, otherwise):
                with then:
                    for out, total in zip(outs, sums, strict=True):
                        for j in range(vectors):
                            builder.store(read(out[j]), total[j])
                with otherwise:
                    for total in sums:
                        for j in range(vectors):
                            builder.store(ir.Constant(vector, [0.0] * width), total[j])

            def multiply(columns: int) -> None:
                """Add the products of so many columns of `a` and rows of `b`."""
                # LLVM would make addresses from one another, as long as it knows how they go on.
                kind = ir.FunctionType(first.type, [first.type])
                here = [builder.load(each) for each in starts]
                here = [builder.asm(kind, "", "=r,0", [each], True) for each in here]
                b_here = builder.load(right)
                for column in range(columns):
                    numbers = [read(pointer) for pointer in each_vector(b_here)]
                    b_here = builder.gep(b_here, [b_row_])
                    at = builder.mul(a_column_, I64(column))
                    for row, total in enumerate(sums):
                        power = 1 << (row.bit_length() - 1) if row else 0
                        place = builder.gep(here[row - power], [builder.mul(a_row_, I64(power))])
                        number = splat(builder.load(builder.gep(place, [at])))
                        for j in range(vectors):
                            more = builder.call(fma, [numbers[j], number, builder.load(total[j])])
                            builder.store(more, total[j])
                    # Loads stay behind this: LLVM would bring forward so many that sums lose their
                    # registers.
                    builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)
                step = builder.mul(a_column_, I64(columns))
                for start, each in zip(starts, here, strict=True):
                    builder.store(builder.gep(each, [step]), start)
                builder.store(b_here, right)

            with cgutils.for_range(builder, builder.udiv(count_, I64(UNROLLED)), intp=I64):
                multiply(UNROLLED)
            with cgutils.for_range(builder, builder.urem(count_, I64(UNROLLED)), intp=I64):
                multiply(1)
            for out, total in zip(outs, sums, strict=True):
                for j in range(vectors):
                    builder.store(builder.load(total[j]), out[j]).align = size
            return context.get_dummy_value()

        n = types.int64
        return types.void(a, n, n, n, b, n, n, n, c, n, n, types.boolean), generate

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
