"""Scaled dot-product attention and its gradient, one key head at a time.

Rows of the scores are made and used in blocks that stay in the cache, as in FlashAttention (Dao et
al. 2022), but whole: a block of rows against all columns is small enough on a CPU, so the softmax
needs no correction from tile to tile. Operands are copied to contiguous scratch first, which also
lets them come in any layout: the heads of a packed projection, say.
"""

import math

import numpy as np
from numba import types
from numba.extending import overload

from gradient.backends.numpy.kernels.compilation import STRICT, kernel, strict_kernel, subroutine
from gradient.backends.numpy.kernels.functions import F4, exp, largest, tanh
from gradient.backends.numpy.kernels.stored import transpose
from gradient.backends.numpy.kernels.tiles import product
from gradient.backends.numpy.kernels.vectors import lanes

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
    """A length for rows of n that are also read down their columns.

    Elements a power of two apart compete for the same few lines of the cache. So it is none.
    """
    return padded_to_pairs(n, array) + 2 * lanes(array)


@subroutine
def copy_rows(x, scale, out, out_row):
    """scale * x (n, d), its rows padded with zeros."""
    for i in range(x.shape[0]):
        row = out[i * out_row : (i + 1) * out_row]
        for j in range(x.shape[1]):
            row[j] = x[i, j] * scale
        row[x.shape[1] :] = 0


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


@subroutine
def write_rows(x, x_row, scale, out):
    """out (n, d) = scale * the first d of each of x's rows."""
    for i in range(out.shape[0]):
        row = x[i * x_row : (i + 1) * x_row]
        for j in range(out.shape[1]):
            out[i, j] = row[j] * scale


@subroutine
def inner(x, y):
    """The inner product."""
    total = x.dtype.type(0)
    for i in range(x.size):
        total += x[i] * y[i]
    return total


@subroutine
def first_column(seen, columns, array):
    """The first of the columns that a block reads which sees those from `seen`: in vector pairs."""
    pair = 2 * lanes(array)
    return min(max(seen, 0), columns) // pair * pair


# A mask's numbers are bools, which say whether a score counts, or numbers to add to it.


def masked(score, number):
    """The score with the mask's number at its place."""
    raise NotImplementedError("kernels only")


@overload(masked, jit_options=STRICT)
def _masked(score, number):
    if number != types.boolean:
        return lambda score, number: score + number
    if score == types.float32:
        return lambda score, number: score if number else F4(-np.inf)
    return lambda score, number: score if number else -np.inf


def kept(value, number):
    """A value made of a masked score, 0 where a bool hides that."""
    raise NotImplementedError("kernels only")


@overload(kept, jit_options=STRICT)
def _kept(value, number):
    if number != types.boolean:
        return lambda value, number: value
    if value == types.float32:
        return lambda value, number: value if number else F4(0)
    return lambda value, number: value if number else 0.0


def hides(number):
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


# Options that a call does without come as a window that no row exceeds, a softcap of 0, and masks
# (M, T, S) of no size. Of masks, head h of batch b has number b * mask_batch + h * mask_head; they
# come without is_causal and its window, those to add without a softcap.


@kernel
def attention(
    start, stop, q, k, v, scale, is_causal, window, softcap, masks, mask_batch, mask_head,
    out, high, log_sum,
):  # fmt: skip
    """The key heads start to stop of all B * Hk; high and log_sum (B, H, T)."""
    heads, s, d = k.shape[1], k.shape[2], k.shape[3]
    t, e = q.shape[2], v.shape[3]
    groups = q.shape[1] // heads
    dtype = high.dtype
    one = dtype.type(1)
    s_row, d_row, e_row = long_row(s, high), padded(d, high), padded(e, high)
    k_columns, v_rows = np.empty(d * s_row, dtype), np.empty(s * e_row, dtype)
    q_rows, o_rows = np.empty(ROWS * d_row, dtype), np.empty(ROWS * e_row, dtype)
    p, reciprocal = np.empty(ROWS * s_row, dtype), np.empty(ROWS, dtype)
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
                copy_rows(q[batch, h, first : first + rows], scale, q_rows, d_row)
                product(q_rows, d_row, 1, k_columns[begin:], s_row, p, s_row,
                        m, d, padded(columns, p), False)  # fmt: skip
                for r in range(rows):
                    row = p[r * s_row : r * s_row + columns]
                    stop_at = min(first + r + 1 - begin, columns) if is_causal else columns
                    start_at = min(max(first + r + 1 - begin - window, 0), stop_at)
                    scores = row[start_at:stop_at]
                    if softcap > 0:
                        for i in range(scores.size):
                            scores[i] = softcap * tanh(scores[i] / softcap)
                    if mask.size > 0:
                        visible = mask[first + r, begin:last_column]
                        for i in range(scores.size):
                            scores[i] = masked(scores[i], visible[i])
                    shift = largest(scores)
                    if shift == -np.inf:
                        shift = scores.dtype.type(0)
                    total = scores.dtype.type(0)
                    for i in range(scores.size):
                        scores[i] = exp(scores[i] - shift)
                        total += scores[i]
                    row[:start_at] = 0
                    row[stop_at:] = 0
                    high[batch, h, first + r] = shift if total != 0 else scores.dtype.type(0)
                    log_sum[batch, h, first + r] = math.log(total) if total != 0 else np.inf
                    reciprocal[r] = one / total if total != 0 else one
                product(p, s_row, 1, v_rows[begin * e_row :], e_row, o_rows, e_row,
                        m, columns, e_row, False)  # fmt: skip
                for r in range(rows):
                    for j in range(e):
                        out[batch, h, first + r, j] = o_rows[r * e_row + j] * reciprocal[r]


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
    one = dtype.type(1)
    s_row, d_row, e_row = long_row(s, high), padded(d, high), padded(e, high)
    s4 = (s + 3) // 4 * 4
    k_columns, k_rows = np.empty(d * s_row, dtype), np.empty(s * d_row, dtype)
    v_columns = np.empty(e * s_row, dtype)
    q_rows, g_rows = np.empty(ROWS * d_row, dtype), np.empty(ROWS * e_row, dtype)
    p, gp = np.empty(ROWS * s_row, dtype), np.empty(ROWS * s_row, dtype)
    gq_rows = np.empty(ROWS * d_row, dtype)
    gk_rows, gv_rows = np.empty(s4 * d_row, dtype), np.empty(s4 * e_row, dtype)
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
                wide = padded(columns, p)
                copy_rows(q[batch, h, first:last], scale, q_rows, d_row)
                copy_rows(g[batch, h, first:last], one, g_rows, e_row)
                product(q_rows, d_row, 1, k_columns[begin:], s_row, p, s_row, m, d, wide, False)
                product(g_rows, e_row, 1, v_columns[begin:], s_row, gp, s_row, m, e, wide, False)
                for r in range(rows):
                    stop_at = min(first + r + 1 - begin, columns) if is_causal else columns
                    start_at = min(max(first + r + 1 - begin - window, 0), stop_at)
                    o = out[batch, h, first + r]
                    delta = inner(g_rows[r * e_row : r * e_row + e], o)
                    shift, log = high[batch, h, first + r], log_sum[batch, h, first + r]
                    p_row = p[r * s_row : r * s_row + wide]
                    gp_row = gp[r * s_row : r * s_row + wide]
                    # Counted from 0, so that LLVM sees no negative index and vectorises.
                    probability, slope = p_row[start_at:stop_at], gp_row[start_at:stop_at]
                    if softcap > 0:
                        for i in range(probability.size):
                            capped = tanh(probability[i] / softcap)
                            probability[i] = exp((softcap * capped - shift) - log)
                            slope[i] = probability[i] * (slope[i] - delta) * (one - capped * capped)
                    else:
                        if mask.size > 0:
                            added = mask[first + r, begin:last_column]
                            for i in range(probability.size):
                                probability[i] = masked(probability[i], added[i])
                        for i in range(probability.size):
                            probability[i] = exp((probability[i] - shift) - log)
                            slope[i] = probability[i] * (slope[i] - delta)
                    if mask.size > 0:
                        visible = mask[first + r, begin:last_column]
                        for i in range(probability.size):
                            probability[i] = kept(probability[i], visible[i])
                            slope[i] = kept(slope[i], visible[i])
                    for row in (p_row, gp_row):
                        row[:start_at] = 0
                        row[stop_at:] = 0
                c4 = (columns + 3) // 4 * 4
                product(p, 1, s_row, g_rows, e_row, gv_rows[begin * e_row :], e_row,
                        c4, rows, e_row, True)  # fmt: skip
                product(gp, 1, s_row, q_rows, d_row, gk_rows[begin * d_row :], d_row,
                        c4, rows, d_row, True)  # fmt: skip
                product(gp, s_row, 1, k_rows[begin * d_row :], d_row, gq_rows, d_row,
                        m, columns, d_row, False)  # fmt: skip
                write_rows(gq_rows, d_row, scale, gq[batch, h, first:last])
        write_rows(gk_rows, d_row, one, gk[batch, head])
        write_rows(gv_rows, e_row, one, gv[batch, head])
