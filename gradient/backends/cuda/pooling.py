"""Max pooling by kernels (`pooling.cu`)."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.composed.pooling import PoolingDefaults
from gradient.backends.cuda.launching import DIVISOR, EACH, KernelLauncher, divisor
from gradient.backends.cuda.windows import SLIDE, counts_in_32_bits, slide
from gradient.backends.options import PoolingOptions
from gradient.backends.required import Shape

COUNTED = 1 << 31
"""Numbers that a launch can count."""
COLUMNS = 4
"""Neighbours whose gradients a thread adds up."""
POOLING = np.dtype(
    [("slide", SLIDE)] + [(name, DIVISOR, 3) for name in ("windows", "sizes", "stride")]
)


class PoolingKernels(KernelLauncher, PoolingDefaults[Array]):
    """Overrides of `composed.pooling`."""

    def max_pool(self, x: Array, options: PoolingOptions) -> tuple[Array, Array]:
        lead, sizes = options.split(x.shape)
        if not (self.has_kernel(x) and _fits(sizes, options)):
            return super().max_pool(x, options)
        windows = options.windows(sizes)
        y = self.empty((*lead, *windows), x.dtype)
        index = self.empty(y.shape, np.dtype(np.int64))
        told, least = _told(sizes, options), np.float32(options.least)
        given = self.contiguous(x), y, index
        for some in _parts(math.prod(lead), sizes, windows, *given):
            count = some[1].size
            self.launch(
                "pooling", "max_pool", x, (-(-count // EACH),), EACH,
                *some, told, count, least,
            )  # fmt: skip
        return y, index

    def max_pool_grad(
        self, g: Array, indices: Array, shape: Shape, options: PoolingOptions
    ) -> Array:
        lead, sizes = options.split(tuple(shape))
        windows = options.windows(sizes) if sizes else ()
        if (
            not (self.has_kernel(g) and _fits(sizes, options))
            or g.shape != (*lead, *windows)
            or indices.shape != g.shape
            or indices.dtype != np.int64
        ):
            return super().max_pool_grad(g, indices, shape, options)
        gx = self.empty(tuple(shape), g.dtype)
        told = _told(sizes, options)
        given = self.contiguous(g), self.contiguous(indices), gx
        for some in _parts(math.prod(lead), sizes, windows, *given):
            count = some[2].size // sizes[-1] * -(-sizes[-1] // COLUMNS)
            self.launch(
                "pooling", "max_pool_grad", g, (-(-count // EACH),), EACH,
                *some, told, count,
            )  # fmt: skip
        return gx


def _fits(sizes: Shape, options: PoolingOptions) -> bool:
    return min(sizes, default=0) > 0 and counts_in_32_bits(1, sizes, options.windows(sizes), 1)


def _parts(
    planes: int, sizes: Shape, windows: Shape, *arrays: Array
) -> Iterator[tuple[Array, ...]]:
    """The arrays split by planes, so that each launch can count its elements in 31 bits."""
    some = (COUNTED - 1) // max(math.prod(sizes), math.prod(windows))
    if some >= planes:
        yield arrays
        return
    flat = [x.reshape((planes, -1)) for x in arrays]
    for first in range(0, planes, some):
        yield tuple(x[first : first + some] for x in flat)


@functools.lru_cache(256)
def _told(sizes: Shape, options: PoolingOptions) -> np.ndarray:
    """The kernel's struct argument, passed by value."""
    windows = options.windows(sizes)
    told = np.zeros(1, POOLING)
    told["slide"] = slide(
        (1, 1, 1, 1), size=sizes, windows=windows, kernel=options.kernel, stride=options.stride,
        dilation=options.dilation, before=tuple(before for before, _ in options.padding),
    )  # fmt: skip
    groups = (*sizes[:-1], -(-sizes[-1] // COLUMNS))
    for name, given in (("windows", windows), ("sizes", groups), ("stride", options.stride)):
        for i, n in enumerate(reversed(given)):
            told[name][0, 2 - i] = divisor(n)
        for i in range(3 - len(given)):
            told[name][0, i] = divisor(1)
    return told
