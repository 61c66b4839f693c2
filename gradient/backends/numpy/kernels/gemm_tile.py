"""The innermost part of a float32 product: a tile of the result, whose sums are in registers."""

from __future__ import annotations

from itertools import chain
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from gradient.backends.numpy.kernels import instructions
from gradient.backends.numpy.kernels.building import (
    Rows,
    add_products,
    begin_sums,
    hold_loads,
    read,
    write,
)
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.llvm_types import I64
from gradient.backends.numpy.kernels.vectors import BYTES, LANES

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

    @emitted()
    def tile(
        builder, a, a_at, a_row, b, b_at, count, c, c_at, c_row, begin, add,
        next_a, next_a_step, next_a_second, next_b, next_b_step, next_b_second,
    ):  # fmt: skip
        vector = ir.VectorType(ir.FloatType(), WIDTH)

        def pair(start: Any) -> list[Any]:
            return [start, builder.gep(start, [I64(WIDTH)])]

        held = builder.gep(c, [c_at])
        rows = [pair(builder.gep(held, [builder.mul(c_row, I64(i))])) for i in range(height)]
        sums = [[cgutils.alloca_once(builder, vector) for _ in range(2)] for _ in range(height)]
        outs, totals = list(chain(*rows)), list(chain(*sums))
        begin_sums(builder, begin, totals, outs)
        first = builder.gep(a, [a_at])
        a_rows = Rows(builder, first, a_row, 1 if packed else height)
        right = cgutils.alloca_once_value(builder, builder.gep(b, [b_at]))

        def multiply(columns: int) -> None:
            """Add the products of so many columns of `a` and rows of `b`."""
            a_rows.look()
            panel = builder.load(right)
            for column in range(columns):
                here = builder.gep(panel, [I64(column * PAIR)])
                numbers = [read(builder, each, vector) for each in pair(here)]
                for row, total in enumerate(sums):
                    if packed:
                        at = builder.gep(a_rows.row(0), [I64(column * ROWS + row)])
                    else:
                        at = builder.gep(a_rows.row(row), [I64(column)])
                    add_products(builder, at, numbers, total)
                hold_loads(builder)
            a_rows.move(I64(columns * ROWS if packed else columns))
            builder.store(builder.gep(panel, [I64(columns * PAIR)]), right)

        def fetch(part: Any) -> None:
            """Ask for the lines of a part."""
            with builder.if_then(builder.icmp_signed("<", part, I64(height))):
                for each in pair(builder.gep(held, [builder.mul(part, c_row)])):
                    instructions.prefetch(builder, each, cache=2)
            step = builder.mul(part, next_b_step)
            of_a = builder.add(next_a, builder.mul(part, next_a_step))
            for address in (
                of_a,
                builder.add(of_a, next_a_second),
                builder.add(next_b, step),
                builder.add(builder.add(next_b, next_b_second), step),
            ):
                line = builder.inttoptr(address, ir.IntType(8).as_pointer())
                instructions.prefetch(builder, line, cache=2)

        with cgutils.for_range(builder, I64(PARTS), intp=I64) as part:
            fetch(part.index)
            rounds = builder.udiv(count, I64(UNROLLED))
            bounds = [part.index, builder.add(part.index, I64(1))]
            bounds = [builder.udiv(builder.mul(rounds, bound), I64(PARTS)) for bound in bounds]
            with cgutils.for_range_slice(builder, *bounds, I64(1), intp=I64):
                multiply(UNROLLED)
        with cgutils.for_range(builder, builder.urem(count, I64(UNROLLED)), intp=I64):
            multiply(1)
        with builder.if_else(add) as (then, otherwise):
            for branch, adds in ((then, True), (otherwise, False)):
                with branch:
                    for out, each in zip(outs, totals, strict=True):
                        result = builder.load(each)
                        if adds:
                            result = builder.fadd(read(builder, out, vector), result)
                        write(builder, result, out)

    return tile


tile, short_tile, packed_tile, packed_short_tile = (
    _tile(height, packed) for packed in (False, True) for height in (ROWS, SHORT)
)
