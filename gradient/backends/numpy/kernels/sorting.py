"""The order of the numbers of rows, by their digits from the last to the first (radix sort)."""

import numpy as np

from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine

FEW = 40
"""Numbers that are put in order one by one quicker than by digits."""

DIGITS = 4
"""Of the 32 bits of a key, of 8 bits each."""


@ordered_kernel
def argsort(start, stop, bits, places):
    """places (rows, n) = the indices that sort the rows start to stop of float32 numbers, given as
    their bits (rows, n) of uint32: stable, NaN behind infinity. n is below 2^32."""
    n = places.shape[1]
    keys, other = np.empty(n, np.uint64), np.empty(n, np.uint64)
    counts = np.empty((DIGITS, 256), np.int64)
    for r in range(start, stop):
        row = bits[r]
        for i in range(n):
            keys[i] = (np.uint64(_key(row[i])) << np.uint64(32)) | np.uint64(i)
        ordered = keys
        if n <= FEW:
            _insert(keys)
        elif _count(keys, counts) > 0:
            ordered = other if _distribute(keys, other, counts) else keys
        to = places[r]
        for i in range(n):
            to[i] = np.int64(ordered[i] & np.uint64(0xFFFFFFFF))


@ordered_subroutine
def _key(bits):
    """A uint32 for the bits of a float32: in the order of the numbers, the same for both zeros and
    for all NaNs."""
    size = bits & np.uint32(0x7FFFFFFF)
    if size > np.uint32(0x7F800000):
        return np.uint32(0xFFFFFFFF)
    if size == 0:
        return np.uint32(0x80000000)
    return ~bits if bits != size else bits | np.uint32(0x80000000)


@ordered_subroutine
def _insert(keys):
    for i in range(1, keys.size):
        key, at = keys[i], i
        while at > 0 and keys[at - 1] > key:
            keys[at] = keys[at - 1]
            at -= 1
        keys[at] = key


@ordered_subroutine
def _count(keys, counts):
    """counts (4, 256) = how many keys have each digit, from the last one on. The result is whether
    some key is below the one before it."""
    counts[:] = 0
    first, second, third, fourth = counts[0], counts[1], counts[2], counts[3]
    before, falls = np.uint64(0), 0
    for i in range(keys.size):
        key = keys[i]
        falls |= key < before
        before = key
        first[(key >> np.uint64(32)) & np.uint64(255)] += 1
        second[(key >> np.uint64(40)) & np.uint64(255)] += 1
        third[(key >> np.uint64(48)) & np.uint64(255)] += 1
        fourth[key >> np.uint64(56)] += 1
    return falls


@ordered_subroutine
def _distribute(keys, other, counts):
    """Put the keys in order by both arrays; whether they are in the other one at last."""
    moved = False
    for digit in range(DIGITS):
        count, shift = counts[digit], np.uint64(32 + 8 * digit)
        if count[(keys[0] >> shift) & np.uint64(255)] == keys.size:  # all have the same
            continue
        at = 0
        for value in range(256):
            here = count[value]
            count[value] = at
            at += here
        for i in range(keys.size):
            key = keys[i]
            value = (key >> shift) & np.uint64(255)
            other[np.uint64(count[value])] = key
            count[value] += 1
        keys, other, moved = other, keys, not moved
    return moved


@ordered_kernel
def count_leading(start, stop, x, part, least, shift, counts):
    """counts (parts, digits) = how many numbers x - least of each part of x have each leading
    digit, which `shift` leaves of them; for the parts start to stop. x is uint64."""
    for p in range(start, stop):
        own = counts[p]
        own[:] = 0
        some = x[p * part : min((p + 1) * part, x.size)]
        for i in range(some.size):
            own[(some[i] - least) >> shift] += 1


@ordered_kernel
def pack_places(start, stop, x, part, least, shift, dropped, bits, begins, out):
    """Put each number x - least without its last `dropped` bits, and behind it, in `bits` bits, its
    place in x, to where its leading digit begins in `out`; for the parts start to stop."""
    for p in range(start, stop):
        at = begins[p]
        for i in range(p * part, min((p + 1) * part, x.size)):
            number = x[i] - least
            digit = number >> shift
            out[np.uint64(at[digit])] = ((number >> dropped) << bits) | np.uint64(i)
            at[digit] += 1


@ordered_kernel
def unpack_places(start, stop, keys, bits, places, tied):
    """places[start:stop] = the last `bits` bits of the keys; a 1 in `tied` (1,) if two neighbours
    have the same bits before these."""
    mask, ties = (np.uint64(1) << bits) - np.uint64(1), 0
    for i in range(start, stop):
        places[i] = np.int64(keys[i] & mask)
    for i in range(max(start, 1), stop):
        ties |= (keys[i] >> bits) == (keys[i - 1] >> bits)
    if ties > 0:
        tied[0] = 1
