"""Attention over the slots of a key-value cache, read in place in their stored form.

Keys are processed in blocks of BLOCK positions that start at multiples of BLOCK, for any length of
rows. Within a block, sums run in the order of positions, and blocks are merged in order, as in
FlashAttention (Dao et al. 2022, algorithm 1). So a query's output depends only on its position and
the slots that it sees, not on other queries computed with it, nor on the number of passes.

With many queries, a thread computes some queries over all their blocks. With few, the blocks are
distributed over the threads and merged at the end (Flash-Decoding: Dao et al. 2023). Keys and
values are read once for all query heads of a key head.
"""

import numpy as np

from gradient.backends.numpy.kernels.attention import padded_to_pairs
from gradient.backends.numpy.kernels.cache_slots import (
    BLOCK,
    find_vectors,
    first_block,
    read_vectors,
)
from gradient.backends.numpy.kernels.cache_tiles import (
    ROWS,
    SCORES,
    queries_by_column,
    turn_keys,
    weighted_1,
    weighted_2,
    weighted_8,
)
from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.functions import exp, tanh
from gradient.backends.numpy.kernels.stored import FLOAT16
from gradient.backends.numpy.kernels.tiles import tile_1, tile_2, tile_8
from gradient.backends.numpy.kernels.vector_functions import (
    exp_of_nonpositive,
    largest_element,
    sum_of_elements,
)
from gradient.backends.numpy.kernels.vector_operators import maximum
from gradient.backends.numpy.kernels.vectors import add_product, fill, lanes, load, store

# Arguments that kernels share:
#   q, out          (B, T, H, D) and (B, T, H, E), flat
#   positions       (B, T), rising; query t of row b sees those up to its own, `window` at most
#   sizes           (B, T, H, Hk, D, E)
#   k_..., v_...    how vectors are stored: their kind, the floats or codes, and of codes the
#                   scales, minimums, and how many share one; and in which form they are multiplied:
#                   as they are stored, where they are floats and their length a multiple of two
#                   vectors, else float32, as what they are read into
#   table, place    where: see `row_of`
# Of one key head, query rows have the number t * G + g, G query heads a key head.


@ordered_subroutine
def softmax_rows(p, rows, seen, softcap, high, sums):
    """Replace scores by e^(score - high), or 0 outside the columns that a row sees; store the sums.

    A row with NaN or inf among its scores has the sum NaN; a row that sees nothing has 0.
    """
    width, one = lanes(p), p.dtype.type(1)
    for r in range(rows):
        first = r * SCORES
        row = p[first : first + BLOCK]
        if softcap > 0:
            for i in range(BLOCK):
                row[i] = softcap * tanh(row[i] / softcap)
        for i in range(seen[r, 0]):
            row[i] = -np.inf
        for i in range(seen[r, 1], BLOCK):
            row[i] = -np.inf
        largest = load(p, first)
        for i in range(first + width, first + BLOCK, width):
            largest = maximum(largest, load(p, i))
        shift = largest_element(largest)
        if shift == -np.inf:
            shift = p.dtype.type(0)
        minus_shift, total = fill(-shift), fill(p.dtype.type(0))
        for i in range(first, first + BLOCK, width):
            x = exp_of_nonpositive(add_product(minus_shift, one, load(p, i)))
            total = add_product(total, one, x)
            store(p, i, x)
        high[r], sums[r] = shift, sum_of_elements(total)


@ordered_subroutine
def seen_positions(begin, positions, batch, first_row, rows, groups, window, starts, seen):
    """Which positions of the block from `begin` some row sees, from the first to behind the last,
    as counted from there; and which each does, in seen (rows, 2)."""
    low, stop = BLOCK, 0
    for r in range(rows):
        position = positions[batch, (first_row + r) // groups]
        first = max(position - window + 1, 0)
        if starts.size:
            first = max(first, starts[batch])
        seen[r, 0] = min(max(first - begin, 0), BLOCK)
        seen[r, 1] = max(min(position + 1 - begin, BLOCK), seen[r, 0])
        if seen[r, 0] < seen[r, 1]:
            low, stop = min(low, seen[r, 0]), max(stop, seen[r, 1])
    return low, stop


@ordered_subroutine
def merge(
    high, sums, o, first, rows, more_high, more_sums, more, more_first, more_row, n, kept, added
):
    """Merge the rows' results of a later block, n numbers each, with those of the blocks before.

    The rows are those from `first` on, n apart in o, and those from `more_first` on, `more_row`
    apart in `more`. kept and added are scratch for `rows` numbers.
    """
    zero = o.dtype.type(0)
    for r in range(rows):
        old_sum, new_sum = sums[first + r], more_sums[more_first + r]
        old, new = high[first + r], more_high[more_first + r]
        old = old if old_sum != 0 else new  # `high` is arbitrary for rows that saw nothing
        new = new if new_sum != 0 else old
        largest = max(old, new)
        kept[r] = exp(old - largest) if old_sum != 0 else zero
        added[r] = exp(new - largest) if new_sum != 0 else zero
        high[first + r] = largest
        sums[first + r] = old_sum * kept[r] + new_sum * added[r]
    width, nothing = lanes(o), fill(zero)
    for r in range(rows):
        at, more_at = (first + r) * n, (more_first + r) * more_row
        if kept[r] == 0 and added[r] != 0:
            for i in range(0, n, width):
                store(o, at + i, load(more, more_at + i))
        elif added[r] != 0:
            for i in range(0, n, width):
                scaled = add_product(nothing, kept[r], load(o, at + i))
                store(o, at + i, add_product(scaled, added[r], load(more, more_at + i)))


@ordered_subroutine
def write_row(o, o_at, total, sizes, batch, head, row, out):
    """Write a row divided by its sum to its place in `out`; 0 if it saw nothing."""
    t, h, e = sizes[1], sizes[2], sizes[5]
    groups = h // sizes[3]
    at = ((batch * t + row // groups) * h + head * groups + row % groups) * e
    for i in range(e):
        out[at + i] = o[o_at + i] / total if total != 0 else o.dtype.type(0)


@ordered_kernel
def attend(
    start, stop, q, positions, sizes, table, place, starts,
    k_form, k_kind, k_data, k_scales, k_lows, k_group,
    v_form, v_kind, v_data, v_scales, v_lows, v_group,
    scale, window, softcap, tile, parts, high, sums, o, out,
):  # fmt: skip
    """The units start to stop of all (B, Hk, tiles of a key head's query rows, parts).

    One part: into out. More, of few query rows in one tile: part i is the block i after the first
    that the row's queries see, and goes to high and sums (units, rows) and o (units, rows, padded
    E), flat, for `join_parts`.
    """
    heads, d, e = sizes[3], sizes[4], sizes[5]
    groups = sizes[2] // heads
    all_rows = sizes[1] * groups
    tiles = (all_rows + tile - 1) // tile
    dtype, width = q.dtype, lanes(q)
    pair = 2 * width
    some = tile if tile <= 2 else ROWS  # go through the keys together, some of them of no use
    held_rows = (tile + some - 1) // some * some
    k_direct = k_kind <= FLOAT16 and d == padded_to_pairs(d, q)
    d_row, e_row = (d + width - 1) // width * width, padded_to_pairs(e, q)
    v_direct = v_kind <= FLOAT16 and e == e_row
    keys = np.empty(d_row * pair, dtype)
    columns, p = np.empty(held_rows * d_row, dtype), np.empty(held_rows * SCORES, dtype)
    for i in range(columns.size):
        columns[i] = 0
    seen, new = np.empty((tile, 2), np.int64), np.empty(held_rows * e_row, dtype)
    new_high, new_sums = np.empty(tile, dtype), np.empty(tile, dtype)
    kept, added = np.empty(tile, dtype), np.empty(tile, dtype)
    k_rows = np.empty(0 if k_direct else BLOCK * d_row, dtype)
    v_rows = np.empty(0 if v_direct else BLOCK * e_row, dtype)
    for i in range(k_rows.size):
        k_rows[i] = 0
    for i in range(v_rows.size):
        v_rows[i] = 0
    k_bytes = k_data if k_direct else k_rows.view(np.uint8)
    v_bytes = v_data if v_direct else v_rows.view(np.uint8)
    places, as_read = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    for i in range(BLOCK):
        as_read[i] = i
    k_places = places if k_direct else as_read
    v_places = places if v_direct else as_read
    if parts == 1:
        high, sums, o = np.empty(tile, dtype), np.empty(tile, dtype), np.empty(tile * e_row, dtype)
    held = -1
    for unit in range(start, stop):
        batch, head = unit // (heads * tiles * parts), unit // (tiles * parts) % heads
        first_row = unit // parts % tiles * tile
        rows = min(tile, all_rows - first_row)
        if unit // parts != held:
            held = unit // parts
            queries_by_column(q, sizes, batch, head, first_row, rows, scale, some, d_row, columns)
        first = first_block(positions[batch, first_row // groups], window, starts, batch)
        last = positions[batch, (first_row + rows - 1) // groups] // BLOCK
        if parts > 1:
            first += unit % parts
            last = min(first, last)
        row = unit * rows if parts > 1 else 0
        for r in range(row, row + rows):
            sums[r] = 0
        for block in range(first, last + 1):
            begin = block * BLOCK
            low, end = seen_positions(
                begin, positions, batch, first_row, rows, groups, window, starts, seen
            )
            if low >= end:
                continue
            # Of whole pairs of vectors of keys, those that are not there are the last again.
            low_pair, count = low // pair * pair, end - low
            if k_direct or v_direct:
                find_vectors(
                    table, place, starts, batch, head, begin + low, begin + end, places[low:]
                )
                for i in range(low_pair, low):
                    places[i] = places[low]
                for i in range(end, BLOCK):
                    places[i] = places[end - 1]
            if not k_direct:
                read_vectors(table, place, starts, batch, head, begin + low, begin + end, k_kind,
                             k_data, k_scales, k_lows, k_group, d, k_rows[low * d_row :],
                             d_row)  # fmt: skip
            if not v_direct:
                read_vectors(table, place, starts, batch, head, begin + low, begin + end, v_kind,
                             v_data, v_scales, v_lows, v_group, e, v_rows[low * e_row :],
                             e_row)  # fmt: skip
            for i in range(low_pair, end, pair):
                for j in range(0, pair, width):
                    turn_keys(k_bytes, k_places, i + j, k_form, d_row, keys, j)
                for r in range(0, rows, some):
                    at, to = r * d_row, r * SCORES + i
                    if some == 1:
                        tile_1(columns, at, 1, 1, keys, 0, pair, d_row, p, to, SCORES, False)
                    elif some == 2:
                        tile_2(columns, at, 1, 2, keys, 0, pair, d_row, p, to, SCORES, False)
                    else:
                        tile_8(columns, at, 1, ROWS, keys, 0, pair, d_row, p, to, SCORES, False)
            softmax_rows(p, rows, seen, softcap, new_high, new_sums)
            for j in range(0, e_row, pair):
                for r in range(0, rows, some):
                    at, to = r * SCORES + low, r * e_row + j
                    if some == 1:
                        weighted_1(p, at, v_bytes, v_places[low:], count, v_form, e_row, j,
                                   new, to, e_row)  # fmt: skip
                    elif some == 2:
                        weighted_2(p, at, v_bytes, v_places[low:], count, v_form, e_row, j,
                                   new, to, e_row)  # fmt: skip
                    else:
                        weighted_8(p, at, v_bytes, v_places[low:], count, v_form, e_row, j,
                                   new, to, e_row)  # fmt: skip
            merge(high, sums, o, row, rows, new_high, new_sums, new, 0, e_row, e_row, kept, added)
        if parts == 1:
            for r in range(rows):
                write_row(o, r * e_row, sums[r], sizes, batch, head, first_row + r, out)


@ordered_kernel
def join_parts(start, stop, sizes, parts, high, sums, o, out):
    """The rows' outputs, of the key heads start to stop of all (B, Hk), from those of the parts.
    The first part's high, sums and o are overwritten."""
    heads, e = sizes[3], sizes[5]
    rows = sizes[1] * (sizes[2] // heads)
    n = padded_to_pairs(e, o)
    kept, added = np.empty(rows, o.dtype), np.empty(rows, o.dtype)
    for unit in range(start, stop):
        first = unit * parts * rows
        for more in range(first + rows, first + parts * rows, rows):
            merge(high, sums, o, first, rows, high, sums, o, more, n, n, kept, added)
        for r in range(rows):
            at = first + r
            write_row(o, at * n, sums[at], sizes, unit // heads, unit % heads, r, out)
