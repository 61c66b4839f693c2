"""Recurrent layers, some sequences at a time through all steps.

A sequence does not depend on the others: so each thread takes some through all the steps, without
waiting for other threads, and its result does not depend on which they are. Arrays are flat. What a
product reads is kept in a block of its own, whose rows are filled up to a number that tiles have.

`panels` hold a matrix (depth, width) as `pack` writes it; `width` is filled up to whole panels.
"""

from gradient.backends.numpy.kernels.cache_lines import cache_lines, lines_of_zeros
from gradient.backends.numpy.kernels.compilation import (
    ordered_kernel,
    ordered_subroutine,
    strict_kernel,
)
from gradient.backends.numpy.kernels.stored import transpose
from gradient.backends.numpy.kernels.tiles import (
    ROWS,
    tile_2,
    tile_4,
    tile_6,
    tile_8,
    tile_10,
    tile_12,
)
from gradient.backends.numpy.kernels.vector_functions import sigmoid, tanh
from gradient.backends.numpy.kernels.vector_operators import where_less
from gradient.backends.numpy.kernels.vectors import fill, lanes, load_some, store, store_some

PANEL = 32
"""Columns of a panel of weights: whole pairs of vectors on every processor."""

SEQUENCES = 12 if ROWS == 12 else 6
"""The most sequences that are taken together: rows of the largest tile."""


@ordered_kernel
def pack(start, stop, weight, transposed, depth, columns, panels):
    """The panels start to stop of a matrix (depth, columns), or of the transpose of weight
    (columns, depth): (depth, PANEL) each, zeros after the last column."""
    width = lanes(weight)
    for left in range(start * PANEL, stop * PANEL, width):
        to = left // PANEL * PANEL * depth + left % PANEL
        count = min(width, columns - left)
        p = 0
        if not transposed:
            while p < depth:
                store(panels, to + p * PANEL, load_some(weight, p * columns + left, count))
                p += 1
        elif count == width:
            while p + width <= depth:
                transpose(weight, left * depth + p, depth, panels, to + p * PANEL, PANEL)
                p += width
        while p < depth:
            for j in range(width):
                inside = j < count
                panels[to + p * PANEL + j] = weight[(left + j) * depth + p] if inside else 0
            p += 1


@ordered_subroutine
def multiply(x, rows, panels, depth, out, width):
    """out (rows, width) = x (rows, depth) @ the matrix in panels; rows is even."""
    for first in range(0, width, PANEL):
        for j in range(first, first + PANEL, 2 * lanes(panels)):
            at = first * depth + j - first
            if rows == 12:
                tile_12(x, 0, depth, 1, panels, at, PANEL, depth, out, j, width, False)
            elif rows == 10:
                tile_10(x, 0, depth, 1, panels, at, PANEL, depth, out, j, width, False)
            elif rows == 8:
                tile_8(x, 0, depth, 1, panels, at, PANEL, depth, out, j, width, False)
            elif rows == 6:
                tile_6(x, 0, depth, 1, panels, at, PANEL, depth, out, j, width, False)
            elif rows == 4:
                tile_4(x, 0, depth, 1, panels, at, PANEL, depth, out, j, width, False)
            else:
                tile_2(x, 0, depth, 1, panels, at, PANEL, depth, out, j, width, False)


@ordered_subroutine
def copy(source, at, count, out, to):
    for j in range(count):
        out[to + j] = source[at + j]


@strict_kernel
def lstm(start, stop, x, panels, width, h, c, n, size, steps, states, gates):
    """`lstm` of the sequences start to stop of n; panels hold the transposed weight."""
    rows = stop - start
    padded = (rows + 1) // 2 * 2
    hidden, sums = lines_of_zeros(x, padded * size), cache_lines(x, padded * width)
    cells = (steps + 1) * n * size
    copy(h, start * size, rows * size, hidden, 0)
    copy(h, start * size, rows * size, states, start * size)
    copy(c, start * size, rows * size, states, cells + start * size)
    for t in range(steps):
        multiply(hidden, padded, panels, size, sums, width)
        for r in range(rows):
            before = (t * n + start + r) * size
            after, at, total = before + n * size, 4 * before, r * width
            for j in range(0, size, lanes(x)):
                k = min(lanes(x), size - j)
                i, f, g, o = j, size + j, 2 * size + j, 3 * size + j
                gate_i = sigmoid(load_some(x, at + i, k) + load_some(sums, total + i, k))
                gate_f = sigmoid(load_some(x, at + f, k) + load_some(sums, total + f, k))
                gate_g = tanh(load_some(x, at + g, k) + load_some(sums, total + g, k))
                gate_o = sigmoid(load_some(x, at + o, k) + load_some(sums, total + o, k))
                cell = gate_f * load_some(states, cells + before + j, k) + gate_i * gate_g
                new = gate_o * tanh(cell)
                store_some(gates, at + i, gate_i, k)
                store_some(gates, at + f, gate_f, k)
                store_some(gates, at + g, gate_g, k)
                store_some(gates, at + o, gate_o, k)
                store_some(states, cells + after + j, cell, k)
                store_some(states, after + j, new, k)
                store_some(hidden, r * size + j, new, k)


@strict_kernel
def lstm_grad(
    start, stop, grad, states, gates, panels, width, n, size, steps, grad_x, grad_h, grad_c
):  # fmt: skip
    """`lstm_grad` of the sequences start to stop of n, but for the weight; panels hold it."""
    rows, four = stop - start, 4 * size
    padded = (rows + 1) // 2 * 2
    through, hidden = lines_of_zeros(grad, padded * four), lines_of_zeros(grad, padded * width)
    cell = cache_lines(grad, rows * size)
    cells = (steps + 1) * n * size
    copy(grad, cells + (steps * n + start) * size, rows * size, cell, 0)
    one = fill(grad.dtype.type(1))
    for t in range(steps - 1, -1, -1):
        for r in range(rows):
            before = (t * n + start + r) * size
            after, at, to = before + n * size, 4 * before, r * four
            for j in range(0, size, lanes(grad)):
                k = min(lanes(grad), size - j)
                i, f, g, o = j, size + j, 2 * size + j, 3 * size + j
                gate_i, gate_f = load_some(gates, at + i, k), load_some(gates, at + f, k)
                gate_g, gate_o = load_some(gates, at + g, k), load_some(gates, at + o, k)
                h = load_some(hidden, r * width + j, k) + load_some(grad, after + j, k)
                high = tanh(load_some(states, cells + after + j, k))
                c = load_some(cell, r * size + j, k) + h * gate_o * (one - high * high)
                held = load_some(states, cells + before + j, k)
                grad_i = c * gate_g * gate_i * (one - gate_i)
                grad_f = c * held * gate_f * (one - gate_f)
                grad_g = c * gate_i * (one - gate_g * gate_g)
                grad_o = h * high * gate_o * (one - gate_o)
                store_some(through, to + i, grad_i, k)
                store_some(through, to + f, grad_f, k)
                store_some(through, to + g, grad_g, k)
                store_some(through, to + o, grad_o, k)
                store_some(grad_x, at + i, grad_i, k)
                store_some(grad_x, at + f, grad_f, k)
                store_some(grad_x, at + g, grad_g, k)
                store_some(grad_x, at + o, grad_o, k)
                c = load_some(grad, cells + before + j, k) + c * gate_f
                store_some(cell, r * size + j, c, k)
        multiply(through, padded, panels, four, hidden, width)
    copy(cell, 0, rows * size, grad_c, start * size)
    for r in range(rows):
        for j in range(size):
            at = (start + r) * size + j
            grad_h[at] = hidden[r * width + j] + grad[at]


@strict_kernel
def gru(start, stop, x, panels, width, bias, h, n, size, steps, states, gates):
    """`gru` of the sequences start to stop of n; panels hold the transposed weight."""
    rows = stop - start
    padded = (rows + 1) // 2 * 2
    hidden, sums = lines_of_zeros(x, padded * size), cache_lines(x, padded * width)
    copy(h, start * size, rows * size, hidden, 0)
    copy(h, start * size, rows * size, states, start * size)
    for t in range(steps):
        multiply(hidden, padded, panels, size, sums, width)
        for r in range(rows):
            before = (t * n + start + r) * size
            at, to, total = 3 * before, 4 * before, r * width
            for j in range(0, size, lanes(x)):
                k = min(lanes(x), size - j)
                i, f, g = j, size + j, 2 * size + j
                from_r = load_some(sums, total + i, k) + load_some(bias, i, k)
                from_z = load_some(sums, total + f, k) + load_some(bias, f, k)
                share = load_some(sums, total + g, k) + load_some(bias, g, k)
                reset = sigmoid(load_some(x, at + i, k) + from_r)
                update = sigmoid(load_some(x, at + f, k) + from_z)
                new = tanh(load_some(x, at + g, k) + reset * share)
                store_some(gates, to + i, reset, k)
                store_some(gates, to + f, update, k)
                store_some(gates, to + g, new, k)
                store_some(gates, to + 3 * size + j, share, k)
                new = (load_some(hidden, r * size + j, k) - new) * update + new
                store_some(states, before + n * size + j, new, k)
                store_some(hidden, r * size + j, new, k)


@strict_kernel
def gru_grad(
    start, stop, grad, states, gates, panels, width, n, size, steps, grad_x, grad_hidden, grad_h
):  # fmt: skip
    """`gru_grad` of the sequences start to stop of n, but for the weight and the bias; panels hold
    the weight. grad_hidden (steps, n, 3 size) is the gradient for h's share."""
    rows, three = stop - start, 3 * size
    padded = (rows + 1) // 2 * 2
    through, sums = lines_of_zeros(grad, padded * three), cache_lines(grad, padded * width)
    current = cache_lines(grad, rows * size)
    copy(grad, (steps * n + start) * size, rows * size, current, 0)
    one = fill(grad.dtype.type(1))
    for t in range(steps - 1, -1, -1):
        for r in range(rows):
            before = (t * n + start + r) * size
            at, given, to = 3 * before, 4 * before, r * three
            for j in range(0, size, lanes(grad)):
                k = min(lanes(grad), size - j)
                i, f, g = j, size + j, 2 * size + j
                reset, update = load_some(gates, given + i, k), load_some(gates, given + f, k)
                new = load_some(gates, given + g, k)
                share = load_some(gates, given + 3 * size + j, k)
                h = load_some(current, r * size + j, k)
                grad_n = h * (one - update) * (one - new * new)
                grad_r = grad_n * share * reset * (one - reset)
                grad_z = h * (load_some(states, before + j, k) - new) * update * (one - update)
                grad_q = grad_n * reset
                store_some(grad_x, at + i, grad_r, k)
                store_some(grad_x, at + f, grad_z, k)
                store_some(grad_x, at + g, grad_n, k)
                store_some(grad_hidden, at + i, grad_r, k)
                store_some(grad_hidden, at + f, grad_z, k)
                store_some(grad_hidden, at + g, grad_q, k)
                store_some(through, to + i, grad_r, k)
                store_some(through, to + f, grad_z, k)
                store_some(through, to + g, grad_q, k)
                store_some(current, r * size + j, h * update, k)
        multiply(through, padded, panels, three, sums, width)
        for r in range(rows):
            before = (t * n + start + r) * size
            for j in range(size):
                current[r * size + j] += sums[r * width + j]
                current[r * size + j] += grad[before + j]
    copy(current, 0, rows * size, grad_h, start * size)


@strict_kernel
def rnn(start, stop, x, panels, width, h, n, size, steps, relu, states):
    """`rnn` of the sequences start to stop of n; panels hold the transposed weight."""
    rows = stop - start
    padded = (rows + 1) // 2 * 2
    hidden, sums = lines_of_zeros(x, padded * size), cache_lines(x, padded * width)
    copy(h, start * size, rows * size, hidden, 0)
    copy(h, start * size, rows * size, states, start * size)
    zero = fill(x.dtype.type(0))
    for t in range(steps):
        multiply(hidden, padded, panels, size, sums, width)
        for r in range(rows):
            at = (t * n + start + r) * size
            for j in range(0, size, lanes(x)):
                k = min(lanes(x), size - j)
                new = load_some(x, at + j, k) + load_some(sums, r * width + j, k)
                new = where_less(new, zero, zero, new) if relu else tanh(new)
                store_some(states, at + n * size + j, new, k)
                store_some(hidden, r * size + j, new, k)


@strict_kernel
def rnn_grad(start, stop, grad, states, panels, width, n, size, steps, relu, grad_x, grad_h):
    """`rnn_grad` of the sequences start to stop of n, but for the weight; panels hold it."""
    rows = stop - start
    padded = (rows + 1) // 2 * 2
    through, sums = lines_of_zeros(grad, padded * size), lines_of_zeros(grad, padded * width)
    zero, one = grad.dtype.type(0), grad.dtype.type(1)
    for t in range(steps - 1, -1, -1):
        for r in range(rows):
            after = ((t + 1) * n + start + r) * size
            for j in range(size):
                slope, h = states[after + j], grad[after + j] + sums[r * width + j]
                out = (zero if slope <= zero else h) if relu else h * (one - slope * slope)
                through[r * size + j] = out
                grad_x[after - n * size + j] = out
        multiply(through, padded, panels, size, sums, width)
    for r in range(rows):
        for j in range(size):
            at = (start + r) * size + j
            grad_h[at] = sums[r * width + j] + grad[at]
