"""Gather and scatter-add along the middle axis of flat arrays (outer, n, inner)."""

import numpy as np

from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine

COLUMNS = 64
"""Columns that a thread adds to at a time, all rows in their order: so the sums have one order."""

SHORT = 16
"""Indices of a row up to which they are taken one by one."""


@ordered_kernel
def check_indices(start, stop, index, size, wrong):
    """Set `wrong` (1,) to 1 if one of index[start:stop] is not from 0 to size - 1."""
    if _largest(index[start:stop]) >= np.uint64(size):
        wrong[0] = 1


@ordered_subroutine
def _largest(index):
    """The largest of int64 indices as unsigned numbers, so that negative ones are large."""
    largest = np.uint64(0)
    for i in range(index.size):
        largest = max(largest, np.uint64(index[i]))
    return largest


@ordered_kernel
def gather(start, stop, x, n, index, m, inner, wrong, out):
    """out (outer, m, inner) = x[o, index[o, j, i], i], for the elements start to stop. If an index
    is out of range, only set `wrong` (1,) to 1."""
    if start < stop and _largest(index[start:stop]) >= np.uint64(n):
        wrong[0] = 1
        return
    if inner == 1 and m < SHORT:
        j, row = start % m, np.uint64(start // m * n)
        for i in range(start, stop):
            out[i] = x[row + np.uint64(index[i])]
            j += 1
            if j == m:
                j, row = 0, row + np.uint64(n)
        return
    line = m if inner == 1 else inner  # elements that follow each other in both
    first = start
    while first < stop:
        number = first // line
        last = min(stop, (number + 1) * line)
        places, y = index[first:last], out[first:last]
        if inner == 1:
            row = x[number * n :]
            for i in range(y.size):
                y[i] = row[np.uint64(places[i])]  # unsigned: never counted from the end
        else:
            row = x[number // m * n * inner + first % inner :]
            for i in range(y.size):
                y[i] = row[np.uint64(places[i]) * np.uint64(inner) + np.uint64(i)]
        first = last


@ordered_kernel
def put(start, stop, x, n, index, m, inner, value):
    """x[o, index[o, j, i], i] = value (outer, m, inner), in the order of j, for the blocks of
    columns start to stop (of `outer`, where there is one column)."""
    blocks = (inner + COLUMNS - 1) // COLUMNS
    for item in range(start if inner > 1 else stop, stop):
        o, left = item // blocks, item % blocks * COLUMNS
        width = min(COLUMNS, inner - left)
        row = x[o * n * inner + left :]
        for j in range(m):
            at = (o * m + j) * inner + left
            places, v = index[at : at + width], value[at : at + width]
            for i in range(v.size):
                row[np.uint64(places[i]) * np.uint64(inner) + np.uint64(i)] = v[i]
    if inner > 1:
        return
    at = start * m
    for o in range(start, stop):
        row = np.uint64(o * n)
        for _ in range(m):
            x[row + np.uint64(index[at])] = value[at]
            at += 1


@ordered_kernel
def scatter_add(start, stop, x, n, index, m, inner, value):
    """x[o, index[o, j, i], i] += value (outer, m, inner), in the order of j, for the blocks of
    columns start to stop (of `outer`, where there is one column)."""
    if inner == 1 and m < SHORT:
        at = start * m
        for o in range(start, stop):
            row = np.uint64(o * n)
            for _ in range(m):
                x[row + np.uint64(index[at])] += value[at]
                at += 1
        return
    if inner == 1:
        for o in range(start, stop):
            row, places, v = x[o * n :], index[o * m : (o + 1) * m], value[o * m : (o + 1) * m]
            for j in range(v.size):
                row[np.uint64(places[j])] += v[j]
        return
    blocks = (inner + COLUMNS - 1) // COLUMNS
    for item in range(start, stop):
        o, left = item // blocks, item % blocks * COLUMNS
        width = min(COLUMNS, inner - left)
        row = x[o * n * inner + left :]
        for j in range(m):
            at = (o * m + j) * inner + left
            places, v = index[at : at + width], value[at : at + width]
            for i in range(v.size):
                row[np.uint64(places[i]) * np.uint64(inner) + np.uint64(i)] += v[i]


@ordered_kernel
def scatter_product(start, stop, x, n, index, m, inner, value):
    """As `scatter_add`, the product."""
    blocks = (inner + COLUMNS - 1) // COLUMNS
    for item in range(start, stop):
        o, left = item // blocks, item % blocks * COLUMNS
        width = min(COLUMNS, inner - left)
        row = x[o * n * inner + left :]
        for j in range(m):
            at = (o * m + j) * inner + left
            places, v = index[at : at + width], value[at : at + width]
            for i in range(v.size):
                row[np.uint64(places[i]) * np.uint64(inner) + np.uint64(i)] *= v[i]


@ordered_kernel
def scatter_extreme(start, stop, x, n, index, m, inner, value, largest):
    """As `scatter_add`, the largest of all, or the smallest; NaN where there is one."""
    blocks = (inner + COLUMNS - 1) // COLUMNS
    for item in range(start, stop):
        o, left = item // blocks, item % blocks * COLUMNS
        width = min(COLUMNS, inner - left)
        row = x[o * n * inner + left :]
        for j in range(m):
            at = (o * m + j) * inner + left
            places, v = index[at : at + width], value[at : at + width]
            for i in range(v.size):
                place = np.uint64(places[i]) * np.uint64(inner) + np.uint64(i)
                old, new = row[place], v[i]
                stays = old >= new if largest else old <= new
                row[place] = old if stays or old != old else new
