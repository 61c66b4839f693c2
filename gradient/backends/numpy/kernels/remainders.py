"""Remainders and rounded quotients over flat arrays, for the elements start to stop: a and b are of
one size, or one of them is a number, of size 1.

They are exact. Where a / b is below 2^23 (float64: 2^52), its integer part q is at most one too
large after rounding, so a - q b in one rounding is the remainder, or b less than it. A block with
other numbers is computed by the C library, one number after another. 16-bit floats, given as
`half_precision.stored`, are divided as float32. Integers are divided as float64; so are blocks of
int64 below 2^52.
"""

from __future__ import annotations

import numpy as np

from gradient.backends.numpy.kernels.arithmetic import (
    choose,
    floored,
    product_sum,
    truncated,
    with_sign,
)
from gradient.backends.numpy.kernels.blocks import BLOCK, repeated
from gradient.backends.numpy.kernels.compilation import inlined, of_numbers, strict_kernel
from gradient.backends.numpy.kernels.half_precision import get, put, real

F8, I8 = np.float64, np.int64
EXACT = 1 << 52
"""For integers below it, a quotient rounded to float64 has the right integer part."""

FMOD, REMAINDER, FLOOR_DIVIDE = 0, 1, 2

# Constants such as `zero` and `one` have the dtype of a: Python's floats would widen float32.


@of_numbers
def _rest(a, b, zero, most):
    """The remainder with the sign of a, and whether it is exact."""
    quotient = a / b
    rest = product_sum(-truncated(quotient), b, a)
    is_past = (rest != zero) & ((rest < zero) != (a < zero))
    rest = with_sign(choose(is_past, rest + with_sign(b, a), rest), a)
    return rest, (abs(quotient) < most) & (rest == rest)


@of_numbers
def _result(rest, a, b, zero, one, what):
    """Return what `what` asks for, given the remainder with the sign of a. The steps are those of
    Python's % and //, except that a zero keeps the sign of a."""
    is_other = (rest != zero) & ((rest < zero) != (b < zero))
    if what == FMOD:
        return rest
    if what == REMAINDER:
        return choose(is_other, rest + b, rest)
    whole = (a - rest) / b
    whole = choose(is_other, whole - one, whole)
    low = floored(whole)
    low = choose((whole - low) + (whole - low) > one, low + one, low)
    low = choose(whole == zero, with_sign(zero, a / b), low)
    return choose(b == zero, a / b, low)


@inlined
def _divide(start, stop, a, b, y, what):
    zero, one = real(a, 0), real(a, 1)
    most = real(a, 2.0**52 if a.itemsize == 8 else 2.0**23)
    all_a, all_b = repeated(a), repeated(b)
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        u = a[first:last] if a.size > 1 else all_a[: last - first]
        v = b[first:last] if b.size > 1 else all_b[: last - first]
        z = y[first:last]
        apart = (z.ctypes.data != u.ctypes.data) & (z.ctypes.data != v.ctypes.data)
        inexact = 0
        if apart:
            for i in range(z.size):
                c, d = get(u, i), get(v, i)
                rest, is_exact = _rest(c, d, zero, most)
                inexact |= not is_exact
                put(z, i, _result(rest, c, d, zero, one, what))
        if inexact or not apart:
            for i in range(z.size):
                c, d = get(u, i), get(v, i)
                put(z, i, _result(np.fmod(c, d), c, d, zero, one, what))


@strict_kernel
def fmod(start, stop, a, b, y):
    _divide(start, stop, a, b, y, FMOD)


@strict_kernel
def remainder(start, stop, a, b, y):
    _divide(start, stop, a, b, y, REMAINDER)


@strict_kernel
def floor_divide(start, stop, a, b, y):
    _divide(start, stop, a, b, y, FLOOR_DIVIDE)


@of_numbers
def _floor_quotient(a, b):
    return 0 if b == 0 else -a if b == -1 else a // b  # dividing the least integer by -1 would trap


@inlined
def _divide_integers(start, stop, a, b, y, what):
    all_a, all_b = repeated(a), repeated(b)
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        u = a[first:last] if a.size > 1 else all_a[: last - first]
        v = b[first:last] if b.size > 1 else all_b[: last - first]
        z = y[first:last]
        bits = 0
        if a.itemsize == 8:
            for i in range(z.size):
                bits |= (u[i] ^ (u[i] >> 63)) | (v[i] ^ (v[i] >> 63))
        if bits < EXACT:
            for i in range(z.size):
                c, d = I8(u[i]), I8(v[i])
                whole = I8(floored(F8(c) / F8(d)))
                value = whole if what == FLOOR_DIVIDE else c - whole * d
                z[i] = choose(d == 0, 0, value)
        else:
            for i in range(z.size):
                c, d = I8(u[i]), I8(v[i])
                whole = _floor_quotient(c, d)
                value = whole if what == FLOOR_DIVIDE else c - whole * d
                z[i] = 0 if d == 0 else value


@strict_kernel
def integer_remainder(start, stop, a, b, y):
    """With the sign of b; 0 where b is 0, as NumPy's."""
    _divide_integers(start, stop, a, b, y, REMAINDER)


@strict_kernel
def integer_floor_divide(start, stop, a, b, y):
    _divide_integers(start, stop, a, b, y, FLOOR_DIVIDE)
