"""Products x @ W.T with a weight in panels and many rows of x in int8, by tiles of the processor.

They are those of `panel_linear` in every bit: the products of codes are summed as integers, which
is exact whoever does it, and what follows is the same in the same order. So rows that are no whole
GROUP are left to it.

The codes of some blocks of a pair of panels are unpacked to bytes, into memory that stays in the
nearest cache while all rows of x pass:

    step, panel, part, word

They are signed here, a format's zero taken off. Of a format whose codes stand for numbers in a
table, parts are the bytes of those, the highest first: only these are signed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from gradient.backends.numpy.kernels import amx, instructions
from gradient.backends.numpy.kernels.amx import configure, describe, release
from gradient.backends.numpy.kernels.building import begin_sums
from gradient.backends.numpy.kernels.cache_lines import cache_lines
from gradient.backends.numpy.kernels.compilation import ordered_kernel
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.formats import FLOATS, INTEGERS, Vector, splat
from gradient.backends.numpy.kernels.llvm_types import F32, I8, I32, I64
from gradient.backends.numpy.kernels.panel_linear import (
    COLUMNS,
    GROUP,
    X_WORDS,
    first_block,
    negative_sum,
    some_rows,
    step_at,
    unit_words,
    with_low_bytes,
)
from gradient.backends.numpy.kernels.panels import (
    PANELS,
    ROWS,
    STEP,
    WORD,
    WORDS,
    PanelScales,
    format_of,
)
from gradient.backends.numpy.kernels.stored import write_columns

DEPTH = 512
"""Weights of a row that are unpacked at a time, if that is a block or more."""
CONFIGURATION = amx.CONFIGURATION
SUMS = 6
"""Tiles of sums: of three parts, for each of two units. Two more are for what is multiplied."""
CODES, NUMBERS = SUMS, SUMS + 1
TILE = GROUP * WORD
"""Bytes of a tile of sums."""
ROW = 4 * X_WORDS
"""Bytes of a row and step of x."""


@emitted(types.UniTuple(types.int64, 3))
def block_sizes(builder, form, *, kinds):
    """Of a format: (weights of a block, bytes of it unpacked for a pair of panels, words of a
    unit)."""
    fmt = format_of(kinds["form"])
    numbers = fmt.weights, fmt.steps * PANELS * fmt.parts * WORDS * WORD, WORDS // fmt.units
    return ir.Constant(ir.ArrayType(I64, len(numbers)), numbers)


@emitted()
def unpack(builder, panels, pair, form, blocks, block, count, out, *, kinds):
    """Unpack the blocks `block` to `block` + `count` of a pair of panels."""
    fmt = format_of(kinds["form"])
    first = first_block(builder, fmt, panels, pair, blocks)
    bytes_ = ir.VectorType(I8, WORD)

    def unpack_step(block_here: Any, number: Any, index: Any) -> None:
        step = builder.gep(block_here, [step_at(builder, fmt, index)])
        at = builder.mul(number, I64(PANELS * fmt.parts * WORDS * WORD))
        for word in range(WORDS):
            for g in range(PANELS):
                for part, factor in enumerate(fmt.factors(builder, step, g, word)):
                    value = builder.bitcast(factor, bytes_)
                    if part == 0 and fmt.zero:
                        value = builder.sub(value, ir.Constant(bytes_, [fmt.zero] * WORD))
                    own = I64(((g * fmt.parts + part) * WORDS + word) * WORD)
                    place = builder.gep(out, [builder.add(at, own)])
                    builder.store(value, builder.bitcast(place, bytes_.as_pointer())).align = 64

    with cgutils.for_range(builder, count, intp=I64) as loop:
        number = builder.add(block, loop.index)
        here = builder.gep(first, [builder.mul(number, I64(fmt.block_bytes))])
        with cgutils.for_range(builder, I64(fmt.steps), intp=I64) as inner:
            number = builder.add(builder.mul(loop.index, I64(fmt.steps)), inner.index)
            unpack_step(here, number, inner.index)


@emitted()
def add_group(builder, x, x_at, x_step, near, panels, pair, form, blocks, block, count, held,
              sums, sums_at, add, *, kinds):  # fmt: skip
    """sums (GROUP, COLUMNS) = or += the products of a group of rows of x with some blocks of a pair
    of panels.

    near    those blocks, as `unpack` gives them
    held    memory for the integer sums of two steps
    """
    fmt = format_of(kinds["form"])
    x_start = builder.gep(x, [x_at])
    first = first_block(builder, fmt, panels, pair, blocks)
    units = unit_words(fmt)
    last = builder.sub(builder.mul(count, I64(fmt.steps)), I64(1))
    totals = [cgutils.alloca_once(builder, FLOATS) for _ in range(GROUP)]

    def x_word(x_here: Any, row: int, word: int, kind: Any) -> Any:
        at = builder.gep(x_here, [I64(ROW * row + 4 * word)])
        value = builder.load(builder.bitcast(at, kind.as_pointer()))
        value.align = 4
        return splat(builder, value)

    def x_of(number: Any) -> Any:
        return builder.gep(x_start, [builder.mul(number, x_step)])

    def sums_of(number: Any, unit: int, part: int) -> Any:
        """Memory for a tile of integer sums: steps take turns at two of them."""
        turn = builder.mul(builder.and_(number, I64(1)), I64(len(units) * fmt.parts * TILE))
        at = builder.add(turn, I64((unit * fmt.parts + part) * TILE))
        return builder.gep(held, [at])

    def multiply(panel: int, number: Any) -> None:
        """Write the integer sums of a step."""
        x_here = x_of(number)
        step = builder.add(builder.mul(number, I64(PANELS)), I64(panel))
        at = builder.mul(step, I64(fmt.parts * WORDS * WORD))
        codes_here = builder.gep(near, [at])
        for unit, words in enumerate(units):
            amx.load(builder, NUMBERS, builder.gep(x_here, [I64(4 * words[0])]), I64(ROW))
            for part in range(fmt.parts):
                at = builder.gep(codes_here, [I64((part * WORDS + words[0]) * WORD)])
                tile = 2 * part + unit
                amx.zero(builder, tile)
                amx.load(builder, CODES, at, I64(WORD))
                amx.add_bytes(builder, tile, NUMBERS, CODES, part == 0)
            for part in range(fmt.parts):
                amx.store(builder, 2 * part + unit, sums_of(number, unit, part), I64(WORD))

    def add_unit(number: Any, unit: int, scale: Vector, minimum: Vector | None) -> None:
        """Add the integer sums of a unit, scaled."""
        x_here = x_of(number)
        parts = [sums_of(number, unit, part) for part in range(fmt.parts)]
        for row, total in enumerate(totals):
            high, *low = (
                builder.load(
                    builder.bitcast(builder.gep(part, [I64(row * WORD)]), INTEGERS.as_pointer())
                )
                for part in parts
            )
            product = Vector(builder, high).floats()
            if low:
                product = with_low_bytes(builder, product, low)
            d = Vector(builder, x_word(x_here, row, WORDS, F32))
            value = builder.load(total)
            value = instructions.fma(builder, product.value, (scale * d).value, value)
            if minimum is not None:
                sum_ = x_word(x_here, row, negative_sum(fmt, unit), I32)
                sum_ = Vector(builder, sum_).floats() * d
                value = instructions.fma(builder, minimum.value, sum_.value, value)
            builder.store(value, total)

    for panel in range(PANELS):
        places = []
        for row in range(GROUP):
            at = builder.add(sums_at, I64(row * COLUMNS + panel * ROWS))
            places.append(builder.bitcast(builder.gep(sums, [at]), FLOATS.as_pointer()))
        begin_sums(builder, add, totals, places)

        # A step's sums are read while the next one's are multiplied: what a tile is stored to
        # can be read only when it has got to the cache.
        multiply(panel, I64(0))
        with cgutils.for_range(builder, count, intp=I64) as loop:
            number = builder.add(block, loop.index)
            here = builder.gep(first, [builder.mul(number, I64(fmt.block_bytes))])
            scales_at = first if fmt.of_row else here
            with cgutils.for_range(builder, I64(fmt.steps), intp=I64) as inner:
                number = builder.add(builder.mul(loop.index, I64(fmt.steps)), inner.index)
                following = builder.add(number, I64(1))
                with builder.if_then(builder.icmp_signed("<", number, last)):
                    multiply(panel, following)
                step_here = builder.gep(here, [step_at(builder, fmt, inner.index)])
                step = PanelScales(builder, fmt, scales_at, step_here, panel)
                for unit, (scale, minimum) in enumerate(fmt.scales(step)):
                    add_unit(number, unit, scale, minimum)

        for total, kept in zip(totals, places, strict=True):
            builder.store(builder.load(total), kept).align = 4


@ordered_kernel
def several(start, stop, x, rows, panels, form, blocks, steps, n, bias, kind, size, out):
    """As `panel_linear.several`."""
    weights, bytes_, words = block_sizes(form)
    depth = max(1, DEPTH // weights)
    near = cache_lines(x, depth * bytes_)
    held = cache_lines(x, 2 * SUMS * TILE)
    whole = rows - rows % GROUP
    sums = np.empty(max(whole, GROUP) * COLUMNS, np.float32)
    configuration = np.zeros(CONFIGURATION, np.uint8)
    for tile in range(SUMS):
        describe(configuration, tile, GROUP, WORD)
    describe(configuration, CODES, words, WORD)
    describe(configuration, NUMBERS, GROUP, 4 * words)
    configure(configuration)
    for pair in range(start, stop):
        for block in range(0, blocks, depth):
            count = min(depth, blocks - block)
            unpack(panels, pair, form, blocks, block, count, near)
            first = block * (weights // STEP)
            for i in range(0, whole, GROUP):
                x_at = (i * steps + first * GROUP) * ROW
                add_group(x, x_at, GROUP * ROW, near, panels, pair, form, blocks, block, count,
                          held, sums, i * COLUMNS, block > 0)  # fmt: skip
        j = pair * COLUMNS
        columns = min(n - j, COLUMNS)
        write_columns(sums, COLUMNS, whole, columns, bias, j, kind, size, out, j * size, n)
        if whole < rows:
            some_rows(x, whole, rows, rows, panels, pair, form, blocks, steps, n, bias, kind,
                      size, sums, out)  # fmt: skip
    release()
