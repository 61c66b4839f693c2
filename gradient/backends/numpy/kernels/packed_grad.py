"""The gradient g @ W for the input of a product with a weight in GGUF's blocks, in float32.

The weights of one block of every row are the columns of W that a thread takes at a time. They are
unpacked into the cache, some rows of W at a time, and multiplied there with all rows of g. An
output is one chain of multiplications and additions in the order of W's rows.
"""

import numpy as np

from gradient.backends.numpy.kernels.compilation import ordered_kernel
from gradient.backends.numpy.kernels.dense import DEPTH, NEAR, add_panel
from gradient.backends.numpy.kernels.packed_linear import unpack_block
from gradient.backends.numpy.kernels.vectors import lanes


@ordered_kernel
def input_grad(start, stop, g, g_row, rows, weight, form, weights, size, n, k, out):
    """out (rows, K), the columns of blocks start to stop = g (rows, N) @ weight (N, K), all flat.

    g's rows are `g_row` apart, and there are as many as a multiple of 4, of which `out` has the
    first. weight is the bytes of blocks of `weights` weights, `size` bytes each.
    """
    pair, held, blocks = 2 * lanes(g), out.size // k, k // weights
    near, pairs = (min(rows, NEAR) + 3) // 4 * 4, weights // pair
    unpacked = np.empty(weights, np.float32)
    panels = np.empty(weights * DEPTH, np.float32)
    part = np.empty(near * weights, np.float32)
    for block in range(start, stop):
        for top in range(0, rows, NEAR):
            m = min(NEAR, rows - top)
            for first in range(0, n, DEPTH):
                count = min(DEPTH, n - first)
                for j in range(count):
                    at = ((first + j) * blocks + block) * size
                    unpack_block(weight, at, form, unpacked, 0)
                    for q in range(pairs):
                        to = (q * DEPTH + j) * pair
                        panels[to : to + pair] = unpacked[q * pair : (q + 1) * pair]
                for q in range(pairs):
                    panel, at = panels[q * DEPTH * pair :], top * g_row + first
                    add_panel(g, at, g_row, m, panel, count, part, q * near * pair, first > 0)
            for i in range(min(m, held - top)):
                to = (top + i) * k + block * weights
                for q in range(pairs):
                    at = (q * near + i) * pair
                    out[to + q * pair : to + (q + 1) * pair] = part[at : at + pair]
