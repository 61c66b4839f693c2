"""Products x @ W.T with a weight in 16 bits, which is read once and widened in registers.

One output is the dot product of a row of x and a row of W, kept as a vector of partial sums while
k runs, and added up at the end in a fixed order. A tile of several rows of each shares the loads.
An output's partial sums are the same in a tile of any size, so it does not depend on how many
other rows are computed with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from gradient.backends.numpy.kernels.compilation import ordered_kernel
from gradient.backends.numpy.kernels.vectors import BYTES, LANES, intrinsic

WIDTH = LANES[types.float32]
"""The float32 numbers in a vector."""

TILE = (4, 6) if BYTES == 64 else (2, 4)
"""Rows of x and of W in a tile: its sums, and W's vectors, have to fit in the registers."""

CACHED = 3 << 16
"""Numbers of x that a thread reads again for each tile's rows of W: they stay in its cache."""

_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
_FLOATS = ir.VectorType(_F32, WIDTH)
_WORDS = ir.VectorType(_I32, WIDTH)
_STORED = {
    types.float32: _FLOATS,
    types.uint16: ir.VectorType(ir.IntType(16), WIDTH),  # bfloat16, which numba does not have
    types.int16: ir.VectorType(ir.HalfType(), WIDTH),  # float16, which it has on a GPU alone
}


def tile(rows: int, columns: int) -> Any:
    """An intrinsic that computes `rows` x `columns` outputs:

    tile(x, i, w, j, k, out) for flat arrays x (M, row length), w (N, k) and out (M, N), each with
    the start of its first row and its row length as a pair; k is at least WIDTH.
    """

    @intrinsic
    def dot_products(context, x, x_at, x_row, w, w_at, w_row, k, out, out_at, out_row):
        stored = w.dtype

        def generate(context, builder, signature, arguments):
            x_, x_at_, x_row_, w_, w_at_, w_row_, k_, out_, out_at_, out_row_ = arguments
            x_rows = _rows(context, builder, x, x_, x_at_, x_row_, rows)
            w_rows = _rows(context, builder, w, w_, w_at_, w_row_, columns)
            zero = ir.Constant(_FLOATS, [0.0] * WIDTH)
            sums = [[cgutils.alloca_once(builder, _FLOATS) for _ in w_rows] for _ in x_rows]
            for place in (place for row in sums for place in row):
                builder.store(zero, place)

            def add_products(p: Any, keep: Callable[[Any], Any]) -> None:
                w_vectors = [keep(_load(builder, row, p, stored)) for row in w_rows]
                for x_row, places in zip(x_rows, sums, strict=True):
                    x_vector = keep(_load(builder, x_row, p, types.float32))
                    for w_vector, place in zip(w_vectors, places, strict=True):
                        builder.store(_fma(builder, x_vector, w_vector, place), place)

            width = _I64(WIDTH)
            left = builder.urem(k_, width)
            whole = builder.sub(k_, left)
            with cgutils.for_range_slice(builder, _I64(0), whole, width, intp=_I64) as (p, _):
                add_products(p, lambda vector: vector)
            with builder.if_then(builder.icmp_unsigned("!=", left, _I64(0))):
                # The last vector begins before the end of what was added, and leaves that out.
                first = builder.trunc(builder.sub(width, left), _I32)
                number = ir.Constant(_WORDS, list(range(WIDTH)))
                new = builder.icmp_unsigned(">=", number, _splat(builder, first))
                add_products(builder.sub(k_, width), lambda v: builder.select(new, v, zero))

            out_rows = _rows(context, builder, out, out_, out_at_, out_row_, rows)
            for row, places in zip(out_rows, sums, strict=True):
                for j, place in enumerate(places):
                    builder.store(_total(builder, place), builder.gep(row, [_I64(j)]))
            return context.get_dummy_value()

        at = types.int64
        return types.void(x, at, at, w, at, at, at, out, at, at), generate

    return dot_products


def _rows(context: Any, builder: Any, array: Any, value: Any, at: Any, row: Any, n: int) -> Any:
    """Pointers to n rows of a flat array."""
    data = context.make_array(array)(context, builder, value).data
    starts = [builder.add(at, builder.mul(row, _I64(i))) for i in range(n)]
    return [builder.gep(data, [start]) for start in starts]


def _load(builder: Any, row: Any, index: Any, stored: Any) -> Any:
    """The vector that starts at a row's element `index`, as float32."""
    kind = _STORED[stored]
    place = builder.bitcast(builder.gep(row, [index]), kind.as_pointer())
    vector = builder.load(place)
    vector.align = 1
    if stored == types.uint16:  # the upper half of a float32
        high = builder.shl(builder.zext(vector, _WORDS), ir.Constant(_WORDS, [16] * WIDTH))
        return builder.bitcast(high, _FLOATS)
    return builder.fpext(vector, _FLOATS) if stored == types.int16 else vector


def _fma(builder: Any, a: Any, b: Any, place: Any) -> Any:
    type_ = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
    function = builder.module.declare_intrinsic(f"llvm.fmuladd.v{WIDTH}f32", fnty=type_)
    return builder.call(function, [a, b, builder.load(place)])


def _splat(builder: Any, number: Any) -> Any:
    one = builder.insert_element(ir.Constant(_WORDS, ir.Undefined), number, _I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(_WORDS, [0] * WIDTH))


def _total(builder: Any, place: Any) -> Any:
    """The sum of a vector's elements: the halves are added, until one is left."""
    vector, n = builder.load(place), WIDTH
    while n > 1:
        n //= 2
        half = ir.VectorType(_I32, n)
        low = builder.shuffle_vector(vector, vector, ir.Constant(half, list(range(n))))
        high = builder.shuffle_vector(vector, vector, ir.Constant(half, list(range(n, 2 * n))))
        vector = builder.fadd(low, high)
    return builder.extract_element(vector, _I32(0))


ROWS, COLUMNS = TILE
FEW = ROWS // 2
# Global names, for the cache on disk does not find kernels that refer to anything else.
many_by_many, few_by_many = tile(ROWS, COLUMNS), tile(FEW, COLUMNS)
one_by_many, one_by_one = tile(1, COLUMNS), tile(1, 1)


@ordered_kernel
def linear(start, stop, x, x_row, rows, weight, k, bias, out):
    """out (M, N)[:, start:stop] = x (M, K) @ weight (N, K)[start:stop].T (+ bias), all flat.

    x and out are float32, the rows of x are `x_row` apart. weight is float32, or the bits of
    bfloat16 as uint16, of float16 as int16. bias (N,) may be of size 0.
    """
    n = out.size // rows
    near = max(CACHED // k // ROWS, 1) * ROWS
    tiled = stop - (stop - start) % COLUMNS
    for top in range(0, rows, near):
        end = min(top + near, rows)
        for j in range(start, tiled, COLUMNS):
            i = top
            while i + ROWS <= end:
                many_by_many(x, i * x_row, x_row, weight, j * k, k, k, out, i * n + j, n)
                i += ROWS
            while i + FEW <= end:
                few_by_many(x, i * x_row, x_row, weight, j * k, k, k, out, i * n + j, n)
                i += FEW
            while i < end:
                one_by_many(x, i * x_row, x_row, weight, j * k, k, k, out, i * n + j, n)
                i += 1
        for j in range(tiled, stop):
            for i in range(top, end):
                one_by_one(x, i * x_row, x_row, weight, j * k, k, k, out, i * n + j, n)
    if bias.size:
        for i in range(rows):
            for j in range(start, stop):
                out[i * n + j] += bias[j]
