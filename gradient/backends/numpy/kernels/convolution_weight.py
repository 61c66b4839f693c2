"""The gradient of a convolution by its weight: input (K, pixels) @ gradient (pixels, O) in float32.

Neither side is copied for each of the others. A tile of some rows of K by two vectors of outputs
stays in registers while pixels pass: a pixel's number of a row of K is where it lies in the input
(which `convolution.pad` put between zeros), and its outputs are side by side in a panel, made
once from the gradient (`to_panels`).

Pixels are added up some hundred at a time, and then those sums: one chain over all would lose
digits. The order is settled by shapes, so it is the same bits for any number of threads.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from gradient.backends.numpy.kernels.building import add_products, read, write
from gradient.backends.numpy.kernels.cache_lines import cache_lines, lines_of_zeros
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.llvm_types import F32, I64, vector_of
from gradient.backends.numpy.kernels.stored import transpose
from gradient.backends.numpy.kernels.vectors import BYTES, LANES, lanes, load, store

PIXELS = 256
"""Pixels whose products are one chain of additions; their part of a panel stays in the cache."""

COLUMNS = 144
"""Of K, in an item of work: a multiple of ROWS."""

ROWS = 12 if BYTES == 64 else 4
"""Rows of K in a tile, by two vectors of outputs: as many sums as there are registers for."""

SOME = LANES[types.float32]
PAIR = 2 * SOME

FLOATS = vector_of(F32, SOME)


def tile(rows: int, vectors: int) -> Any:
    """An intrinsic tile(x, places, k, lines, line, last, column, width, g, g_at, sums, at, pitch).

    sums (rows, PAIR), from `at` on, += the products of the first `vectors` of a panel's pixels,
    which begin at g_at and are `pitch` apart, with the numbers of x: those of row i of windows that
    are side by side begin at places[k + i] + lines[line to last] + column, and are `width` each.

    With one vector, pixels of an even and of an odd number are added up apart: there are as many
    sums as with two, and as few places in x to know.
    """
    apart = 3 - vectors

    @emitted()
    def products(builder, x, places, k, lines, line, last, column, width, g, g_at, sums, at, pitch):
        first = builder.gep(x, [column])
        x_rows = [
            builder.gep(first, [builder.load(builder.gep(places, [builder.add(k, I64(i))]))])
            for i in range(rows)
        ]
        zeros = ir.Constant(FLOATS, None)
        totals = [[cgutils.alloca_once(builder, FLOATS) for _ in range(2)] for _ in range(rows)]
        panel = cgutils.alloca_once_value(builder, builder.gep(g, [g_at]))
        for total in totals:
            for each in total:
                builder.store(zeros, each)

        def add(pixels: Any, offset: Any, pixel: Any, count: int) -> None:
            """Add the products of `count` pixels, which are one after another."""
            right = [
                [read(builder, builder.gep(pixels, [builder.add(
                    builder.mul(builder.add(pixel, I64(i)), pitch), I64(j * SOME))]), FLOATS)
                 for j in range(vectors)]
                for i in range(count)
            ]  # fmt: skip
            here = builder.add(offset, pixel)
            for row, total in zip(x_rows, totals, strict=True):
                for i in range(count):
                    at = builder.gep(builder.gep(row, [here]), [I64(i)])
                    add_products(builder, at, right[i], total[i : i + vectors])

        steps = builder.lshr(width, I64(apart - 1))
        with cgutils.for_range_slice(builder, line, last, I64(1), intp=I64) as (number, _):
            offset = builder.load(builder.gep(lines, [number]))
            pixels = builder.load(panel)
            with cgutils.for_range(builder, steps, intp=I64) as loop:
                add(pixels, offset, builder.mul(loop.index, I64(apart)), apart)
            if apart == 2:
                odd = builder.icmp_signed("!=", builder.and_(width, I64(1)), I64(0))
                with builder.if_then(odd):
                    add(pixels, offset, builder.sub(width, I64(1)), 1)
            builder.store(builder.gep(pixels, [builder.mul(width, pitch)]), panel)
        held = builder.gep(sums, [at])
        for i, total in enumerate(totals):
            values = [builder.load(each) for each in total]
            if apart == 2:
                values = [builder.fadd(*values)]
            for j, value in enumerate(values):
                to = builder.gep(held, [I64(i * PAIR + j * SOME)])
                write(builder, builder.fadd(read(builder, to, FLOATS), value), to)

    return products


# Global names, for the cache on disk does not find kernels that refer to anything else.
tile_rows, tile_4 = tile(ROWS, 2), tile(4, 2)
tile_rows_by_one, tile_4_by_one = tile(ROWS, 1), tile(4, 1)


@ordered_kernel
def to_panels(start, stop, g, plane, groups, outputs, pair, panels):
    """Items start to stop of panels (groups, O / pair, images * plane, pair), from g (images,
    groups * outputs, plane): an item is the `pair` outputs, PAIR or SOME, or what is left of them,
    of an image. What is missing are zeros."""
    width = lanes(g)
    count = (outputs + pair - 1) // pair
    images = g.size // (groups * outputs * plane)
    square, transposed = lines_of_zeros(g, width * width), lines_of_zeros(g, width * width)
    for item in range(start, stop):
        panel, image = item % (groups * count), item // (groups * count)
        group, o = panel // count, panel % count * pair
        for half in range(0, pair, width):
            valid = max(0, min(width, outputs - o - half))
            source = ((image * groups + group) * outputs + o + half) * plane
            target = (panel * images + image) * plane * pair + half
            for p in range(0, plane, width):
                pixels, to = min(width, plane - p), target + p * pair
                if valid == width and pixels == width:
                    transpose(g, source + p, plane, panels, to, pair)
                    continue
                if valid == width and source + p + width * plane + width <= g.size:
                    # What is read after a row's end is not stored.
                    transpose(g, source + p, plane, transposed, 0, width)
                else:
                    for i in range(width):
                        for j in range(pixels):
                            inside = i < valid
                            square[i * width + j] = g[source + i * plane + p + j] if inside else 0
                    transpose(square, 0, width, transposed, 0, width)
                for j in range(pixels):
                    store(panels, to + j * pair, load(transposed, j * width))


@ordered_subroutine
def _put(part, count, valid, out, at, row):
    """out[at + i * row + j] = part[j, i], for `count` j and `valid` i."""
    width, pair = lanes(out), PAIR
    for i in range(0, valid, width):
        for j in range(0, count, width):
            to = at + i * row + j
            if i + width <= valid and j + width <= count:
                transpose(part, j * pair + i, pair, out, to, row)
            else:
                for a in range(min(width, valid - i)):
                    for b in range(min(width, count - j)):
                        out[to + a * row + b] = part[(j + b) * pair + i + a]


@ordered_kernel
def weight_grad(
    start, stop, x, channels, places, lines, width, panels, pair, groups, outputs, parts, ranges,
    out,
):  # fmt: skip
    """Items start to stop of out (parts, groups, outputs, K): an item is a part of the pixels, a
    panel of a group's outputs, and a range of K. What the parts give is to be added.

    x is padded, of `channels` numbers a group; places (K up to a multiple of 4, at the end the
    last one again): where a window's numbers are from its first; lines: where rows of windows
    begin, `width` each; panels: as `to_panels` gives them, of `pair` outputs.
    """
    k = out.size // (parts * groups * outputs)
    blocks = (outputs + pair - 1) // pair
    per_range = (k + ranges - 1) // ranges
    per_range = (per_range + 3) // 4 * 4
    pixels = lines.size * width
    some, wide = max(1, PIXELS // width), min(width, PIXELS)
    chunks = (lines.size + some - 1) // some
    part = cache_lines(x, per_range * PAIR)
    for item in range(start, stop):
        number, o = item % ranges, item // ranges % blocks
        group, share = item // ranges // blocks % groups, item // ranges // blocks // groups
        first, last = number * per_range, min(k, (number + 1) * per_range)
        if last <= first:
            continue
        count = (last - first + 3) // 4 * 4
        for i in range(count * PAIR):
            part[i] = 0
        valid = min(pair, outputs - o * pair)
        begin = (group * blocks + o) * pixels * pair
        for chunk in range(chunks * share // parts, chunks * (share + 1) // parts):
            line, end = chunk * some, min(lines.size, (chunk + 1) * some)
            for column in range(0, width, wide):
                columns = min(wide, width - column)
                at, x_at = begin + (line * width + column) * pair, group * channels + column
                i = 0
                while i < count:
                    if valid > SOME and i + ROWS <= count:
                        tile_rows(x, places, first + i, lines, line, end, x_at, columns, panels,
                                  at, part, i * PAIR, pair)  # fmt: skip
                        i += ROWS
                    elif valid > SOME:
                        tile_4(x, places, first + i, lines, line, end, x_at, columns, panels, at,
                               part, i * PAIR, pair)  # fmt: skip
                        i += 4
                    elif i + ROWS <= count:
                        tile_rows_by_one(x, places, first + i, lines, line, end, x_at, columns,
                                         panels, at, part, i * PAIR, pair)  # fmt: skip
                        i += ROWS
                    else:
                        tile_4_by_one(x, places, first + i, lines, line, end, x_at, columns,
                                      panels, at, part, i * PAIR, pair)  # fmt: skip
                        i += 4
        to = ((share * groups + group) * outputs + o * pair) * k + first
        _put(part, last - first, valid, out, to, k)
