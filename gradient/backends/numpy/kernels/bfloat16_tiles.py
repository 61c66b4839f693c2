"""Products x @ W.T in bfloat16 of few rows of x, by AMX tiles (`amx`).

A tile of W is 16 of its rows with 32 numbers each, read in place. A tile of x is transposed, in
pairs: each of its rows has a pair of numbers, consecutive in k, of up to 16 rows of x. So a tile of
sums has 16 rows of W and up to 16 of x, and the bits of an output do not depend on how many rows
are computed together. For many rows of x, `bfloat16_products` gives the same bits.

    x    group of 16 rows, step of 32 numbers, pair, row of the group

Both are given as uint16 (`half_precision.stored`).
"""

import numpy as np

from gradient.backends.numpy.kernels import amx
from gradient.backends.numpy.kernels.amx import (
    add_bfloat16_products,
    bfloat16_46,
    bfloat16_47,
    bfloat16_56,
    configure,
    describe,
    load_4,
    load_5,
    load_6,
    load_7,
    prefetch_tile,
    release,
    store_sums,
)
from gradient.backends.numpy.kernels.cache_lines import cache_lines
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.half_linear import copy_numbers
from gradient.backends.numpy.kernels.stored import BFLOAT16, transpose, write_columns

STEP = 32
"""Numbers of a row in a tile."""
ROWS = amx.ROWS
"""Of x, and of W, in a tile."""
PAIR = 2 * ROWS
"""Of x, and of W, that are multiplied with each other at a time: four tiles of sums."""
CONFIGURATION = amx.CONFIGURATION
TILE = ROWS * STEP
"""Numbers of a tile of x or W."""
SUMS = ROWS * ROWS

FEW = 4 * PAIR
"""Rows of x up to which the kernel is quicker than one that copies W first."""


@ordered_kernel
def arrange_rows(start, stop, x, k, rows, out):
    """Write the groups start to stop of the rows of x (rows, k) to `out`, in the layout of the
    module's docstring, padded with zeros to whole steps."""
    steps = (k + STEP - 1) // STEP
    near = np.zeros(ROWS * steps * STEP, np.uint16)
    square = np.empty(SUMS, np.float32)
    words, to = near.view(np.float32), out.view(np.float32)
    for group in range(start, stop):
        first = group * ROWS
        width = min(ROWS, rows - first)
        if width == 1:
            copy_numbers(x, first * k, k, out, first * steps * STEP)
            continue
        for row in range(width):
            copy_numbers(x, (first + row) * k, k, near, row * steps * STEP)
        for step in range(steps):
            at = (first * steps + step * width) * ROWS
            if width == ROWS:
                transpose(words, step * ROWS, steps * ROWS, to, at, ROWS)
            else:
                transpose(words, step * ROWS, steps * ROWS, square, 0, ROWS)
                for pair in range(ROWS):
                    for row in range(width):
                        to[at + pair * width + row] = square[pair * ROWS + row]


@ordered_subroutine
def _describe(configuration, columns, rows):
    """Configure tiles for `columns` rows of W, in a pair of tiles, and `rows` rows of x."""
    for tile in range(2):
        width = max(1, min(ROWS, rows - tile * ROWS))
        height = max(1, min(ROWS, columns - tile * ROWS))
        describe(configuration, 6 + tile, ROWS, 4 * width)
        describe(configuration, 4 + tile, height, 2 * STEP)
        for other in range(2):
            of_x, of_w = 2 * other + tile, 2 * tile + other
            configuration[16 + 2 * of_x] = 4 * width
            configuration[48 + of_w] = height
    configure(configuration)


@ordered_subroutine
def _multiply(w, w_at, w_other, w_row, w_step, columns, x, x_at, x_other, rows, steps, ahead):
    """Add to the sums the products of a pair of tiles of W with tiles of x, for so many steps.

    w_at, w_other    the offsets of the tiles of W, with rows `w_row` and steps `w_step` apart
    columns, rows    the numbers of rows of W and of x in the pair
    x_at, x_other    the offsets of the tiles of x
    ahead            the distance after W's first tile of the tile to prefetch; or 0
    """
    width, other = min(ROWS, rows), rows - ROWS
    if columns > ROWS and rows > ROWS:
        for step in range(steps):
            add_bfloat16_products(
                w, w_at + step * w_step, w_other + step * w_step, w_row,
                x, x_at + step * TILE, STEP, x_other + step * 2 * ROWS * other, 2 * other,
            )  # fmt: skip
        return
    for step in range(steps):
        if ahead:
            prefetch_tile(w, w_at + step * w_step + ahead, w_row)
        load_4(w, w_at + step * w_step, w_row)
        load_6(x, x_at + step * 2 * ROWS * width, 2 * width)
        bfloat16_46()
        if rows > ROWS:
            load_7(x, x_other + step * 2 * ROWS * other, 2 * other)
            bfloat16_47()
        if columns > ROWS:
            load_5(w, w_other + step * w_step, w_row)
            bfloat16_56()


@ordered_subroutine
def _write(sums, at, part, columns, rows, bias, first, out, top, n):
    """out[top : top + rows, first : first + columns] = the sums of four tiles, from `at` on."""
    for tile in range(4):
        to = tile % 2 * ROWS * PAIR + tile // 2 * ROWS
        transpose(sums, at + tile * SUMS, ROWS, part, to, PAIR)
    write_columns(part, PAIR, rows, columns, bias, first, BFLOAT16, 2, out,
                  2 * (top * n + first), n)  # fmt: skip


@ordered_kernel
def linear(start, stop, x, rows, weight, n, k, bias, out):
    """out (rows, N)[:, start:stop] = x (rows, K) @ weight (N, K)[start:stop].T (+ bias), all flat.

    x is arranged by `arrange_rows`; `out` is bytes. bias (N,) is float32, and may have size 0.
    """
    configuration = np.zeros(CONFIGURATION, np.uint8)
    sums, part = cache_lines(bias, 4 * SUMS), cache_lines(bias, PAIR * PAIR)
    edge = np.zeros(2 * TILE, weight.dtype)
    whole, steps = k // STEP, (k + STEP - 1) // STEP
    group, ahead = PAIR, 0
    if rows <= PAIR:  # bound by memory: fewer streams from it, each prefetched
        group, ahead = ROWS, ROWS * k
    for j in range(start, stop, group):
        columns = min(group, stop - j)
        if whole < steps:
            for c in range(columns):
                for p in range(whole * STEP, k):
                    edge[c * STEP + p - whole * STEP] = weight[(j + c) * k + p]
        for i in range(0, rows, PAIR):
            height = min(PAIR, rows - i)
            width = min(ROWS, height)
            at, other = i * steps * STEP, (i + ROWS) * steps * STEP
            _describe(configuration, columns, height)
            _multiply(weight, j * k, (j + ROWS) * k, k, STEP, columns, x, at, other, height, whole,
                      ahead)  # fmt: skip
            if whole < steps:
                _multiply(edge, 0, TILE, STEP, 0, columns, x, at + whole * 2 * ROWS * width,
                          other + whole * 2 * ROWS * (height - ROWS), height, 1, 0)  # fmt: skip
            store_sums(sums, 0, SUMS, 2 * SUMS, ROWS)
            _write(sums, 0, part, columns, height, bias, j, out, i, n)
    release()
