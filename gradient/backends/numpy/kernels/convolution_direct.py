"""Convolutions of float32 with many outputs a group: direct, with outputs in registers' lanes.

A tile is some pixels of a row, or of two, by two vectors of outputs (one, where those of a group
end), and stays in registers over a sum of all taps and of some channels: as many as have a part of
the weight that stays in the first cache. A step takes two vectors of the weight, which lies in
panels (`to_panels` of `convolution_weight`), and one number of each pixel, where it lies in the
input; `pad` of `convolution` has put zeros about that, and pixels that are neighbours are so
there, whatever the stride. Where taps and rows are is in tables: so the size of the kernel,
dilation and the number of dimensions are no matter. (Georganas et al. 2018, "Anatomy of
High-Performance Deep Learning Convolutions on SIMD Architectures", section II, with another
layout.)

Each output is one chain of multiplications and additions, in the order of channels and taps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import cgutils

from gradient.backends.numpy.kernels.building import add_products, read, write
from gradient.backends.numpy.kernels.cache_lines import cache_lines, lines_of_zeros
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.convolution_weight import FLOATS, PAIR, SOME
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.llvm_types import I64
from gradient.backends.numpy.kernels.stored import transpose
from gradient.backends.numpy.kernels.vectors import BYTES, load, store, store_apart, store_some

WIDEST, WIDE, MIDDLE = (14, 12, 8) if BYTES == 64 else (4, 4, 4)
"""Pixels of a tile, by two vectors of outputs: as many sums as there are registers for, nearly as
many, and for what is left of a row."""

LONGEST, LONG, SHORT = (28, 16, 8) if BYTES == 64 else (8, 8, 4)
"""The same, by one vector."""

PIXELS = 480
"""Pixels of an item of work, about."""

TOGETHER = 96
"""Pixels that are written together, at most: whole tiles, and vectors, on every processor. For each
as many, the weight is read once."""

WEIGHTS = 6 << 10
"""Numbers of a panel of the weight that tiles pass before the next ones: half of the first cache.
The second one is slower than the sums are."""


def tile(rows: int, pixels: int, vectors: int, fewest: int) -> Any:
    """An intrinsic tile(x, x_at, x_row, channels, channel, taps, tap_count, w, w_at, w_channel,
    w_taps, part, at, count).

    part (rows * count, PAIR), from `at` on, += the sums of `count` windows (`fewest` to `pixels`)
    that begin at x_at and its neighbours, `rows` times at a distance of x_row: over channels,
    `channel` apart in x and w_channel in w, and over taps, which are at `taps` in x and `w_taps` in
    w; for the first `vectors` of outputs.
    """

    @emitted()
    def outputs(
        builder, x, x_at, x_row, channels, channel, taps, tap_count, w, w_at, w_channel, w_taps,
        part, at, count,
    ):  # fmt: skip
        def each_vector(start: Any) -> list[Any]:
            return [builder.gep(start, [I64(j * SOME)]) for j in range(vectors)]

        def read_all(start: Any) -> list[Any]:
            return [read(builder, each, FLOATS) for each in each_vector(start)]

        held = builder.gep(part, [at])
        places = [
            builder.gep(held, [builder.mul(builder.add(builder.mul(count, I64(row)), I64(i)),
                                           I64(PAIR))])
            for row in range(rows)
            for i in range(pixels)
        ]  # fmt: skip
        totals = [[cgutils.alloca_once(builder, FLOATS) for _ in range(vectors)] for _ in places]
        for total, start in zip(totals, places, strict=True):
            for each, number in zip(total, read_all(start), strict=True):
                builder.store(number, each)
        x_first, w_first = builder.gep(x, [x_at]), builder.gep(w, [w_at])
        with cgutils.for_range(builder, channels, intp=I64) as each_channel:
            c = each_channel.index
            x_here = builder.gep(x_first, [builder.mul(c, channel)])
            w_here = builder.gep(w_first, [builder.mul(c, w_channel)])
            with cgutils.for_range(builder, tap_count, intp=I64) as each_tap:
                t = each_tap.index
                right = read_all(builder.gep(w_here, [builder.load(builder.gep(w_taps, [t]))]))
                here = builder.gep(x_here, [builder.load(builder.gep(taps, [t]))])
                for i, total in enumerate(totals):
                    if i and i % pixels == 0:
                        here = builder.gep(here, [x_row])
                    add_products(builder, builder.gep(here, [I64(i % pixels)]), right, total)

        def put(total: list[Any], start: Any) -> None:
            for each, to in zip(total, each_vector(start), strict=True):
                write(builder, builder.load(each), to)

        for i, (total, start) in enumerate(zip(totals, places, strict=True)):
            if i % pixels < fewest:
                put(total, start)
                continue
            with builder.if_then(builder.icmp_signed("<", I64(i % pixels), count)):
                put(total, start)

    return outputs


# Global names, for the cache on disk does not find kernels that refer to anything else.
tile_widest, tile_wide = tile(1, WIDEST, 2, WIDEST - 3), tile(1, WIDE, 2, WIDE - 3)
tile_middle, tile_4 = tile(1, MIDDLE, 2, MIDDLE - 3), tile(1, 4, 2, 1)
tile_2_by_4 = tile(2, 4, 2, 4)
tile_longest, tile_long = tile(1, LONGEST, 1, LONGEST - 3), tile(1, LONG, 1, LONG // 2 + 1)
tile_short, tile_2_short = tile(1, SHORT, 1, 1), tile(2, SHORT, 1, 1)


@ordered_subroutine
def _row(
    by_one, x, x_at, columns, channels, channel, taps, w, w_at, w_channel, w_taps, part, at
):  # fmt: skip
    """part (columns, PAIR), from pixel `at` on, += the sums of a row of windows; `by_one`, of those
    outputs alone that one vector holds."""
    i = 0
    while i < columns:
        left, here, to = columns - i, x_at + i, (at + i) * PAIR
        over = left % WIDE  # as few tiles as the widest would be, but no wider
        if by_one and LONGEST - 4 < left <= LONGEST:
            tile_longest(x, here, 0, channels, channel, taps, taps.size, w, w_at, w_channel, w_taps,
                         part, to, min(left, LONGEST))  # fmt: skip
            i += LONGEST
        elif by_one and left > SHORT:
            tile_long(x, here, 0, channels, channel, taps, taps.size, w, w_at, w_channel, w_taps,
                      part, to, min(left, LONG))  # fmt: skip
            i += LONG
        elif by_one:
            tile_short(x, here, 0, channels, channel, taps, taps.size, w, w_at, w_channel, w_taps,
                       part, to, left)  # fmt: skip
            i += SHORT
        elif 0 < over <= left // WIDE * (WIDEST - WIDE):
            tile_widest(x, here, 0, channels, channel, taps, taps.size, w, w_at, w_channel, w_taps,
                        part, to, min(left, WIDEST))  # fmt: skip
            i += WIDEST
        elif left > 2 * MIDDLE or MIDDLE < left <= WIDE:
            tile_wide(x, here, 0, channels, channel, taps, taps.size, w, w_at, w_channel, w_taps,
                      part, to, min(left, WIDE))  # fmt: skip
            i += WIDE
        elif left > 4:
            tile_middle(x, here, 0, channels, channel, taps, taps.size, w, w_at, w_channel, w_taps,
                        part, to, min(left, MIDDLE))  # fmt: skip
            i += MIDDLE
        else:
            tile_4(x, here, 0, channels, channel, taps, taps.size, w, w_at, w_channel, w_taps,
                   part, to, left)  # fmt: skip
            i += 4


@ordered_subroutine
def _find(pixel, count, windows, strides, targets):
    """Where the outputs of windows `pixel` to pixel + count are."""
    row, plane = windows[2], windows[1] * windows[2]
    volume = windows[0] * plane
    image, inside = pixel // volume, pixel % volume
    d, h, w = inside // plane, inside % plane // row, inside % row
    i = 0
    while i < count:
        first = image * strides[0] + d * strides[2] + h * strides[3] + w * strides[4]
        some = min(row - w, count - i)
        for j in range(some):
            targets[i + j] = first + j * strides[4]
        i, w, h = i + some, 0, h + 1
        if h == windows[1]:
            h, d = 0, d + 1
            if d == windows[0]:
                d, image = 0, image + 1


@ordered_subroutine
def _write(part, count, valid, out, at, channel, targets, square):
    """out[at + o * channel + targets[i]] = part[i, o], for `count` i and `valid` o."""
    for half in range(0, valid, SOME):
        outputs = min(SOME, valid - half)
        to = at + half * channel
        for i in range(0, count, SOME):
            some = min(SOME, count - i)
            neighbours = some == SOME and targets[i + SOME - 1] - targets[i] == SOME - 1
            if neighbours and outputs == SOME:
                transpose(part, i * PAIR + half, PAIR, out, to + targets[i], channel)
                continue
            transpose(part, i * PAIR + half, PAIR, square, 0, SOME)
            first = 0
            while first < some:  # those that are equally far from each other
                step, run = 1, 1
                if first + 1 < some:
                    step = targets[i + first + 1] - targets[i + first]
                while first + run < some and (
                    targets[i + first + run] - targets[i + first + run - 1] == step
                ):
                    run += 1
                for a in range(outputs):
                    begin, source = to + a * channel + targets[i + first], a * SOME + first
                    if step == 1:
                        store_some(out, begin, load(square, source), run)
                    elif step == 2:
                        store_apart(out, begin, load(square, source), run)
                    else:
                        for b in range(run):
                            out[begin + b * step] = square[source + b]
                first += run


@ordered_kernel
def convolve(
    start, stop, per_item, x, channel, lines, bounds, all_taps, windows, channels, weight,
    w_strides, all_w_taps, groups, outputs, bias, out, out_strides,
):  # fmt: skip
    """Items start to stop of a convolution, bias included: an item is `per_item` rows of windows,
    for as many outputs of a group as a panel of the weight has.

    x (images, groups * channels, ...), padded; lines: where its rows of windows begin.
    bounds (rows of windows of an image, 2): the first tap of each that is not among rows of zeros,
    and the one after the last. w_strides: of the weight's panels, from a group, a panel and a
    channel to the next; all_w_taps: from a channel's begin to its taps. bias (groups, outputs up to
    a multiple of PAIR). out_strides: of an image, a channel, and from one window to the next in
    depth, height and width; and where the first is.
    """
    width, rows = windows[2], windows[0] * windows[1]
    some, wide = max(1, TOGETHER // width), min(width, TOGETHER)
    blocks, panels = (lines.size + per_item - 1) // per_item, (outputs + PAIR - 1) // PAIR
    targets, square = np.empty(TOGETHER, np.int64), cache_lines(x, (SOME + 1) * SOME)
    part = lines_of_zeros(x, (TOGETHER + LONGEST) * PAIR)
    depths = (channels * all_taps.size * PAIR + WEIGHTS - 1) // WEIGHTS
    depth = (channels + depths - 1) // depths
    for item in range(start, stop):
        group = item // blocks // panels
        block, panel = item % blocks, item // blocks % panels
        if weight.size * blocks < x.size * panels:  # the input is what to read once
            block, panel = item // panels % blocks, item % panels
        end, o = min(lines.size, (block + 1) * per_item), panel * PAIR
        b_at = (group * panels + panel) * PAIR
        to = out_strides[5] + (group * outputs + o) * out_strides[1]
        by_one = outputs - o <= SOME
        for first in range(block * per_item, end, some):
            last = min(end, first + some)
            for column in range(0, width, wide):
                columns = min(wide, width - column)
                count = (last - first) * columns
                for i in range(count):
                    for j in range(0, SOME if by_one else PAIR, SOME):
                        store(part, i * PAIR + j, load(bias, b_at + j))
                for c in range(0, channels, depth):
                    some_channels = min(depth, channels - c)
                    x_at = (group * channels + c) * channel + column
                    w_at = group * w_strides[0] + panel * w_strides[1] + c * w_strides[2]
                    line = first
                    while line < last:
                        here, at = x_at + lines[line], (line - first) * columns
                        first_tap, last_tap = bounds[line % rows, 0], bounds[line % rows, 1]
                        two = line + 1 < last and (columns <= SHORT if by_one else columns == 4)
                        if two:
                            first_tap = min(first_tap, bounds[(line + 1) % rows, 0])
                            last_tap = max(last_tap, bounds[(line + 1) % rows, 1])
                        row = lines[line + two] - lines[line]
                        taps, w_taps = all_taps[first_tap:last_tap], all_w_taps[first_tap:last_tap]
                        if two and by_one:
                            tile_2_short(x, here, row, some_channels, channel, taps, taps.size,
                                         weight, w_at, w_strides[2], w_taps, part, at * PAIR,
                                         columns)  # fmt: skip
                        elif two:
                            tile_2_by_4(x, here, row, some_channels, channel, taps, taps.size,
                                        weight, w_at, w_strides[2], w_taps, part, at * PAIR,
                                        4)  # fmt: skip
                        else:
                            _row(by_one, x, here, columns, some_channels, channel, taps, weight,
                                 w_at, w_strides[2], w_taps, part, at)  # fmt: skip
                        line += 2 if two else 1
                _find(first * width + column, count, windows, out_strides, targets)
                _write(
                    part, count, min(PAIR, outputs - o), out, to, out_strides[1], targets, square
                )
