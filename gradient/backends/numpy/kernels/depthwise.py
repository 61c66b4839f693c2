"""Depthwise convolutions of float32: each output channel is of one input channel (Howard et al.
2017, "MobileNets", section 3.1).

They are bound by loads, not by products of matrices: a vector of neighbouring outputs of one row
stays in a register while the numbers of the weight pass it. The input is what `surround` of the
convolutions has made: zeros are about it, columns of one remainder by the stride side by side.
"""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.compilation import ordered_kernel
from gradient.backends.numpy.kernels.vector_functions import sum_of_elements
from gradient.backends.numpy.kernels.vectors import (
    add_product,
    fill,
    first_lanes,
    lanes,
    load,
    store,
)


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
    line, zero = np.empty(wide + width, x.dtype), x.dtype.type(0)
    dense = steps[4] == 1 and steps[3] == wide and steps[2] == windows[1] * wide
    for plane in range(start, stop):
        image, o = plane // (channels * outputs), plane % (channels * outputs)
        c = o // outputs
        numbers = c * group + o % outputs * row
        added = bias[o] if bias.size else zero
        target = image * steps[0] + o * steps[1] + steps[5]
        end = target + steps[1] if dense else target
        for d in range(windows[0]):
            for h in range(windows[1]):
                at = image * strides[0] + c * channel + d * strides[1] + h * strides[2]
                to = target + d * steps[2] + h * steps[3]
                # The last vector may be longer than the row: the next row then comes over it.
                direct = to + (wide + width - 1) // width * width <= end
                y, first = (out, to) if direct else (line, 0)
                i = 0
                while i + width < wide:
                    a, b = fill(added), fill(added)
                    for t in range(count):
                        number, place = weight[numbers + t], at + taps[t] + i
                        a = add_product(a, number, load(x, place))
                        b = add_product(b, number, load(x, place + width))
                    store(y, first + i, a)
                    store(y, first + i + width, b)
                    i += 2 * width
                if i < wide:
                    a = fill(added)
                    for t in range(count):
                        a = add_product(a, weight[numbers + t], load(x, at + taps[t] + i))
                    store(y, first + i, a)
                if not direct:
                    for i in range(wide):
                        out[to + i * steps[4]] = line[i]


@ordered_kernel
def weight_grad(start, stop, x, channel, strides, taps, windows, images, g, channels, outputs, out):
    """out (channels * outputs, taps), rows start to stop: the sums of g times x at the taps."""
    width, wide, count = lanes(x), windows[2], taps.size
    size = windows[0] * windows[1] * wide
    last, zero = np.empty(width, g.dtype), x.dtype.type(0)
    for o in range(start, stop):
        for t in range(0, count, 3):
            u, v = min(t + 1, count - 1), min(t + 2, count - 1)
            total_t, total_u, total_v = 0.0, 0.0, 0.0
            for image in range(images):
                a, b, c = fill(zero), fill(zero), fill(zero)
                base = image * strides[0] + o // outputs * channel
                for d in range(windows[0]):
                    for h in range(windows[1]):
                        at = base + d * strides[1] + h * strides[2]
                        from_ = (image * channels * outputs + o) * size
                        from_ += (d * windows[1] + h) * wide
                        i = 0
                        while i + width <= wide:
                            slope = load(g, from_ + i)
                            a = add_product(a, slope, load(x, at + taps[t] + i))
                            b = add_product(b, slope, load(x, at + taps[u] + i))
                            c = add_product(c, slope, load(x, at + taps[v] + i))
                            i += width
                        rest = wide - i
                        if rest > 0:
                            if from_ + i + width <= g.size:
                                slope = first_lanes(load(g, from_ + i), rest)
                            else:
                                for j in range(rest):
                                    last[j] = g[from_ + i + j]
                                slope = first_lanes(load(last, 0), rest)
                            # What follows the row may be NaN.
                            inside = first_lanes(load(x, at + taps[t] + i), rest)
                            a = add_product(a, slope, inside)
                            inside = first_lanes(load(x, at + taps[u] + i), rest)
                            b = add_product(b, slope, inside)
                            inside = first_lanes(load(x, at + taps[v] + i), rest)
                            c = add_product(c, slope, inside)
                total_t += sum_of_elements(a)
                total_u += sum_of_elements(b)
                total_v += sum_of_elements(c)
            out[o * count + t], out[o * count + u], out[o * count + v] = total_t, total_u, total_v
