"""Products a @ b of bfloat16 matrices in any layout, by AMX tiles (`amx`).

First both are copied once to panels of 32 rows of `a` or columns of `b`:

    a    matrix, panel, step of 32 of k, half of the panel, row of the half, number of the step
    b    matrix, panel, step of 32 of k, half of the panel, pair of the step, column of the half, 2

So a step of a panel is two AMX tiles, and a tile of sums has 16 rows and 16 columns. Panels and
steps are padded with zeros. The two layouts are transposes of each other in pairs of numbers: rows
of memory along k become `a` by copying; of rows across k, every two are interleaved to `b`.

A block of the result is computed DEPTH of k at a time, so that a panel of `b` stays in the L1 cache
while those of `a` are read. An element is one chain of sums in the order of k, rounded once at the
end: the same bits as in `bfloat16_tiles`, for any split into blocks. Denormal numbers, below
2^-126, count as zeros.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from gradient.backends.numpy.kernels.amx import (
    add_bfloat16_products,
    configure_whole,
    load_sums,
    release,
    store_sums,
    zero_sums,
)
from gradient.backends.numpy.kernels.bfloat16_tiles import PAIR, ROWS, STEP, SUMS, TILE
from gradient.backends.numpy.kernels.cache_lines import cache_lines
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.half_linear import copy_step
from gradient.backends.numpy.kernels.llvm_types import I16, I32
from gradient.backends.numpy.kernels.stored import BFLOAT16, transpose, write_columns

DEPTH = 256
"""Of k, at most, for which a panel of `b` and two of `a` are in the nearest cache."""

TOGETHER = 4
"""Panels that are arranged together where their numbers are side by side in memory: lines of the
cache that follow each other are read so."""


@emitted()
def _lay_side_by_side(builder, x, at, other, out, to, apart):
    """Interleave the numbers from `at` on with those from `other` on: 16 pairs go to out[to:], and
    16 to `apart` after that."""
    numbers = ir.VectorType(I16, STEP)
    rows = []
    for first in (at, other):
        place = builder.bitcast(builder.gep(x, [first]), numbers.as_pointer())
        rows.append(builder.load(place))
        rows[-1].align = 2
    target = builder.gep(out, [to])
    for half in range(2):
        order = [STEP * (i % 2) + half * ROWS + i // 2 for i in range(STEP)]
        pairs = builder.shuffle_vector(*rows, ir.Constant(ir.VectorType(I32, STEP), order))
        if half:
            target = builder.gep(target, [apart])
        builder.store(pairs, builder.bitcast(target, numbers.as_pointer())).align = 2


@ordered_subroutine
def _copy_rows(x, at, row, out, to):
    """Two tiles of a row's numbers: 32 rows."""
    for i in range(PAIR):
        copy_step(x, at + i * row, out, to + i * STEP)


@ordered_subroutine
def _pair_rows(x, at, row, out, to):
    """Two tiles of pairs: of 32 rows across k, every two of which are laid side by side."""
    for i in range(ROWS):
        first = at + 2 * i * row
        _lay_side_by_side(x, first, first + row, out, to + i * STEP, TILE)


@ordered_subroutine
def _exchange(near, words, to):
    """Two tiles of pairs as two of rows, or the other way."""
    for half in range(2):
        transpose(near, half * SUMS, ROWS, words, (to + half * TILE) // 2, ROWS)


@ordered_kernel
def arrange(start, stop, x, starts, row, column, rows, k, paired, out):
    """Fill items start to stop of `out`: an item is TOGETHER panels of a matrix.

    x is flat, with matrices (rows, k) at `starts`, and strides `row` and `column`, one of which is
    1. `paired` selects the layout of b, whose columns are the rows here, instead of a's.
    """
    panels, steps = (rows + PAIR - 1) // PAIR, (k + STEP - 1) // STEP
    groups = (panels + TOGETHER - 1) // TOGETHER
    along = column == 1
    edge, near = cache_lines(x, 2 * TILE), cache_lines(x, 2 * TILE)
    near_words, words = near.view(np.float32), out.view(np.float32)
    for item in range(start, stop):
        first, last = item % groups * TOGETHER, min(panels, (item % groups + 1) * TOGETHER)
        matrix = item // groups
        for turn in range((last - first) * steps):
            if along:
                panel, step = first + turn // steps, turn % steps
            else:
                panel, step = first + turn % (last - first), turn // (last - first)
            at = starts[matrix] + panel * PAIR * row + step * STEP * column
            to = ((matrix * panels + panel) * steps + step) * 2 * TILE
            height, count = min(PAIR, rows - panel * PAIR), min(STEP, k - step * STEP)
            target, place = out, to
            if along == paired:
                target, place = near, 0
            if height == PAIR and count == STEP:
                if along:
                    _copy_rows(x, at, row, target, place)
                else:
                    _pair_rows(x, at, column, target, place)
            else:
                for i in range(2 * TILE):
                    edge[i] = 0
                if along:
                    for i in range(height):
                        for p in range(count):
                            edge[i * STEP + p] = x[at + i * row + p]
                    _copy_rows(edge, 0, STEP, target, place)
                else:
                    for p in range(count):
                        for i in range(height):
                            edge[p * PAIR + i] = x[at + p * column + i]
                    _pair_rows(edge, 0, PAIR, target, place)
            if along == paired:
                _exchange(near_words, words, to)


@ordered_kernel
def product(
    start, stop, a, a_numbers, b, b_numbers, bias, out, m, n, k, block_rows, block_columns
):  # fmt: skip
    """Blocks start to stop of out (batch, M, N) = a (batch, M, K) @ b (batch, K, N) (+ bias (N,)).

    a and b are arranged by `arrange`; a_numbers and b_numbers give each result's matrices. Blocks
    consist of whole panels. `out` is bytes; the bias is float32, and may have size 0.
    """
    configure_whole()
    down, across = (m + block_rows - 1) // block_rows, (n + block_columns - 1) // block_columns
    steps = (k + STEP - 1) // STEP
    parts = (steps * STEP + DEPTH - 1) // DEPTH
    depth = (steps + parts - 1) // parts
    a_panel = b_panel = steps * 2 * TILE
    a_matrix, b_matrix = (m + PAIR - 1) // PAIR * a_panel, (n + PAIR - 1) // PAIR * b_panel
    row = block_columns + ROWS  # rows a power of two apart would compete for few cache lines
    sums = cache_lines(bias, block_rows * row)
    for number in range(start, stop):
        matrix, block = number // (down * across), number % (down * across)
        top, left = block % down * block_rows, block // down * block_columns
        bottom, right = min(m, top + block_rows), min(n, left + block_columns)
        for step in range(0, steps, depth):
            count = min(depth, steps - step)
            b_at = b_numbers[matrix] * b_matrix + left // PAIR * b_panel + step * 2 * TILE
            for j in range(left, right, PAIR):
                a_at = a_numbers[matrix] * a_matrix + top // PAIR * a_panel + step * 2 * TILE
                for i in range(top, bottom, PAIR):
                    at = (i - top) * row + j - left
                    if step:
                        load_sums(sums, at, ROWS, ROWS * row, row)
                    else:
                        zero_sums()
                    for x in range(0, count * 2 * TILE, 2 * TILE):
                        add_bfloat16_products(
                            a, a_at + x, a_at + x + TILE, STEP,
                            b, b_at + x, STEP, b_at + x + TILE, STEP,
                        )  # fmt: skip
                    store_sums(sums, at, ROWS, ROWS * row, row)
                    a_at += a_panel
                b_at += b_panel
        to = 2 * ((matrix * m + top) * n + left)
        write_columns(sums, row, bottom - top, right - left, bias, left, BFLOAT16, 2, out, to, n)
    release()
