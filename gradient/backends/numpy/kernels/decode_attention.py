"""Attention of few query rows over a key-value cache, a block of positions at a time.

Keys and values are read once for all query heads of a key head, where they lie: a square of keys is
transposed in registers on its way, and values are multiplied as they come. Each score is the same
chain of multiplications and additions in the order of D as in `cached_attention.attend`, and so are
the sums over positions: both give a query the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from gradient.backends.numpy.kernels.attention import padded
from gradient.backends.numpy.kernels.cache_slots import (
    BLOCK,
    find_vectors,
    first_block,
    read_vectors,
)
from gradient.backends.numpy.kernels.cached_attention import (
    SCORES,
    seen_positions,
    softmax_rows,
    write_row,
)
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.stored import CONVERSIONS, FLOAT16, exchange
from gradient.backends.numpy.kernels.tiles import tile_1, tile_8
from gradient.backends.numpy.kernels.vectors import LANES, intrinsic, lanes, load, store

ROWS = 8
"""Query rows that go through the keys together at most."""

FEW = 2 * ROWS
"""Query rows of a key head up to which these kernels take them."""

NAMES = {types.float32: "float32", types.uint16: "bfloat16", types.int16: "float16"}
"""What is stored, by the type of the numbers of `form`, an array that is only there to tell."""

F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
WIDTH = LANES[types.float32]
FLOATS, INTS = ir.VectorType(F32, WIDTH), ir.VectorType(I32, WIDTH)


@intrinsic
def turn_keys(context, data, places, places_at, form, d, columns, columns_at):
    """columns (d, WIDTH), two vectors apart, = the transpose of WIDTH keys of d numbers.

    Their numbers among the vectors in `data` are in `places`. d is a multiple of two vectors.
    """
    name = NAMES[form.dtype]

    def generate(context, builder, signature, arguments):
        data_, places_, places_at_, _, d_, columns_, columns_at_ = arguments
        size, stored, convert = CONVERSIONS[name]
        first, numbers, out = (
            context.make_array(array)(context, builder, value).data
            for array, value in ((data, data_), (places, places_), (columns, columns_))
        )
        row = builder.mul(d_, I64(size))
        keys = []
        for i in range(WIDTH):
            number = builder.load(builder.gep(numbers, [builder.add(places_at_, I64(i))]))
            keys.append(builder.gep(first, [builder.mul(number, row)]))
        out = builder.gep(out, [columns_at_])

        def write(column: Any, at: Any) -> None:
            to = builder.gep(out, [builder.mul(at, I64(2 * WIDTH))])
            builder.store(column, builder.bitcast(to, FLOATS.as_pointer())).align = 4

        # Two numbers of bfloat16 go through the exchange as one of 32 bits.
        pairs = name == "bfloat16"
        step = 2 * WIDTH if pairs else WIDTH
        with cgutils.for_range_slice(builder, I64(0), d_, I64(step), intp=I64) as (at, _):
            kind = INTS if pairs else ir.VectorType(stored, WIDTH)
            offset = builder.mul(at, I64(size))
            square = [_read(builder, builder.gep(key, [offset]), kind) for key in keys]
            if pairs:
                for i, both in enumerate(exchange(builder, square)):
                    low = builder.shl(both, _constant(INTS, 16))
                    high = builder.and_(both, _constant(INTS, 0xFFFF0000))
                    for j, bits in enumerate((low, high)):
                        write(builder.bitcast(bits, FLOATS), builder.add(at, I64(2 * i + j)))
            else:
                square = [convert(builder, key, FLOATS, INTS) for key in square]
                for i, column in enumerate(exchange(builder, square)):
                    write(column, builder.add(at, I64(i)))
        return context.get_dummy_value()

    n = types.int64
    return types.void(data, places, n, form, n, columns, n), generate


def _weighted(rows: int) -> Any:
    """An intrinsic weighted(p, p_at, data, places, count, form, e, column, out, out_at, out_row).

    out (rows, two vectors) = p (rows, count), SCORES apart, @ those columns of `count` values of e
    numbers, whose numbers among the vectors in `data` are in `places`.
    """

    @intrinsic
    def weighted(context, p, p_at, data, places, count, form, e, column, out, out_at, out_row):
        name = NAMES[form.dtype]

        def generate(context, builder, signature, arguments):
            p_, p_at_, data_, places_, count_, _, e_, column_, out_, out_at_, out_row_ = arguments
            size, stored, convert = CONVERSIONS[name]
            weights, first, numbers, outs = (
                context.make_array(array)(context, builder, value).data
                for array, value in ((p, p_), (data, data_), (places, places_), (out, out_))
            )
            row = builder.mul(e_, I64(size))
            first = builder.gep(first, [builder.mul(column_, I64(size))])
            weights = builder.gep(weights, [p_at_])
            kind = ir.VectorType(stored, WIDTH)
            sums = [[cgutils.alloca_once(builder, FLOATS) for _ in range(2)] for _ in range(rows)]
            for total in sums:
                for j in range(2):
                    builder.store(_constant(FLOATS, 0.0), total[j])
            with cgutils.for_range(builder, count_, intp=I64) as loop:
                number = builder.load(builder.gep(numbers, [loop.index]))
                value = builder.gep(first, [builder.mul(number, row)])
                both = []
                for j in range(2):
                    held = _read(builder, builder.gep(value, [I64(j * WIDTH * size)]), kind)
                    both.append(convert(builder, held, FLOATS, INTS))
                here = builder.gep(weights, [loop.index])
                for r, total in enumerate(sums):
                    weight = builder.load(builder.gep(here, [I64(r * SCORES)]))
                    weight = _splat(builder, weight)
                    for j in range(2):
                        more = _fma(builder, both[j], weight, builder.load(total[j]))
                        builder.store(more, total[j])
            for r, total in enumerate(sums):
                to = builder.gep(outs, [builder.add(out_at_, builder.mul(out_row_, I64(r)))])
                for j in range(2):
                    at = builder.gep(to, [I64(j * WIDTH)])
                    at = builder.bitcast(at, FLOATS.as_pointer())
                    builder.store(builder.load(total[j]), at).align = 4
            return context.get_dummy_value()

        n = types.int64
        return types.void(p, n, data, places, n, form, n, n, out, n, n), generate

    return weighted


def _constant(kind: Any, number: float) -> Any:
    return ir.Constant(kind, [number] * kind.count)


def _read(builder: Any, pointer: Any, kind: Any) -> Any:
    value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    value.align = 1
    return value


def _splat(builder: Any, number: Any) -> Any:
    one = builder.insert_element(ir.Constant(FLOATS, ir.Undefined), number, I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(INTS, None))


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    type_ = ir.FunctionType(FLOATS, [FLOATS] * 3)
    name = f"llvm.fmuladd.v{WIDTH}f32"
    return builder.call(builder.module.declare_intrinsic(name, fnty=type_), [a, b, c])


# Global names, for the cache on disk does not find kernels that refer to anything else.
weighted_1, weighted_8 = _weighted(1), _weighted(ROWS)


@ordered_subroutine
def queries_by_column(q, sizes, batch, head, rows, scale, some, d, columns):
    """scale * the query rows of a key head, `some` rows after the others, each (d, some)."""
    t, h, real = sizes[1], sizes[2], sizes[4]
    groups = h // sizes[3]
    for r in range(rows):
        at = ((batch * t + r // groups) * h + head * groups + r % groups) * real
        to = r // some * some * d + r % some
        for i in range(real):
            columns[to + i * some] = q[at + i] * scale


@ordered_kernel
def attend_few(
    start, stop, q, positions, sizes, table, place, starts,
    k_form, k_kind, k_data, k_scales, k_lows, k_group,
    v_form, v_kind, v_data, v_scales, v_lows, v_group,
    scale, window, softcap, parts, high, sums, o, out,
):  # fmt: skip
    """`cached_attention.attend` of at most FEW query rows a key head, in one tile.

    A form says how the vectors are stored that are multiplied: those of the cache, where they are
    floats and their length a multiple of two vectors, else float32, as what they are read into.
    """
    heads, d, e = sizes[3], sizes[4], sizes[5]
    rows = sizes[1] * (sizes[2] // heads)
    groups = sizes[2] // heads
    dtype = q.dtype
    width = lanes(q)
    some = 1 if rows == 1 else ROWS  # go through the keys together, some of them maybe of zeros
    all_rows = (rows + some - 1) // some * some
    d_row, e_row = padded(d, q), padded(e, q)
    k_direct = k_kind <= FLOAT16 and d == d_row
    v_direct = v_kind <= FLOAT16 and e == e_row
    pair = 2 * width
    keys = np.empty(d_row * pair, dtype)
    columns, p = np.empty(all_rows * d_row, dtype), np.empty(all_rows * SCORES, dtype)
    for i in range(all_rows * d_row):
        columns[i] = 0
    seen, new = np.empty((rows, 2), np.int64), np.empty(all_rows * e_row, dtype)
    k_rows = np.empty(0 if k_direct else BLOCK * d_row, dtype)
    v_rows = np.empty(0 if v_direct else BLOCK * e_row, dtype)
    for i in range(k_rows.size):
        k_rows[i] = 0
    for i in range(v_rows.size):
        v_rows[i] = 0
    k_bytes = k_data if k_direct else k_rows.view(np.uint8)
    v_bytes = v_data if v_direct else v_rows.view(np.uint8)
    places, as_read = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    for i in range(BLOCK):
        as_read[i] = i
    k_places = places if k_direct else as_read
    v_places = places if v_direct else as_read
    if parts == 1:
        high, sums = np.empty(rows, dtype), np.empty(rows, dtype)
    held = -1
    for unit in range(start, stop):
        batch, head = unit // (heads * parts), unit // parts % heads
        row = unit * rows if parts > 1 else 0
        block = first_block(positions[batch, 0], window, starts, batch) + unit % parts
        begin = block * BLOCK
        low, end = seen_positions(begin, positions, batch, 0, rows, groups, window, starts, seen)
        if low >= end:
            for r in range(row, row + rows):
                sums[r] = 0
            if parts == 1:
                for r in range(rows):
                    write_row(new, r * e_row, sums[r], sizes, batch, head, r, out)
            continue
        if unit // parts != held:
            held = unit // parts
            queries_by_column(q, sizes, batch, head, rows, scale, some, d_row, columns)
        # Of whole pairs of vectors of keys, those that are not there are the last again.
        low_vector, count = low // pair * pair, end - low
        if k_direct or v_direct:
            find_vectors(table, place, starts, batch, head, begin + low, begin + end, places[low:])
            for i in range(low_vector, low):
                places[i] = places[low]
            for i in range(end, BLOCK):
                places[i] = places[end - 1]
        if not k_direct:
            read_vectors(table, place, starts, batch, head, begin + low, begin + end,
                         k_kind, k_data, k_scales, k_lows, k_group, d, k_rows[low * d_row :],
                         d_row)  # fmt: skip
        if not v_direct:
            read_vectors(table, place, starts, batch, head, begin + low, begin + end,
                         v_kind, v_data, v_scales, v_lows, v_group, e, v_rows[low * e_row :],
                         e_row)  # fmt: skip
        for i in range(low_vector, end, pair):
            for j in range(0, pair, width):
                turn_keys(k_bytes, k_places, i + j, k_form, d_row, keys, j)
            for r in range(0, rows, some):
                at = r * SCORES + i
                if some == 1:
                    tile_1(columns, 0, 1, 1, keys, 0, pair, d_row, p, at, SCORES, False)
                else:
                    tile_8(columns, r * d_row, 1, ROWS, keys, 0, pair, d_row, p, at, SCORES, False)
        softmax_rows(p, rows, seen, softcap, high[row:], sums[row:])
        found = o[row * e_row :] if parts > 1 and all_rows == rows else new
        for j in range(0, e_row, pair):
            for r in range(0, rows, some):
                at, to = r * SCORES + low, r * e_row + j
                if some == 1:
                    weighted_1(p, at, v_bytes, v_places[low:], count, v_form, e_row, j, found, to,
                               e_row)  # fmt: skip
                else:
                    weighted_8(p, at, v_bytes, v_places[low:], count, v_form, e_row, j, found, to,
                               e_row)  # fmt: skip
        if parts == 1:
            for r in range(rows):
                write_row(found, r * e_row, sums[r], sizes, batch, head, r, out)
        elif all_rows != rows:
            for i in range(0, rows * e_row, width):
                store(o, row * e_row + i, load(new, i))
