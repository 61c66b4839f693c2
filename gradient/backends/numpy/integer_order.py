"""The order of integers: each is packed with its place into 64 bits, which NumPy sorts without
places, by vectors, in a tenth of its time for a stable argsort."""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy import kernels, threads

LONG = 1 << 16
"""Numbers of one row from which threads sort parts of it."""

PART = 1 << 14
"""Numbers that a thread packs or unpacks at a time."""

DIGITS = 16
"""Leading digits, each of which has a part of the row of its own."""

GROUP = 1
"""Leading digits whose numbers a thread sorts at a time."""

FEW = 1000
"""Ties of what is left of the numbers that are settled one by one."""


def order_of_integers(rows: np.ndarray) -> np.ndarray | None:
    """int64 indices that sort integers (..., n) along the last axis, equal ones in their order;
    None if NumPy should."""
    n = rows.shape[-1]
    least, most = int(rows.min()), int(rows.max())
    bits, width = max(1, (n - 1).bit_length()), max(1, (most - least).bit_length())
    if rows.size == n >= LONG and kernels.available():
        found = _order_of_long(rows.reshape(-1), least, bits, width)
        return None if found is None else found.reshape(rows.shape)
    if width + bits > 64:
        return None
    out = np.empty(rows.shape, np.int64)
    keys, given = out.view(np.uint64).reshape(-1, n), rows.reshape(-1, n)
    place, lowest, by = np.arange(n, dtype=np.uint64), _word(least), np.uint64(bits)
    step = max(1, PART // n)

    def sort(part: int) -> None:
        at = slice(part * step, (part + 1) * step)
        some = _words(given[at]) - lowest
        some <<= by
        some |= place
        some.sort(-1)
        np.bitwise_and(some, np.uint64((1 << bits) - 1), out=keys[at])

    threads.run(-(-len(keys) // step), sort)
    return out


def _order_of_long(row: np.ndarray, least: int, bits: int, width: int) -> np.ndarray | None:
    """As `order_of_integers`, of one row: first by leading digits, then threads sort those that
    have the same one. Of wide numbers the last bits are dropped; ties are rare if these are random.
    """
    family, n = kernels.load("sorting"), row.size
    dropped, shift = max(0, width + bits - 64), np.uint64(max(0, width - 4))
    words = kernels.contiguous(_words(row))
    parts, lowest, by = -(-n // PART), _word(least), np.uint64(bits)
    counts = np.empty((parts, DIGITS), np.int64)
    threads.parallel_for(family.count_leading, parts, 1, words, PART, lowest, shift, counts)
    totals = counts.sum(0)
    ends = totals.cumsum()
    begins = counts.cumsum(0) - counts + (ends - totals)
    keys = np.empty(n, np.uint64)
    threads.parallel_for(
        *(family.pack_places, parts, 1, words, PART, lowest, shift),
        *(np.uint64(dropped), by, begins, keys),
    )
    edges = [0, *ends.tolist()]

    def sort(group: int) -> None:
        for digit in range(group * GROUP, (group + 1) * GROUP):
            keys[edges[digit] : edges[digit + 1]].sort()

    threads.run(DIGITS // GROUP, sort)
    places, tied = np.empty(n, np.int64), np.zeros(1, np.int64)
    threads.parallel_for(family.unpack_places, n, PART, keys, by, places, tied)
    return _settled(row, places, keys >> by) if dropped and tied[0] else places


def _settled(row: np.ndarray, places: np.ndarray, keys: np.ndarray) -> np.ndarray | None:
    """The places with those of equal keys in the order of the whole numbers; None if many are."""
    same = np.flatnonzero(keys[1:] == keys[:-1])
    if same.size > FEW:
        return None
    runs = np.split(same, np.flatnonzero(np.diff(same) > 1) + 1)
    for run in runs:
        at = slice(run[0], run[-1] + 2)
        some = np.sort(places[at])
        places[at] = some[np.argsort(row[some], kind="stable")]
    return places


def _words(x: np.ndarray) -> np.ndarray:
    """Integers as uint64, which wrap below zero."""
    return x.view(np.uint64) if x.itemsize == 8 else x.astype(np.int64).view(np.uint64)


def _word(number: int) -> np.uint64:
    return np.uint64(number % 2**64)
