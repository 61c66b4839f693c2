"""The gradient of a strided convolution for its input, as convolutions of stride 1 (phases)."""

from __future__ import annotations

import functools
import itertools

import numpy as np

from gradient.backends.numpy.windows import Windows, out_strides
from gradient.backends.options import ConvolutionOptions
from gradient.backends.required import Shape


class _Remainder:
    """The inputs with one remainder modulo the stride.

    first: the first of them, in each dimension; dims: the elements of the kernel that multiply
    them, and the number of these inputs; offsets: for each of these elements, the window it
    belongs to, relative to the window with the input's number.
    """

    def __init__(self, first: Shape, kernel: Shape, sizes: Shape, options: ConvolutionOptions):
        self.first = first
        self.dims: list[tuple[list[int], int]] = []
        self.offsets: list[list[int]] = []
        for a, k, size, s, d, (before, _) in zip(
            first, kernel, sizes, options.stride, options.dilation, options.padding, strict=True
        ):
            taps = [i for i in range(k) if (a + before - i * d) % s == 0]
            self.dims.append((taps, len(range(a, size, s))))
            self.offsets.append([(a + before - i * d) // s for i in taps])


class Phases:
    """The gradient for the input of a convolution, as convolutions of its gradient g.

    whole: whether they compute all of the result; the rest is 0. windows: the windows of g of all
    phases together, or None if there are none; each: for each phase its windows, with the elements
    of the weight for its taps, and the places of its results (`out_strides`).
    """

    def __init__(self, g: Shape, kernel: Shape, shape: Shape, options: ConvolutionOptions) -> None:
        sizes, axes = shape[2:], len(kernel)
        firsts = itertools.product(
            *(range(min(s, n)) for s, n in zip(options.stride, sizes, strict=True))
        )
        found = [_Remainder(first, kernel, sizes, options) for first in firsts]
        self.whole = all(taps for each in found for taps, _ in each.dims)
        found = [each for each in found if all(taps and n for taps, n in each.dims)]
        self.each: list[tuple[Windows, np.ndarray]] = []
        self.windows: Windows | None = None
        if not found:
            return
        before = [max(0, -min(o for p in found for o in p.offsets[axis])) for axis in range(axes)]
        # All read one copy of g, with zeros about it up to the furthest window of any.
        reach = tuple(
            max(p.dims[axis][1] - 1 + max(p.offsets[axis]) for p in found) + b + 1
            for axis, b in enumerate(before)
        )
        ones, padding = (1,) * axes, tuple((b, 0) for b in before)
        slide = ConvolutionOptions(ones, padding, ones, options.groups)
        self.windows = Windows(g, ones, reach, slide)
        for phase in found:
            taps = self.windows.offsets(
                [[o + b for o in each] for each, b in zip(phase.offsets, before, strict=True)]
            )
            numbers = np.ravel_multi_index(np.ix_(*(taps for taps, _ in phase.dims)), kernel)
            count = tuple(n for _, n in phase.dims)
            # From the first address to the last: backwards it takes up to twice the time.
            windows = self.windows.others(
                count, taps[::-1].copy(), numbers.reshape(-1)[::-1].copy()
            )
            place = out_strides(shape[1], sizes, options.stride, phase.first)
            self.each.append((windows, place))


phases_of = functools.lru_cache(maxsize=1 << 10)(Phases)
