"""Products x @ W.T with a weight of 16-bit floats, read as it is stored, for one row of x and many.

An output is a vector of sums while k runs, which are added up at the end, one half of the vector to
the other until one number is left. So it is the same bits however many rows are computed together.
A tile of some rows of x and of W keeps its sums in registers, and shares what it loads; for many
rows of x, some of W stay in the nearest cache meanwhile.

A vector of W has STEP neighbours of a row. Where the processor multiplies pairs of bfloat16
numbers, two neighbours are a lane, and x and W are multiplied as they are. Elsewhere a vector of W
becomes two of float32, of which x is made beforehand: the odd numbers and the even ones of
bfloat16, which are the halves of its lanes, and the first half and the second one of float16.

W is given as its bits (`half_precision.stored`: uint16 is bfloat16, int16 float16). So is x to be
multiplied in pairs, as `copy_rows` gives it, and as float32 elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from gradient.backends.numpy.kernels import cpu, instructions
from gradient.backends.numpy.kernels.building import begin_sums, read, rows_of, write
from gradient.backends.numpy.kernels.cache_lines import cache_lines
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.llvm_types import F32, I32, I64, vector_of
from gradient.backends.numpy.kernels.stored import CONVERSIONS, write_columns
from gradient.backends.numpy.kernels.vectors import BYTES, LANES

SOME = LANES[types.float32]
STEP = 2 * SOME

ROWS = 3
COLUMNS = 8 if BYTES == 64 else 4
"""Rows of x and of W in a tile: as many sums as leave registers for what is multiplied."""

FEW = 12
"""Rows of x up to which W is read where it lies, for each two of them anew."""

TWO = 2
"""Rows of x in a tile then: what W becomes needs registers, too."""

PANEL = 8
"""Rows of W, of whole tiles, that stay in the nearest cache while many rows of x pass."""

NEAREST = 2048
"""Bytes of rows of x and of W, as they are multiplied, for which those of a tile are in the nearest
cache."""

NEAR = 96
"""Rows of x of which as much, and the sums with a chunk of W, stay in the cache."""

AHEAD = 256
"""Numbers of a row of W ahead of which a tile of a row or two asks for the next: processors fetch
ahead by themselves, but not across the end of a page, nor from row to row."""

WIDE_AMD = cpu.AMD and BYTES == 64
"""Zen 4 and its successors: a Zen 4 fetches more ahead where it is not asked to, and reads 32 GB/s
in one stream, 24 in eight. So where one row of W is multiplied quickly enough, by pairs, a single
row of x takes one after another there."""

GROUP = 32
"""Rows of W whose outputs are written together."""

FLOATS, INTEGERS = vector_of(F32, SOME), vector_of(I32, SOME)


def _floats(builder: Any, array: types.Array, pointer: Any) -> list[Any]:
    """The two vectors of float32 of a step of numbers."""
    if array.dtype == types.uint16:
        return instructions.bfloat16_floats(builder, read(builder, pointer, INTEGERS, 2))
    _, number, convert = CONVERSIONS["float32" if array.dtype == types.float32 else "float16"]
    kind, halves = ir.VectorType(number, SOME), (builder.gep(pointer, [I64(i)]) for i in (0, SOME))
    return [convert(builder, read(builder, half, kind, 2), FLOATS, INTEGERS) for half in halves]


def tile(rows: int, columns: int = COLUMNS) -> Any:
    """An intrinsic that adds up the products of `rows` rows of x with `columns` of W.

    tile(x, x_at, x_row, w, w_at, w_row, last, steps, sums, at, add): all are flat, with where
    the first row begins in each, and the length of rows. W may be given as x is. Its rows after
    `last` are that one again. The sums, vectors from `at` on, are those of a row of x after
    another; `add` says whether they are there already.
    """

    @emitted()
    def products(builder, x, x_at, x_row, w, w_at, w_row, last, steps, sums, at, add, *, kinds):
        def factors(array: Any, pointer: Any) -> list[Any]:
            if pairs:
                return [read(builder, pointer, INTEGERS, 2)]
            return _floats(builder, array, pointer)

        def product(total: Any, own: Any, other: Any) -> Any:
            if pairs:
                return instructions.bfloat16_dot(builder, total, own, other)
            return instructions.fma(builder, own, other, total)

        pairs = kinds["x"].dtype == types.uint16
        x_rows = rows_of(builder, x, x_at, x_row, rows)
        w_rows = rows_of(builder, w, w_at, w_row, columns, last)
        held = builder.bitcast(builder.gep(sums, [at]), FLOATS.as_pointer())
        places = [builder.gep(held, [I64(i)]) for i in range(rows * columns)]
        totals = [cgutils.alloca_once(builder, FLOATS) for _ in places]
        begin_sums(builder, add, totals, places)
        # Behind the end of W's rows, those of the next tile.
        following = builder.add(I64(AHEAD), builder.mul(w_row, I64(columns - 1)))
        near_end = builder.sub(w_row, I64(AHEAD))
        with cgutils.for_range(builder, steps, intp=I64) as loop:
            number = builder.mul(loop.index, I64(STEP))
            within = builder.icmp_signed("<", number, near_end)
            ahead = builder.select(within, I64(AHEAD), following)
            x_here = [factors(kinds["x"], builder.gep(row, [number])) for row in x_rows]
            for j, row in enumerate(w_rows):
                here = builder.gep(row, [number])
                if rows <= TWO and not WIDE_AMD:
                    instructions.prefetch(builder, builder.gep(here, [ahead]))
                w_here = factors(kinds["w"], here)
                for i, own in enumerate(x_here):
                    total = totals[i * columns + j]
                    for one, other in zip(own, w_here, strict=True):
                        builder.store(product(builder.load(total), one, other), total)
        for total, kept in zip(totals, places, strict=True):
            write(builder, builder.load(total), kept)

    return products


def totals(rows: int) -> Any:
    """An intrinsic add_up(sums, at, out, out_at, out_row): a tile's sums, from `at` on, become a
    number each, of `rows` rows of out."""

    @emitted()
    def add_up(builder, sums, at, out, out_at, out_row):
        first = builder.gep(sums, [at])
        places = [builder.gep(first, [I64(i * SOME)]) for i in range(rows * COLUMNS)]
        vectors = [read(builder, each, FLOATS) for each in places]
        vectors += [ir.Constant(FLOATS, [0.0] * SOME)] * (-len(vectors) % SOME)
        # A vector holds parts of ever more sums: merging takes the halves of those of two.
        part = SOME
        while part > 1:
            part //= 2
            starts = range(0, 2 * SOME, 2 * part)
            low, high = (
                ir.Constant(INTEGERS, [s + half + i for s in starts for i in range(part)])
                for half in (0, part)
            )
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            vectors = [
                builder.fadd(builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high))
                for a, b in pairs
            ]
        outs = rows_of(builder, out, out_at, out_row, rows)
        for row, to in enumerate(outs):
            vector, start = vectors[row * COLUMNS // SOME], row * COLUMNS % SOME
            mask = ir.VectorType(I32, COLUMNS)
            own = ir.Constant(mask, list(range(start, start + COLUMNS)))
            write(builder, builder.shuffle_vector(vector, vector, own), to)

    return add_up


# Global names, for the cache on disk does not find kernels that refer to anything else.
one_by_one, one_row, two_rows, some_rows = tile(1, 1), tile(1), tile(TWO), tile(ROWS)
add_up_one, add_up_two, add_up_some = totals(1), totals(TWO), totals(ROWS)


@emitted()
def copy_step(builder, x, at, out, out_at, *, kinds):
    """out[out_at : out_at + STEP] = x[at : at + STEP], as they are or as two vectors of float32. Of
    a slice, numba copies one by one."""
    here, to = builder.gep(x, [at]), builder.gep(out, [out_at])
    vectors = [read(builder, here, INTEGERS, 2)]
    if kinds["out"].dtype != kinds["x"].dtype:
        vectors = _floats(builder, kinds["x"], here)
    for i, vector in enumerate(vectors):
        write(builder, vector, builder.gep(to, [I64(SOME * i)]), 2)


@ordered_subroutine
def copy_numbers(x, at, n, out, out_at):
    """n numbers, and zeros up to a whole step, as `copy_step`."""
    whole = n - n % STEP
    for i in range(0, whole, STEP):
        copy_step(x, at + i, out, out_at + i)
    if whole < n:
        rest = np.zeros(STEP, x.dtype)
        for i in range(n - whole):
            rest[i] = x[at + whole + i]
        copy_step(rest, 0, out, out_at + whole)


def whole_rows(rows: int) -> int:
    """How many rows of x are multiplied where there are so many: whole tiles of them."""
    some = 1 if rows == 1 else TWO if rows <= FEW else ROWS
    return -(-rows // some) * some


@ordered_kernel
def copy_rows(start, stop, x, k, out, out_row):
    """The rows start to stop of x, k numbers each, `out_row` apart, as `copy_numbers`."""
    for i in range(start, stop):
        copy_numbers(x, i * k, k, out, i * out_row)


# Products -----------------------------------------------------------------------------------------


@ordered_subroutine
def _few(start, stop, x, x_row, rows, kind, weight, n, k, bias, out):
    held, whole = out.size // (2 * n), k - k % STEP
    part = np.empty(FEW * GROUP, np.float32)
    sums = cache_lines(part, ROWS * COLUMNS * SOME)
    edge = np.zeros(COLUMNS * STEP, weight.dtype)
    for first in range(start, stop, GROUP):
        width = min(GROUP, stop - first)
        for j in range(first, first + width, COLUMNS):
            last = min(COLUMNS, stop - j) - 1
            for c in range(last + 1):
                for p in range(whole, k):
                    edge[c * STEP + p - whole] = weight[(j + c) * k + p]
            for i in range(0, rows, TWO):
                at, w, steps = i * x_row, j * k, k // STEP
                if rows == 1:
                    if WIDE_AMD and x.itemsize == 2:
                        for c in range(last + 1):
                            one_by_one(x, at, x_row, weight, w + c * k, k, 0, steps, sums,
                                       c * SOME, False)  # fmt: skip
                    else:
                        one_row(x, at, x_row, weight, w, k, last, steps, sums, 0, False)
                    if whole < k:
                        one_row(x, at + whole, x_row, edge, 0, STEP, last, 1, sums, 0, True)
                    add_up_one(sums, 0, part, j - first, GROUP)
                else:
                    two_rows(x, at, x_row, weight, w, k, last, steps, sums, 0, False)
                    if whole < k:
                        two_rows(x, at + whole, x_row, edge, 0, STEP, last, 1, sums, 0, True)
                    add_up_two(sums, 0, part, i * GROUP + j - first, GROUP)
        write_columns(part, GROUP, held, width, bias, first, kind, 2, out, 2 * first, n)


@ordered_subroutine
def _many(start, stop, x, x_row, rows, kind, weight, n, k, bias, out):
    held, most = out.size // (2 * n), NEAREST // x.itemsize
    groups, tiles = (stop - start + PANEL - 1) // PANEL, NEAR // ROWS
    tile_size = ROWS * COLUMNS * SOME
    panel = cache_lines(x, PANEL * most)
    part_row = groups * PANEL
    part = np.empty(NEAR * part_row, np.float32)
    sums = cache_lines(part, part_row // COLUMNS * tiles * tile_size)
    depth = (k + most - 1) // most  # parts of k, of even length
    depth = ((k + depth - 1) // depth + STEP - 1) // STEP * STEP
    for top in range(0, rows, NEAR):
        m = min(NEAR, rows - top)
        for p in range(0, k, depth):
            count = min(depth, k - p)
            steps = (count + STEP - 1) // STEP
            for group in range(groups):
                j = start + group * PANEL
                for c in range(min(PANEL, stop - j)):
                    copy_numbers(weight, (j + c) * k + p, count, panel, c * most)
                at = group * PANEL // COLUMNS * tiles * tile_size
                for i in range(0, m, ROWS):
                    x_at = (top + i) * x_row + p
                    for c in range(0, PANEL, COLUMNS):
                        some_rows(x, x_at, x_row, panel, c * most, most, COLUMNS - 1, steps,
                                  sums, at, p > 0)  # fmt: skip
                        at += tile_size
        at = 0
        for group in range(groups):
            at = group * PANEL // COLUMNS * tiles * tile_size
            for i in range(0, m, ROWS):
                for c in range(0, PANEL, COLUMNS):
                    add_up_some(sums, at, part, i * part_row + group * PANEL + c, part_row)
                    at += tile_size
        m = min(m, held - top)
        at = 2 * (top * n + start)
        write_columns(part, part_row, m, stop - start, bias, start, kind, 2, out, at, n)


@ordered_kernel
def linear(start, stop, x, x_row, rows, kind, weight, n, k, bias, out):
    """out (M, N)[:, start:stop] = x (M, K) @ weight (N, K)[start:stop].T (+ bias), all flat.

    x is as `copy_rows` gives it: its rows are `x_row` apart, and there are as many as `whole_rows`
    says, of which `out`, bytes of numbers stored as `kind` says, has the first M. bias (N,), of
    float32, may be of size 0.
    """
    if rows <= FEW:
        _few(start, stop, x, x_row, rows, kind, weight, n, k, bias, out)
    else:
        _many(start, stop, x, x_row, rows, kind, weight, n, k, bias, out)
