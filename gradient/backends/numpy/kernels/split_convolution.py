"""Convolutions of float32 by tiles of bfloat16 numbers (`amx`), six products of parts for one.

Numbers are split as in `split_products`, which says what is exact. A step is a tap and 32 channels,
a sum is over all taps of some channels, then of the next ones: (pixels, steps) @ (steps, outputs),
of which the first matrix is nowhere in memory. A tile of it is 16 pixels of a row of windows, where
they lie in the input:

    block of images, 32 channels, place in the plane, image of the block, part of the number,
    channel

The input is split once, whatever the number of taps. Places are as in `windows`: between zeros, and
so that windows side by side are neighbours. A block has as many images as fill tiles, for rows may
be short. The weight is split once, too:

    panel of 32 outputs, 32 channels, tap, part of the number, half of the panel, pair of channels

and is taken from `convolution_direct`'s panels. Memory for both is given as float32. An output
whose window, or whose weight, has a number that is not split exactly is computed by float32
vectors: its part of the sum that has it. An element's bits depend neither on what else is computed
nor on the number of threads.
"""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.amx import configure_whole, release, store_sums, zero_sums
from gradient.backends.numpy.kernels.bfloat16_tiles import PAIR, ROWS, STEP, TILE
from gradient.backends.numpy.kernels.cache_lines import cache_lines, lines_of_zeros
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.inexact_elements import multiply_vectors
from gradient.backends.numpy.kernels.split_products import (
    NEXT,
    PART,
    SPLIT,
    add_products,
    prefetch_lines,
    split_pairs,
    split_row,
)
from gradient.backends.numpy.kernels.stored import transpose
from gradient.backends.numpy.kernels.vectors import (
    add_product,
    load,
    store,
    store_apart,
    store_some,
)

PLACE = 3 * STEP
"""Bfloat16 numbers of 32 channels of a pixel: the three parts."""

SLACK = ROWS * PLACE
"""Numbers after the input that a tile may read."""

LINE, LINES = 128, 512
"""Bytes of two lines of the cache, and of what is asked for together."""

AHEAD = 2 * ROWS * 2 * PLACE // LINES
"""Times that as much is asked for: two tiles."""

DEPTH = 24
"""The most steps in a part of a sum."""


@ordered_kernel
def split_input(
    start, stop, x, images, channels, pixels, together, groups, places, outside, plane, out,
    inexact, some,
):  # fmt: skip
    """Items start to stop of the input as the module's docstring says: an item is 32 channels, of
    `groups` of them, of a block of `together` images.

    x (images, channels, pixels); places: of each pixel in a plane of `plane` places, or -1;
    outside: the places that are of none. inexact (block, group, place, image): whether a number is
    not split exactly; some (items,): whether there is one.
    """
    near, halves = cache_lines(x, ROWS * STEP), out.view(np.uint16)
    for item in range(start, stop):
        first, c = item // groups * together, item % groups * STEP
        valid, found = min(STEP, channels - c), 0
        for image in range(first, min(images, first + together)):
            base = (image * channels + c) * pixels
            for p in range(0, pixels, ROWS):
                count = min(ROWS, pixels - p)
                if valid == STEP and base + p + (STEP - 1) * pixels + ROWS <= x.size:
                    transpose(x, base + p, pixels, near, 0, STEP)
                    transpose(x, base + p + ROWS * pixels, pixels, near, ROWS, STEP)
                else:
                    for i in range(count):
                        for j in range(STEP):
                            number = x[base + j * pixels + p + i] if j < valid else x.dtype.type(0)
                            near[i * STEP + j] = number
                for i in range(count):
                    if places[p + i] >= 0:
                        to = (item * plane + places[p + i]) * together + image - first
                        lanes = split_row(near, i * STEP, i * STEP + ROWS, halves, to * PLACE, STEP)
                        inexact[to] = lanes != 0
                        found |= lanes
        for place in outside:
            to = (item * plane + place) * together
            for i in range(to * PLACE, (to + together) * PLACE):
                halves[i] = 0
            for i in range(to, to + together):
                inexact[i] = 0
        some[item] = found != 0


@ordered_kernel
def split_weight(
    start, stop, panels, w_panel, w_channel, w_taps, channels, groups, out, inexact
):  # fmt: skip
    """Items start to stop of the weight as the module's docstring says: an item is 32 channels, of
    `groups` of them, of a panel. panels: as `convolution_direct.convolve` has them.

    inexact (items,): a bit for each output that has a number which is not split exactly.
    """
    pair, halves = lines_of_zeros(panels, 2 * PAIR), out.view(np.uint16)
    for item in range(start, stop):
        panel, c, found = item // groups, item % groups * STEP, 0
        for tap in range(w_taps.size):
            to = (item * w_taps.size + tap) * SPLIT
            begin = panel * w_panel + c * w_channel + w_taps[tap]
            for i in range(ROWS):
                left, at = channels - c - 2 * i, to + i * STEP
                first = begin + 2 * i * w_channel
                if left > 1:
                    second = first + w_channel
                    found |= split_pairs(panels, first, second, halves, at, PART)
                    found |= NEXT * split_pairs(
                        panels, first + ROWS, second + ROWS, halves, at + TILE, PART
                    )
                    continue
                for j in range(PAIR):
                    pair[j] = panels[first + j] if left == 1 else panels.dtype.type(0)
                found |= split_pairs(pair, 0, PAIR, halves, at, PART)
                found |= NEXT * split_pairs(pair, ROWS, PAIR + ROWS, halves, at + TILE, PART)
        inexact[item] = found


@ordered_subroutine
def multiply(
    a, first, second, row, apart, places, step, last, b, b_at, corner, ahead, lines, line, asked
):  # fmt: skip
    """corner (32, 32) = the products of steps `step` to `last` of two tiles of `a`, which begin at
    `first` and `second` in a step's place and have their three parts `apart`, with a panel of b.

    What is read next lies `ahead` bytes from the array's begin, as far on as a step's place is: in
    each step `lines` times two lines of the cache, at FEW places that are `line` bytes apart, are
    asked for, `asked` bytes apart.
    """
    zero_sums()
    for s in range(step, last):
        here = a.ctypes.data + ahead + 2 * places[s]
        for i in range(lines):
            prefetch_lines(here + i * asked, line)
        one, two = first + places[s], second + places[s]
        add_products(a, one, two, row, apart, b, b_at + s * SPLIT)
    store_sums(corner, 0, ROWS, ROWS * PAIR, PAIR)


@ordered_subroutine
def add_corner(corner, sums, at, bias, b_at, first):
    """sums (32, 32) from `at` on += corner; or `first`, = corner + bias[b_at : b_at + 32]."""
    one, half = np.float32(1), PAIR // 2
    for i in range(0, PAIR * PAIR, PAIR):
        for j in range(0, PAIR, half):
            before = load(bias, b_at + j) if first else load(sums, at + i + j)
            store(sums, at + i + j, add_product(before, one, load(corner, i + j)))


@ordered_subroutine
def write(sums, at, apart, width, valid, out, to, channel, step, square):
    """out[to + o * channel + i * step] = sums[at + i * apart + o], for `width` i and `valid` o."""
    for half in range(0, valid, ROWS):
        outputs = min(ROWS, valid - half)
        for i in range(0, width, ROWS):
            source, target = at + i * apart + half, to + half * channel + i * step
            some = min(ROWS, width - i)
            if outputs == ROWS == some and step == 1:
                transpose(sums, source, apart, out, target, channel)
                continue
            transpose(sums, source, apart, square, 0, ROWS)
            for o in range(outputs):
                begin, line = target + o * channel, o * ROWS
                if step == 1:
                    store_some(out, begin, load(square, line), some)
                elif step == 2:
                    store_apart(out, begin, load(square, line), some)
                else:
                    for j in range(some):
                        out[begin + j * step] = square[line + j]


@ordered_subroutine
def gather_inputs(
    x, images, channels, pixels, together, groups, plane, inside, taps, pieces, begins, widths,
    runs, first, tile, tiles, step, last, inexact, out,
):  # fmt: skip
    """A bit for each row of two tiles whose windows have a number that is not split exactly, in
    steps `step` to `last`; and the numbers of both tiles there, as out (32, ...), if `out` has any
    room."""
    found, count = 0, (last - step) * STEP
    for r in range(PAIR):
        number = tile + r // ROWS
        line = first + number // runs
        block, piece = line // pieces, line % pieces
        slot = number % runs * ROWS + r % ROWS
        image, column = block * together + slot % together, slot // together
        is_there = number < tiles and column < widths[piece] and image < images
        for s in range(step, last):
            group, at = s // taps.size, r * count + (s - step) * STEP
            c, place = group * STEP, 0
            if is_there:
                place = begins[piece] + column + taps[s % taps.size]
                to = ((block * groups + group) * plane + place) * together + slot % together
                found |= int(inexact[to]) << r
            if out.size == 0:
                continue
            for j in range(STEP):
                number_of_x = x.dtype.type(0)
                if is_there and inside[place] >= 0 and c + j < channels:
                    number_of_x = x[(image * channels + c + j) * pixels + inside[place]]
                out[at + j] = number_of_x
    return found


@ordered_subroutine
def gather_weight(panels, w_at, w_channel, w_taps, channels, step, last, out):
    """Numbers of a panel of the weight in steps `step` to `last`: out (..., 32)."""
    for s in range(step, last):
        c, to = s // w_taps.size * STEP, (s - step) * STEP * PAIR
        for j in range(STEP):
            at = w_at + (c + j) * w_channel + w_taps[s % w_taps.size]
            for o in range(PAIR):
                out[to + j * PAIR + o] = panels[at + o] if c + j < channels else out.dtype.type(0)


@ordered_kernel
def convolve(
    start, stop, per_item, per_block, x, images, channels, pixels, a, together, groups, plane,
    inside, taps, steps, pieces, begins, widths, targets, runs, joined, a_inexact, some, panels,
    w_panel, w_channel, w_taps, b, b_inexact, outputs, bias, out, out_strides,
):  # fmt: skip
    """Items start to stop of a convolution, bias included: an item is `per_item` pieces of rows of
    windows, for `per_block` panels of outputs.

    x, images, channels, pixels, together, groups, plane, inside (the inverse of `places`), a,
    a_inexact, some: as `split_input` has them; panels, w_panel, w_channel, w_taps, b, b_inexact: as
    `split_weight`; taps: their places from a window's; steps: in `a`, as far as that.
    pieces: how many a block of images has; begins, widths, targets: where each begins in a plane,
    how many windows it has, and where their outputs are; runs: tiles of one; joined: whether the
    outputs of pieces lie one after another and fill tiles. bias (outputs up to whole panels) or
    none; out_strides: of an image, a channel, and from one window to the next in depth, height and
    width.
    """
    configure_whole()
    a_halves, b_halves = a.view(np.uint16), b.view(np.uint16)
    lines = (images + together - 1) // together * pieces
    bands, all_panels = (lines + per_item - 1) // per_item, (outputs + PAIR - 1) // PAIR
    room = (per_item * runs + 1) // 2 * 2
    sums = cache_lines(x, (per_block * room + together + 1) * TILE)
    corner, square = cache_lines(x, PAIR * PAIR), cache_lines(x, ROWS * ROWS)
    added = lines_of_zeros(x, PAIR)
    count = min(DEPTH, steps.size) * STEP
    parts = (steps.size + DEPTH - 1) // DEPTH
    depth = (steps.size + parts - 1) // parts
    rows_near, columns_near = np.empty(0, x.dtype), np.empty(0, x.dtype)
    for item in range(start, stop):
        first, panel = item % bands * per_item, item // bands * per_block
        end, last_panel = min(lines, first + per_item), min(all_panels, panel + per_block)
        tiles = (end - first) * runs
        for step in range(0, steps.size, depth):
            last = min(steps.size, step + depth)
            suspicious = False
            for block in range(first // pieces, (end - 1) // pieces + 1):
                for group in range(step // taps.size, (last - 1) // taps.size + 1):
                    suspicious |= some[block * groups + group]
            for tile in range(0, tiles, 2):
                line, run = first + tile // runs, tile % runs
                one = line // pieces * groups * plane + begins[line % pieces]
                one = (one * together + run * ROWS) * PLACE
                two = one
                if tile + 1 < tiles:
                    line, run = first + (tile + 1) // runs, (tile + 1) % runs
                    two = line // pieces * groups * plane + begins[line % pieces]
                    two = (two * together + run * ROWS) * PLACE
                inexact_rows = 0
                if suspicious:
                    inexact_rows = gather_inputs(
                        x, images, channels, pixels, together, groups, plane, inside, taps, pieces,
                        begins, widths, runs, first, tile, tiles, step, last, a_inexact,
                        np.empty(0, x.dtype),
                    )  # fmt: skip
                gathered = False
                ahead = 0
                if tile + 2 < tiles:
                    line, run = first + (tile + 2) // runs, (tile + 2) % runs
                    ahead = line // pieces * groups * plane + begins[line % pieces]
                    ahead = 2 * (ahead * together + run * ROWS) * PLACE
                for p in range(panel, last_panel):
                    asked = AHEAD if ahead and p == panel else 0
                    multiply(a_halves, one, two, PLACE, STEP, steps, step, last, b_halves,
                             p * steps.size * SPLIT, corner, ahead, asked, LINE, LINES)  # fmt: skip
                    inexact_columns = 0
                    for group in range(step // taps.size, (last - 1) // taps.size + 1):
                        inexact_columns |= b_inexact[p * groups + group]
                    if inexact_rows | inexact_columns:
                        if columns_near.size == 0:
                            rows_near = np.empty(PAIR * count, x.dtype)
                            columns_near = np.empty(count * PAIR, x.dtype)
                        if not gathered:
                            gather_inputs(
                                x, images, channels, pixels, together, groups, plane, inside, taps,
                                pieces, begins, widths, runs, first, tile, tiles, step, last,
                                a_inexact, rows_near,
                            )  # fmt: skip
                            gathered = True
                        gather_weight(panels, p * w_panel, w_channel, w_taps, channels, step, last,
                                      columns_near)  # fmt: skip
                        multiply_vectors(
                            rows_near, 0, (last - step) * STEP, 1, PAIR, columns_near, PAIR,
                            (last - step) * STEP, inexact_rows, inexact_columns, corner,
                        )  # fmt: skip
                    if step == 0 and bias.size > 0:
                        for o in range(PAIR):
                            inside_o = p * PAIR + o < outputs
                            added[o] = bias[p * PAIR + o] if inside_o else x.dtype.type(0)
                    add_corner(corner, sums, ((p - panel) * room + tile) * TILE, added, 0,
                               step == 0)  # fmt: skip
        for p in range(panel, last_panel):
            valid = min(PAIR, outputs - p * PAIR)
            line = first
            while line < end:
                block, piece, after = line // pieces, line % pieces, line + 1
                width = widths[piece]
                if joined:
                    after = min(end, (block + 1) * pieces)
                    width *= after - line
                for i in range(min(together, images - block * together)):
                    at = ((p - panel) * room + (line - first) * runs) * TILE + i * PAIR
                    to = (block * together + i) * out_strides[0] + p * PAIR * out_strides[1]
                    write(sums, at, together * PAIR, width, valid, out, to + targets[piece],
                          out_strides[1], out_strides[4], square)  # fmt: skip
                line = after
    release()
