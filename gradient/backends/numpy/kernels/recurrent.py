"""Recurrent layers, some sequences at a time through all steps.

A sequence does not depend on the others: so each thread takes some through all the steps, and its
result does not depend on which they are. Arrays are flat.
"""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.compilation import strict_kernel, subroutine
from gradient.backends.numpy.kernels.functions import sigmoid, tanh
from gradient.backends.numpy.kernels.tiles import tile_4, tile_8
from gradient.backends.numpy.kernels.vectors import lanes

PANEL = 32
"""Columns of a panel of weights: whole pairs of vectors on every processor."""


@subroutine
def multiply(x, row, panels, rows, depth, out, width):
    """out (rows, width) = x (rows, depth) @ weights in panels (width / PANEL, depth, PANEL).

    rows is a multiple of 4.
    """
    for first in range(0, width, PANEL):
        for j in range(first, first + PANEL, 2 * lanes(panels)):
            weights = first * depth + j - first
            i = 0
            while i + 8 <= rows:
                tile_8(x, i * row, row, 1, panels, weights, PANEL, depth, out, i * width + j, width,
                       False)  # fmt: skip
                i += 8
            if i < rows:
                tile_4(x, i * row, row, 1, panels, weights, PANEL, depth, out, i * width + j, width,
                       False)  # fmt: skip


@subroutine
def apply_sigmoid(x):
    for j in range(x.size):
        x[j] = sigmoid(x[j])


@subroutine
def apply_tanh(x):
    for j in range(x.size):
        x[j] = tanh(x[j])


@subroutine
def add(x, y, out):
    for j in range(out.size):
        out[j] = x[j] + y[j]


@subroutine
def next_cell(gates, before, after):
    size = after.size
    i, f, g = gates[:size], gates[size : 2 * size], gates[2 * size : 3 * size]
    for j in range(size):
        after[j] = f[j] * before[j] + i[j] * g[j]


@subroutine
def next_hidden(o, c, h):
    for j in range(h.size):
        h[j] = o[j] * tanh(c[j])


@strict_kernel
def lstm(start, stop, x, panels, width, n, size, steps, states, gates):
    """`lstm` of the sequences start to stop of n.

    panels hold the transposed weight (size, width), filled up with zeros. states hold h and c
    before the first step. A product reads up to 3 rows beyond stop, which are in states as c lies
    behind h; what comes of them is dropped.
    """
    rows, four = stop - start, 4 * size
    padded = (rows + 3) // 4 * 4
    sums = np.empty(padded * width, x.dtype)
    cells = (steps + 1) * n * size
    for t in range(steps):
        first = (t * n + start) * size
        multiply(states[first:], size, panels, padded, size, sums, width)
        for r in range(rows):
            at = (t * n + start + r) * four
            here = gates[at : at + four]
            add(x[at : at + four], sums[r * width : r * width + four], here)
            apply_sigmoid(here[: 2 * size])
            apply_tanh(here[2 * size : 3 * size])
            apply_sigmoid(here[3 * size :])
            before = first + r * size
            after = before + n * size
            c = states[cells + after : cells + after + size]
            next_cell(here, states[cells + before : cells + before + size], c)
            next_hidden(here[3 * size :], c, states[after : after + size])


@subroutine
def cell_grad(h, o, after, c):
    """c += what of the gradient for h' goes to c'."""
    one = c.dtype.type(1)
    for j in range(c.size):
        high = tanh(after[j])
        c[j] += h[j] * o[j] * (one - high * high)


@subroutine
def output_gate_grad(h, o, after, out):
    one = out.dtype.type(1)
    for j in range(out.size):
        out[j] = h[j] * tanh(after[j]) * o[j] * (one - o[j])


@subroutine
def sigmoid_gate_grad(c, other, gate, out):
    one = out.dtype.type(1)
    for j in range(out.size):
        out[j] = c[j] * other[j] * gate[j] * (one - gate[j])


@subroutine
def tanh_gate_grad(c, i, g, out):
    one = out.dtype.type(1)
    for j in range(out.size):
        out[j] = c[j] * i[j] * (one - g[j] * g[j])


@subroutine
def multiply_add(c, f, grad):
    """c = grad + c f"""
    for j in range(c.size):
        c[j] = grad[j] + c[j] * f[j]


@strict_kernel
def lstm_grad(
    start, stop, grad, states, gates, panels, width, n, size, steps, grad_x, grad_h, grad_c
):  # fmt: skip
    """`lstm_grad` of the sequences start to stop of n, but for the weight.

    panels hold the weight (4 size, width), filled up with zeros. Behind grad_x are three rows more.
    """
    rows, four = stop - start, 4 * size
    padded = (rows + 3) // 4 * 4
    hidden, cell = np.zeros(padded * width, grad.dtype), np.empty(rows * size, grad.dtype)
    cells = (steps + 1) * n * size
    last = (steps * n + start) * size
    for j in range(rows * size):
        cell[j] = grad[cells + last + j]
    for t in range(steps - 1, -1, -1):
        for r in range(rows):
            h = hidden[r * width : r * width + size]
            c = cell[r * size : (r + 1) * size]
            at = (t * n + start + r) * four
            i, f = gates[at : at + size], gates[at + size : at + 2 * size]
            g, o = gates[at + 2 * size : at + 3 * size], gates[at + 3 * size : at + four]
            out = grad_x[at : at + four]
            before = (t * n + start + r) * size
            after = before + n * size
            add(h, grad[after : after + size], h)
            state = states[cells + after : cells + after + size]
            cell_grad(h, o, state, c)
            sigmoid_gate_grad(c, g, i, out[:size])
            sigmoid_gate_grad(c, states[cells + before : cells + before + size], f,
                              out[size : 2 * size])  # fmt: skip
            tanh_gate_grad(c, i, g, out[2 * size : 3 * size])
            output_gate_grad(h, o, state, out[3 * size :])
            multiply_add(c, f, grad[cells + before : cells + before + size])
        multiply(grad_x[(t * n + start) * four :], four, panels, padded, four, hidden, width)
    for r in range(rows):
        for j in range(size):
            at = (start + r) * size + j
            grad_h[at] = hidden[r * width + j] + grad[at]
            grad_c[at] = cell[r * size + j]


@subroutine
def apply_relu(x):
    """NaN stays NaN."""
    for j in range(x.size):
        x[j] = x.dtype.type(0) if x[j] < 0 else x[j]


@subroutine
def add_product(x, a, b, out):
    for j in range(out.size):
        out[j] = x[j] + a[j] * b[j]


@subroutine
def next_state(z, n, before, after):
    for j in range(after.size):
        after[j] = (before[j] - n[j]) * z[j] + n[j]


@strict_kernel
def gru(start, stop, x, panels, width, bias, n, size, steps, states, gates):
    """`gru` of the sequences start to stop of n.

    panels hold the transposed weight (size, width), filled up with zeros. states hold h before the
    first step, and three rows more than said.
    """
    rows = stop - start
    padded = (rows + 3) // 4 * 4
    sums = np.empty(padded * width, x.dtype)
    for t in range(steps):
        first = (t * n + start) * size
        multiply(states[first:], size, panels, padded, size, sums, width)
        for r in range(rows):
            at = t * n + start + r
            given, here = x[at * 3 * size :], gates[at * 4 * size : (at + 1) * 4 * size]
            hidden = sums[r * width : r * width + 3 * size]
            add(hidden, bias, hidden)
            both = here[: 2 * size]
            add(given, hidden, both)
            apply_sigmoid(both)
            new, share = here[2 * size : 3 * size], here[3 * size :]
            share[:] = hidden[2 * size :]
            add_product(given[2 * size :], here, share, new)
            apply_tanh(new)
            before = first + r * size
            after = before + n * size
            next_state(here[size : 2 * size], new, states[before : before + size],
                       states[after : after + size])  # fmt: skip


@subroutine
def gates_grad(h, before, gates, for_input, for_hidden):
    """What of the gradient for h' goes to r, z, n before their activations; h becomes h z."""
    size = h.size
    one = h.dtype.type(1)
    r, z, n, q = gates[:size], gates[size:], gates[2 * size :], gates[3 * size :]
    for j in range(size):
        grad = h[j] * (one - z[j]) * (one - n[j] * n[j])
        for_input[2 * size + j] = grad
        for_hidden[2 * size + j] = grad * r[j]
    for j in range(size):
        grad = for_input[2 * size + j] * q[j] * r[j] * (one - r[j])
        for_input[j] = grad
        for_hidden[j] = grad
    for j in range(size):
        grad = h[j] * (before[j] - n[j]) * z[j] * (one - z[j])
        for_input[size + j] = grad
        for_hidden[size + j] = grad
    for j in range(size):
        h[j] *= z[j]


@strict_kernel
def gru_grad(
    start, stop, grad, states, gates, panels, width, n, size, steps, grad_x, hidden, grad_h
):  # fmt: skip
    """`gru_grad` of the sequences start to stop of n, but for the weight and the bias.

    panels hold the weight (3 size, width), filled up with zeros. hidden (steps, n, 3 size) is the
    gradient for h's share; three rows more lie behind it.
    """
    rows, three = stop - start, 3 * size
    padded = (rows + 3) // 4 * 4
    sums, current = np.empty(padded * width, grad.dtype), np.empty(rows * size, grad.dtype)
    last = (steps * n + start) * size
    for j in range(rows * size):
        current[j] = grad[last + j]
    for t in range(steps - 1, -1, -1):
        first = t * n + start
        for r in range(rows):
            at = first + r
            gates_grad(
                current[r * size : (r + 1) * size], states[at * size : (at + 1) * size],
                gates[at * 4 * size : (at + 1) * 4 * size], grad_x[at * three : (at + 1) * three],
                hidden[at * three : (at + 1) * three],
            )  # fmt: skip
        multiply(hidden[first * three :], three, panels, padded, three, sums, width)
        for r in range(rows):
            h = current[r * size : (r + 1) * size]
            add(h, sums[r * width :], h)
            add(h, grad[(first + r) * size :], h)
    for j in range(rows * size):
        grad_h[start * size + j] = current[j]


@strict_kernel
def rnn(start, stop, x, panels, width, n, size, steps, relu, states):
    """`rnn` of the sequences start to stop of n; panels and states as in `gru`."""
    rows = stop - start
    padded = (rows + 3) // 4 * 4
    sums = np.empty(padded * width, x.dtype)
    for t in range(steps):
        first = (t * n + start) * size
        multiply(states[first:], size, panels, padded, size, sums, width)
        for r in range(rows):
            at = first + r * size
            after = states[at + n * size : at + (n + 1) * size]
            add(x[at:], sums[r * width :], after)
            if relu:
                apply_relu(after)
            else:
                apply_tanh(after)


@subroutine
def relu_grad(h, after, out):
    for j in range(out.size):
        out[j] = h.dtype.type(0) if after[j] <= 0 else h[j]


@subroutine
def tanh_grad(h, after, out):
    one = out.dtype.type(1)
    for j in range(out.size):
        out[j] = h[j] * (one - after[j] * after[j])


@strict_kernel
def rnn_grad(start, stop, grad, states, panels, width, n, size, steps, relu, grad_x, grad_h):
    """`rnn_grad` of the sequences start to stop of n, but for the weight; behind grad_x (steps, n,
    size) are three rows more."""
    rows = stop - start
    padded = (rows + 3) // 4 * 4
    sums, current = np.empty(padded * width, grad.dtype), np.empty(rows * size, grad.dtype)
    last = (steps * n + start) * size
    for j in range(rows * size):
        current[j] = grad[last + j]
    for t in range(steps - 1, -1, -1):
        first = (t * n + start) * size
        for r in range(rows):
            at = first + r * size
            h, out = current[r * size : (r + 1) * size], grad_x[at : at + size]
            if relu:
                relu_grad(h, states[at + n * size :], out)
            else:
                tanh_grad(h, states[at + n * size :], out)
        multiply(grad_x[first:], size, panels, padded, size, sums, width)
        for r in range(rows):
            add(sums[r * width :], grad[first + r * size :], current[r * size : (r + 1) * size])
    for j in range(rows * size):
        grad_h[start * size + j] = current[j]
