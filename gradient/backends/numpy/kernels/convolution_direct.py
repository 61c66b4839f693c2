"""Convolutions of float32 with many outputs a group: direct, with outputs in registers' lanes.

A tile is some pixels of a row, or of two, by two vectors of outputs, and stays in registers over
the whole sum (channels and taps). A step takes two vectors of the weight, which lies in panels
(`to_panels` of `convolution_weight`), and one number of each pixel, where it lies in the input;
`surround` of `convolution` has put zeros about that, and pixels that are neighbours are so there,
whatever the stride. Where taps and rows are is in tables: so the size of the kernel, dilation and
the number of dimensions are no matter. (Georganas et al. 2018, "Anatomy of High-Performance Deep
Learning Convolutions on SIMD Architectures", section II, with another layout.)

Each output is one chain of multiplications and additions, in the order of channels and taps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.convolution_weight import FLOATS, I64, PAIR, SOME
from gradient.backends.numpy.kernels.stored import transpose
from gradient.backends.numpy.kernels.vectors import BYTES, intrinsic

WIDEST, WIDE, MIDDLE = (14, 12, 8) if BYTES == 64 else (4, 4, 4)
"""Pixels of a tile, by two vectors of outputs: as many sums as there are registers for, nearly as
many, and for what is left of a row."""

PIXELS = 480
"""Pixels of an item of work, about."""

TOGETHER = 48
"""Pixels that are written together, at most: whole tiles, and vectors, on every processor."""


def tile(rows: int, pixels: int) -> Any:
    """An intrinsic tile(x, x_at, x_row, channels, channel, taps, w, w_at, w_channel, w_taps, bias,
    b_at, part, at).

    part (rows * pixels, PAIR), from `at` on, = bias + the sums of windows that begin at x_at and
    its neighbours, `rows` times at a distance of x_row: over channels, `channel` apart in x and
    w_channel in w, and over taps, which are at `taps` in x and `w_taps` in w.
    """

    @intrinsic
    def outputs(
        context, x, x_at, x_row, channels, channel, taps, w, w_at, w_channel, w_taps, bias, b_at,
        part, at,
    ):  # fmt: skip
        def generate(context, builder, signature, arguments):
            x_, x_at_, x_row_, channels_, channel_, taps_, w_, w_at_, w_channel_, *rest = arguments
            w_taps_, bias_, b_at_, part_, at_ = rest
            fma = builder.module.declare_intrinsic(
                f"llvm.fmuladd.v{SOME}f32", fnty=ir.FunctionType(FLOATS, [FLOATS] * 3)
            )

            def place(array: Any, value: Any, at: Any) -> Any:
                return builder.gep(context.make_array(array)(context, builder, value).data, [at])

            def pair(start: Any) -> list[Any]:
                vectors = []
                for j in range(2):
                    pointer = builder.gep(start, [I64(j * SOME)])
                    vectors.append(builder.load(builder.bitcast(pointer, FLOATS.as_pointer())))
                    vectors[-1].align = 4
                return vectors

            def splat(number: Any) -> Any:
                one = builder.insert_element(ir.Constant(FLOATS, ir.Undefined), number, I64(0))
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), SOME), None)
                return builder.shuffle_vector(one, one, zeros)

            count = rows * pixels
            totals = [
                [cgutils.alloca_once(builder, FLOATS) for _ in range(2)] for _ in range(count)
            ]
            begin = pair(place(bias, bias_, b_at_))
            for total in totals:
                for j in range(2):
                    builder.store(begin[j], total[j])
            x_first, w_first = place(x, x_, x_at_), place(w, w_, w_at_)
            tap_count = context.make_array(taps)(context, builder, taps_).shape
            tap_count = builder.extract_value(tap_count, 0)
            with cgutils.for_range(builder, channels_, intp=I64) as each_channel:
                c = each_channel.index
                x_here = builder.gep(x_first, [builder.mul(c, channel_)])
                w_here = builder.gep(w_first, [builder.mul(c, w_channel_)])
                with cgutils.for_range(builder, tap_count, intp=I64) as each_tap:
                    t = each_tap.index
                    right = pair(builder.gep(w_here, [builder.load(place(w_taps, w_taps_, t))]))
                    here = builder.gep(x_here, [builder.load(place(taps, taps_, t))])
                    for i, total in enumerate(totals):
                        if i and i % pixels == 0:
                            here = builder.gep(here, [x_row_])
                        left = splat(builder.load(builder.gep(here, [I64(i % pixels)])))
                        for j in range(2):
                            more = builder.call(fma, [right[j], left, builder.load(total[j])])
                            builder.store(more, total[j])
            held = place(part, part_, at_)
            for i, total in enumerate(totals):
                for j in range(2):
                    to = builder.gep(held, [I64(i * PAIR + j * SOME)])
                    to = builder.bitcast(to, FLOATS.as_pointer())
                    builder.store(builder.load(total[j]), to).align = 4
            return context.get_dummy_value()

        n = types.int64
        signature = types.void(
            x, n, n, n, n, taps, w, n, n, w_taps, bias, n, part, n
        )  # fmt: skip
        return signature, generate

    return outputs


# Global names, for the cache on disk does not find kernels that refer to anything else.
tile_widest, tile_wide, tile_middle = tile(1, WIDEST), tile(1, WIDE), tile(1, MIDDLE)
tile_4, tile_2_by_4 = tile(1, 4), tile(2, 4)


@ordered_subroutine
def _find(pixel, count, windows, strides, targets):
    """Where the outputs of windows `pixel` to pixel + count are."""
    row, plane = windows[2], windows[1] * windows[2]
    volume = windows[0] * plane
    image, inside = pixel // volume, pixel % volume
    d, h, w = inside // plane, inside % plane // row, inside % row
    for i in range(count):
        targets[i] = image * strides[0] + d * strides[2] + h * strides[3] + w * strides[4]
        w += 1
        if w == row:
            w, h = 0, h + 1
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
            for a in range(outputs):
                for b in range(some):
                    out[to + a * channel + targets[i + b]] = square[a * SOME + b]


@ordered_kernel
def convolve(
    start, stop, per_item, x, channel, lines, bounds, all_taps, windows, channels, weight,
    w_strides, all_w_taps, groups, outputs, bias, out, out_strides,
):  # fmt: skip
    """Items start to stop of a convolution, bias included: an item is `per_item` rows of windows,
    for as many outputs of a group as a panel of the weight has.

    x (images, groups * channels, ...), surrounded; lines: where its rows of windows begin.
    bounds (rows of windows of an image, 2): the first tap of each that is not among rows of zeros,
    and the one after the last. w_strides: of the weight's panels, from a group, a panel and a
    channel to the next; all_w_taps: from a channel's begin to its taps. bias (groups, outputs up to
    a multiple of PAIR). out_strides: of an image, a channel, and from one window to the next in
    depth, height and width; and where the first is.
    """
    width, rows = windows[2], windows[0] * windows[1]
    some, wide = max(1, TOGETHER // width), min(width, TOGETHER)
    blocks, panels = (lines.size + per_item - 1) // per_item, (outputs + PAIR - 1) // PAIR
    targets, square = np.empty(TOGETHER, np.int64), np.empty(SOME * SOME, x.dtype)
    part = np.zeros((TOGETHER + WIDEST) * PAIR, x.dtype)
    for item in range(start, stop):
        block, panel, group = item % blocks, item // blocks % panels, item // blocks // panels
        end, o = min(lines.size, (block + 1) * per_item), panel * PAIR
        x_at, w_at = group * channels * channel, group * w_strides[0] + panel * w_strides[1]
        b_at = (group * panels + panel) * PAIR
        to = out_strides[5] + (group * outputs + o) * out_strides[1]
        for first in range(block * per_item, end, some):
            last = min(end, first + some)
            for column in range(0, width, wide):
                columns = min(wide, width - column)
                line, at = first, 0
                while line < last:
                    here = x_at + lines[line] + column
                    row = lines[min(line + 1, last - 1)] - lines[line]
                    first_tap, last_tap = bounds[line % rows, 0], bounds[line % rows, 1]
                    two = columns == 4 and line + 1 < last
                    if two:
                        first_tap = min(first_tap, bounds[(line + 1) % rows, 0])
                        last_tap = max(last_tap, bounds[(line + 1) % rows, 1])
                    taps, w_taps = all_taps[first_tap:last_tap], all_w_taps[first_tap:last_tap]
                    if two:
                        tile_2_by_4(x, here, row, channels, channel, taps, weight, w_at,
                                    w_strides[2], w_taps, bias, b_at, part, at * PAIR)  # fmt: skip
                        line, at = line + 2, at + 8
                        continue
                    i = 0
                    while i < columns:
                        left, x_here, to_here = columns - i, here + i, (at + i) * PAIR
                        over = left % WIDE  # as few tiles as the widest would be, but no wider
                        if 0 < over <= left // WIDE * (WIDEST - WIDE):
                            tile_widest(x, x_here, 0, channels, channel, taps, weight, w_at,
                                        w_strides[2], w_taps, bias, b_at, part,
                                        to_here)  # fmt: skip
                            i += WIDEST
                        elif left > MIDDLE:
                            tile_wide(x, x_here, 0, channels, channel, taps, weight, w_at,
                                      w_strides[2], w_taps, bias, b_at, part, to_here)  # fmt: skip
                            i += WIDE
                        elif left > 4:
                            tile_middle(x, x_here, 0, channels, channel, taps, weight, w_at,
                                        w_strides[2], w_taps, bias, b_at, part,
                                        to_here)  # fmt: skip
                            i += MIDDLE
                        else:
                            tile_4(x, x_here, 0, channels, channel, taps, weight, w_at,
                                   w_strides[2], w_taps, bias, b_at, part, to_here)  # fmt: skip
                            i += 4
                    line, at = line + 1, at + columns
                _find(first * width + column, at, windows, out_strides, targets)
                _write(part, at, min(PAIR, outputs - o), out, to, out_strides[1], targets, square)
