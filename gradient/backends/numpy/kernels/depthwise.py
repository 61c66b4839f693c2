"""Depthwise convolutions of float32: each output channel is of one input channel (Howard et al.
2017, "MobileNets", section 3.1).

They are bound by loads, not by products of matrices: vectors of neighbouring outputs of a few rows
stay in registers while the numbers of the weight pass them. The input is what `pad` of the
convolutions has made: zeros are about it, columns of one remainder by the stride side by side.
"""

import numpy as np

from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.vector_functions import sum_of_elements
from gradient.backends.numpy.kernels.vectors import (
    add_product,
    fill,
    first_lanes,
    lanes,
    load,
    store,
    store_apart,
)

CHAIN = 256
"""Vectors whose products are added up before their elements are, but that an image is never
divided."""


@ordered_kernel
def convolve(
    start, stop, x, channel, strides, taps, windows, weight, group, row, channels, outputs, bias,
    out, steps,
):  # fmt: skip
    """Planes start to stop of out (images, channels * outputs, ...): bias + sum of weight * x.

    strides: of x, of an image, and from a window to the next in depth and height; group, row: of
    the weight, from the outputs of a channel to those of the next, and from output to output.
    steps: of out, of an image, a plane, and in depth, height and width, and where windows begin.
    """
    width, wide, count = lanes(x), windows[2], taps.size
    line, zero = np.empty(width, x.dtype), x.dtype.type(0)
    dense = steps[4] == 1 and steps[3] == wide and steps[2] == windows[1] * wide
    for plane in range(start, stop):
        image, o = plane // (channels * outputs), plane % (channels * outputs)
        c = o // outputs
        numbers = c * group + o % outputs * row
        added = bias[o] if bias.size else zero
        target = image * steps[0] + o * steps[1] + steps[5]
        end = target + steps[1] if dense else target
        for d in range(windows[0]):
            for h in range(0, windows[1], 4):
                rows = min(4, windows[1] - h)
                at = image * strides[0] + c * channel + d * strides[1] + h * strides[2]
                # Of rows that are not there, the first is computed again.
                second = strides[2] if rows > 1 else 0
                third = 2 * strides[2] if rows > 2 else 0
                fourth = 3 * strides[2] if rows > 3 else 0
                i = 0
                while True:
                    p = q = r = s = fill(added)
                    for t in range(count):
                        number, place = weight[numbers + t], at + taps[t] + i
                        p = add_product(p, number, load(x, place))
                        q = add_product(q, number, load(x, place + second))
                        r = add_product(r, number, load(x, place + third))
                        s = add_product(s, number, load(x, place + fourth))
                    to = target + d * steps[2] + h * steps[3] + i * steps[4]
                    for _ in range(rows):
                        # A vector may be longer than its row: the next row then comes over it.
                        if steps[4] == 1 and (wide >= width or to + width <= end):
                            store(out, to, p)
                        elif steps[4] == 2:
                            store_apart(out, to, p, wide - i)
                        else:
                            store(line, 0, p)
                            for j in range(min(width, wide - i)):
                                out[to + j * steps[4]] = line[j]
                        p, q, r = q, r, s
                        to += steps[3]
                    if i + width >= wide:
                        break
                    i = min(i + width, wide - width)


@ordered_subroutine
def products_of(x, x_at, strides, taps, t, windows, g, g_at, image, first, last, totals):
    """totals[j] += the sum of g times x at tap t + j, over images first to last, for 9 taps; those
    after the last tap are the last again. `image`: from an image of g to the next."""
    width, wide, size = lanes(x), windows[2], windows[1] * windows[2]
    end = taps.size - 1
    t0, t1, t2 = taps[t], taps[min(end, t + 1)], taps[min(end, t + 2)]
    t3, t4, t5 = taps[min(end, t + 3)], taps[min(end, t + 4)], taps[min(end, t + 5)]
    t6, t7, t8 = taps[min(end, t + 6)], taps[min(end, t + 7)], taps[min(end, t + 8)]
    tail = np.empty(width, g.dtype)
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = a8 = fill(x.dtype.type(0))
    for n in range(first, last):
        for d in range(windows[0]):
            for h in range(windows[1]):
                at = x_at + n * strides[0] + d * strides[1] + h * strides[2]
                from_ = g_at + n * image + d * size + h * wide
                i = 0
                while i + width <= wide:
                    slope = load(g, from_ + i)
                    a0 = add_product(a0, slope, load(x, at + t0 + i))
                    a1 = add_product(a1, slope, load(x, at + t1 + i))
                    a2 = add_product(a2, slope, load(x, at + t2 + i))
                    a3 = add_product(a3, slope, load(x, at + t3 + i))
                    a4 = add_product(a4, slope, load(x, at + t4 + i))
                    a5 = add_product(a5, slope, load(x, at + t5 + i))
                    a6 = add_product(a6, slope, load(x, at + t6 + i))
                    a7 = add_product(a7, slope, load(x, at + t7 + i))
                    a8 = add_product(a8, slope, load(x, at + t8 + i))
                    i += width
                rest = wide - i
                if rest > 0:
                    if from_ + i + width <= g.size:
                        slope = first_lanes(load(g, from_ + i), rest)
                    else:
                        for j in range(rest):
                            tail[j] = g[from_ + i + j]
                        slope = first_lanes(load(tail, 0), rest)
                    at += i
                    # What follows the row may be NaN.
                    a0 = add_product(a0, slope, first_lanes(load(x, at + t0), rest))
                    a1 = add_product(a1, slope, first_lanes(load(x, at + t1), rest))
                    a2 = add_product(a2, slope, first_lanes(load(x, at + t2), rest))
                    a3 = add_product(a3, slope, first_lanes(load(x, at + t3), rest))
                    a4 = add_product(a4, slope, first_lanes(load(x, at + t4), rest))
                    a5 = add_product(a5, slope, first_lanes(load(x, at + t5), rest))
                    a6 = add_product(a6, slope, first_lanes(load(x, at + t6), rest))
                    a7 = add_product(a7, slope, first_lanes(load(x, at + t7), rest))
                    a8 = add_product(a8, slope, first_lanes(load(x, at + t8), rest))
    for j, total in enumerate((a0, a1, a2, a3, a4, a5, a6, a7, a8)):
        totals[t + j] += sum_of_elements(total)


@ordered_kernel
def weight_grad(start, stop, x, channel, strides, taps, windows, images, g, channels, outputs, out):
    """out (channels * outputs, taps), rows start to stop: the sums of g times x at the taps."""
    count, size = taps.size, windows[0] * windows[1] * windows[2]
    vectors = windows[0] * windows[1] * ((windows[2] + lanes(x) - 1) // lanes(x))
    some, image = max(1, CHAIN // vectors), channels * outputs * size
    totals = np.empty(count + 8)
    for o in range(start, stop):
        totals[:] = 0
        for first in range(0, images, some):
            last = min(images, first + some)
            for t in range(0, count, 9):
                products_of(x, o // outputs * channel, strides, taps, t, windows, g, o * size,
                            image, first, last, totals)  # fmt: skip
        for t in range(count):
            out[o * count + t] = totals[t]
