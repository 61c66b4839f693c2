"""Casts of float32 to 16-bit floats, rounded to nearest even, and of 16-bit floats to float32."""

from __future__ import annotations

from gradient.backends.numpy.kernels.compilation import ordered_kernel
from gradient.backends.numpy.kernels.stored import read_floats, write_number, write_vector
from gradient.backends.numpy.kernels.vectors import lanes, load


@ordered_kernel
def narrow(start, stop, x, kind, out):
    """out[start:stop] = x[start:stop], flat: float32 as bytes of numbers stored as `kind` says."""
    width = lanes(x)
    whole = stop - (stop - start) % width
    for i in range(start, whole, width):
        write_vector(kind, out, 2 * i, load(x, i))
    for i in range(whole, stop):
        write_number(kind, out, 2 * i, x[i])


@ordered_kernel
def widen(start, stop, x, kind, out):
    """out[start:stop] = x[start:stop], flat: numbers stored as `kind` says, to float32."""
    if start < stop:
        read_floats(kind, x, 2 * start, stop - start, out, start)
