"""Padding by a kernel that writes each number once."""

from __future__ import annotations

import numpy as np

from gradient.backends.composed.shape import ShapeDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.required import Shape
from gradient.dtypes import HALF_PRECISION

ROWS = 1 << 15
"""Numbers of whole rows that a thread takes at a time."""


class PaddingKernels(ShapeDefaults[np.ndarray]):
    """Overrides for `NumpyBackend`."""

    def pad(
        self, x: np.ndarray, widths: tuple[tuple[int, int], ...], value: complex = 0
    ) -> np.ndarray:
        out = _padded(x, widths, None, float(value.real))
        return super().pad(x, widths, value) if out is None else out

    def pad_around(
        self, x: np.ndarray, widths: tuple[tuple[int, int], ...], mode: str
    ) -> np.ndarray:
        if not _surrounds(x.shape, widths):
            return super().pad_around(x, widths, mode)
        if (padded := _padded(x, widths, mode)) is not None:
            return padded
        out = self.pad(x, widths)
        for axis, (n, width) in enumerate(zip(x.shape, widths, strict=True)):
            at = (slice(None),) * axis
            for edge, source in _edges(n, *width, mode):
                out[(*at, edge)] = out[(*at, source)]
        return out

    def pad_around_grad(
        self, g: np.ndarray, shape: Shape, widths: tuple[tuple[int, int], ...], mode: str
    ) -> np.ndarray:
        if not _surrounds(shape, widths):
            return super().pad_around_grad(g, shape, widths, mode)
        if g.dtype in HALF_PRECISION:  # to round once
            wide = self.astype(g, np.dtype(np.float32))
            return self.astype(self.pad_around_grad(wide, shape, widths, mode), g.dtype)
        return self._folded(g, shape, widths, mode, 0)

    def _folded(
        self,
        g: np.ndarray,
        shape: Shape,
        widths: tuple[tuple[int, int], ...],
        mode: str,
        axis: int,
    ) -> np.ndarray:
        """The gradient, for the axes from one on: a copy of what is inside, to which the edges are
        added, each folded along the other axes first."""
        while axis < len(shape) and not any(widths[axis]):
            axis += 1
        if axis == len(shape):
            return self.copy(g)
        at, n, before = (slice(None),) * axis, shape[axis], widths[axis][0]
        inside = g[(*at, slice(before, before + n))]
        out = self._folded(inside, shape, widths, mode, axis + 1)
        for edge, source in _edges(n, *widths[axis], mode):
            folded = self._folded(g[(*at, edge)], shape, widths, mode, axis + 1)
            if mode == "replicate":
                folded = folded.sum(axis, keepdims=True)
            stop = source.stop - before if source.stop is not None else -1
            places = range(source.start - before, stop, source.step)
            if source.step < 0:
                folded, places = np.flip(folded, axis), places[::-1]
            out[(*at, slice(places[0], places[-1] + 1))] += folded
        return out


def _padded(
    x: np.ndarray, widths: tuple[tuple[int, int], ...], mode: str | None, value: float = 0.0
) -> np.ndarray | None:
    """x padded along the last two axes at most, by the kernel; None if it does not take that."""
    around = [(0, 0), *widths]  # so that there is at least a row
    if (
        not (widths and kernels.supports(x))
        or any(pair != (0, 0) for pair in around[:-2])
        or min(map(min, around)) < 0
    ):
        return None
    (top, bottom), (left, right) = around[-2:]
    rows, columns = (1, *x.shape)[-2:]
    shape = tuple(a + n + b for n, (a, b) in zip(x.shape, widths, strict=True))
    out, family = np.empty(shape, x.dtype), kernels.load("padding")
    threads.parallel_for(
        *(family.pad, out.size // shape[-1], max(1, ROWS // shape[-1])),
        *(kernels.contiguous(x).reshape(-1), rows, columns, top, bottom, left, right),
        *(family.MODES[mode] if mode else family.CONSTANT, value, out.reshape(-1)),
    )
    return out


def _surrounds(shape: Shape, widths: tuple[tuple[int, int], ...]) -> bool:
    """Whether elements are added on some sides of an array that has some."""
    return 0 not in shape and min(map(min, widths), default=0) >= 0


def _edges(n: int, before: int, after: int, mode: str) -> list[tuple[slice, slice]]:
    """The edges along a padded axis of n, and what is copied to each, as slices of the result."""
    end = before + n
    if mode == "circular":
        first, last = slice(n, end, 1), slice(before, before + after, 1)
    elif mode == "replicate":
        first, last = slice(before, before + 1, 1), slice(end - 1, end, 1)
    else:
        first = slice(2 * before, before, -1)
        stop = end - 2 - after
        last = slice(end - 2, stop if stop >= 0 else None, -1)
    found = [(slice(0, before), first), (slice(end, end + after), last)]
    return [each for each, width in zip(found, (before, after), strict=True) if width]
