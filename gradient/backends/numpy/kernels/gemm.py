"""Float32 products a @ b of matrices in any layout, cut into blocks of the result.

A block packs what it reads of `b` into panels of two vectors' columns, up to DEPTH of k at a time:
they stay in the second cache. Tiles of ROWS rows of `a` go past them, one after another, each of
which stays in the first cache meanwhile, and their sums with a panel in registers (after Goto and
van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008, section 4). Rows of `a` whose
elements are neighbours in memory are read where they are, others are packed a few tiles at a time.

In training, operands come from memory, and the kernel would wait for them for a fifth of its
time. So a tile asks for what comes next while it computes, a few lines of the cache at a time: the
rows of the result that it will write, those of `a` that the next tile reads, and what the next
DEPTH of k or the next block packs of `b`.

Every element is one chain of multiplications and additions in the order of k, or one chain for each
part of k, whose results are added in order: the same bits however the result is cut into blocks,
and whatever other rows and columns it has.
"""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.gemm_tile import (
    PAIR,
    PARTS,
    ROWS,
    SHORT,
    WIDTH,
    packed_short_tile,
    packed_tile,
    short_tile,
    tile,
)
from gradient.backends.numpy.kernels.stored import transpose
from gradient.backends.numpy.kernels.vectors import add_product, fill, load, store

DEPTH = 384
"""The most of k in a part."""

GROUP = 4 * ROWS
"""Rows of `a` that are packed at a time."""

COLUMNS = 16 * PAIR
"""The most columns of a block, whose panels are in the second cache, with DEPTH rows of them."""

SQUARE = 16
"""Rows of k that are copied together, so that the lines of the cache that tiles share are read
once."""

LINE = 16
"""Numbers in a line of the cache."""


@ordered_subroutine
def pack_rows(a, at, row, column, m, count, beyond, out, to):
    """m rows and `count` columns of `a` as tiles (count, ROWS), zeros after the last row. `beyond`
    is how many rows of `a` there are from the first one on."""
    size = ROWS * count
    if row == 1:
        for p in range(0, count, SQUARE):
            last = min(count, p + SQUARE)
            for i in range(0, m, ROWS):
                place, start, q = to + i // ROWS * size, at + i, p
                if i + WIDTH <= beyond:
                    while q < min(last, count - 1):
                        # What is written behind these numbers is written again.
                        store(out, place + q * ROWS, load(a, start + q * column))
                        q += 1
                while q < last:
                    for r in range(ROWS):
                        number = a[start + q * column + r] if i + r < m else out.dtype.type(0)
                        out[place + q * ROWS + r] = number
                    q += 1
        return
    for i in range(0, m, ROWS):
        place = to + i // ROWS * size
        for p in range(count):
            for r in range(ROWS):
                if i + r < m:
                    out[place + p * ROWS + r] = a[at + (i + r) * row + p * column]
                else:
                    out[place + p * ROWS + r] = 0


@ordered_subroutine
def pack_columns(b, at, row, column, count, n, out, to):
    """`count` rows and n (up to PAIR) columns of `b` as a panel (count, PAIR), zeros after the last
    column."""
    if n < PAIR:
        for p in range(count * PAIR):
            out[to + p] = 0
        whole = n // WIDTH * WIDTH if column == 1 else 0
        for p in range(count):
            if whole > 0:
                store(out, to + p * PAIR, load(b, at + p * row))
            for j in range(whole, n):
                out[to + p * PAIR + j] = b[at + p * row + j * column]
    elif column == 1:
        for p in range(count):
            store(out, to + p * PAIR, load(b, at + p * row))
            store(out, to + p * PAIR + WIDTH, load(b, at + p * row + WIDTH))
    else:
        p = 0
        if row == 1:
            while p + WIDTH <= count:
                transpose(b, at + p, column, out, to + p * PAIR, PAIR)
                transpose(b, at + p + WIDTH * column, column, out, to + p * PAIR + WIDTH, PAIR)
                p += WIDTH
        while p < count:
            for j in range(PAIR):
                out[to + p * PAIR + j] = b[at + p * row + j * column]
            p += 1


@ordered_subroutine
def corner_of(
    a, a_at, a_row, is_packed, b, b_at, count, c, to, c_row, begin, add, rows, columns, corner
):  # fmt: skip
    """`tile`, of so many rows and columns, by way of `corner` (ROWS * PAIR,)."""
    if begin or add:
        for r in range(rows):
            for q in range(columns):
                corner[r * PAIR + q] = c[to + r * c_row + q]
    here, next_c = a.ctypes.data, c.ctypes.data + 4 * to
    if rows == SHORT and is_packed:
        packed_short_tile(
            a, a_at, a_row, b, b_at, count, corner, 0, PAIR, begin, add,
            here, 0, 0, next_c, 4 * c_row, 0,
        )  # fmt: skip
    elif rows == SHORT:
        short_tile(
            a, a_at, a_row, b, b_at, count, corner, 0, PAIR, begin, add,
            here, 0, 0, next_c, 4 * c_row, 0,
        )  # fmt: skip
    elif is_packed:
        packed_tile(
            a, a_at, a_row, b, b_at, count, corner, 0, PAIR, begin, add,
            here, 0, 0, next_c, 4 * c_row, 0,
        )  # fmt: skip
    else:
        tile(
            a, a_at, a_row, b, b_at, count, corner, 0, PAIR, begin, add,
            here, 0, 0, next_c, 4 * c_row, 0,
        )  # fmt: skip
    whole = columns // WIDTH * WIDTH
    for r in range(rows):
        for q in range(0, whole, WIDTH):
            store(c, to + r * c_row + q, load(corner, r * PAIR + q))
        for q in range(whole, columns):
            c[to + r * c_row + q] = corner[r * PAIR + q]


@ordered_subroutine
def add_to_columns(bias, first, rows, c, at, c_row, columns):
    """c (rows, columns) += bias[:, None], from its number `first` on."""
    one, whole = fill(c.dtype.type(1)), columns // WIDTH * WIDTH
    for i in range(rows):
        for j in range(0, whole, WIDTH):
            place = at + i * c_row + j
            store(c, place, add_product(load(c, place), bias[first + i], one))
        for j in range(whole, columns):
            c[at + i * c_row + j] += bias[first + i]


@ordered_subroutine
def add_to_rows(bias, first, columns, c, at, c_row, rows):
    """c (rows, columns) += bias, from its number `first` on."""
    whole = columns // WIDTH * WIDTH
    for j in range(0, whole, WIDTH):
        number = load(bias, first + j)
        for i in range(rows):
            place = at + i * c_row + j
            store(c, place, add_product(load(c, place), c.dtype.type(1), number))
    for i in range(rows):
        for j in range(whole, columns):
            c[at + i * c_row + j] += bias[first + j]


@ordered_subroutine
def apply_relu(c, at, c_row, rows, columns):
    """c (rows, columns) = max(c, 0), NaN where it is NaN."""
    for i in range(rows):
        row = c[at + i * c_row : at + i * c_row + columns]
        for j in range(row.size):
            row[j] = c.dtype.type(0) if row[j] < c.dtype.type(0) else row[j]


@ordered_subroutine
def block_at(number, m, n, block_rows, block_columns):
    """Of a block: its matrix, its first row and column, and those that are behind it."""
    down, across = (m + block_rows - 1) // block_rows, (n + block_columns - 1) // block_columns
    matrix, block = number // (down * across), number % (down * across)
    top, left = block % down * block_rows, block // down * block_columns
    return matrix, top, left, min(top + block_rows, m), min(left + block_columns, n)


@ordered_subroutine
def part_of(k):
    """How much of k is packed at a time: parts of like sizes, of at most DEPTH."""
    parts = (k + DEPTH - 1) // DEPTH
    return ((k + parts - 1) // parts + LINE - 1) // LINE * LINE


@ordered_subroutine
def prefetch_of_rows(panel, panels, row):
    """Which lines of the next ROWS rows of `a`, read where they are, a tile asks for: the place of
    the first one and how far behind it the second one is, in numbers. The processor reads the rest
    of a row by itself."""
    return min(panel, ROWS - 1) * row, LINE * PARTS if panels >= ROWS else panels * row


@ordered_subroutine
def prefetch_of_group(tile_number, runs, column):
    """As `prefetch_of_rows`, of the next rows that are packed: two neighbours in each of PARTS
    columns, of which there are so many runs."""
    place = tile_number % runs * PARTS * column
    return place + min(2 * (tile_number // runs), GROUP // LINE) * LINE, LINE


@ordered_subroutine
def prefetch_of_panel(tile_row, runs, row, column):
    """Which lines of a panel of `b` that is packed later a tile asks for: the place of the first
    one, how far apart they are, and how far behind each the second one is, in numbers."""
    if column == 1:  # PARTS of its rows
        return tile_row % runs * PARTS * row, row, LINE
    place = tile_row % PARTS * column + tile_row // PARTS % 2 * PARTS * LINE
    return place, LINE, PARTS * column  # two of its columns


@ordered_kernel
def product(
    start, stop, a, a_starts, a_row, a_column, b, b_starts, b_row, b_column, bias, upright,
    c, c_row, m, n, k, block_rows, block_columns, chained, ahead, relu,
):  # fmt: skip
    """c (batch, M, N) = a (batch, M, K) @ b (batch, K, N) (+ bias (N,), or (M, 1) if `upright`):
    its blocks start to stop.

    a and b are flat arrays: of each are said where the matrices of the batch begin, and how far
    apart rows and columns are. The matrices of c follow one another, its rows are `c_row` apart;
    bias may be of size 0. A sum is one chain if `chained`. The block that a thread computes next is
    `ahead` blocks further on, as far as can be foreseen. With `relu`, c is max(c, 0).
    """
    depth = part_of(k)
    wide = (min(block_columns, n) + PAIR - 1) // PAIR * PAIR
    packed = np.empty(depth * (GROUP + wide) + 2 * PAIR + LINE, np.float32)
    panels_at = (-packed.ctypes.data % 64) // 4  # all begin at a line of the cache
    rows_at = panels_at + depth * wide
    corner = np.zeros(ROWS * PAIR, np.float32)
    blocks = (m + block_rows - 1) // block_rows * ((n + block_columns - 1) // block_columns)
    last = blocks * a_starts.size - 1
    for number in range(start, stop):
        matrix, top, left, bottom, right = block_at(number, m, n, block_rows, block_columns)
        panels = (right - left + PAIR - 1) // PAIR
        in_place = top  # rows before this one are not packed
        if a_column == 1:
            in_place = bottom - (bottom - top) % ROWS % SHORT
        for p in range(0, k, depth):
            count, begin, add = min(depth, k - p), p > 0 and chained, p > 0 and not chained
            a_at, b_at = a_starts[matrix] + p * a_column, b_starts[matrix] + p * b_row
            for j in range(left, right, PAIR):
                pack_columns(
                    b, b_at + j * b_column, b_row, b_column, count, min(PAIR, right - j),
                    packed, panels_at + (j - left) * count,
                )  # fmt: skip
            # What comes after this part: another one of k, or the first one of another block.
            then_a = a_at + depth * a_column + top * a_row
            then_b = b_at + depth * b_row + left * b_column
            if p + depth >= k:
                then, then_top, then_left, _, _ = block_at(
                    min(number + ahead, last), m, n, block_rows, block_columns
                )
                then_a = a_starts[then] + then_top * a_row
                then_b = b_starts[then] + then_left * b_column
            runs = (count + PARTS - 1) // PARTS
            i = top
            while i < bottom:
                rows, group_at = min(ROWS, bottom - i), 0
                next_row, a_step = i + ROWS, LINE
                if i < in_place:
                    rows = ROWS if rows == ROWS else SHORT
                else:
                    group_at = (i - in_place) % GROUP
                    next_row, a_step = i - group_at + GROUP, a_column
                    if group_at == 0:
                        pack_rows(
                            a, a_at + i * a_row, a_row, a_column, min(GROUP, bottom - i), count,
                            m - i, packed, rows_at,
                        )  # fmt: skip
                next_a = a_at + next_row * a_row if next_row < bottom else then_a
                next_b, b_step, b_second = prefetch_of_panel(
                    (i - top) // ROWS, runs, b_row, b_column
                )
                a_step, b_step, b_second = 4 * a_step, 4 * b_step, 4 * b_second
                for panel in range(panels):
                    j = left + panel * PAIR
                    columns, to = min(PAIR, right - j), (matrix * m + i) * c_row + j
                    panel_at = panels_at + (j - left) * count
                    if i < in_place:
                        line, a_second = prefetch_of_rows(panel, panels, a_row)
                    else:
                        tile_number = group_at // ROWS * panels + panel
                        line, a_second = prefetch_of_group(tile_number, runs, a_column)
                    soon_a, a_second = a.ctypes.data + 4 * (next_a + line), 4 * a_second
                    soon_b = b.ctypes.data + 4 * (then_b + next_b + panel * PAIR * b_column)
                    if i < in_place and columns == PAIR and rows == ROWS:
                        tile(
                            a, a_at + i * a_row, a_row, packed, panel_at, count, c, to, c_row,
                            begin, add, soon_a, a_step, a_second, soon_b, b_step, b_second,
                        )  # fmt: skip
                    elif i < in_place and columns == PAIR:
                        short_tile(
                            a, a_at + i * a_row, a_row, packed, panel_at, count, c, to, c_row,
                            begin, add, soon_a, a_step, a_second, soon_b, b_step, b_second,
                        )  # fmt: skip
                    elif i < in_place:
                        corner_of(
                            a, a_at + i * a_row, a_row, False, packed, panel_at, count,
                            c, to, c_row, begin, add, rows, columns, corner,
                        )  # fmt: skip
                    elif columns == PAIR and rows == ROWS:
                        packed_tile(
                            packed, rows_at + group_at * count, 1, packed, panel_at, count,
                            c, to, c_row, begin, add,
                            soon_a, a_step, a_second, soon_b, b_step, b_second,
                        )  # fmt: skip
                    else:
                        corner_of(
                            packed, rows_at + group_at * count, 1, True, packed, panel_at, count,
                            c, to, c_row, begin, add, rows, columns, corner,
                        )  # fmt: skip
                    if bias.size > 0 and p + count == k:
                        if upright:
                            add_to_columns(bias, i, rows, c, to, c_row, columns)
                        else:
                            add_to_rows(bias, j, columns, c, to, c_row, rows)
                    if relu and p + count == k:
                        apply_relu(c, to, c_row, rows, columns)
                i += rows
