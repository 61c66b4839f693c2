"""Picking and adding along the middle axis of flat arrays (outer, n, inner)."""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.compilation import ordered_kernel


@ordered_kernel
def take(start, stop, x, n, index, m, inner, out):
    """out (outer, m, inner) = x[o, index[o, j, i], i], for o from start to stop."""
    for o in range(start, stop):
        if inner == 1:
            row, places, y = x[o * n :], index[o * m : (o + 1) * m], out[o * m : (o + 1) * m]
            for j in range(y.size):
                y[j] = row[np.uint64(places[j])]  # without a sign: not counted from the end
            continue
        for j in range(m):
            at = (o * m + j) * inner
            for i in range(inner):
                out[at + i] = x[(o * n + index[at + i]) * inner + i]


@ordered_kernel
def add(start, stop, x, n, index, m, inner, value):
    """x[o, index[o, j, i], i] += value (outer, m, inner), for o from start to stop, in order."""
    for o in range(start, stop):
        if inner == 1:
            row, places, v = x[o * n :], index[o * m : (o + 1) * m], value[o * m : (o + 1) * m]
            for j in range(v.size):
                row[np.uint64(places[j])] += v[j]
            continue
        for j in range(m):
            at = (o * m + j) * inner
            for i in range(inner):
                x[(o * n + index[at + i]) * inner + i] += value[at + i]
