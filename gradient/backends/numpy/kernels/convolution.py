"""Convolutions of float32 as products of matrices, one of which is never whole in memory.

A convolution is weight (O, K) @ columns (K, pixels), where a column holds the K = C * taps numbers
of one window. The columns of a few pixels at a time are copied into a panel, which stays in the
cache while all rows of the weight pass it. The numbers of one tap for neighbouring pixels are
neighbours in the input too, so that they are copied by whole vectors:

* the input has been copied between its zeros (`pad`), columns of one remainder by the stride
  side by side, so no pixel is outside, and the last vector may be longer than its row;
* where a tap is, from the first number of a window, is in a table, whatever the kernel's size,
  dilation and number of dimensions are.

The gradient by the input is the same product with the weight reversed; for that by the weight
see `convolution_weight`.

Each output is one chain of multiplications and additions in an order that the shapes settle. So
it is the same bits for any number of threads.
"""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.dense import DEPTH, ROWS, many_4, many_rows
from gradient.backends.numpy.kernels.vectors import (
    add_product,
    every_second,
    fill,
    lanes,
    load,
    load_some,
    store,
    store_apart,
)

PIXELS = 256
"""Pixels of an item of work: a whole number of panels on every processor."""

OUTPUTS = 120
"""Rows of the weight of an item: a multiple of `ROWS`, so that most products are of full tiles."""

SLACK = 16
"""Numbers after an array that is read, or written, by whole vectors."""


@ordered_kernel
def pad(start, stop, x, sizes, before, padded, step, out):
    """Planes start to stop of x (planes, *sizes) with zeros about them: (planes, *padded).

    x begins at `before`, and what does not fit is left out. Of the last dimension, columns that
    leave the same remainder by `step` are put together: (step, padded[2] / step).
    """
    depth, height, width = sizes[0], sizes[1], sizes[2]
    row, part = padded[2], padded[2] // step
    plane = padded[0] * padded[1] * row
    end = stop * plane  # Whatever is written too much is before it, and is written again.
    vector, zero = lanes(x), x.dtype.type(0)
    nothing = fill(zero)
    first = max(0, -before[2])
    last = max(first, min(width, row - before[2]))
    # Of each remainder the first column of x, how many there are, and how many zeros before them.
    begins, counts = np.empty(step, np.int64), np.empty(step, np.int64)
    zeros = np.empty(step, np.int64)
    for r in range(step):
        begins[r] = first + (r - first - before[2]) % step
        counts[r] = max(0, (last - begins[r] + step - 1) // step)
        zeros[r] = min(part, (begins[r] + before[2]) // step)
    at = start * plane
    same = padded[0] == depth and padded[1] == height and row == width
    if same and step == 1 and before[0] == before[1] == before[2] == 0:  # nothing is about it
        while at + vector <= end:
            store(out, at, load(x, at))
            at += vector
        while at < end:
            out[at] = x[at]
            at += 1
        return
    for p in range(start, stop):
        for d in range(-before[0], padded[0] - before[0]):
            for h in range(-before[1], padded[1] - before[1]):
                inside = 0 <= d < depth and 0 <= h < height
                source = ((p * depth + d) * height + h) * width
                for r in range(step):
                    row_end = at + part
                    if inside:
                        for _ in range(zeros[r]):
                            out[at] = zero
                            at += 1
                        i, copied = source + begins[r], at + counts[r]
                        if step == 1:
                            while at < copied and at + vector <= end and i + vector <= x.size:
                                store(out, at, load(x, i))
                                at, i = at + vector, i + vector
                        elif step == 2:
                            while at < copied and at + vector <= end and i + 2 * vector <= x.size:
                                pair = every_second(load(x, i), load(x, i + vector))
                                store(out, at, pair)
                                at, i = at + vector, i + 2 * vector
                        while at < copied:
                            out[at] = x[i]
                            at, i = at + 1, i + step
                        at = copied
                    while at + vector <= row_end:
                        store(out, at, nothing)
                        at += vector
                    while at < row_end:
                        out[at] = zero
                        at += 1


@ordered_kernel
def col2im(start, stop, parts, windows, kernel, sizes, out):
    """Planes start to stop of out (planes, *sizes) = the windows, side by side, of which parts
    (planes, *kernel, *windows) has the same number of each together. What is left over is 0."""
    zero = out.dtype.type(0)
    plane, width = windows[0] * windows[1] * windows[2], windows[2] * kernel[2]
    for p in range(start, stop):
        at = p * sizes[0] * sizes[1] * sizes[2]
        for d in range(sizes[0]):
            for h in range(sizes[1]):
                line = d // kernel[0] * windows[1] + h // kernel[1]
                inside = d < windows[0] * kernel[0] and h < windows[1] * kernel[1]
                tap = (d % kernel[0] * kernel[1] + h % kernel[1]) * kernel[2]
                first = 0
                if inside:
                    first = width
                    for i in range(kernel[2]):
                        source = (p * kernel[0] * kernel[1] * kernel[2] + tap + i) * plane
                        source += line * windows[2]
                        if kernel[2] == 2:
                            for w in range(0, windows[2], lanes(out)):
                                some = min(lanes(out), windows[2] - w)
                                numbers = load_some(parts, source + w, some)
                                store_apart(out, at + 2 * w + i, numbers, some)
                            continue
                        for w in range(windows[2]):
                            out[at + w * kernel[2] + i] = parts[source + w]
                for w in range(first, sizes[2]):
                    out[at + w] = zero
                at += sizes[2]


@ordered_subroutine
def runs_of(first, count, windows, strides, width, starts, lengths):
    """Where, in the input, the windows of pixels first to first + count begin: as runs of at most
    `width` neighbours. Their number; starts and lengths of each.

    windows: how many in depth, height and width; strides: of an image, and from a window to the
    next in depth and height.
    """
    plane, row = windows[0] * windows[1] * windows[2], windows[2]
    n = i = 0
    while i < count:
        pixel = first + i
        inside = pixel % plane
        column, line = inside % row, inside // row
        starts[n] = (
            pixel // plane * strides[0]
            + line // windows[1] * strides[1]
            + line % windows[1] * strides[2]
            + column
        )
        lengths[n] = min(width, row - column, count - i)
        i += lengths[n]
        n += 1
    return n


@ordered_subroutine
def im2col(x, base, channel, taps, first, count, starts, lengths, runs, out, row):
    """out (count, row) = numbers first to first + count of the columns, for the pixels of the runs.

    A row's last vectors may be longer than it is, and are overwritten by the next row's.
    """
    c, tap = first // taps.size, first % taps.size
    for k in range(count):
        at, to = base + c * channel + taps[tap], k * row
        for i in range(runs):
            store(out, to, load(x, at + starts[i]))
            to += lengths[i]
        tap += 1
        if tap == taps.size:
            c, tap = c + 1, 0


@ordered_kernel
def convolve(
    start, stop, x, channel, in_strides, taps, windows, pixels, channels,
    weight, w_row, groups, outputs, bias, out, out_strides,
):  # fmt: skip
    """Items start to stop of out = weight @ columns of x + bias: an item is a group's block of
    pixels and of outputs.

    x (images, groups * channels, ...), padded; weight (groups, outputs up to a multiple of 4,
    w_row). out_strides: of an image, a channel, and from one window to the next in depth, height
    and width; and where the first is.
    """
    k, width = channels * taps.size, lanes(x)
    pair = 2 * width
    pixel_blocks = (pixels + PIXELS - 1) // PIXELS
    output_blocks = (outputs + OUTPUTS - 1) // OUTPUTS
    w_rows = (outputs + 3) // 4 * 4
    plane = windows[0] * windows[1] * windows[2]
    contiguous = (
        out_strides[4] == 1
        and out_strides[3] == windows[2]
        and out_strides[2] == windows[1] * windows[2]
    )
    starts, lengths = np.empty(pair, np.int64), np.empty(pair, np.int64)
    places = np.empty(pair, np.int64)
    panel = np.zeros(DEPTH * pair + SLACK, x.dtype)
    part = np.empty(PIXELS * (OUTPUTS + 4), x.dtype)
    for item in range(start, stop):
        block, group = item // output_blocks % pixel_blocks, item // output_blocks // pixel_blocks
        o = item % output_blocks * OUTPUTS
        rows = min(OUTPUTS, outputs - o)
        whole = (rows + 3) // 4 * 4
        first = block * PIXELS
        last = min(pixels, first + PIXELS)
        panels = (last - first + pair - 1) // pair
        for top in range(0, k, DEPTH):
            depth = min(DEPTH, k - top)
            for number in range(panels):
                pixel = first + number * pair
                count = min(pair, last - pixel)
                runs = runs_of(pixel, count, windows, in_strides, width, starts, lengths)
                base = group * channels * channel
                im2col(x, base, channel, taps, top, depth, starts, lengths, runs, panel, pair)
                i = 0
                while i < whole:
                    at = (group * w_rows + o + i) * w_row + top
                    to = (number * whole + i) * pair
                    if i + ROWS <= whole:
                        many_rows(weight, at, w_row, panel, depth, part, to, top > 0)
                        i += ROWS
                    else:
                        many_4(weight, at, w_row, panel, depth, part, to, top > 0)
                        i += 4
        one = x.dtype.type(1)
        for number in range(panels):
            pixel = first + number * pair
            count = min(pair, last - pixel)
            image, inside = pixel // plane, pixel % plane
            together = contiguous and count == pair and inside + pair <= plane
            if not together:
                for i in range(count):
                    q = (pixel + i) % plane
                    line = q // windows[2]
                    places[i] = (
                        (pixel + i) // plane * out_strides[0]
                        + line // windows[1] * out_strides[2]
                        + line % windows[1] * out_strides[3]
                        + q % windows[2] * out_strides[4]
                    )
            for i in range(rows):
                added = bias[group * outputs + o + i] if bias.size else x.dtype.type(0)
                at = (number * whole + i) * pair
                to = out_strides[5] + (group * outputs + o + i) * out_strides[1]
                if together:
                    to += image * out_strides[0] + inside
                    b = fill(added)
                    store(out, to, add_product(b, one, load(part, at)))
                    store(out, to + width, add_product(b, one, load(part, at + width)))
                else:
                    for j in range(count):
                        out[to + places[j]] = part[at + j] + added
