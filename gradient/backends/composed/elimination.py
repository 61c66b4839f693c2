"""Gaussian elimination on the host: LAPACK's getrf, which NumPy does not have."""

from __future__ import annotations

import math

import numpy as np

BLOCK = 32
"""Columns that are eliminated one by one, before the others get what they do as one product."""


def eliminate(x: np.ndarray, pivot: bool) -> tuple[np.ndarray, np.ndarray]:
    """(LU, pivots) of matrices x (..., M, N), by columns (Golub and Van Loan, "Matrix
    Computations", section 3.4.1; in blocks, section 3.2.11).

    LU is L below the diagonal, whose own diagonal is 1, and U from it on: of x if not `pivot`,
    else of x whose row k was, for k from 0, exchanged for row pivots[k], that of the largest number
    of column k. A column that is 0 from its diagonal on stays as it is.
    """
    *batch, m, n = x.shape
    count = min(m, n)
    a = np.array(x, order="C").reshape(math.prod(batch), m, n)
    pivots = np.broadcast_to(np.arange(count), (len(a), count)).copy()
    every = np.arange(len(a))
    with np.errstate(all="ignore"):
        for start in range(0, count, BLOCK):
            stop = min(start + BLOCK, count)
            for k in range(start, stop):
                if pivot:
                    chosen = k + np.abs(a[:, k:, k]).argmax(1)
                    pivots[:, k] = chosen
                    upper = a[:, k].copy()
                    a[:, k] = a[every, chosen]
                    a[every, chosen] = upper
                below = a[:, k + 1 :, k]
                below[...] = np.where(below == 0, 0, below / a[:, k, k, None])
                a[:, k + 1 :, k + 1 : stop] -= below[:, :, None] * a[:, k, None, k + 1 : stop]
            for k in range(start, stop):
                a[:, k + 1 : stop, stop:] -= a[:, k + 1 : stop, k, None] * a[:, k, None, stop:]
            a[:, stop:, stop:] -= a[:, stop:, start:stop] @ a[:, start:stop, stop:]
    return a.reshape(x.shape), pivots.reshape(*batch, count)
