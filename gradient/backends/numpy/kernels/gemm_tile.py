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

UNROLLED = 8
"""Columns of `a` in a round of a tile's loop."""

I64 = ir.IntType(64)


def _tile(height: int, packed: bool) -> Any:
    """An intrinsic tile(a, a_at, a_row, b, b_at, count, c, c_at, c_row, begin, add, next_a,
    next_a_step, next_a_second, next_b, next_b_step, next_b_second).

    c (height, PAIR) = a (height, count) @ b (count, PAIR), flat float32 arrays all. The rows of `a`
    are `a_row` apart, and their numbers neighbours; or they are `packed` as (count, ROWS). `b` is
    packed as (count, PAIR). The rows of c are `c_row` apart. Sums begin with what is in c if
    `begin`, which is added to them in the end if `add`.

    The rest says which lines are read into the second cache meanwhile: PARTS of them, so many bytes
    apart, from each of the addresses `next_a` and `next_b` on, and as many so many bytes behind
    them. Nothing needs to be at such an address.
    """

    @intrinsic
    def tile(
        context, a, a_at, a_row, b, b_at, count, c, c_at, c_row, begin, add,
        next_a, next_a_step, next_a_second, next_b, next_b_step, next_b_second,
    ):  # fmt: skip
        def generate(context, builder, signature, arguments):
            a_, a_at_, a_row_, b_, b_at_, count_, *rest = arguments
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

            def variable(value: Any) -> Any:
                held = cgutils.alloca_once(builder, value.type)
                builder.store(value, held)
                return held

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

            # A row's number is 2**n + base, or 0: the processor adds a distance times 1, 2, 4 or 8
            # to an address without an instruction for it, which would take one of FMA's places.
            first, right = place(a, a_, a_at_), variable(place(b, b_, b_at_))
            bases = 1 if packed else min(height, 1 << max(0, height.bit_length() - 2))
            starts = [builder.gep(first, [builder.mul(a_row_, I64(i))]) for i in range(bases)]
            starts = [variable(each) for each in starts]

            def multiply(columns: int) -> None:
                """Add the products of so many columns of `a` and rows of `b`."""
                # LLVM would make addresses from one another, as long as it knows how they go on.
                kind = ir.FunctionType(first.type, [first.type])
                here = [builder.load(each) for each in starts]
                here = [builder.asm(kind, "", "=r,0", [each], True) for each in here]
                panel = builder.load(right)
                for column in range(columns):
                    numbers = [
                        read(each) for each in pair(builder.gep(panel, [I64(column * PAIR)]))
                    ]
                    for row, total in enumerate(sums):
                        if packed:
                            at = builder.gep(here[0], [I64(column * ROWS + row)])
                        else:
                            power = 1 << (row.bit_length() - 1) if row else 0
                            at = builder.gep(here[row - power], [builder.mul(a_row_, I64(power))])
                            at = builder.gep(at, [I64(column)])
                        factor = splat(builder.load(at))
                        for number, each in zip(numbers, total, strict=True):
                            builder.store(
                                builder.call(fma, [number, factor, builder.load(each)]), each
                            )
                    # Loads stay behind this: LLVM would bring forward so many that sums lose their
                    # registers.
                    builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)
                step = columns * ROWS if packed else columns
                for start, each in zip(starts, here, strict=True):
                    builder.store(builder.gep(each, [I64(step)]), start)
                builder.store(builder.gep(panel, [I64(columns * PAIR)]), right)

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
                rounds = builder.udiv(count_, I64(UNROLLED))
                bounds = [part.index, builder.add(part.index, I64(1))]
                bounds = [builder.udiv(builder.mul(rounds, bound), I64(PARTS)) for bound in bounds]
                with cgutils.for_range_slice(builder, *bounds, I64(1), intp=I64):
                    multiply(UNROLLED)
            with cgutils.for_range(builder, builder.urem(count_, I64(UNROLLED)), intp=I64):
                multiply(1)
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
        return types.void(a, n, n, b, n, n, c, n, n, flag, flag, n, n, n, n, n, n), generate

    return tile


tile, short_tile, packed_tile, packed_short_tile = (
    _tile(height, packed) for packed in (False, True) for height in (ROWS, SHORT)
)
