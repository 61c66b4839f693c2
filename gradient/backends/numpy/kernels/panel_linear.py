"""Products x @ W.T with a weight in panels and x in int8, a scale for each 32 numbers.

For each 32 weights of a row the products of codes are summed as integers, exactly; the sum is
scaled and added to the output in float32, one step after another. So an output does not depend on
how many rows are computed with it.

x is stored in groups of GROUP rows, so that a tile's loads are at constants from one address:

    group, step of 32 numbers, row, [ 32 codes ][ scale ][ -sum ][ -sum of 16 ][ -sum of 16 ]

The scale is float32; the negative sums, of all codes and of each half of them, are int32.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from gradient.backends.numpy.kernels import cpu, instructions
from gradient.backends.numpy.kernels.compilation import inlined, ordered_kernel
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.formats import FLOATS, INTEGERS, Vector, splat
from gradient.backends.numpy.kernels.llvm_types import F32, I8, I32, I64
from gradient.backends.numpy.kernels.panels import (
    PAIR,
    PANELS,
    ROWS,
    STEP,
    WORD,
    WORDS,
    Panels,
    PanelScales,
    format_of,
)
from gradient.backends.numpy.kernels.stored import read_floats, write_columns

GROUP = 16 if cpu.PATH == "amx" else 12
"""Rows of x that are stored together: tiles divide them, if only the processor's own do."""
X_WORDS = WORDS + 4
"""32-bit words of a row and step of x."""
COLUMNS = PAIR
AHEAD = 128 if cpu.AMD else 4096
"""Bytes of panels ahead of which a tile asks for the next. Processors fetch ahead by
themselves. A Zen 4 does where it is asked for lines in the order in which they lie, which is not
the order in which LLVM puts a step's loads; asking far ahead keeps it from doing so. Intel's do not
across the end of a page: there, being asked early helps."""

TINY = 2.0**-119
"""Below this largest magnitude 32 numbers of x are taken for zeros: 127 / it must be finite."""


def first_block(builder: Any, fmt: Panels, panels: Any, pair: Any, blocks: Any) -> Any:
    """Where the first block of a pair of panels lies, in an array or after an address. A row's only
    scale is found from there for every block."""
    size = builder.add(I64(PAIR * fmt.of_row), builder.mul(blocks, I64(fmt.block_bytes)))
    at = builder.add(builder.mul(pair, size), I64(PAIR * fmt.of_row))
    if isinstance(panels.type, ir.IntType):
        panels = builder.inttoptr(panels, I8.as_pointer())
    return builder.gep(panels, [at])


def step_at(builder: Any, fmt: Panels, index: Any) -> Any:
    """Where in a block a step begins."""
    return builder.add(I64(fmt.head_bytes), builder.mul(index, I64(fmt.step_bytes)))


def unit_words(fmt: Panels) -> list[range]:
    """The words of each unit of a step, of what has a scale: the whole step, or halves of it."""
    size = WORDS // fmt.units
    return [range(size * unit, size * (unit + 1)) for unit in range(fmt.units)]


def negative_sum(fmt: Panels, unit: int) -> int:
    """The word, of a row and step of x, that has the negative sum of a unit's codes."""
    return WORDS + 1 + (unit + 1 if fmt.units == 2 else 0)


def with_low_bytes(builder: Any, high: Vector, low: list[Any]) -> Vector:
    """The float32 of sums of products with a number's highest byte, and with its others."""
    eight = ir.Constant(INTEGERS, [8] * ROWS)
    rest = functools.reduce(lambda total, byte: builder.add(builder.shl(total, eight), byte), low)
    return high * 256.0 ** len(low) + Vector(builder, rest).floats()


def tile(rows: int) -> Any:
    """An intrinsic that computes `rows` x COLUMNS outputs.

    tile(x, x_at, x_step, panels, pair, form, blocks, out, out_at, out_row), for flat arrays: x int8
    from byte x_at on, its steps x_step bytes apart; a weight in panels of `blocks` blocks, of which
    pair number `pair` is taken. Panels may be given by their address.
    """

    @emitted()
    def products(
        builder, x, x_at, x_step, panels, pair, form, blocks, out, out_at, out_row, *, kinds
    ):  # fmt: skip
        fmt = format_of(kinds["form"])
        x_start = builder.gep(x, [x_at])
        first = first_block(builder, fmt, panels, pair, blocks)
        zero = ir.Constant(FLOATS, [0.0] * ROWS)
        sums = [[cgutils.alloca_once(builder, FLOATS) for _ in range(PANELS)] for _ in range(rows)]
        for held in (held for row in sums for held in row):
            builder.store(zero, held)

        def x_word(x_here: Any, row: int, word: int, kind: Any) -> Any:
            at = builder.gep(x_here, [I64(4 * (X_WORDS * row + word))])
            value = builder.load(builder.bitcast(at, kind.as_pointer()))
            value.align = 4
            return splat(builder, value)

        def add_step(block: Any, block_here: Any, index: Any) -> None:
            number = builder.add(builder.mul(block, I64(fmt.steps)), index)
            x_here = builder.gep(x_start, [builder.mul(number, x_step)])
            step_here = builder.gep(block_here, [step_at(builder, fmt, index)])
            for line in range(AHEAD, AHEAD + fmt.step_bytes, WORD):
                instructions.prefetch(builder, builder.gep(step_here, [I64(line)]))
            scales_at = first if fmt.of_row else block_here
            units = [
                list(fmt.scales(PanelScales(builder, fmt, scales_at, step_here, panel)))
                for panel in range(PANELS)
            ]
            for unit, words in enumerate(unit_words(fmt)):
                add_unit(
                    x_here, step_here, [own[unit] for own in units], words,
                    negative_sum(fmt, unit),
                )  # fmt: skip

        def add_unit(x_here: Any, step_here: Any, unit: Any, words: Any, negative: int) -> None:
            totals = []  # of each row, and of its sums in each panel
            for row in range(rows):
                first = ir.Constant(INTEGERS, None)
                if fmt.zero:
                    first = x_word(x_here, row, negative, I32)
                    by = ir.Constant(INTEGERS, [fmt.zero.bit_length() - 1] * ROWS)
                    first = builder.shl(first, by)
                low = [ir.Constant(INTEGERS, None)] * (fmt.parts - 1)
                totals.append([[first, *low] for _ in range(PANELS)])
            for word in words:
                factors = [fmt.factors(builder, step_here, g, word) for g in range(PANELS)]
                for row in range(rows):
                    numbers = x_word(x_here, row, word, I32)
                    totals[row] = [
                        [
                            instructions.dot(builder, total, factor, numbers, fmt.bits)
                            for total, factor in zip(panel, own, strict=True)
                        ]
                        for panel, own in zip(totals[row], factors, strict=True)
                    ]
            for row in range(rows):
                d = Vector(builder, x_word(x_here, row, WORDS, F32))
                if unit[0][1] is not None:
                    sum_ = Vector(builder, x_word(x_here, row, negative, I32)).floats() * d
                for (high, *low), (scale, minimum), place in zip(
                    totals[row], unit, sums[row], strict=True
                ):
                    product = Vector(builder, high).floats()
                    if low:
                        product = with_low_bytes(builder, product, low)
                    value = builder.load(place)
                    value = instructions.fma(builder, product.value, (scale * d).value, value)
                    if minimum is not None:
                        value = instructions.fma(builder, minimum.value, sum_.value, value)
                    builder.store(value, place)

        with cgutils.for_range(builder, blocks, intp=I64) as loop:
            here = builder.gep(first, [builder.mul(loop.index, I64(fmt.block_bytes))])
            if fmt.steps == 1:
                add_step(loop.index, here, I64(0))
            else:
                with cgutils.for_range(builder, I64(fmt.steps), intp=I64) as inner:
                    add_step(loop.index, here, inner.index)

        for row in range(rows):
            at = builder.add(out_at, builder.mul(out_row, I64(row)))
            for g, place in enumerate(sums[row]):
                to = builder.gep(out, [builder.add(at, I64(ROWS * g))])
                to = builder.bitcast(to, FLOATS.as_pointer())
                builder.store(builder.load(place), to).align = 4

    return products


# Global names, for the cache on disk does not find kernels that refer to anything else.
six_rows, four_rows, two_rows, one_row = tile(6), tile(4), tile(2), tile(1)
WIDE = cpu.BYTES == 64
"""Whether the sums of six rows fit in the registers."""


@emitted()
def round_step(builder, values, out, at):
    """Write a step of x to byte `at` of out: from STEP float32 numbers in `values`."""
    place = builder.gep(out, [at])

    def reduced(operation: str, vector: Any) -> Any:
        name = f"llvm.vector.reduce.{operation}.v{ROWS}i32"
        type_ = ir.FunctionType(I32, [INTEGERS])
        return builder.call(builder.module.declare_intrinsic(name, fnty=type_), [vector])

    def put(value: Any, at: int) -> None:
        to = builder.bitcast(builder.gep(place, [I64(at)]), value.type.as_pointer())
        builder.store(value, to).align = 1

    halves, sizes = [], []
    for half in range(2):
        to = builder.gep(values, [I64(ROWS * half)])
        halves.append(builder.load(builder.bitcast(to, FLOATS.as_pointer())))
        halves[-1].align = 4
        sizes.append(Vector(builder, builder.bitcast(halves[-1], INTEGERS)) & 0x7FFFFFFF)
    first, second = (size.value for size in sizes)
    either = builder.select(builder.icmp_unsigned(">", first, second), first, second)
    largest = reduced("umax", either)
    size, most = builder.bitcast(largest, F32), F32(127)
    finite = builder.icmp_unsigned("<", largest, I32(0x7F800000))
    scale = builder.select(finite, builder.fdiv(size, most), F32(float("nan")))
    normal = builder.and_(finite, builder.fcmp_ordered(">=", size, F32(TINY)))
    inverse = builder.select(normal, builder.fdiv(most, size), F32(0))
    sums = []
    for half, numbers in enumerate(halves):
        numbers = builder.select(finite, numbers, ir.Constant(FLOATS, [0.0] * ROWS))
        # Adding 1.5 2^23 rounds to the nearest integer, halves to even: it is in the low bits.
        bits = Vector(builder, builder.fmul(numbers, splat(builder, inverse)))
        bits = bits + Vector(builder, ir.Constant(FLOATS, [12582912.0] * ROWS))
        codes = builder.bitcast(bits.value, INTEGERS)
        codes = builder.sub(codes, ir.Constant(INTEGERS, [0x4B400000] * ROWS))
        put(builder.trunc(codes, ir.VectorType(I8, ROWS)), ROWS * half)
        sums.append(builder.neg(reduced("add", codes)))
    for i, value in enumerate((scale, builder.add(*sums), *sums)):
        put(value, STEP + 4 * i)


@ordered_kernel
def int8_rows(start, stop, kind, size, x, k, rows, out):
    """Rows start to stop of x (rows, k) in int8, as the module's docstring says.

    kind, size, x
              the bytes of numbers of `size` bytes, stored as `kind` says
    out       int8

    Among 32 numbers that are not all finite the scale is NaN, and so is all that comes of them.
    """
    steps = -(-k // STEP)
    values = np.zeros(STEP, np.float32)
    for row in range(start, stop):
        top = row - row % GROUP
        width = min(GROUP, rows - top)
        at = 4 * X_WORDS * (top * steps + row - top)
        for step in range(steps):
            count = min(STEP, k - step * STEP)
            if count < STEP:
                values[:] = 0
            read_floats(kind, x, (row * k + step * STEP) * size, count, values, 0)
            round_step(values, out, at)
            at += 4 * X_WORDS * width


@ordered_kernel
def single(start, stop, x, panels, form, blocks, steps, n, bias, kind, size, out):
    """out (N,)[COLUMNS start : COLUMNS stop] = one row of x, int8, by a weight in panels.

    bias (N,), of float32, may be of size 0. `out` is the bytes of numbers of `size` bytes, stored
    as `kind` says.
    """
    sums = np.empty(COLUMNS, np.float32)
    at = 4 * X_WORDS
    for pair in range(start, stop):
        one_row(x, 0, at, panels, pair, form, blocks, sums, 0, 0)
        j = pair * COLUMNS
        write_columns(sums, 0, 1, min(n - j, COLUMNS), bias, j, kind, size, out, j * size, n)


@inlined
def some_rows(
    x, first, last, rows, panels, pair, form, blocks, steps, n, bias, kind, size, sums, out
):  # fmt: skip
    """out[first:last, COLUMNS pair : COLUMNS (pair + 1)] = those of the rows of x by a weight.

    sums    memory for GROUP x COLUMNS numbers
    """
    row, j, i = 4 * X_WORDS, pair * COLUMNS, first
    while i < last:
        top, begin = i - i % GROUP, i
        width = min(GROUP, rows - top)
        end, x_at, x_step = min(last, top + width), top * (steps - 1) * row, width * row
        if WIDE:
            while i + 6 <= end:
                six_rows(x, x_at + i * row, x_step, panels, pair, form, blocks,
                         sums, (i - begin) * COLUMNS, COLUMNS)  # fmt: skip
                i += 6
        while i + 4 <= end:
            four_rows(x, x_at + i * row, x_step, panels, pair, form, blocks,
                      sums, (i - begin) * COLUMNS, COLUMNS)  # fmt: skip
            i += 4
        if i + 2 <= end:
            two_rows(x, x_at + i * row, x_step, panels, pair, form, blocks,
                     sums, (i - begin) * COLUMNS, COLUMNS)  # fmt: skip
            i += 2
        if i < end:
            one_row(x, x_at + i * row, x_step, panels, pair, form, blocks,
                    sums, (i - begin) * COLUMNS, COLUMNS)  # fmt: skip
            i += 1
        to, columns = (begin * n + j) * size, min(n - j, COLUMNS)
        write_columns(sums, COLUMNS, end - begin, columns, bias, j, kind, size, out, to, n)


@ordered_kernel
def several(start, stop, x, rows, panels, form, blocks, steps, n, bias, kind, size, out):
    """As `single`, out (rows, N)[:, COLUMNS start : COLUMNS stop] for rows of x."""
    sums = np.empty(GROUP * COLUMNS, np.float32)
    for pair in range(start, stop):
        some_rows(
            x, 0, rows, rows, panels, pair, form, blocks, steps, n, bias, kind, size,
            sums, out,
        )  # fmt: skip


@ordered_kernel
def grouped(start, stop, x, rows, counts, places, form, blocks, steps, n, kind, size, out):
    """out (rows, N): each group of rows of x by a weight of its own. Of its pairs of panels those
    from start to stop, counted through the groups that are not empty.

    counts    how many rows each group has, in turn
    places    (groups,): the addresses of each weight's panels
    """
    total = 0
    for group in range(counts.size):
        if not 0 <= counts[group] <= rows - total:
            raise IndexError("counts do not add up to the rows")
        total += counts[group]
    if total < rows:
        raise IndexError("counts do not add up to the rows")
    sums, bias = np.empty(GROUP * COLUMNS, np.float32), np.empty(0, np.float32)
    pairs = (n + COLUMNS - 1) // COLUMNS
    first = begin = 0
    for group in range(counts.size):
        if counts[group] == 0:
            continue
        last, panels = first + counts[group], places[group]
        for pair in range(max(start - begin, 0), min(stop - begin, pairs)):
            some_rows(
                x, first, last, rows, panels, pair, form, blocks, steps, n, bias, kind,
                size, sums, out,
            )  # fmt: skip
        first, begin = last, begin + pairs
