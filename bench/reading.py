"""Kernels that only read memory: they measure a machine's bandwidth with few instructions."""

from __future__ import annotations

from gradient.backends.numpy.kernels.compilation import ordered_kernel, ordered_subroutine
from gradient.backends.numpy.kernels.vectors import lanes, larger, load, store

NUMBERS = 1 << 16
"""Of a part."""


@ordered_subroutine
def _read(data, at, count, step, apart, out, to):
    """Read `count` times four vectors that lie `apart` numbers apart, and then go on by `step`."""
    a, b, c, d = load(data, at), load(data, at), load(data, at), load(data, at)
    for _ in range(count):
        a = larger(a, load(data, at))
        b = larger(b, load(data, at + apart))
        c = larger(c, load(data, at + 2 * apart))
        d = larger(d, load(data, at + 3 * apart))
        at += step
    store(out, to, larger(larger(a, b), larger(c, d)))


@ordered_kernel
def one_stream(start, stop, data, out):
    """Read the parts start to stop of data, float32, each from its beginning to its end.

    Some numbers of each part are written to `out`, so that the compiler keeps the reads.
    """
    width = lanes(data)
    for part in range(start, stop):
        _read(data, part * NUMBERS, NUMBERS // (4 * width), 4 * width, width, out, part * width)


@ordered_kernel
def four_streams(start, stop, data, out):
    """Like `one_stream`, but read the four quarters of a part in parallel."""
    width = lanes(data)
    for part in range(start, stop):
        _read(data, part * NUMBERS, NUMBERS // (4 * width), width, NUMBERS // 4, out, part * width)
