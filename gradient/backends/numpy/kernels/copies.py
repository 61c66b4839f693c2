"""Copies of runs of elements between arrays of other strides."""

from __future__ import annotations

from gradient.backends.numpy.kernels.compilation import strict_kernel


@strict_kernel
def copy_runs(start, stop, x, x0, x1, x2, y, y0, y1, y2, n1, n2, n):
    """Runs of n elements, the runs start to stop of those along three axes (the last two of n1 and
    n2 runs), from the flat x to the flat y, with the strides of each along these axes."""
    for run in range(start, stop):
        rest, k = run // n2, run % n2
        i, j = rest // n1, rest % n1
        at, to = i * x0 + j * x1 + k * x2, i * y0 + j * y1 + k * y2
        source, place = x[at : at + n], y[to : to + n]
        for m in range(n):
            place[m] = source[m]
