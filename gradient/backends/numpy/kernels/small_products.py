"""Float32 products of small matrices: operands are read where they are, without the packing and
prefetching of `kernels.gemm`, which take longer than such a product. Only a matrix `b` whose rows
are not neighbours in memory (a transposed weight) is packed, a panel at a time.

An element has the bits that `gemm.product` gives it.
"""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.gemm import (
    add_to_columns,
    add_to_rows,
    apply_relu,
    block_at,
    part_of,
)
from gradient.backends.numpy.kernels.gemm_tile import PAIR, WIDTH
from gradient.backends.numpy.kernels.small_tiles import height_of, sums_of_rows
from gradient.backends.numpy.kernels.stored import transpose


@ordered_subroutine
def pack_panel(b, at, row, column, count, n, out):
    """`count` rows and n columns of `b` as a panel (count, PAIR), zeros after the last column."""
    if n < PAIR:
        for p in range(count * PAIR):
            out[p] = 0
    whole = 0
    if row == 1:
        whole = count // WIDTH * WIDTH
        for first in range(0, n // WIDTH * WIDTH, WIDTH):
            for p in range(0, whole, WIDTH):
                place = at + first * column + p
                transpose(b, place, column, out, p * PAIR + first, PAIR)
    for j in range(n):
        first = whole if j < n // WIDTH * WIDTH else 0
        for p in range(first, count):
            out[p * PAIR + j] = b[at + p * row + j * column]


@ordered_subroutine
def column_of_tiles(
    a, a_at, a_row, a_column, b, b_at, b_row, columns, count, c, c_at, c_row, begin, add,
    bias, upright, first_row, first_column, rows, relu,
):  # fmt: skip
    """c (rows, columns) = a (rows, count) @ b (count, columns), up to PAIR of them, as `_tile`;
    then bias and relu, if there are (`gemm.product`)."""
    i = 0
    while i < rows:
        height, to = height_of(rows - i), c_at + i * c_row
        sums_of_rows(
            height, a, a_at + i * a_row, a_row, a_column, b, b_at, b_row, columns, count,
            c, to, c_row, begin, add,
        )  # fmt: skip
        if bias.size > 0:
            if upright:
                add_to_columns(bias, first_row + i, height, c, to, c_row, columns)
            else:
                add_to_rows(bias, first_column, columns, c, to, c_row, height)
        if relu:
            apply_relu(c, to, c_row, height, columns)
        i += height


@ordered_kernel
def product(
    start, stop, a, a_starts, a_row, a_column, b, b_starts, b_row, b_column, bias, upright,
    c, c_row, m, n, k, block_rows, block_columns, chained, ahead, relu,
):  # fmt: skip
    """As `gemm.product`, where numbers of a row or of a column of `a` are neighbours."""
    depth = part_of(k)
    in_place = b_column == 1
    panel = np.empty(0 if in_place else min(depth, k) * PAIR, np.float32)
    for number in range(start, stop):
        matrix, top, left, bottom, right = block_at(number, m, n, block_rows, block_columns)
        for p in range(0, k, depth):
            count, begin, add = min(depth, k - p), p > 0 and chained, p > 0 and not chained
            last = p + count == k
            a_at = a_starts[matrix] + top * a_row + p * a_column
            for j in range(left, right, PAIR):
                columns = min(PAIR, right - j)
                b_at, to = (
                    b_starts[matrix] + p * b_row + j * b_column,
                    (matrix * m + top) * c_row + j,
                )
                if in_place:
                    column_of_tiles(
                        a, a_at, a_row, a_column, b, b_at, b_row, columns, count,
                        c, to, c_row, begin, add, bias[: bias.size if last else 0], upright,
                        top, j, bottom - top, relu and last,
                    )  # fmt: skip
                else:
                    pack_panel(b, b_at, b_row, b_column, count, columns, panel)
                    column_of_tiles(
                        a, a_at, a_row, a_column, panel, 0, PAIR, columns, count,
                        c, to, c_row, begin, add, bias[: bias.size if last else 0], upright,
                        top, j, bottom - top, relu and last,
                    )  # fmt: skip
