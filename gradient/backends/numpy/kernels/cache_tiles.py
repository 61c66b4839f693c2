"""Tiles of attention over a key-value cache: queries by keys, and weights by values, read in place.

Squares of keys are transposed in registers; values are multiplied as they are. Each score is one
chain of multiplications and additions in the order of D, and each sum over positions is one chain
in their order. So the bits of a query do not depend on the other queries computed with it.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from gradient.backends.numpy.kernels.building import add_products, read, rows_of, write
from gradient.backends.numpy.kernels.cache_slots import BLOCK
from gradient.backends.numpy.kernels.compilation import ordered_subroutine
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.llvm_types import F32, I32, I64, vector_of
from gradient.backends.numpy.kernels.stored import CONVERSIONS, exchange
from gradient.backends.numpy.kernels.vectors import LANES

ROWS = 8
"""Query rows that go through the keys together at most."""

SCORES = BLOCK + 16
"""Numbers from one row of scores to the next: were it a power of two, columns would compete for
the same few lines of the cache."""

NAMES = {types.float32: "float32", types.uint16: "bfloat16", types.int16: "float16"}
"""What is stored, by the type of the numbers of `form`, an array that is only there to tell."""

WIDTH = LANES[types.float32]
FLOATS, INTS = vector_of(F32, WIDTH), vector_of(I32, WIDTH)


@emitted()
def turn_keys(builder, data, places, places_at, form, d, columns, columns_at, *, kinds):
    """columns (d, WIDTH), two vectors apart, = the transpose of WIDTH keys of d numbers.

    Their numbers among the vectors in `data` are in `places`. d is a multiple of two vectors.
    """
    name = NAMES[kinds["form"].dtype]
    size, stored, convert = CONVERSIONS[name]
    numbers = builder.gep(places, [places_at])
    out = builder.gep(columns, [columns_at])
    row = builder.mul(d, I64(size))
    keys = []
    for i in range(WIDTH):
        number = builder.load(builder.gep(numbers, [I64(i)]))
        keys.append(builder.gep(data, [builder.mul(number, row)]))

    def put(column: Any, at: Any) -> None:
        write(builder, column, builder.gep(out, [builder.mul(at, I64(2 * WIDTH))]))

    # Two numbers of bfloat16 go through the exchange as one of 32 bits.
    pairs = name == "bfloat16"
    step = 2 * WIDTH if pairs else WIDTH
    with cgutils.for_range_slice(builder, I64(0), d, I64(step), intp=I64) as (at, _):
        kind = INTS if pairs else ir.VectorType(stored, WIDTH)
        offset = builder.mul(at, I64(size))
        square = [read(builder, builder.gep(key, [offset]), kind, 1) for key in keys]
        if pairs:
            for i, both in enumerate(exchange(builder, square)):
                low = builder.shl(both, _constant(INTS, 16))
                high = builder.and_(both, _constant(INTS, 0xFFFF0000))
                for j, bits in enumerate((low, high)):
                    put(builder.bitcast(bits, FLOATS), builder.add(at, I64(2 * i + j)))
        else:
            square = [convert(builder, key, FLOATS, INTS) for key in square]
            for i, column in enumerate(exchange(builder, square)):
                put(column, builder.add(at, I64(i)))


def _weighted(rows: int) -> Any:
    """An intrinsic weighted(p, p_at, data, places, count, form, e, column, out, out_at, out_row).

    out (rows, two vectors) = p (rows, count), SCORES apart, @ those columns of `count` values of e
    numbers, whose numbers among the vectors in `data` are in `places`.
    """

    @emitted()
    def weighted(
        builder, p, p_at, data, places, count, form, e, column, out, out_at, out_row, *, kinds
    ):
        name = NAMES[kinds["form"].dtype]
        size, stored, convert = CONVERSIONS[name]
        weights = builder.gep(p, [p_at])
        first = builder.gep(data, [builder.mul(column, I64(size))])
        outs = rows_of(builder, out, out_at, out_row, rows)
        row = builder.mul(e, I64(size))
        kind = ir.VectorType(stored, WIDTH)
        sums = [[cgutils.alloca_once(builder, FLOATS) for _ in range(2)] for _ in range(rows)]
        for total in chain(*sums):
            builder.store(ir.Constant(FLOATS, None), total)
        with cgutils.for_range(builder, count, intp=I64) as loop:
            number = builder.load(builder.gep(places, [loop.index]))
            value = builder.gep(first, [builder.mul(number, row)])
            both = []
            for j in range(2):
                held = read(builder, builder.gep(value, [I64(j * WIDTH * size)]), kind, 1)
                both.append(convert(builder, held, FLOATS, INTS))
            here = builder.gep(weights, [loop.index])
            for r, pair in enumerate(sums):
                add_products(builder, builder.gep(here, [I64(r * SCORES)]), both, pair)
        for to, pair in zip(outs, sums, strict=True):
            for j, total in enumerate(pair):
                write(builder, builder.load(total), builder.gep(to, [I64(j * WIDTH)]))

    return weighted


def _constant(kind: Any, number: float) -> Any:
    return ir.Constant(kind, [number] * kind.count)


# Global names, for the cache on disk does not find kernels that refer to anything else.
weighted_1, weighted_2, weighted_8 = _weighted(1), _weighted(2), _weighted(ROWS)


@ordered_subroutine
def queries_by_column(q, sizes, batch, head, first_row, rows, scale, some, d, columns):
    """scale * the query rows of a key head from `first_row` on, `some` rows after the others, each
    (d, some)."""
    t, h, real = sizes[1], sizes[2], sizes[4]
    groups = h // sizes[3]
    for r in range(rows):
        query, g = (first_row + r) // groups, (first_row + r) % groups
        at = ((batch * t + query) * h + head * groups + g) * real
        to = r // some * some * d + r % some
        for i in range(real):
            columns[to + i * some] = q[at + i] * scale
