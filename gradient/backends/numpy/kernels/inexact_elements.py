"""Elements of a float32 product whose numbers `split_products` does not split exactly."""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.bfloat16_tiles import PAIR
from gradient.backends.numpy.kernels.compilation import ordered_subroutine
from gradient.backends.numpy.kernels.vectors import add_product, fill, load, store


@ordered_subroutine
def multiply_vectors(
    a, at, row, column, rows, b, columns, count, inexact_rows, inexact_columns, c
):  # fmt: skip
    """The elements of c (32, 32) that have an inexact number in their row of `a` or column of `b`,
    computed anew, four rows at a time: a row's sums alone would wait for each other. b is as
    `pack_columns` gives it."""
    width, last = PAIR // 2, rows - 1
    lines = np.empty(4 * PAIR, np.float32)
    for top in range(0, rows, 4):
        if not (inexact_columns or inexact_rows >> top & 15):
            continue
        at_0, at_1 = at + top * row, at + min(top + 1, last) * row
        at_2, at_3 = at + min(top + 2, last) * row, at + min(top + 3, last) * row
        left_0 = left_1 = left_2 = left_3 = fill(np.float32(0))
        right_0 = right_1 = right_2 = right_3 = fill(np.float32(0))
        for p in range(count):
            left, right, along = load(b, p * PAIR), load(b, p * PAIR + width), p * column
            left_0 = add_product(left_0, a[at_0 + along], left)
            right_0 = add_product(right_0, a[at_0 + along], right)
            left_1 = add_product(left_1, a[at_1 + along], left)
            right_1 = add_product(right_1, a[at_1 + along], right)
            left_2 = add_product(left_2, a[at_2 + along], left)
            right_2 = add_product(right_2, a[at_2 + along], right)
            left_3 = add_product(left_3, a[at_3 + along], left)
            right_3 = add_product(right_3, a[at_3 + along], right)
        store(lines, 0, left_0)
        store(lines, width, right_0)
        store(lines, PAIR, left_1)
        store(lines, PAIR + width, right_1)
        store(lines, 2 * PAIR, left_2)
        store(lines, 2 * PAIR + width, right_2)
        store(lines, 3 * PAIR, left_3)
        store(lines, 3 * PAIR + width, right_3)
        for r in range(top, min(top + 4, rows)):
            whole = inexact_rows >> r & 1
            for j in range(columns):
                if whole or inexact_columns >> j & 1:
                    c[r * PAIR + j] = lines[(r - top) * PAIR + j]
