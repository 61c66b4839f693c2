"""The innermost part of a float32 product: a tile of the result, whose sums are in registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from gradient.backends.numpy.kernels import instructions
from gradient.backends.numpy.kernels.vectors import BYTES, LANES, intrinsic

ROWS = 12 if BYTES == 64 else 6
"""Rows of a tile: with two vectors each, as many as there are registers for."""

SHORT = 4
"""Rows of the tiles that take what is left."""

WIDTH = LANES[types.float32]
PAIR = 2 * WIDTH
"""Columns of a panel."""

PARTS = 16
"""Of a tile's loop: in each a few lines of the cache are asked for."""

I64 = ir.IntType(64)


def _tile(height: int) -> Any:
    """An intrinsic tile(a, a_at, a_row, a_column, b, b_at, count, c, c_at, c_row, begin, add,
    next_a, next_a_step, next_a_second, next_b, next_b_step, next_b_second).

    c (height, PAIR) = a (height, count) @ b (count, PAIR), flat float32 arrays all. The rows of `a`
    and its columns are `a_row` and `a_column` apart, those of c `c_row` and 1; `b` is packed. Sums
    begin with what is in c if `begin`, which is added to them in the end if `add`.

    The rest says which lines are read into the second cache meanwhile: PARTS of them, so many bytes
    apart, from each of the addresses `next_a` and `next_b` on, and as many so many bytes behind
    them. Nothing needs to be at such an address.
    """

    @intrinsic
    def tile(
        context, a, a_at, a_row, a_column, b, b_at, count, c, c_at, c_row, begin, add,
        next_a, next_a_step, next_a_second, next_b, next_b_step, next_b_second,
    ):  # fmt: skip
        def generate(context, builder, signature, arguments):
            a_, a_at_, a_row_, a_column_, b_, b_at_, count_, *rest = arguments
            c_, c_at_, c_row_, begin_, add_, next_a_, next_a_step_, next_a_second_, *rest = rest
            next_b_, next_b_step_, next_b_second_ = rest
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
            sums = [[cgutils.alloca_once(builder, vector) for _ in range(2)] for _ in range(height)]
            with builder.if_else(begin_) as (then, otherwise):
                with then:
                    for out, total in zip(outs, sums, strict=True):
                        for to, each in zip(out, total, strict=True):
                            builder.store(read(to), each)
                with otherwise:
                    for each in (each for total in sums for each in total):
                        builder.store(ir.Constant(vector, [0.0] * WIDTH), each)

            def multiply(index: Any) -> None:
                """Add the products of a column of `a` and a row of `b`."""
                panel = pair(builder.gep(right, [builder.mul(index, I64(PAIR))]))
                column = builder.mul(index, a_column_)
                numbers = [read(pointer) for pointer in panel]
                for row, total in zip(rows, sums, strict=True):
                    factor = splat(builder.load(builder.gep(row, [column])))
                    for number, each in zip(numbers, total, strict=True):
                        builder.store(builder.call(fma, [number, factor, builder.load(each)]), each)
                # Loads stay behind this: LLVM would bring forward so many that sums lose their
                # registers.
                builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)

            def fetch(part: Any) -> None:
                """Ask for the lines of a part."""
                with builder.if_then(builder.icmp_signed("<", part, I64(height))):
                    for each in pair(builder.gep(held, [builder.mul(part, c_row_)])):
                        instructions.prefetch(builder, each, cache=2)
                step = builder.mul(part, next_b_step_)
                of_a = builder.add(next_a_, builder.mul(part, next_a_step_))
                for address in (
                    of_a,
                    builder.add(of_a, next_a_second_),
                    builder.add(next_b_, step),
                    builder.add(builder.add(next_b_, next_b_second_), step),
                ):
                    line = builder.inttoptr(address, ir.IntType(8).as_pointer())
                    instructions.prefetch(builder, line, cache=2)

            with cgutils.for_range(builder, I64(PARTS), intp=I64) as part:
                fetch(part.index)
                bounds = [part.index, builder.add(part.index, I64(1))]
                shift = I64(PARTS.bit_length() - 1)
                bounds = [builder.lshr(builder.mul(count_, bound), shift) for bound in bounds]
                with cgutils.for_range_slice(builder, *bounds, I64(1), intp=I64) as (index, _):
                    multiply(index)
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

        n, flag = types.int64, types.boolean
        return types.void(a, n, n, n, b, n, n, c, n, n, flag, flag, n, n, n, n, n, n), generate

    return tile


tile, short_tile = _tile(ROWS), _tile(SHORT)
