"""Rotary positions: pairs of columns rotated by their position's angle."""

from gradient.backends.numpy.kernels.compilation import strict_kernel
from gradient.backends.numpy.kernels.half_precision import get, put

CHUNK = 1 << 15
"""Elements, in whole rows, that a thread takes at a time."""


@strict_kernel
def rope(start, stop, x, cos, sin, interleaved, y):
    """Rows start to stop, of the B H T in order, of x and y (B, H, T, D). An axis of cos and sin
    (B, H, T, R/2) that has the length one serves all of x's. All as `half_precision.stored`."""
    heads, length = x.shape[1], x.shape[2]
    half = cos.shape[3]
    for row in range(start, stop):
        b, h, t = row // (heads * length), row // length % heads, row % length
        head, out = x[b, h, t], y[b, h, t]
        b, h = b % cos.shape[0], h % cos.shape[1]
        t = t % cos.shape[2]
        c, s = cos[b, h, t], sin[b, h, t]
        if interleaved:
            for i in range(half):
                first, second = get(head, 2 * i), get(head, 2 * i + 1)
                put(out, 2 * i, first * get(c, i) - second * get(s, i))
                put(out, 2 * i + 1, second * get(c, i) + first * get(s, i))
        else:
            for i in range(half):
                first, second = get(head, i), get(head, half + i)
                put(out, i, first * get(c, i) - second * get(s, i))
                put(out, half + i, second * get(c, i) + first * get(s, i))
        for i in range(2 * half, head.size):
            put(out, i, get(head, i))
