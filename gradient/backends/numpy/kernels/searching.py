"""Places of values in sorted rows, by bisection."""

import numpy as np

from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine

TOGETHER = 64
"""Values that are sought side by side, as each step waits for an element of the row."""


@ordered_kernel
def insertion_places(start, stop, rows, n, values, m, right, out):
    """out[start:stop] = the places in rows of n numbers, of each of which m values are sought: of
    the first element that is not below the value, or with `right` is above it."""
    steps = 0
    while n >> steps:
        steps += 1
    low, high = np.empty(TOGETHER, np.uint32), np.empty(TOGETHER, np.uint32)
    middle, elements = np.empty(TOGETHER, np.uint32), np.empty(TOGETHER, rows.dtype)
    at = start
    while at < stop:
        number = at // m
        end = min(stop, (number + 1) * m, at + TOGETHER)
        row, sought = rows[number * n : (number + 1) * n], values[at:end]
        low[:] = 0
        high[:] = n
        for _ in range(steps):
            _look(row, low, high, middle, elements)
            _halve(elements, sought, right, middle, low, high)
        for j in range(end - at):
            out[at + j] = low[j]
        at = end


# Loops of their own: one with what is read from anywhere in a row would not be vectorised.


@ordered_subroutine
def _look(row, low, high, middle, elements):
    last = np.uint32(row.size - 1)
    for j in range(low.size):
        middle[j] = min((low[j] + high[j]) >> np.uint32(1), last)
    for j in range(low.size):
        elements[j] = row[np.uint64(middle[j])]


@ordered_subroutine
def _halve(elements, sought, right, middle, low, high):
    """A step of each bisection; of those that have ended, none."""
    for j in range(sought.size):
        first, end, value = low[j], high[j], sought[j]
        after = elements[j] > value if right else elements[j] >= value
        stays = after | (first == end)
        low[j] = first if stays else middle[j] + np.uint32(1)
        high[j] = middle[j] if stays & (first != end) else end
