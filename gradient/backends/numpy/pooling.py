"""Pooling by kernels, without an array of all windows, and resizing."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradient.backends.composed.pooling import PoolingDefaults, covering, places_of
from gradient.backends.numpy import kernels, threads, workspace
from gradient.backends.numpy.windows import three
from gradient.backends.options import PoolingOptions, WindowRanges, adaptive_windows
from gradient.backends.required import Shape
from gradient.dtypes import HALF_PRECISION

PLANES = 1 << 14
"""Numbers of whole planes that a thread takes at a time."""

OF_FOUR = ((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))
"""The options for windows of 2 x 2, none of which overlap, without padding."""


class PoolingKernels(PoolingDefaults[np.ndarray]):
    """Overrides of `composed.pooling`."""

    def max_pool(self, x: np.ndarray, options: PoolingOptions) -> tuple[np.ndarray, np.ndarray]:
        lead, sizes = options.split(x.shape)
        x = workspace.in_rows(x)
        # Dilation beyond the input's size: a window may contain no element of the input.
        sparse = any(d > n for d, n in zip(options.dilation, sizes, strict=True))
        if sparse or not kernels.supports(x) or math.prod(sizes) >= 1 << 31:
            return super().max_pool(x, options)
        family = kernels.load("pooling")
        windows = options.windows(sizes)
        y = np.empty((*lead, *windows), x.dtype)
        indices = np.empty(y.shape, np.int64)
        if options[:4] == OF_FOUR:
            threads.parallel_for(
                family.max_pool_of_four, math.prod(lead), max(1, PLANES // math.prod(sizes)),
                x.reshape(-1), *sizes, y.reshape(-1), indices.reshape(-1),
            )  # fmt: skip
            return y, indices
        if _is_of_eight(options):
            threads.parallel_for(
                family.max_pool_of_eight, math.prod(lead), max(1, PLANES // math.prod(sizes)),
                x.reshape(-1), *sizes, options.kernel[0], y.reshape(-1), indices.reshape(-1),
            )  # fmt: skip
            return y, indices
        if _is_one_window(options, sizes):
            threads.parallel_for(
                family.max_of_planes, math.prod(lead), max(1, PLANES // math.prod(sizes)),
                x.reshape(-1), math.prod(sizes), y.reshape(-1), indices.reshape(-1),
            )  # fmt: skip
            return y, indices
        if len(sizes) == 1:
            threads.parallel_for(
                family.max_pool_of_rows, math.prod(lead), max(1, PLANES // sizes[0]),
                x.reshape(-1), *sizes, *windows, *options.kernel, *options.stride,
                options.padding[0][0], *options.dilation, y.reshape(-1), indices.reshape(-1),
            )  # fmt: skip
            return y, indices
        threads.parallel_for(
            family.max_pool, math.prod(lead), max(1, PLANES // math.prod(sizes)), x.reshape(-1),
            three(sizes, 1), three(windows, 1), three(options.kernel, 1), three(options.stride, 1),
            three([before for before, _ in options.padding], 0), three(options.dilation, 1),
            y.reshape(-1), indices.reshape(-1),
        )  # fmt: skip
        return y, indices

    def max_pool_grad(
        self, g: np.ndarray, indices: np.ndarray, shape: Shape, options: PoolingOptions
    ) -> np.ndarray:
        lead, sizes = options.split(shape)
        g = workspace.in_rows(g)
        if not kernels.supports(g):
            return super().max_pool_grad(g, indices, shape, options)
        if options[:4] == OF_FOUR:
            out = np.empty(shape, g.dtype)
            threads.parallel_for(
                kernels.load("pooling").max_pool_of_four_grad, math.prod(lead),
                max(1, PLANES // math.prod(sizes)),
                g.reshape(-1), kernels.contiguous(indices).reshape(-1), *sizes, out.reshape(-1),
            )  # fmt: skip
            return out
        return _add_at(indices, g, len(sizes), np.empty(shape, g.dtype))

    def adaptive_max_pool(self, x: np.ndarray, out_sizes: Shape) -> tuple[np.ndarray, np.ndarray]:
        x = workspace.in_rows(x)
        windows = adaptive_windows(x.shape[x.ndim - len(out_sizes) :], out_sizes)
        lead, sizes = windows.split(x.shape)
        if not kernels.supports(x) or math.prod(sizes) >= 1 << 31:
            return super().adaptive_max_pool(x, out_sizes)
        y = np.empty((*lead, *out_sizes), x.dtype)
        indices = np.empty(y.shape, np.int64)
        threads.parallel_for(
            kernels.load("pooling").adaptive_max_pool, math.prod(lead),
            max(1, PLANES // math.prod(sizes)), x.reshape(-1), three(sizes, 1), three(out_sizes, 1),
            *_ranges(windows, sizes), y.reshape(-1), indices.reshape(-1),
        )  # fmt: skip
        return y, indices

    def adaptive_max_pool_grad(
        self, g: np.ndarray, indices: np.ndarray, shape: Shape, out_sizes: Shape
    ) -> np.ndarray:
        out = np.empty(shape, g.dtype)
        if not kernels.supports(out, g):
            return super().adaptive_max_pool_grad(g, indices, shape, out_sizes)
        return _add_at(indices, g, len(out_sizes), out)

    def avg_pool(self, x: np.ndarray, windows: WindowRanges) -> np.ndarray:
        if x.size >= kernels.MIN_SIZE:
            if x.dtype in HALF_PRECISION:
                return self.avg_pool(x.astype(np.float32), windows).astype(x.dtype)
            x = workspace.contiguous(x)
        if not kernels.supports(x):
            return super().avg_pool(x, windows)
        lead, sizes = windows.split(x.shape)
        y = np.empty((*lead, *windows.windows), x.dtype)
        threads.parallel_for(
            kernels.load("pooling").avg_pool, math.prod(lead), max(1, PLANES // math.prod(sizes)),
            x.reshape(-1), three(sizes, 1), three(windows.windows, 1), *_ranges(windows, sizes),
            _columns(windows.starts[-1], windows.stops[-1], sizes[-1]), _counts(windows, x.dtype),
            y.reshape(-1),
        )  # fmt: skip
        return y

    def avg_pool_grad(self, g: np.ndarray, shape: Shape, windows: WindowRanges) -> np.ndarray:
        lead, sizes = windows.split(shape)
        if g.dtype in HALF_PRECISION and math.prod(shape) >= kernels.MIN_SIZE:
            return self.avg_pool_grad(g.astype(np.float32), shape, windows).astype(g.dtype)
        out = np.empty(shape, g.dtype)
        if not kernels.supports(out, g):
            return super().avg_pool_grad(g, shape, windows)
        holding = [
            covering(starts, stops, size)
            for starts, stops, size in zip(windows.starts, windows.stops, sizes, strict=True)
        ]
        first, last = zip(*holding, strict=True)
        edges = _in_line(first, 0, np.int64), _in_line(last, 1, np.int64)
        threads.parallel_for(
            kernels.load("pooling").avg_pool_grad, math.prod(lead),
            max(1, PLANES // math.prod(sizes)), workspace.contiguous(g).reshape(-1),
            three(sizes, 1), three(windows.windows, 1), *edges,
            _columns(*holding[-1], len(windows.starts[-1])), _counts(windows, g.dtype),
            out.reshape(-1),
        )  # fmt: skip
        return out

    def resize(
        self, x: np.ndarray, fraction: np.ndarray, low: np.ndarray, high: np.ndarray, axis: int
    ) -> np.ndarray:
        x = workspace.in_rows(x)
        if not kernels.supports(x, fraction):
            return super().resize(x, fraction, low, high, axis)
        out = np.empty((*x.shape[:axis], low.size, *x.shape[axis + 1 :]), x.dtype)
        outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
        threads.parallel_for(
            kernels.load("resizing").resize, outer, max(1, PLANES // max(1, low.size * inner)),
            workspace.contiguous(x).reshape(-1), x.shape[axis], inner, kernels.contiguous(low),
            kernels.contiguous(high), kernels.contiguous(fraction), out.reshape(-1),
        )  # fmt: skip
        return out

    def resize_grad(
        self,
        g: np.ndarray,
        fraction: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        size: int,
        axis: int,
    ) -> np.ndarray:
        g = workspace.in_rows(g)
        if not kernels.supports(g, fraction):
            return super().resize_grad(g, fraction, low, high, size, axis)
        out = np.empty((*g.shape[:axis], size, *g.shape[axis + 1 :]), g.dtype)
        outer, inner = math.prod(g.shape[:axis]), math.prod(g.shape[axis + 1 :])
        threads.parallel_for(
            kernels.load("resizing").resize_grad, outer, max(1, PLANES // max(1, low.size * inner)),
            workspace.contiguous(g).reshape(-1), size, inner, kernels.contiguous(low),
            kernels.contiguous(high), kernels.contiguous(fraction), out.reshape(-1),
        )  # fmt: skip
        return out

    def weighted_taps(
        self, x: np.ndarray, weights: np.ndarray, places: tuple[np.ndarray, ...], axis: int
    ) -> np.ndarray:
        x = workspace.in_rows(x)
        if not (kernels.supports(x, weights) and _are_within(places, x.shape[axis])):
            return super().weighted_taps(x, weights, places, axis)
        n = places[0].size
        out = np.empty((*x.shape[:axis], n, *x.shape[axis + 1 :]), x.dtype)
        outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
        threads.parallel_for(
            kernels.load("resizing").weighted_taps, outer, max(1, PLANES // max(1, n * inner)),
            workspace.contiguous(x).reshape(-1), x.shape[axis], inner,
            np.stack(places, 1), kernels.contiguous(weights.T), out.reshape(-1),
        )  # fmt: skip
        return out

    def weighted_taps_grad(
        self,
        g: np.ndarray,
        weights: np.ndarray,
        places: tuple[np.ndarray, ...],
        size: int,
        axis: int,
    ) -> np.ndarray:
        g = workspace.in_rows(g)
        if not (kernels.supports(g, weights) and _are_within(places, size)):
            return super().weighted_taps_grad(g, weights, places, size, axis)
        out = np.empty((*g.shape[:axis], size, *g.shape[axis + 1 :]), g.dtype)
        outer, inner = math.prod(g.shape[:axis]), math.prod(g.shape[axis + 1 :])
        threads.parallel_for(
            kernels.load("resizing").weighted_taps_grad, outer,
            max(1, PLANES // max(1, places[0].size * inner)),
            workspace.contiguous(g).reshape(-1), size, inner,
            np.stack(places, 1), kernels.contiguous(weights.T), out.reshape(-1),
        )  # fmt: skip
        return out


def _are_within(places: tuple[np.ndarray, ...], size: int) -> bool:
    return all(at.size and at.min() >= 0 and at.max() < size for at in places)


def _is_of_eight(options: PoolingOptions) -> bool:
    """Whether windows are 1 x 2 x 2 or 2 x 2 x 2, none of which overlap, without padding."""
    return (
        options.kernel in ((1, 2, 2), (2, 2, 2))
        and options.stride == options.kernel
        and options.dilation == (1, 1, 1)
        and not any(before or after for before, after in options.padding)
    )


def _is_one_window(options: PoolingOptions, sizes: Shape) -> bool:
    """Whether one window holds all of a plane, as for a maximum over time."""
    padded = any(before or after for before, after in options.padding)
    return tuple(options.kernel) == tuple(sizes) and not padded and set(options.dilation) == {1}


def _add_at(indices: np.ndarray, g: np.ndarray, spatial: int, out: np.ndarray) -> np.ndarray:
    """out (..., *S) = the sums of g (..., *T) at its indices in the flattened S."""
    planes = math.prod(out.shape[: out.ndim - spatial])
    size, count = out.size // planes, g.size // planes
    threads.parallel_for(
        kernels.load("pooling").max_pool_grad, planes, max(1, PLANES // size),
        workspace.contiguous(g).reshape(-1), kernels.contiguous(indices).reshape(-1), count, size,
        out.reshape(-1),
    )  # fmt: skip
    return out


@functools.lru_cache
def _ranges(windows: WindowRanges, sizes: Shape) -> tuple[np.ndarray, np.ndarray]:
    """The starts and stops of windows, clipped to an input of these sizes, for kernels."""
    first, last = (
        [[min(max(i, 0), n) for i in edges] for edges, n in zip(both, sizes, strict=True)]
        for both in (windows.starts, windows.stops)
    )
    return _in_line(first, 0, np.int64), _in_line(last, 1, np.int64)


def _in_line(numbers: Sequence[Any], missing: int, dtype: Any) -> np.ndarray:
    """Concatenate numbers of three dimensions, with a neutral one for each missing leading
    dimension."""
    return np.array([missing] * (3 - len(numbers)) + [n for some in numbers for n in some], dtype)


@functools.lru_cache
def _columns(starts: tuple[int, ...], stops: tuple[int, ...], size: int) -> np.ndarray:
    """The positions of each range, padded by `size` to the longest range: (longest, n)."""
    places, inside = places_of(starts, stops, size)
    return np.ascontiguousarray(np.where(inside, places, size).T, np.uint64)


@functools.lru_cache
def _counts(windows: WindowRanges, dtype: np.dtype) -> np.ndarray:
    return _in_line(windows.counts, 1, dtype)
