"""Convolutions of 3 x 3 and stride 1 in float32 by F(4 x 4, 3 x 3): a quarter of the products.

A tile of 4 x 4 outputs meets 6 x 6 inputs. Taken as polynomials, inputs and weight are evaluated at
six points in each direction, multiplied there, summed over channels, and the outputs are read off
the sums (Winograd 1980, "Arithmetic Complexity of Computations"; Lavin and Gray 2016, "Fast
Algorithms for Convolutional Neural Networks", sections 3 and 4.1). The sums of a point are a
product of matrices, (tiles, channels) @ (channels, outputs).

The points are 0, plus and minus sqrt(1/2), plus and minus sqrt(2), and infinity, for the sake of
rounding: at these the root mean square error of float32 is twice that of sums taken directly, with
Lavin's whole numbers four times (64 channels of normal numbers: 8e-7, 4e-7, 1.8e-6 of an output).

Lanes are channels on the way in and outputs on the way out. A number that is not finite would
spoil its whole tile; rows of tiles where any output is not finite are computed again, directly.
Each output is one chain of additions in an order that its place in its image settles.
"""

import numpy as np

from gradient.backends.numpy.kernels import vector_operators as vector_operators
from gradient.backends.numpy.kernels.cache_lines import cache_lines, lines_of_zeros
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.stored import transpose
from gradient.backends.numpy.kernels.tiles import ROWS, tile_4, tile_rows
from gradient.backends.numpy.kernels.vector_functions import sum_of_elements
from gradient.backends.numpy.kernels.vectors import BYTES, add_product, fill, lanes, load, store

TILE = 4
"""Outputs of a tile in each direction."""

SIDE = 6
"""Its inputs in each direction, and the points at which they are evaluated."""

PAIR = BYTES // 2
"""Outputs of a panel of the weight: two vectors."""

APART = 16
"""Numbers between the matrices of neighbouring points, lest all share a set of the cache."""

# The points are 0, +-LOW, +-HIGH and infinity: LOW**2 = 1/2, HIGH**2 = 2, (LOW * HIGH)**2 = 1.
LOW, HIGH = np.float32(0.5**0.5), np.float32(2**0.5)
LOW_CUBED, HIGH_CUBED = np.float32(0.5**1.5), np.float32(2**1.5)
HALF, TWO, SUM = np.float32(0.5), np.float32(2), np.float32(2.5)
THIRD, SIXTH = np.float32(-2 / 3), np.float32(1 / 6)


@ordered_subroutine
def inputs_at_points(x, at, step, out, to, out_step):
    """Six vectors of x, `step` apart, at each of the points."""
    a, b, c = load(x, at), load(x, at + step), load(x, at + 2 * step)
    d, e, f = load(x, at + 3 * step), load(x, at + 4 * step), load(x, at + 5 * step)
    even, odd = add_product(e, -TWO, c), fill(LOW) * add_product(d, -TWO, b)
    even_, odd_ = add_product(e, -HALF, c), fill(HIGH) * add_product(d, -HALF, b)
    store(out, to, add_product(a + e, -SUM, c))
    store(out, to + out_step, even + odd)
    store(out, to + 2 * out_step, even - odd)
    store(out, to + 3 * out_step, even_ + odd_)
    store(out, to + 4 * out_step, even_ - odd_)
    store(out, to + 5 * out_step, add_product(b + f, -SUM, d))


@ordered_subroutine
def weight_at_points(g, h, i, out, to, out_step):
    """Three vectors at each of the points, divided by what the product has there too much."""
    even, odd = fill(THIRD) * add_product(g, HALF, i), fill(THIRD * LOW) * h
    even_, odd_ = fill(SIXTH) * add_product(g, TWO, i), fill(SIXTH * HIGH) * h
    store(out, to, g)
    store(out, to + out_step, even + odd)
    store(out, to + 2 * out_step, even - odd)
    store(out, to + 3 * out_step, even_ + odd_)
    store(out, to + 4 * out_step, even_ - odd_)
    store(out, to + 5 * out_step, i)


@ordered_subroutine
def outputs_of_points(m, at, step, out, to, out_step):
    """Four outputs of six vectors at the points."""
    low, low_ = load(m, at + step), load(m, at + 2 * step)
    high, high_ = load(m, at + 3 * step), load(m, at + 4 * step)
    even, odd, even_, odd_ = low + low_, low - low_, high + high_, high - high_
    store(out, to, load(m, at) + (even + even_))
    store(out, to + out_step, add_product(fill(LOW) * odd, HIGH, odd_))
    store(out, to + 2 * out_step, add_product(fill(HALF) * even, TWO, even_))
    last = add_product(load(m, at + 5 * step), LOW_CUBED, odd)
    store(out, to + 3 * out_step, add_product(last, HIGH_CUBED, odd_))


@ordered_kernel
def weight(start, stop, w, w_panel, w_channel, w_taps, channels, out, point):
    """Items start to stop of out (36, panels * channels, PAIR), the matrices of points `point`
    apart. w: panels of a weight, as `convolution_direct.convolve` has them."""
    width = lanes(w)
    held = cache_lines(w, 3 * SIDE * width)
    for item in range(start, stop):
        at = item // channels * w_panel + item % channels * w_channel
        for half in range(0, PAIR, width):
            for i in range(3):
                a, b, c = w_taps[3 * i], w_taps[3 * i + 1], w_taps[3 * i + 2]
                weight_at_points(load(w, at + half + a), load(w, at + half + b),
                                 load(w, at + half + c), held, i * SIDE * width, width)  # fmt: skip
            for j in range(SIDE):
                weight_at_points(load(held, j * width), load(held, (SIDE + j) * width),
                                 load(held, (2 * SIDE + j) * width), out,
                                 j * point + item * PAIR + half, SIDE * point)  # fmt: skip


@ordered_subroutine
def _channels_last(x, at, channel, row, columns, channels, out):
    """Six rows of x as out (6, columns, channels); columns: a multiple of a vector."""
    width = lanes(x)
    for i in range(SIDE):
        for c in range(0, channels, width):
            for j in range(0, columns, width):
                transpose(x, at + c * channel + i * row + j, channel, out,
                          (i * columns + j) * channels + c, channels)  # fmt: skip


@ordered_subroutine
def _outputs(m, at, point, valid, row, bias, b_at, held, part):
    """part (rows, row, PAIR) = a line's tiles of outputs, of (36, tiles, PAIR) in m. Whether one
    may be other than finite."""
    width = lanes(m)
    spoiled = fill(m.dtype.type(0))
    for tile in range((row + TILE - 1) // TILE):
        for half in range(0, PAIR, width):
            for r in range(SIDE):
                outputs_of_points(m, at + r * SIDE * point + tile * PAIR + half, point, held,
                                  r * TILE * width, width)  # fmt: skip
            last = SIDE * TILE * width
            added = load(bias, b_at + half)
            for j in range(min(TILE, row - tile * TILE)):
                outputs_of_points(held, j * width, TILE * width, held, last, width)
                for i in range(valid):
                    y = load(held, last + i * width) + added
                    spoiled = add_product(spoiled, m.dtype.type(0), y)
                    store(part, (i * row + tile * TILE + j) * PAIR + half, y)
    return sum_of_elements(spoiled) != 0


@ordered_subroutine
def _directly(x, at, channel, x_row, w, w_at, w_channel, w_taps, channels, pixels, row, bias, b_at,
              part):  # fmt: skip
    """part (pixels, PAIR) = sums of products with the weight itself."""
    width = lanes(x)
    for pixel in range(pixels):
        begin = at + pixel // row * x_row + pixel % row
        a, b = load(bias, b_at), load(bias, b_at + width)
        for c in range(channels):
            for t in range(9):
                number = x[begin + c * channel + t // 3 * x_row + t % 3]
                place = w_at + c * w_channel + w_taps[t]
                a = add_product(a, number, load(w, place))
                b = add_product(b, number, load(w, place + width))
        store(part, pixel * PAIR, a)
        store(part, pixel * PAIR + width, b)


@ordered_subroutine
def _write(part, pixels, out, at, plane, square):
    """out[at + o * plane + i] = part[i, o], for `pixels` i and PAIR o."""
    width = lanes(part)
    for half in range(0, PAIR, width):
        to = at + half * plane
        if pixels < width:
            transpose(part, half, PAIR, square, 0, width)
            for o in range(width):
                for i in range(pixels):
                    out[to + o * plane + i] = square[o * width + i]
            continue
        for i in range(0, pixels, width):
            first = min(i, pixels - width)
            transpose(part, first * PAIR + half, PAIR, out, to + first, plane)


@ordered_kernel
def convolve(
    start, stop, per_item, x, channel, x_row, images, channels, factors, point, w, w_panel,
    w_channel, w_taps, panels, bias, out, height, row,
):  # fmt: skip
    """Items start to stop of out (images, panels * PAIR, height, row), bias included: an item is
    `per_item` lines of tiles.

    x (images, channels, ...): padded, planes `channel` and rows `x_row` apart; factors: the
    weight at the points (`weight`); w: the weight itself, as it is there.
    """
    width, across = lanes(x), (row + TILE - 1) // TILE
    down, plane = (height + TILE - 1) // TILE, height * row
    columns = (TILE * across + 2 + width - 1) // width * width
    room = (per_item * across + TILE - 1) // TILE * TILE
    x_point, m_point = room * channels + APART, room * PAIR + APART
    strip = cache_lines(x, SIDE * columns * channels)
    inputs = lines_of_zeros(x, SIDE * SIDE * x_point)
    sums = cache_lines(x, SIDE * SIDE * m_point)
    held, square = cache_lines(x, (SIDE + 1) * SIDE * width), cache_lines(x, width * width)
    part = lines_of_zeros(x, (TILE * row + width) * PAIR)
    for item in range(start, stop):
        first, last = item * per_item, min(images * down, (item + 1) * per_item)
        for line in range(first, last):
            at = line // down * channels * channel + line % down * TILE * x_row
            _channels_last(x, at, channel, x_row, columns, channels, strip)
            for tile in range(across):
                to = ((line - first) * across + tile) * channels
                for c in range(0, channels, width):
                    for i in range(SIDE):
                        inputs_at_points(strip, (i * columns + tile * TILE) * channels + c,
                                         channels, held, i * SIDE * width, width)  # fmt: skip
                    for j in range(SIDE):
                        inputs_at_points(held, j * width, SIDE * width, inputs,
                                         j * x_point + to + c, SIDE * x_point)  # fmt: skip
        tiles = (last - first) * across
        for panel in range(panels):
            for p in range(SIDE * SIDE):
                w_at, i = p * point + panel * channels * PAIR, 0
                while i < tiles:
                    from_, to = p * x_point + i * channels, p * m_point + i * PAIR
                    if i + ROWS <= room:
                        tile_rows(inputs, from_, channels, 1, factors, w_at, PAIR, channels, sums,
                                  to, PAIR, False)  # fmt: skip
                        i += ROWS
                    else:
                        tile_4(inputs, from_, channels, 1, factors, w_at, PAIR, channels, sums, to,
                               PAIR, False)  # fmt: skip
                        i += 4
            for line in range(first, last):
                image, h = line // down, line % down * TILE
                valid = min(TILE, height - h)
                spoiled = _outputs(sums, (line - first) * across * PAIR, m_point, valid, row, bias,
                                   panel * PAIR, held, part)  # fmt: skip
                if spoiled:
                    _directly(x, image * channels * channel + h * x_row, channel, x_row, w,
                              panel * w_panel, w_channel, w_taps, channels, valid * row, row, bias,
                              panel * PAIR, part)  # fmt: skip
                at = (image * panels + panel) * PAIR * plane + h * row
                _write(part, valid * row, out, at, plane, square)
