"""Rows of a matrix at integers: looked up, and added at repeated ones."""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels import vector_operators as vector_operators
from gradient.backends.numpy.kernels.compilation import ordered_subroutine, strict_kernel
from gradient.backends.numpy.kernels.vectors import fill, lanes, load, store

SHARES, GROUP = 4, 16
"""Rows are added to in so many shares, each of every fourth group of neighbours: so the sums have
one order, what is added is read in whole rows, and each share has some of the first, which are the
frequent tokens of a vocabulary. Of single rows two threads would be in each other's way: a
processor fetches the lines beside those that are read."""

COLUMNS = 512
"""Columns of a share that a thread takes at a time."""


@strict_kernel
def take_rows(start, stop, table, rows, width, index, wrong, out):
    """out (n, width) = the rows of a table (rows, width) at the integers index[start:stop]; where
    one is none from 0 to rows - 1, a 1 in `wrong` (1,). Table and out are flat."""
    step = lanes(table)
    for r in range(start, stop):
        if not 0 <= index[r] < rows:
            wrong[0] = 1
            continue
        at, to = index[r] * width, r * width
        if width < step:
            for m in range(width):
                out[to + m] = table[at + m]
            continue
        for m in range(0, width - step, step):
            store(out, to + m, load(table, at + m))
        store(out, to + width - step, load(table, at + width - step))  # some of it again


@strict_kernel
def add_rows(start, stop, x, rows, width, index, value, clears, wrong):
    """x[index[r]] += value[r] for each r in turn, for flat x (rows, width) and value (n, width), in
    the parts start to stop: blocks of COLUMNS of each share of x, which is zeros before if it
    `clears` them. Where an index is none, nothing but a 1 in `wrong` (1,)."""
    if start == stop:
        return
    if not _are_rows(index, rows):
        wrong[0] = 1
        return
    step, nothing = lanes(x), fill(x.dtype.type(0))
    for part in range(start, stop):
        share, first = part % SHARES, part // SHARES * COLUMNS
        last = min(first + COLUMNS, width)
        whole = first + (last - first) // step * step
        if clears:
            for group in range(share * GROUP, rows, SHARES * GROUP):
                for row in range(group, min(group + GROUP, rows)):
                    to = row * width
                    for m in range(first, whole, step):
                        store(x, to + m, nothing)
                    for m in range(whole, last):
                        x[to + m] = 0
        for r in range(index.size):
            row = index[r] if index[r] >= 0 else index[r] + rows
            if row // GROUP % SHARES != share:
                continue
            to, at = row * width, r * width
            for m in range(first, whole, step):
                store(x, to + m, load(x, to + m) + load(value, at + m))
            for m in range(whole, last):
                x[to + m] += value[at + m]


@ordered_subroutine
def _are_rows(index, rows):
    """Whether all of them are numbers from -rows to rows - 1."""
    others = 0
    for r in range(index.size):
        others |= (index[r] < -rows) | (index[r] >= rows)
    return others == 0


@strict_kernel
def put_slices(start, stop, x, size, inner, index, value, adds):
    """x[o, index[j]] = value[o, j] for each j in turn, or += if it `adds`, for the parts start to
    stop of x (outer, size, inner) and value (outer, n, inner), both flat."""
    n = index.size
    for o in range(start, stop):
        part = x[o * size * inner : (o + 1) * size * inner]
        given = value[o * n * inner : (o + 1) * n * inner]
        if inner == 1:
            if adds:
                for j in range(n):
                    part[np.uint64(index[j])] += given[j]
            else:
                for j in range(n):
                    part[np.uint64(index[j])] = given[j]
            continue
        for j in range(n):
            to = part[index[j] * inner : (index[j] + 1) * inner]
            added = given[j * inner : (j + 1) * inner]
            if adds:
                for i in range(inner):
                    to[i] += added[i]
            else:
                for i in range(inner):
                    to[i] = added[i]
