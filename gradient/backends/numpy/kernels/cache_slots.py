"""Find and read the stored vectors of positions in a key-value cache.

Shared arguments of functions:
    table, place    the layout of vectors: see `row_of`
    starts          (B,) each row's first position; empty: 0
    kind, data      the storage of vectors, and the floats or codes; for codes also scales, minimums
                    (lows), and the number of codes that share one (group)
"""

from gradient.backends.numpy.kernels.compilation import ordered_subroutine
from gradient.backends.numpy.kernels.stored import (
    FLOAT16,
    FLOAT32,
    INT8,
    read_float_rows,
    read_int4,
    read_int8,
)

BLOCK = 128
"""Positions of a block: one begins at each of its multiples."""


@ordered_subroutine
def row_of(table, place, batch, head, position):
    """The number of the stored vector of a position, and how many vectors of its page follow.

    place: the positions in a page, its first column, and the strides, in vectors, of pages, heads
    and columns. `position` counts from the row's first. Without a table, row b's page is b.
    """
    size, first, pages, heads, columns = place[0], place[1], place[2], place[3], place[4]
    page, at = position // size, position % size
    page = table[batch, page % table.shape[1]] if table.size else batch
    return page * pages + head * heads + (first + at) * columns, size - at


@ordered_subroutine
def read_vectors(
    table, place, starts, batch, head, first, stop, kind, data, scales, lows, group, n, out, out_row
):
    """out[i * out_row:][:n] = the vector of position first + i, up to `stop`.

    Rows of `out` are whole vectors.
    """
    start = starts[batch] if starts.size else 0
    position = first
    while position < stop:
        vector, run = row_of(table, place, batch, head, position - start)
        run = min(run, stop - position)
        if kind <= FLOAT16:
            size = n * (4 if kind == FLOAT32 else 2)
            to = (position - first) * out_row
            read_float_rows(kind, data, vector * size, place[4] * size, n, run, out, to, out_row)
            position += run
            continue
        for i in range(run):
            at, to = vector + i * place[4], (position - first + i) * out_row
            if kind == INT8:
                read_int8(data, at * n, scales, at * 2 * (n // group), group, n, out, to)
            else:
                at_scale = at * 2 * (n // group)
                read_int4(data, at * (n // 2), scales, lows, at_scale, group, n, out, to)
        position += run


@ordered_subroutine
def find_vectors(table, place, starts, batch, head, first, stop, places):
    """places[i] = the number of the stored vector of position first + i, up to `stop`."""
    start = starts[batch] if starts.size else 0
    position = first
    while position < stop:
        vector, run = row_of(table, place, batch, head, position - start)
        run = min(run, stop - position)
        for i in range(run):
            places[position - first + i] = vector + i * place[4]
        position += run


@ordered_subroutine
def first_block(position, window, starts, batch):
    """The block of the first position that a query sees."""
    first = max(position - window + 1, starts[batch] if starts.size else 0)
    return max(first, 0) // BLOCK
