"""Depthwise convolutions of 3 x 3 in float32 with strides of 1 and 2, a plane at a time.

A plane is copied between its zeros into a few kilobytes, which stay in the first cache. There are
zeros after its rows too, up to whole vectors, so that lanes beyond a row add nothing. Of each of
its rows three neighbouring vectors are loaded once, for all rows of outputs that they meet; sums
and the nine numbers of the weight stay in registers.
"""

import numpy as np

from gradient.backends.numpy.kernels import vector_operators as vector_operators
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.depthwise import CHAIN
from gradient.backends.numpy.kernels.vector_functions import sum_of_elements
from gradient.backends.numpy.kernels.vectors import (
    add_product,
    every_second,
    fill,
    first_lanes,
    lanes,
    load,
    load_some,
    store,
    store_apart,
    store_some,
)


@ordered_subroutine
def pitch_of(columns, step, width):
    """From a row of a copied plane to the next, for rows of `columns` outputs."""
    return ((columns + width - 1) // width * width) * step + width


@ordered_subroutine
def copy_plane(x, at, height, wide, top, left, rows, columns, held, pitch):
    """held (rows, pitch) = a plane of x, height x wide, from row `top` and column `left` on: what
    of it lies in so many columns. All else in it was 0 and stays so."""
    width = lanes(x)
    count = min(wide, columns - left)
    for r in range(max(0, top), min(rows, top + height)):
        from_, to, j = at + (r - top) * wide, r * pitch + left, 0
        while j + width <= count:
            store(held, to + j, load(x, from_ + j))
            j += width
        if j < count:
            store_some(held, to + j, load_some(x, from_ + j, count - j), count - j)


@ordered_subroutine
def neighbours(held, at, step):
    """Three vectors of a row: the numbers of windows `step` apart that the columns of a weight
    meet."""
    width = lanes(held)
    if step == 1:
        return load(held, at), load(held, at + 1), load(held, at + 2)
    a, b = load(held, at), load(held, at + width)
    c, d = load(held, at + 1), load(held, at + width + 1)
    e, f = load(held, at + 2), load(held, at + width + 2)
    return every_second(a, b), every_second(c, d), every_second(e, f)


@ordered_subroutine
def row_in(held, at, step, count):
    """`neighbours`, with zeros after the first `count`: those may be NaN."""
    a, b, c = neighbours(held, at, step)
    if count < lanes(held):
        a, b, c = first_lanes(a, count), first_lanes(b, count), first_lanes(c, count)
    return a, b, c


@ordered_subroutine
def row_of(w, t, a, b, c):
    """The products of three vectors with three numbers of the weight."""
    return add_product(add_product(fill(w[t]) * a, w[t + 1], b), w[t + 2], c)


@ordered_kernel
def convolve(
    start, stop, x, height, wide, top, left, step, weight, mirrored, channels, bias, out, rows,
    columns,
):  # fmt: skip
    """Planes start to stop of out (images * channels, rows, columns) = bias + the sums of products
    of x (images * channels, height, wide), which begins at `top` and `left` between zeros, with
    weight (channels, 9), taken from its end if `mirrored`."""
    width, zero = lanes(x), x.dtype.type(0)
    pitch = pitch_of(columns, step, width)
    high, broad = (rows - 1) * step + 3, (columns - 1) * step + 3
    held, w = np.zeros(high * pitch + 2 * width, x.dtype), np.empty(9, x.dtype)
    for plane in range(start, stop):
        c = plane % channels
        for t in range(9):
            w[t] = weight[c * 9 + 8 - t] if mirrored else weight[c * 9 + t]
        copy_plane(x, plane * height * wide, height, wide, top, left, high, broad, held, pitch)
        added = fill(bias[c] if bias.size else zero)
        for j in range(0, columns, width):
            to, count = plane * rows * columns + j, min(width, columns - j)
            at = j * step
            a, b, d = neighbours(held, at, step)
            second = added + row_of(w, 0, a, b, d)
            first = second
            if step == 1:
                a, b, d = neighbours(held, at + pitch, step)
                first = second + row_of(w, 3, a, b, d)
                second = added + row_of(w, 0, a, b, d)
            for i in range(rows):
                if step == 1:
                    a, b, d = neighbours(held, at + (i + 2) * pitch, step)
                    y = first + row_of(w, 6, a, b, d)
                    first = second + row_of(w, 3, a, b, d)
                else:
                    a, b, d = neighbours(held, at + (2 * i + 1) * pitch, step)
                    y = second + row_of(w, 3, a, b, d)
                    a, b, d = neighbours(held, at + (2 * i + 2) * pitch, step)
                    y += row_of(w, 6, a, b, d)
                second = added + row_of(w, 0, a, b, d)
                if count == width:
                    store(out, to + i * columns, y)
                else:
                    store_some(out, to + i * columns, y, count)


@ordered_kernel
def input_grad_of_two(start, stop, g, height, wide, weight, channels, out, rows, columns):
    """Planes start to stop of out (images * channels, rows, columns): the gradient by the input,
    for a stride of 2 and a column and a row of zeros before the input, from g (images * channels,
    height, wide)."""
    width = lanes(g)
    pitch = pitch_of(wide, 1, width)
    held = np.zeros((height + 1) * pitch + 2 * width, g.dtype)
    for plane in range(start, stop):
        c = plane % channels * 9
        copy_plane(g, plane * height * wide, height, wide, 0, 0, height, wide, held, pitch)
        for j in range(0, wide, width):
            even, odd = min(width, (columns + 1) // 2 - j), min(width, columns // 2 - j)
            a, b = load(held, j), load(held, j + 1)
            for i in range(height):
                to = (plane * rows + 2 * i) * columns + 2 * j
                store_apart(out, to, fill(weight[c + 4]) * a, even)
                if odd > 0:
                    y = add_product(fill(weight[c + 5]) * a, weight[c + 3], b)
                    store_apart(out, to + 1, y, odd)
                d, e = load(held, (i + 1) * pitch + j), load(held, (i + 1) * pitch + j + 1)
                if 2 * i + 1 < rows:
                    to += columns
                    y = add_product(fill(weight[c + 7]) * a, weight[c + 1], d)
                    store_apart(out, to, y, even)
                    if odd > 0:
                        y = add_product(fill(weight[c + 8]) * a, weight[c + 6], b)
                        y = add_product(add_product(y, weight[c + 2], d), weight[c], e)
                        store_apart(out, to + 1, y, odd)
                a, b = d, e


@ordered_kernel
def weight_grad(
    start, stop, g, rows, columns, x, height, wide, top, left, step, images, channels, out
):  # fmt: skip
    """Channels start to stop of out (channels, 9): the sums of products of g (images, channels,
    rows, columns) with x (images, channels, height, wide), which begins at `top` and `left` between
    zeros."""
    width = lanes(x)
    pitch = pitch_of(columns, step, width)
    high, broad = (rows - 1) * step + 3, (columns - 1) * step + 3
    held, totals = np.zeros(high * pitch + 2 * width, x.dtype), np.empty(9)
    some = max(1, CHAIN // (rows * ((columns + width - 1) // width)))
    nothing = fill(x.dtype.type(0))
    for c in range(start, stop):
        totals[:] = 0
        for begin in range(0, images, some):
            a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = a8 = nothing
            for n in range(begin, min(images, begin + some)):
                plane = n * channels + c
                copy_plane(x, plane * height * wide, height, wide, top, left, high, broad, held,
                           pitch)  # fmt: skip
                for j in range(0, columns, width):
                    count = min(width, columns - j)
                    p = q = nothing
                    last = 2 // step  # the first row that the last of the weight meets
                    for i in range(rows + last):
                        r = nothing
                        if i < rows:
                            from_ = (plane * rows + i) * columns + j
                            r = load(g, from_) if count == width else load_some(g, from_, count)
                        u, v, w = row_in(held, j * step + i * step * pitch, step, count)
                        if i < rows:
                            a0 = add_product(a0, r, u)
                            a1 = add_product(a1, r, v)
                            a2 = add_product(a2, r, w)
                        if step == 2 and i < rows:
                            at = j * step + (i * step + 1) * pitch
                            d, e, f = row_in(held, at, step, count)
                            a3 = add_product(a3, r, d)
                            a4 = add_product(a4, r, e)
                            a5 = add_product(a5, r, f)
                        if step == 1 and 0 < i <= rows:
                            a3 = add_product(a3, q, u)
                            a4 = add_product(a4, q, v)
                            a5 = add_product(a5, q, w)
                        if i >= last:
                            a6 = add_product(a6, p, u)
                            a7 = add_product(a7, p, v)
                            a8 = add_product(a8, p, w)
                        p, q = q if step == 1 else r, r
            for t, total in enumerate((a0, a1, a2, a3, a4, a5, a6, a7, a8)):
                totals[t] += sum_of_elements(total)
        for t in range(9):
            out[c * 9 + t] = totals[t]
