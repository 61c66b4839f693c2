"""The gradient of a strided convolution by its input, as convolutions of stride 1 (phases)."""

from __future__ import annotations

import itertools

from gradient.backends.options import ConvolutionOptions
from gradient.backends.required import Shape


class Phase:
    """The inputs that leave one remainder by the stride, for the gradient by the input.

    first: the first of them, in each dimension; dims: the numbers of the kernel that meet them, and
    how many inputs there are; offsets: which window, from that of the same number as the input,
    each of those numbers is multiplied by.
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


def phases_of(kernel: Shape, sizes: Shape, options: ConvolutionOptions) -> list[Phase]:
    """The inputs of a convolution, by the remainder they leave in each dimension."""
    firsts = itertools.product(
        *(range(min(s, n)) for s, n in zip(options.stride, sizes, strict=True))
    )
    return [Phase(first, kernel, sizes, options) for first in firsts]
