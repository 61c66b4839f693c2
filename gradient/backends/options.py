"""The options of methods that have many: one value that definitions, kernels and ops pass on.

They are named tuples, immutable like frozen dataclasses but faster to make: `AdamWOptions` takes
0.24 microseconds, a frozen dataclass with slots 0.8 (`AttentionOptions`: 0.22 and 0.46). This saves
2.6 % of a step of one small parameter. And `import gradient` does not load the module
`dataclasses`, which takes 0.8 ms (Python 3.11, one thread of a Xeon with AMX).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple


class AttentionOptions(NamedTuple):
    """The options of `Backend.attention`.

    scale      the factor of q k^T
    is_causal  whether row i sees only columns up to i
    window     with `is_causal`, row i sees only columns from i - window + 1 (Beltagy et al. 2020,
               3.1); otherwise ignored
    softcap    replace scores by softcap tanh(scores / softcap) before masking (Gemma 2, 2024,
               section 2)
    """

    scale: float = 1.0
    is_causal: bool = False
    window: int | None = None
    softcap: float | None = None


class ConvolutionOptions(NamedTuple):
    """The options of `Backend.convolution`; each has a number for each dimension of the input.

    padding    zeros before and after the input; a negative number after it crops it
    groups     number of groups of channels; outputs of a group depend only on its inputs
    """

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def windows(self, sizes: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, ...]:
        """How many windows there are, in each dimension of an input of these sizes."""
        return tuple(
            (size + sum(pads) - d * (k - 1) - 1) // s + 1
            for size, k, pads, s, d in zip(
                sizes, kernel, self.padding, self.stride, self.dilation, strict=True
            )
        )

    def reach(self, windows: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, ...]:
        """The extent of so many windows in the input, from the first to the last element."""
        return tuple(
            (n - 1) * s + d * (k - 1) + 1
            for n, k, s, d in zip(windows, kernel, self.stride, self.dilation, strict=True)
        )


class PoolingOptions(NamedTuple):
    """The options of `Backend.max_pool`; each but `least` has a number for each dimension.

    padding    before and after the input; it must be less than the extent of a window
    least      the value of the padding, at most the smallest value of the input's dtype
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    least: float

    def split(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Split a shape into leading axes and the axes that windows move along."""
        lead = len(shape) - len(self.kernel)
        return tuple(shape[:lead]), tuple(shape[lead:])

    def windows(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """How many windows there are, in each dimension of an input of these sizes."""
        slide = ConvolutionOptions(self.stride, self.padding, self.dilation)
        return slide.windows(sizes, self.kernel)


class WindowRanges(NamedTuple):
    """The windows of `Backend.avg_pool`: for each dimension, a number for each window.

    starts  the first position of a window; outside of the input there are zeros
    stops   the position after its last; starts and stops never decrease
    counts  divisors of the window's sum: it is divided by their product over the dimensions
    """

    starts: tuple[tuple[int, ...], ...]
    stops: tuple[tuple[int, ...], ...]
    counts: tuple[tuple[int, ...], ...]

    def split(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Split a shape into leading axes and the axes of the windows."""
        lead = len(shape) - len(self.starts)
        return tuple(shape[:lead]), tuple(shape[lead:])

    @property
    def windows(self) -> tuple[int, ...]:
        """The number of windows, in each dimension."""
        return tuple(map(len, self.starts))


@functools.lru_cache
def adaptive_windows(sizes: tuple[int, ...], windows: tuple[int, ...]) -> WindowRanges:
    """The windows of adaptive pooling: of n in a dimension, window i goes from floor(i size / n) up
    to ceil((i + 1) size / n)."""
    starts, stops = [], []
    for size, n in zip(sizes, windows, strict=True):
        starts.append(tuple(i * size // n for i in range(n)))
        stops.append(tuple(-((i + 1) * size // -n) for i in range(n)))
    counts = [
        tuple(b - a for a, b in zip(*both, strict=True)) for both in zip(starts, stops, strict=True)
    ]
    return WindowRanges(tuple(starts), tuple(stops), tuple(counts))


class AdamWOptions(NamedTuple):
    """The hyperparameters of `Backend.adamw_step`, by PyTorch's names.

    `step` counts from 1. The weight decay is AdamW's if `decoupled`, else an L2 term.
    """

    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    step: int
    decoupled: bool = True
    maximize: bool = False


class SGDOptions(NamedTuple):
    """The hyperparameters of `Backend.sgd_step`, by PyTorch's names; the `first` step sets momentum
    buffers to the gradient."""

    lr: float
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    maximize: bool = False
    first: bool = False


class RMSpropOptions(NamedTuple):
    """The hyperparameters of `Backend.rmsprop_step`, by PyTorch's names."""

    lr: float
    alpha: float
    eps: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    maximize: bool = False


class LionOptions(NamedTuple):
    """The hyperparameters of `Backend.lion_step`; `kept` is 1 - lr * weight_decay."""

    lr: float
    beta1: float
    beta2: float
    kept: float = 1.0
    maximize: bool = False


class SlotMap(NamedTuple):
    """The slots of a key-value cache, and the positions of the queries.

    positions  (B, T) int64, increasing: positions of the queries; a query sees its row's positions
               up to its own
    extent     S, the number of slots that a composed definition reads
    size       the number of positions in a page
    masks      masks by window, which composed definitions make once and keep for the next layers
    table      (B, n) int64: the pages of each row, for parts (P, size, Hk, w); None: parts are
               (B, Hk, slots, w), and each row is one page
    offset     the slot of the page with its first position
    wraps      whether position `size` reuses the slot of the first, as in a ring buffer
    start      (B,) int64: the first position of each row; None: 0
    fresh      whether the slots hold only the positions of the queries
    see_all    whether each query sees all S slots, apart from a window
    """

    positions: Any
    extent: int
    size: int
    masks: dict[Any, Any]
    table: Any = None
    offset: int = 0
    wraps: bool = False
    start: Any = None
    fresh: bool = False
    see_all: bool = False
