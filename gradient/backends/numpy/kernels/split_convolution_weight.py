"""The gradient of a convolution by its weight, by tiles of bfloat16 numbers (`amx`).

Numbers are split as in `split_products`, which says what is exact, and six products of parts stand
for one. A step is 32 pixels of a row of windows: for each tap (channels, steps) @ (steps, outputs),
of which the first matrix is read where windows lie in the input. That is split once:

    block of images, channel, part of the number, place in the plane, image of the block

and has rows of zeros about it, as `windows` says. A block has as many images as fill steps. The
gradient is split once, too, and has zeros where a row of windows does not fill its last step:

    panel of 32 outputs, block of images, row of windows, 32 pixels, part of the number, half of the
    panel, pair of pixels

Memory for both is given as float32. Steps are added up by parts, whose results are added in order.
A channel of the input, or of the gradient, that has a number which is not split exactly meets the
others by float32 vectors in the parts of its block. An element's bits do not depend on other
channels, nor on the number of threads.
"""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.amx import configure_whole, release
from gradient.backends.numpy.kernels.bfloat16_tiles import PAIR, ROWS, STEP, TILE
from gradient.backends.numpy.kernels.cache_lines import cache_lines, lines_of_zeros
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.inexact_elements import multiply_vectors
from gradient.backends.numpy.kernels.split_convolution import multiply, write
from gradient.backends.numpy.kernels.split_products import (
    FEW,
    NEXT,
    PART,
    SPLIT,
    split_pairs,
    split_row,
    write_rows,
)
from gradient.backends.numpy.kernels.stored import transpose
from gradient.backends.numpy.kernels.vectors import load, store

DEPTH = 32
"""The most steps in a part of a sum."""

ASKED = 3
"""Times FEW rows of what is read next that a step asks for: by nine taps that is all."""


@ordered_kernel
def split_planes(
    start, stop, x, images, channels, pixels, width, stride, together, places, room, row, out,
    inexact,
):  # fmt: skip
    """Items start to stop of the input as the module's docstring says: an item is a channel, of
    `room` that there is memory for, of a block of `together` images.

    x (images, channels, pixels), rows of `width` pixels; stride: how far apart those are that are
    neighbours in a plane; places: of each pixel there, or -1; row: numbers of a plane, of all
    images of a block, up to whole steps. inexact (items,): whether a number is not split exactly.
    """
    near, halves = cache_lines(x, row), out.view(np.uint16)
    for item in range(start, stop):
        block, channel, found = item // channels, item % channels, 0
        first = block * together
        near[:] = 0
        for image in range(first, min(images, first + together)):
            base = (image * channels + channel) * pixels
            for p in range(0, pixels, width):
                for r in range(min(stride, width)):  # neighbours in the plane, `stride` apart here
                    count, source = (width - r + stride - 1) // stride, base + p + r
                    place, end = places[p + r], places[p + r + (count - 1) * stride]
                    if place < 0 or end < 0:
                        for i in range(r, width, stride):
                            if places[p + i] >= 0:
                                to = places[p + i] * together + image - first
                                near[to] = x[base + p + i]
                    elif together == stride == 1:
                        for i in range(count):
                            near[place + i] = x[source + i]
                    else:
                        to = place * together + image - first
                        for i in range(count):
                            near[to + i * together] = x[source + i * stride]
        at = (block * room + channel) * 3 * row
        for i in range(0, row, STEP):
            found |= split_row(near, i, i + ROWS, halves, at + i, row)
        inexact[item] = found != 0


@ordered_kernel
def split_gradient(
    start, stop, g, images, outputs, lines, width, together, chunks, out, inexact
):  # fmt: skip
    """Items start to stop of the gradient as the module's docstring says: an item is a panel's
    outputs of a block of `together` images.

    g (images, outputs, lines, width); chunks: steps of a line. inexact (items,): a bit for each
    output that has a number which is not split exactly.
    """
    blocks = (images + together - 1) // together
    near, square = lines_of_zeros(g, chunks * STEP * PAIR), cache_lines(g, ROWS * ROWS)
    halves = out.view(np.uint16)
    for item in range(start, stop):
        panel, first, found = item // blocks, item % blocks * together, 0
        near[:] = 0
        for line in range(lines):
            for image in range(first, min(images, first + together)):
                for half in range(0, PAIR, ROWS):
                    o = panel * PAIR + half
                    valid = min(ROWS, outputs - o)
                    if valid <= 0:
                        continue
                    base = ((image * outputs + o) * lines + line) * width
                    for w in range(0, width, ROWS):
                        some = min(ROWS, width - w)
                        end = base + w + (ROWS - 1) * lines * width + ROWS
                        to = (w * together + image - first) * PAIR + half
                        if valid < ROWS or end > g.size:
                            for i in range(some):
                                for j in range(valid):
                                    number = g[base + j * lines * width + w + i]
                                    near[to + i * together * PAIR + j] = number
                            continue
                        transpose(g, base + w, lines * width, square, 0, ROWS)
                        for i in range(some):
                            store(near, to + i * together * PAIR, load(square, i * ROWS))
            for chunk in range(chunks):
                to = ((item * lines + line) * chunks + chunk) * SPLIT
                for i in range(ROWS):
                    one, at = (chunk * STEP + 2 * i) * PAIR, to + i * STEP
                    found |= split_pairs(near, one, one + PAIR, halves, at, PART)
                    found |= NEXT * split_pairs(
                        near, one + ROWS, one + PAIR + ROWS, halves, at + TILE, PART
                    )
        inexact[item] = found


@ordered_subroutine
def gather(
    x, images, channels, pixels, c, other_c, together, inside, tap, other_tap, begins, width,
    chunks, step, last, g, outputs, panel, rows, columns,
):  # fmt: skip
    """The numbers of steps `step` to `last`: rows (32, ...), of 16 channels for a tap and 16 for
    another, and columns (..., 32) of a panel of outputs."""
    lines, count = begins.size, (last - step) * STEP
    for s in range(step, last):
        block, line, chunk = s // chunks // lines, s // chunks % lines, s % chunks
        for i in range(STEP):
            slot, at = chunk * STEP + i, (s - step) * STEP + i
            image, w = block * together + slot % together, slot // together
            is_there = w < width and image < images
            for j in range(PAIR):
                channel, shift = (c + j, tap) if j < ROWS else (other_c + j - ROWS, other_tap)
                pixel = inside[begins[line] + w + shift] if is_there else -1
                number, other = x.dtype.type(0), x.dtype.type(0)
                if pixel >= 0 and channel < channels:
                    number = x[(image * channels + channel) * pixels + pixel]
                if is_there and panel * PAIR + j < outputs:
                    other = g[((image * outputs + panel * PAIR + j) * lines + line) * width + w]
                rows[j * count + at], columns[at * PAIR + j] = number, other


@ordered_kernel
def weight_grad(
    start, stop, shares, per_block, x, images, channels, pixels, a, together, room, row, inside,
    taps, begins, width, chunks, steps, a_inexact, g, b, b_inexact, outputs, out,
):  # fmt: skip
    """Items start to stop of out (shares, outputs, channels, taps), of which the sum over shares is
    the gradient: an item is a share of the steps, 32 channels, and `per_block` panels of outputs.

    x, images, channels, pixels, together, room, row, a_inexact: as `split_planes` has them; inside:
    the pixel at each place of a plane, or -1; taps: their places from a window's; begins: places of
    the first window of each row; width, chunks: windows and steps of a row; steps: in `a`, as far
    as that; g, b_inexact, outputs: as `split_gradient`.
    """
    configure_whole()
    a_halves, b_halves = a.view(np.uint16), b.view(np.uint16)
    across, down = (outputs + PAIR - 1) // PAIR, (channels + PAIR - 1) // PAIR
    blocks, per_image = (across + per_block - 1) // per_block, begins.size * chunks
    images_blocks = (images + together - 1) // together
    parts = (steps.size + DEPTH - 1) // DEPTH
    panel_size, down_by = PAIR * taps.size * PAIR, ROWS * 3 * row
    sums = cache_lines(x, per_block * panel_size)
    corner, square = cache_lines(x, PAIR * PAIR), cache_lines(x, ROWS * ROWS)
    rows_near, columns_near = np.empty(0, x.dtype), np.empty(0, x.dtype)
    for item in range(start, stop):
        block, c = item % blocks, item // blocks % down * PAIR
        share = item // blocks // down
        panel, last_panel = block * per_block, min(across, (block + 1) * per_block)
        first, first_part = c * 3 * row, parts * share // shares
        for part in range(first_part, parts * (share + 1) // shares):
            step, last = steps.size * part // parts, steps.size * (part + 1) // parts
            inexact_rows = 0
            for images_block in range(step // per_image, (last - 1) // per_image + 1):
                for i in range(min(PAIR, channels - c)):
                    inexact_rows |= int(a_inexact[images_block * channels + c + i]) << i
            for p in range(panel, last_panel):
                inexact_columns = 0
                for images_block in range(step // per_image, (last - 1) // per_image + 1):
                    inexact_columns |= b_inexact[p * images_blocks + images_block]
                for pair in range(taps.size):
                    # Two tiles of 16 channels, or of all: those of a tap after those of another.
                    half_one, half_two = 2 * pair // taps.size, (2 * pair + 1) // taps.size
                    tap_one, tap_two = 2 * pair % taps.size, (2 * pair + 1) % taps.size
                    asked, ahead = 0, 0
                    if p == panel and last < steps.size:
                        asked = ASKED
                        ahead = 2 * (first + steps[last] - steps[step])
                        ahead += pair % 8 * ASKED * FEW * 2 * row
                    multiply(
                        a_halves, first + half_one * down_by + taps[tap_one] * together,
                        first + half_two * down_by + taps[tap_two] * together, 3 * row, row,
                        steps, step, last, b_halves, p * steps.size * SPLIT, corner, ahead, asked,
                        2 * row, FEW * 2 * row,
                    )  # fmt: skip
                    if inexact_rows | inexact_columns:
                        if columns_near.size == 0:
                            rows_near = np.empty(PAIR * DEPTH * STEP, x.dtype)
                            columns_near = np.empty(DEPTH * STEP * PAIR, x.dtype)
                        gather(
                            x, images, channels, pixels, c + half_one * ROWS, c + half_two * ROWS,
                            together, inside, taps[tap_one], taps[tap_two], begins, width, chunks,
                            step, last, g, outputs, p, rows_near, columns_near,
                        )  # fmt: skip
                        some_rows = inexact_rows >> half_one * ROWS & NEXT - 1
                        some_rows |= (inexact_rows >> half_two * ROWS & NEXT - 1) << ROWS
                        multiply_vectors(
                            rows_near, 0, (last - step) * STEP, 1, PAIR, columns_near, PAIR,
                            (last - step) * STEP, some_rows, inexact_columns, corner,
                        )  # fmt: skip
                    at = (p - panel) * panel_size
                    one_at = at + (half_one * ROWS * taps.size + tap_one) * PAIR
                    two_at = at + (half_two * ROWS * taps.size + tap_two) * PAIR
                    apart, add = taps.size * PAIR, part > first_part
                    write_rows(corner, 0, ROWS, sums, one_at, apart, add)
                    write_rows(corner, TILE, ROWS, sums, two_at, apart, add)
        valid = min(PAIR, channels - c) * taps.size
        for p in range(panel, last_panel):
            to = ((share * outputs + p * PAIR) * channels + c) * taps.size
            write(sums, (p - panel) * panel_size, PAIR, valid, min(PAIR, outputs - p * PAIR), out,
                  to, channels * taps.size, 1, square)  # fmt: skip
    release()
