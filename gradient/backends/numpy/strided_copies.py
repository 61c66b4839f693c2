"""Copies to row-major order of arrays of any strides, on all threads: parts of rows, every second
element, and rows in the opposite order."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.numpy import fused, kernels, threads, transposes
from gradient.backends.required import Shape

MANY = 1 << 14
"""Elements from which a kernel is quicker than NumPy."""

SHORTEST = 8
"""Elements of a run from which a loop over it pays."""


def launch(x: np.ndarray, out: np.ndarray) -> tuple[Any, ...] | None:
    """The arguments of `parallel_for` to copy x to `out`, in row-major order; None if NumPy should:
    for small arrays, other dtypes, short rows or more than four axes."""
    if x.size < MANY or x.shape != out.shape or x.dtype != out.dtype:
        return None
    x, out = transposes.bits(x), transposes.bits(out)
    if x.dtype not in transposes.COPIED or not out.flags.c_contiguous:
        return None
    walk = _walk(x.shape, x.strides, x.itemsize)
    if walk is None or not x.flags.aligned or not kernels.available():
        return None
    first = np.flip(x, walk.flipped) if walk.flipped else x
    return (
        *(kernels.load("copies").copy_strided, x.size // walk.n, max(1, fused.CHUNK // walk.n)),
        *(fused.flat(first, walk.span), walk.begin, *walk.steps, *walk.sizes, walk.n),
        out.reshape(-1),
    )


def copied(x: np.ndarray, out: np.ndarray) -> bool:
    """Copy x to `out` by the kernel; return whether it was done."""
    return threads.ran(launch(x, out))


class _Walk(NamedTuple):
    """Runs of n elements along three axes."""

    sizes: tuple[int, int]
    """Runs along the last two axes."""
    n: int
    steps: tuple[int, ...]
    """The strides along the axes and along a run, in elements."""
    begin: int
    """Elements from the first in memory to that of the array."""
    span: int
    """Elements from the first in memory to the last."""
    flipped: tuple[int, ...]
    """The axes along which memory runs backwards."""


@functools.lru_cache(maxsize=1024)
def _walk(shape: Shape, strides: tuple[int, ...], itemsize: int) -> _Walk | None:
    merged: list[tuple[int, int]] = []
    for n, stride in zip(shape, strides, strict=True):
        if n == 1:
            continue
        if stride % itemsize:
            return None
        step = stride // itemsize
        if merged and merged[-1][1] == step * n:
            merged[-1] = merged[-1][0] * n, step
        else:
            merged.append((n, step))
    if not merged or len(merged) > 4 or merged[-1][0] < SHORTEST:
        return None
    if len(merged) == 1:  # parts for threads
        n, step = merged[0]
        parts = math.gcd(n, 1 << (n // fused.SHORTEST).bit_length())
        merged = [(parts, step * (n // parts)), (n // parts, step)]
    sizes = [1] * (4 - len(merged)) + [n for n, _ in merged]
    steps = [0] * (4 - len(merged)) + [step for _, step in merged]
    begin = sum((n - 1) * -step for n, step in merged if step < 0)
    span = 1 + sum((n - 1) * abs(step) for n, step in merged)
    flipped = tuple(i for i, stride in enumerate(strides) if stride < 0 and shape[i] > 1)
    return _Walk((sizes[1], sizes[2]), sizes[3], tuple(steps), begin, span, flipped)
