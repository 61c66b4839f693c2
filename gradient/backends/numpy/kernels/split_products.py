"""Float32 products a @ b by tiles of bfloat16 numbers (`amx`), which multiply ten times as fast.

A float32 number is the sum of three bfloat16 numbers, its high, middle and low part: each holds 8
of its 24 binary digits. Of the nine products of the parts of two numbers the six largest are
computed. Each is exact, and what is left out is less than 2^-24 of the product, on average a fifth
of the rounding of a float32 multiplication. Of a step of 32 products the processor adds up the 16
at even places, and the 16 at odd ones, before it adds both to the sum, which is so rounded less
often: the result is nearer the true one than that of float32 multiplications (Henry, Tang and
Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
Computations", 2019, section III).

The parts are exact for numbers from 2^-103 on and zeros, and no sum of a part of k overflows where
all numbers are below 2^58. Rows of `a` and columns of `b` that have another number, an infinity or
NaN are noticed when they are split, and what they give is computed by float32 vectors. Products of
parts and sums below 2^-126 are taken for zeros: so each product may lack six times as much, which
is more than its rounding where it is below 2^-99.

As in `gemm`, a block of the result packs what it reads of `b` for up to DEPTH of k: it stays in the
second cache, and panels of 32 rows of `a` go past it. A panel is packed as

    step of 32 of k, part of the number, half of the panel, tile

where a tile is 16 rows of 32 numbers for `a`, and 16 pairs of numbers of 16 columns for `b`. What
is missing up to a whole panel or step is zeros. The results of parts of k are added in order. An
element's bits depend neither on the blocks nor on what other rows and columns the product has.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types

from gradient.backends.numpy.kernels import instructions
from gradient.backends.numpy.kernels.amx import (
    add_bfloat16_products,
    bfloat16_46,
    bfloat16_47,
    bfloat16_56,
    bfloat16_57,
    configure_whole,
    load_4,
    load_5,
    load_6,
    load_7,
    release,
    store_sums,
    zero_sums,
)
from gradient.backends.numpy.kernels.bfloat16_tiles import PAIR, ROWS, STEP, TILE
from gradient.backends.numpy.kernels.cache_lines import cache_lines
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.gemm import add_to_columns, add_to_rows, block_at, pack_columns
from gradient.backends.numpy.kernels.inexact_elements import multiply_vectors
from gradient.backends.numpy.kernels.llvm_types import I16, I32, I64
from gradient.backends.numpy.kernels.stored import transpose
from gradient.backends.numpy.kernels.vectors import add_product, load, store

DEPTH = 768
"""The most of k in a part."""

PACKED = 1280 << 10
"""The most bytes of packed columns: they, and a panel of rows, are in the second cache."""

PART = 2 * TILE
"""Bfloat16 numbers in a step of a panel, of one of the three parts."""

SPLIT = 3 * PART
"""Bfloat16 numbers in a step of a panel."""

TOGETHER = 4
"""The most panels that are packed together."""

AHEAD = 3
"""How many steps ahead of their packing numbers of b are asked for."""

FEW = 4
"""Rows of which a step asks for two lines of the cache."""

NEXT = 1 << ROWS
"""What a row's bit is multiplied by to be that of a row of the other half of a panel."""

LEAST, MOST = 2.0**-103, 2.0**58
"""Between these the parts are exact, and sums of up to DEPTH products finite in any order: those of
a tile, in which 32 products are added at a time, could else be infinite, or two infinities' NaN,
where those in the order of k are finite."""


def _splitting(order: list[int]):
    """An intrinsic that splits the 16 numbers from x[at] on and those from x[other] on, and writes
    the parts to out[to], out[to + apart] and out[to + 2 * apart], each in an order of 32-bit words'
    halves. It returns a bit for each of 16 lanes: whether a number of it is not split exactly."""

    @emitted(types.int64)
    def split(builder, x, at, other, out, to, apart):
        ints, floats = ir.VectorType(I32, 16), ir.VectorType(ir.FloatType(), 16)
        halves = ir.VectorType(I16, 32)

        def all_of(number):
            return ir.Constant(ints, [number] * 16)

        def upper_half(bits):  # rounded to nearest, in absolute value
            return builder.and_(builder.add(bits, all_of(0x8000)), all_of(-0x10000))

        target = builder.gep(out, [to])
        parts, inexact = [], ir.Constant(ir.VectorType(ir.IntType(1), 16), [0] * 16)
        low, high = (int(np.float32(bound).view(np.int32)) for bound in (LEAST, MOST))
        for first in (at, other):
            bits = builder.load(builder.bitcast(builder.gep(x, [first]), ints.as_pointer()))
            bits.align = 4
            size = builder.and_(bits, all_of(0x7FFFFFFF))
            above = builder.sub(size, all_of(low))
            outside = builder.icmp_unsigned(">=", above, all_of(high - low))
            some = builder.icmp_unsigned("!=", size, all_of(0))
            inexact = builder.or_(inexact, builder.and_(outside, some))
            first_part = upper_half(bits)
            rest = builder.fsub(builder.bitcast(bits, floats), builder.bitcast(first_part, floats))
            second_part = upper_half(builder.bitcast(rest, ints))
            third_part = builder.fsub(rest, builder.bitcast(second_part, floats))
            parts.append(
                [builder.bitcast(p, halves) for p in (first_part, second_part, third_part)]
            )
        for i, pair in enumerate(zip(*parts, strict=True)):
            numbers = builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(I32, 32), order))
            place = builder.gep(target, [builder.mul(apart, I64(i))])
            builder.store(numbers, builder.bitcast(place, halves.as_pointer())).align = 2
        return builder.zext(builder.bitcast(inexact, I16), I64)

    return split


# The upper halves of 32 words, one after another, and by turns.
split_row = _splitting([2 * i + 1 for i in range(32)])
split_pairs = _splitting([2 * (i // 2) + 1 + 32 * (i % 2) for i in range(32)])


@emitted()
def prefetch_lines(builder, address, apart):
    """Ask for two lines of the cache at an address, and as much at FEW - 1 further ones, `apart`
    bytes from each other, to be read soon. They need not be in an array."""
    for i in range(FEW):
        for line in (0, 64):
            offset = builder.add(builder.mul(apart, I64(i)), I64(line))
            place = builder.inttoptr(builder.add(address, offset), I16.as_pointer())
            instructions.prefetch(builder, place, cache=2)


@ordered_subroutine
def pack_step(x, at, row, column, rows, count, paired, near, out, to):
    """A step of a panel: up to 32 rows, and as many numbers of each. `paired` says whether it is as
    b's, whose columns are the rows here, or as a's. `near` (STEP * STEP,) is memory to work in.

    Returns a bit for each row: whether it has a number that is not split exactly.
    """
    inexact = 0
    across, line = (row, column) if paired else (column, row)
    numbers = x
    if rows < PAIR or count < STEP or across != 1 != line:
        for i in range(STEP * STEP):
            near[i] = 0
        for i in range(rows):
            for p in range(count):
                near[p * STEP + i if paired else i * STEP + p] = x[at + i * row + p * column]
        at, line, numbers = 0, STEP, near
    elif across != 1:
        for i in range(0, STEP, ROWS):
            for j in range(0, STEP, ROWS):
                transpose(x, at + i * across + j, across, near, j * STEP + i, STEP)
        at, line, numbers = 0, STEP, near
    if paired:
        for i in range(ROWS):
            first = at + 2 * i * line
            second = first + line
            inexact |= split_pairs(numbers, first, second, out, to + i * STEP, PART)
            inexact |= NEXT * split_pairs(
                numbers, first + ROWS, second + ROWS, out, to + TILE + i * STEP, PART
            )
    else:
        for i in range(PAIR):
            first = at + i * line
            if split_row(numbers, first, first + ROWS, out, to + i * STEP, PART) != 0:
                inexact |= 1 << i
    return inexact


@ordered_subroutine
def pack(x, at, row, column, rows, count, paired, near, out, to, panel_size, inexact, first):
    """Panels of so many rows in all, `count` numbers of each, and from inexact[first] on which of
    each panel's rows have numbers that are not split exactly. Where rows lie across the numbers
    that are neighbours in memory, TOGETHER panels are packed step by step, so that the lines of the
    cache that follow each other are read so."""
    panels, steps = (rows + PAIR - 1) // PAIR, (count + STEP - 1) // STEP
    together, line = (TOGETHER, column) if row == 1 else (1, row)
    for start in range(0, panels, together):
        stop = min(panels, start + together)
        for panel in range(start, stop):
            inexact[first + panel] = 0
        for step in range(steps):
            for panel in range(start, stop):
                here = at + panel * PAIR * row + step * STEP * column
                if paired:
                    soon = x.ctypes.data + 4 * (here + AHEAD * STEP * column)
                    for i in range(0, PAIR, FEW):
                        prefetch_lines(soon + 4 * i * line, 4 * line)
                inexact[first + panel] |= pack_step(
                    x, here, row, column,
                    min(PAIR, rows - panel * PAIR), min(STEP, count - step * STEP), paired,
                    near, out, to + panel * panel_size + step * SPLIT,
                )  # fmt: skip


@ordered_subroutine
def multiply_rows(a, one, two, row):
    """Add the products of two tiles of rows with the columns that are in registers."""
    load_4(a, one, row)
    bfloat16_46()
    bfloat16_47()
    load_5(a, two, row)
    bfloat16_56()
    bfloat16_57()


@ordered_subroutine
def multiply_columns(b, at):
    """Add the products of the rows that are in registers with two tiles of columns."""
    load_6(b, at, STEP)
    bfloat16_46()
    bfloat16_56()
    load_7(b, at + TILE, STEP)
    bfloat16_47()
    bfloat16_57()


@ordered_subroutine
def add_products(a, one, two, row, apart, b, b_high):
    """Add the six products of parts of two tiles of `a`, which begin at `one` and `two` and have
    their parts `apart`, with a step of a panel of `b`.

    The smallest are added first, but the order is also one in which six times four products need
    14 tiles to be read.
    """
    b_middle, b_low = b_high + PART, b_high + 2 * PART
    # low x high
    add_bfloat16_products(
        a, one + 2 * apart, two + 2 * apart, row, b, b_high, STEP, b_high + TILE, STEP
    )
    # middle x high
    multiply_rows(a, one + apart, two + apart, row)
    # middle x middle
    multiply_columns(b, b_middle)
    # high x middle
    multiply_rows(a, one, two, row)
    # high x low
    multiply_columns(b, b_low)
    # high x high
    multiply_columns(b, b_high)


@ordered_subroutine
def multiply(
    a, a_at, b, b_at, steps, c, at, row, next_a, a_apart, a_step, next_c, c_apart
):  # fmt: skip
    """c (32, 32) = the product of a panel of rows with one of columns.

    next_a    where to ask for what is read next of `a`: in each step FEW rows, `a_apart` bytes from
              each other; steps are `a_step` bytes apart
    next_c    the same of what is written next, 32 rows `c_apart` bytes from each other
    """
    zero_sums()
    for step in range(steps):
        one = a_at + step * SPLIT
        prefetch_lines(next_a + step * a_step, a_apart)
        if step < PAIR // FEW:
            prefetch_lines(next_c + step * FEW * c_apart, c_apart)
        add_products(a, one, one + TILE, STEP, PART, b, b_at + step * SPLIT)
    store_sums(c, at, ROWS, ROWS * row, row)


@ordered_subroutine
def write_rows(corner, at, rows, c, to, c_row, add):
    """c (rows, 32) = rows of the corner, from `at` on, or the sum of both if `add`."""
    one, half = np.float32(1), PAIR // 2
    for r in range(rows):
        for j in range(0, PAIR, half):
            numbers, place = load(corner, at + r * PAIR + j), to + r * c_row + j
            if add:
                numbers = add_product(load(c, place), one, numbers)
            store(c, place, numbers)


@ordered_subroutine
def write(corner, rows, columns, c, to, c_row, add):
    """c (rows, columns) = corner (32, 32), or the sum of both if `add`."""
    if columns == PAIR:
        write_rows(corner, 0, rows, c, to, c_row, add)
        return
    for r in range(rows):
        for j in range(columns):
            place = to + r * c_row + j
            c[place] = corner[r * PAIR + j] + (c[place] if add else np.float32(0))


def part_of(k: int) -> int:
    """How much of k is packed at a time: parts of like sizes, of at most DEPTH."""
    parts = -(-k // DEPTH)
    return -(-k // (parts * STEP)) * STEP


def widest(k: int) -> int:
    """The most columns of a block: what is packed of them is in the second cache."""
    return PACKED // (6 * part_of(k)) // PAIR * PAIR


@ordered_kernel
def product(
    start, stop, a, a_starts, a_row, a_column, b, b_starts, b_row, b_column, bias, upright,
    c, c_row, m, n, k, block_rows, block_columns, depth,
):  # fmt: skip
    """Blocks start to stop of c (batch, M, N) = a (batch, M, K) @ b (batch, K, N) (+ bias): as
    `gemm.product`, `depth` of k (`part_of`) at a time."""
    configure_whole()
    panel_size = depth // STEP * SPLIT
    wide = (min(block_columns, n) + PAIR - 1) // PAIR
    group = TOGETHER if a_row == 1 else 1  # panels of a
    packed = np.empty((wide + group) * panel_size + STEP, np.uint16)
    panels_at = (-packed.ctypes.data % 64) // 2  # all begin at a line of the cache
    rows_at = panels_at + wide * panel_size
    near, corner = cache_lines(bias, STEP * STEP), cache_lines(bias, PAIR * PAIR)
    columns_near = np.empty(0, np.float32)
    inexact = np.zeros(wide + group, np.int64)
    a_apart, a_step = 4 * a_row, 4 * STEP
    if a_column != 1:
        a_apart, a_step = 4 * a_column, 4 * a_column * STEP
    for number in range(start, stop):
        matrix, top, left, bottom, right = block_at(number, m, n, block_rows, block_columns)
        for p in range(0, k, depth):
            count = min(depth, k - p)
            steps = (count + STEP - 1) // STEP
            a_at, b_at = a_starts[matrix] + p * a_column, b_starts[matrix] + p * b_row
            pack(
                b, b_at + left * b_column, b_column, b_row, right - left, count, True,
                near, packed, panels_at, panel_size, inexact, 0,
            )  # fmt: skip
            for i in range(top, bottom, PAIR):
                rows, member = min(PAIR, bottom - i), (i - top) // PAIR % group
                if member == 0:
                    pack(
                        a, a_at + i * a_row, a_row, a_column, min(group * PAIR, bottom - i), count,
                        False, near, packed, rows_at, panel_size, inexact, wide,
                    )  # fmt: skip
                inexact_rows, row_panel = inexact[wide + member], rows_at + member * panel_size
                next_group = a.ctypes.data + 4 * (
                    a_at + min(i + (group - member) * PAIR, bottom - 1) * a_row
                )
                for j in range(left, right, PAIR):
                    panel, columns = (j - left) // PAIR, min(PAIR, right - j)
                    panel_at = panels_at + panel * panel_size
                    to = (matrix * m + i) * c_row + j
                    is_exact = inexact_rows == 0 and inexact[panel] == 0
                    next_a = next_group
                    if FEW * panel < PAIR:
                        next_a += 4 * FEW * panel * (a_row if a_column == 1 else a_column)
                    if a_row == 1:
                        next_a += 4 * PAIR * member
                    next_c = c.ctypes.data + 4 * (to + PAIR)
                    if j + PAIR >= right:
                        next_c = c.ctypes.data + 4 * (to - (j - left) + PAIR * c_row)
                    if p == 0 and is_exact and rows == PAIR and columns == PAIR:
                        multiply(
                            packed, row_panel, packed, panel_at, steps, c, to, c_row,
                            next_a, a_apart, a_step, next_c, 4 * c_row,
                        )  # fmt: skip
                    else:
                        multiply(
                            packed, row_panel, packed, panel_at, steps, corner, 0, PAIR,
                            next_a, a_apart, a_step, next_c, 4 * c_row,
                        )  # fmt: skip
                        if not is_exact:
                            if columns_near.size == 0:
                                columns_near = np.empty(depth * PAIR, np.float32)
                            pack_columns(
                                b, b_at + j * b_column, b_row, b_column, count, columns,
                                columns_near, 0,
                            )  # fmt: skip
                            multiply_vectors(
                                a, a_at + i * a_row, a_row, a_column, rows, columns_near, columns,
                                count, inexact_rows, inexact[panel], corner,
                            )  # fmt: skip
                        write(corner, rows, columns, c, to, c_row, p > 0)
                    if bias.size > 0 and p + count == k:
                        if upright:
                            add_to_columns(bias, i, rows, c, to, c_row, columns)
                        else:
                            add_to_rows(bias, j, columns, c, to, c_row, rows)
    release()
