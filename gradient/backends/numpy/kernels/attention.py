"""Scaled dot-product attention and its gradient, one key head at a time.

Scores are computed in blocks of rows that stay in the cache, as in FlashAttention (Dao et al.
2022), but with whole rows: on a CPU, a block of rows against all columns is small enough. So the
softmax needs no correction between tiles. Operands are first copied to contiguous scratch memory,
so they may have any layout, for example heads of a packed projection.
"""

import math

import numpy as np
from numba import types
from numba.extending import overload

from gradient.backends.numpy.kernels.cache_lines import cache_lines
from gradient.backends.numpy.kernels.compilation import (
    STRICT,
    ordered_subroutine,
    strict_kernel,
    subroutine,
)
from gradient.backends.numpy.kernels.functions import F4, tanh
from gradient.backends.numpy.kernels.stored import transpose
from gradient.backends.numpy.kernels.tiles import product
from gradient.backends.numpy.kernels.vector_functions import (
    exp_of_nonpositive,
    largest_element,
    sum_of_elements,
)
from gradient.backends.numpy.kernels.vector_operators import maximum
from gradient.backends.numpy.kernels.vectors import (
    add_product,
    fill,
    lanes,
    load,
    load_some,
    store,
    store_some,
)

ROWS = 32
"""Query rows of a block."""

# Every matrix is a flat array with a row length; rows are padded to whole vectors.


@subroutine
def padded(n, array):
    """n rounded up to whole vectors of the array."""
    width = lanes(array)
    return (n + width - 1) // width * width


@subroutine
def padded_to_pairs(n, array):
    """n rounded up to whole pairs of the array's vectors."""
    pair = 2 * lanes(array)
    return (n + pair - 1) // pair * pair


@subroutine
def long_row(n, array):
    """A row length for n elements that are also read along columns.

    It is not a power of two: elements that far apart compete for the same few cache lines.
    """
    return padded_to_pairs(n, array) + 2 * lanes(array)


@ordered_subroutine
def copy_rows(x, scale, out, out_row):
    """scale * x (n, d), its rows padded with zeros."""
    width, row, d = lanes(out), x.strides[0] // x.itemsize, x.shape[1]
    whole, factor = d // width * width, fill(scale)
    for i in range(x.shape[0]):
        at, to = i * row, i * out_row
        for j in range(0, whole, width):
            store(out, to + j, load(x, at + j) * factor)
        if whole < d:
            store(out, to + whole, load_some(x, at + whole, d - whole) * factor)


@subroutine
def copy_columns(x, out, out_row):
    """The transpose of x (n, d), its rows padded with zeros."""
    n, d = x.shape
    width, row = lanes(out), x.strides[0] // x.itemsize
    square_rows, square_columns = n // width * width, d // width * width
    for i in range(0, square_rows, width):
        for j in range(0, square_columns, width):
            transpose(x, i * row + j, row, out, j * out_row + i, out_row)
    for i in range(n):
        for j in range(square_columns if i < square_rows else 0, d):
            out[j * out_row + i] = x[i, j]
    for j in range(d):
        out[j * out_row + n : (j + 1) * out_row] = 0


@ordered_subroutine
def write_rows(x, x_row, scale, out):
    """out (n, d) = the first d elements of each row of x, times the row's number in `scale`."""
    width, row, d = lanes(x), out.strides[0] // out.itemsize, out.shape[1]
    whole = d // width * width
    for i in range(out.shape[0]):
        at, to, factor = i * x_row, i * row, fill(scale[i])
        for j in range(0, whole, width):
            store(out, to + j, load(x, at + j) * factor)
        if whole < d:
            store_some(out, to + whole, load(x, at + whole) * factor, d - whole)


@ordered_subroutine
def inner(x, at, y):
    """The inner product of y and x[at:]; the padding of vectors is zeros."""
    width, total = lanes(x), fill(x.dtype.type(0))
    for i in range(0, y.size, width):
        total = add_product(total, load(x, at + i), load_some(y, i, y.size - i))
    return sum_of_elements(total)


@ordered_subroutine
def put_outside(x, at, n, first, last, number):
    """x[at : at + n] = number, except elements `first` to `last` (exclusive)."""
    width, vector = lanes(x), fill(number)
    i = 0
    while i < first:
        store_some(x, at + i, vector, first - i)
        i += width
    i = last
    while i < n:
        store_some(x, at + i, vector, n - i)
        i += width


@ordered_subroutine
def exponentials(p, at, n):
    """Replace n scores, whole pairs of vectors, by e^(score - high); return `high` and the sum."""
    width, zero = lanes(p), p.dtype.type(0)
    one = load(p, at)
    two = load(p, at + width)
    for i in range(at + 2 * width, at + n, 2 * width):
        one, two = maximum(load(p, i), one), maximum(load(p, i + width), two)
    high = largest_element(maximum(one, two))
    if high == -np.inf:
        high = zero
    shift = fill(high)
    one, two = fill(zero), fill(zero)
    for i in range(at, at + n, 2 * width):
        x = exp_of_nonpositive(load(p, i) - shift)
        y = exp_of_nonpositive(load(p, i + width) - shift)
        store(p, i, x)
        store(p, i + width, y)
        one, two = one + x, two + y
    return high, sum_of_elements(one + two)


@ordered_subroutine
def slopes(p, gp, at, n, high, log_sum, delta):
    """p = e^(score - high - log_sum) of n scores, whole vectors; gp = p (gp - delta)."""
    width, shift, log, less = lanes(p), fill(high), fill(log_sum), fill(delta)
    for i in range(at, at + n, width):
        x = exp_of_nonpositive((load(p, i) - shift) - log)
        store(p, i, x)
        store(gp, i, x * (load(gp, i) - less))


@subroutine
def first_column(seen, columns, array):
    """The first of the columns that a block reads which sees those from `seen`: in vector pairs."""
    pair = 2 * lanes(array)
    return min(max(seen, 0), columns) // pair * pair


# A mask has bools, which say whether a score counts, or numbers to add to scores.


def masked(score: float, number: float) -> float:
    """The score with the mask's number applied."""
    raise NotImplementedError("kernels only")


@overload(masked, jit_options=STRICT)
def _masked(score, number):
    if number != types.boolean:
        return lambda score, number: score + number
    if score == types.float32:
        return lambda score, number: score if number else F4(-np.inf)
    return lambda score, number: score if number else -np.inf


def kept(value: float, number: float) -> float:
    """A value computed from a masked score; 0 if a bool hides the score."""
    raise NotImplementedError("kernels only")


@overload(kept, jit_options=STRICT)
def _kept(value, number):
    if number != types.boolean:
        return lambda value, number: value
    if value == types.float32:
        return lambda value, number: value if number else F4(0)
    return lambda value, number: value if number else 0.0


def hides(number: float) -> bool:
    """Whether a mask's number hides its score, whatever that is."""
    raise NotImplementedError("kernels only")


@overload(hides, jit_options=STRICT)
def _hides(number):
    if number == types.boolean:
        return lambda number: not number
    return lambda number: number == -np.inf


@subroutine
def seen_columns(mask, first, rows, columns):
    """The columns that some row of a block sees, from the first to behind the last: (0, 0) if none.

    mask (T, S) hides some from each row; of no size, there is none, and they see all.
    """
    if mask.size == 0:
        return 0, columns
    low, high = columns, 0
    for row in range(first, first + rows):
        at = 0
        while at < low and hides(mask[row, at]):
            at += 1
        low = min(low, at)
        at = columns
        while at > high and hides(mask[row, at - 1]):
            at -= 1
        high = max(high, at)
    return min(low, high), high


# Absent options are a window larger than any row, a softcap of 0, and empty masks (M, T, S). Head h
# of batch b has mask b * mask_batch + h * mask_head. There are no masks with is_causal and its
# window, and no additive masks with a softcap.


@strict_kernel
def attention(
    start, stop, q, k, v, scale, is_causal, window, softcap, masks, mask_batch, mask_head,
    out, high, log_sum,
):  # fmt: skip
    """The key heads start to stop of all B * Hk; high and log_sum (B, H, T)."""
    heads, s, d = k.shape[1], k.shape[2], k.shape[3]
    t, e = q.shape[2], v.shape[3]
    groups = q.shape[1] // heads
    dtype = high.dtype
    one, hidden = dtype.type(1), dtype.type(-np.inf)
    s_row, d_row, e_row = long_row(s, high), padded(d, high), padded(e, high)
    k_columns, v_rows = cache_lines(high, d * s_row), cache_lines(high, s * e_row)
    q_rows, o_rows = cache_lines(high, ROWS * d_row), cache_lines(high, ROWS * e_row)
    p, factors = cache_lines(high, ROWS * s_row), np.empty(ROWS, dtype)
    q_rows[:] = 0
    for unit in range(start, stop):
        batch, head = unit // heads, unit % heads
        copy_columns(k[batch, head], k_columns, s_row)
        copy_rows(v[batch, head], one, v_rows, e_row)
        for h in range(head * groups, (head + 1) * groups):
            mask = masks[batch * mask_batch + h * mask_head]
            for first in range(0, t, ROWS):
                rows = min(ROWS, t - first)
                m = (rows + 3) // 4 * 4
                seen, last_column = seen_columns(mask, first, rows, s)
                if is_causal:
                    seen, last_column = first - window + 1, min(s, first + rows)
                begin = first_column(seen, last_column, p)
                columns = last_column - begin
                wide = padded_to_pairs(columns, p)
                copy_rows(q[batch, h, first : first + rows], scale, q_rows, d_row)
                product(q_rows, d_row, 1, k_columns[begin:], s_row, p, s_row, m, d, wide, False)
                for r in range(rows):
                    stop_at = min(first + r + 1 - begin, columns) if is_causal else columns
                    start_at = min(max(first + r + 1 - begin - window, 0), stop_at)
                    row = p[r * s_row : r * s_row + columns]
                    if softcap > 0:
                        for i in range(columns):
                            row[i] = softcap * tanh(row[i] / softcap)
                    if mask.size > 0:
                        visible = mask[first + r, begin:last_column]
                        for i in range(columns):
                            row[i] = masked(row[i], visible[i])
                    put_outside(p, r * s_row, wide, start_at, stop_at, hidden)
                    shift, total = exponentials(p, r * s_row, wide)
                    high[batch, h, first + r] = shift if total != 0 else dtype.type(0)
                    log_sum[batch, h, first + r] = math.log(total) if total != 0 else np.inf
                    factors[r] = one / total if total != 0 else one
                product(p, s_row, 1, v_rows[begin * e_row :], e_row, o_rows, e_row,
                        m, columns, e_row, False)  # fmt: skip
                write_rows(o_rows, e_row, factors, out[batch, h, first : first + rows])


@strict_kernel
def attention_grad(
    start, stop, g, q, k, v, out, high, log_sum, scale, is_causal, window, softcap,
    masks, mask_batch, mask_head, gq, gk, gv,
):  # fmt: skip
    """The key heads start to stop of all B * Hk; high and log_sum (B, H, T)."""
    heads, s, d = k.shape[1], k.shape[2], k.shape[3]
    t, e = q.shape[2], v.shape[3]
    groups = q.shape[1] // heads
    dtype = high.dtype
    one, nothing = dtype.type(1), dtype.type(0)
    s_row, d_row, e_row = long_row(s, high), padded(d, high), padded(e, high)
    s4 = (s + 3) // 4 * 4
    k_columns, k_rows = cache_lines(high, d * s_row), cache_lines(high, s * d_row)
    v_columns = cache_lines(high, e * s_row)
    q_rows, g_rows = cache_lines(high, ROWS * d_row), cache_lines(high, ROWS * e_row)
    p, gp = cache_lines(high, ROWS * s_row), cache_lines(high, ROWS * s_row)
    gq_rows, bend = cache_lines(high, ROWS * d_row), np.empty(s, dtype)
    gk_rows, gv_rows = cache_lines(high, s4 * d_row), cache_lines(high, s4 * e_row)
    scales, ones = np.full(ROWS, scale, dtype), np.full(s, one, dtype)
    q_rows[:] = 0
    g_rows[:] = 0
    for unit in range(start, stop):
        batch, head = unit // heads, unit % heads
        copy_columns(k[batch, head], k_columns, s_row)
        copy_columns(v[batch, head], v_columns, s_row)
        copy_rows(k[batch, head], one, k_rows, d_row)
        gk_rows[:] = 0
        gv_rows[:] = 0
        for h in range(head * groups, (head + 1) * groups):
            mask = masks[batch * mask_batch + h * mask_head]
            for first in range(0, t, ROWS):
                rows = min(ROWS, t - first)
                last = first + rows
                m = (rows + 3) // 4 * 4
                seen, last_column = seen_columns(mask, first, rows, s)
                if is_causal:
                    seen, last_column = first - window + 1, min(s, last)
                begin = first_column(seen, last_column, p)
                columns = last_column - begin
                c4 = (columns + 3) // 4 * 4  # of p and gp, whose columns are taken by fours
                wide = max(padded(columns, p), c4)
                copy_rows(q[batch, h, first:last], scale, q_rows, d_row)
                copy_rows(g[batch, h, first:last], one, g_rows, e_row)
                product(q_rows, d_row, 1, k_columns[begin:], s_row, p, s_row, m, d, wide, False)
                product(g_rows, e_row, 1, v_columns[begin:], s_row, gp, s_row, m, e, wide, False)
                for r in range(rows):
                    stop_at = min(first + r + 1 - begin, columns) if is_causal else columns
                    start_at = min(max(first + r + 1 - begin - window, 0), stop_at)
                    delta = inner(g_rows, r * e_row, out[batch, h, first + r])
                    shift, log = high[batch, h, first + r], log_sum[batch, h, first + r]
                    probability = p[r * s_row : r * s_row + columns]
                    slope = gp[r * s_row : r * s_row + columns]
                    if softcap > 0:
                        for i in range(columns):
                            capped = tanh(probability[i] / softcap)
                            probability[i] = softcap * capped
                            bend[i] = one - capped * capped
                    if mask.size > 0:
                        added = mask[first + r, begin:last_column]
                        for i in range(columns):
                            probability[i] = masked(probability[i], added[i])
                    slopes(p, gp, r * s_row, wide, shift, log, delta)
                    if softcap > 0:
                        for i in range(columns):
                            slope[i] *= bend[i]
                    if mask.size > 0:
                        visible = mask[first + r, begin:last_column]
                        for i in range(columns):
                            probability[i] = kept(probability[i], visible[i])
                            slope[i] = kept(slope[i], visible[i])
                    put_outside(p, r * s_row, wide, start_at, stop_at, nothing)
                    put_outside(gp, r * s_row, wide, start_at, stop_at, nothing)
                product(p, 1, s_row, g_rows, e_row, gv_rows[begin * e_row :], e_row,
                        c4, rows, e_row, True)  # fmt: skip
                product(gp, 1, s_row, q_rows, d_row, gk_rows[begin * d_row :], d_row,
                        c4, rows, d_row, True)  # fmt: skip
                product(gp, s_row, 1, k_rows[begin * d_row :], d_row, gq_rows, d_row,
                        m, columns, d_row, False)  # fmt: skip
                write_rows(gq_rows, d_row, scales, gq[batch, h, first:last])
        write_rows(gk_rows, d_row, ones, gk[batch, head])
        write_rows(gv_rows, e_row, ones, gv[batch, head])
