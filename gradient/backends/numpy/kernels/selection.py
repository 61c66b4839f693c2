"""The k largest of a row, in one pass."""

import math

from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.half_precision import get

BLOCK = 16
"""Elements that are compared, together, with the least of the best so far."""


@ordered_kernel
def topk(start, stop, x, best, places):
    """places (rows, k) get the indices of the k largest of the rows start to stop of x, best first,
    of equal ones the earlier first; NaN is larger than any number. best (rows, k), in what x is
    computed in, gets their values. x is as `half_precision.stored`.

    Blocks are taken in an order that looks random: in a row that rises, each would be the best.
    """
    k = places.shape[1]
    blocks = (x.shape[1] + BLOCK - 1) // BLOCK
    stride = blocks * 5 // 8 + 1
    while math.gcd(stride, blocks) != 1:
        stride += 1
    for r in range(start, stop):
        row, values, indices = x[r], best[r], places[r]
        count = block = 0  # of the best so far, which are in order
        for _ in range(blocks):
            first = block * BLOCK
            some = row[first : min(first + BLOCK, row.size)]
            block = (block + stride) % blocks
            if count == k and _all_below(some, values[k - 1]):
                continue
            for i in range(some.size):
                value, index = get(some, i), first + i
                if count < k:
                    count += 1
                elif value < values[k - 1] or not _better(  # most are below: no call for these
                    value, index, values[k - 1], indices[k - 1]
                ):
                    continue
                at = count - 1
                while at > 0 and (
                    value > values[at - 1] or _better(value, index, values[at - 1], indices[at - 1])
                ):
                    values[at], indices[at] = values[at - 1], indices[at - 1]
                    at -= 1
                values[at], indices[at] = value, index


@ordered_kernel
def two_best(start, stop, x, best, places):
    """As `topk` for k = 2, of short rows: the two are chosen without a branch to foretell."""
    for r in range(start, stop):
        row = x[r]
        first, second, at, after = get(row, 0), get(row, 1), 0, 1
        if _exceeds(second, first):
            first, second, at, after = second, first, 1, 0
        for i in range(2, row.size):
            value = get(row, i)
            leads, follows = _exceeds(value, first), _exceeds(value, second)
            second = first if leads else value if follows else second
            after = at if leads else i if follows else after
            first, at = value if leads else first, i if leads else at
        best[r, 0], best[r, 1] = first, second
        places[r, 0], places[r, 1] = at, after


@ordered_subroutine
def _exceeds(value, other):
    """Whether a value comes before another one that was before it: NaN is the largest."""
    return (not value <= other) & (other == other)


@ordered_subroutine
def _all_below(x, limit):
    """Whether all elements are numbers below the limit."""
    others = 0
    for i in range(x.size):
        others |= not get(x, i) < limit
    return others == 0


@ordered_subroutine
def _better(value, index, other, place):
    """Whether a value at an index comes before another at its place."""
    if value < other:
        return False
    if value > other:
        return True
    if value == other or (math.isnan(value) and math.isnan(other)):
        return index < place
    return math.isnan(value)
