"""The options of methods that have many: one value that definitions, kernels and ops hand on.

Named tuples, which are as frozen: a frozen dataclass with slots takes 0.8 microseconds to make
where `AdamWOptions` takes 0.24 (0.46 and 0.22 for `AttentionOptions`), which is 2.6 % of a step of
one small parameter, and `import gradient` does without the module `dataclasses`, which takes 0.8 ms
(Python 3.11, one thread of a Xeon with AMX).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple


class AttentionOptions(NamedTuple):
    """How `Backend.attention` scores.

    scale      by which q k^T is multiplied
    is_causal  whether row i sees columns up to i alone
    window     of these the last so many, from i - window + 1 (Beltagy et al. 2020, 3.1); without
               `is_causal` it says nothing
    softcap    scores become softcap tanh(scores / softcap) before they are masked (Gemma 2, 2024,
               section 2)
    """

    scale: float = 1.0
    is_causal: bool = False
    window: int | None = None
    softcap: float | None = None


class ConvolutionOptions(NamedTuple):
    """How `Backend.convolution` slides a weight over an input; a number for each dimension.

    padding    zeros before the input and after it; a negative number after it cuts it off
    groups     into which the channels are divided, that do not see each other
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
        """From the first number of the first of so many windows up to the last of the last."""
        return tuple(
            (n - 1) * s + d * (k - 1) + 1
            for n, k, s, d in zip(windows, kernel, self.stride, self.dilation, strict=True)
        )


class PoolingOptions(NamedTuple):
    """How `Backend.max_pool` moves a window over an input; a number for each dimension of it.

    padding    before the input and after it, which must be less than a window reaches
    least      what the padding is taken for: no more than any number of the input's dtype
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    least: float

    def split(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The sizes that windows do not move along, and those that they do."""
        lead = len(shape) - len(self.kernel)
        return tuple(shape[:lead]), tuple(shape[lead:])

    def windows(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """How many windows there are, in each dimension of an input of these sizes."""
        slide = ConvolutionOptions(self.stride, self.padding, self.dilation)
        return slide.windows(sizes, self.kernel)


class WindowRanges(NamedTuple):
    """Which windows `Backend.avg_pool` takes means of; in each dimension a number for each window.

    starts  its first place; before the input there are zeros, as behind it
    stops   the place behind its last; neither falls from a window to the next
    counts  by what its sum is divided, with those of the other dimensions
    """

    starts: tuple[tuple[int, ...], ...]
    stops: tuple[tuple[int, ...], ...]
    counts: tuple[tuple[int, ...], ...]

    def split(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The sizes that windows do not lie along, and those that they do."""
        lead = len(shape) - len(self.starts)
        return tuple(shape[:lead]), tuple(shape[lead:])

    @property
    def windows(self) -> tuple[int, ...]:
        """How many there are, in each dimension."""
        return tuple(map(len, self.starts))


@functools.lru_cache
def adaptive_windows(sizes: tuple[int, ...], windows: tuple[int, ...]) -> WindowRanges:
    """As many windows in each dimension, that cover all of its size evenly: window i of n from
    floor(i size / n) up to ceil((i + 1) size / n)."""
    starts, stops = [], []
    for size, n in zip(sizes, windows, strict=True):
        starts.append(tuple(i * size // n for i in range(n)))
        stops.append(tuple(-((i + 1) * size // -n) for i in range(n)))
    counts = [
        tuple(b - a for a, b in zip(*both, strict=True)) for both in zip(starts, stops, strict=True)
    ]
    return WindowRanges(tuple(starts), tuple(stops), tuple(counts))


class AdamWOptions(NamedTuple):
    """The numbers of `Backend.adamw_step`, by PyTorch's names.

    `step` counts from 1. The weight decay is AdamW's, or an L2 term where it is not `decoupled`.
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
    """The numbers of `Backend.sgd_step`, by PyTorch's names; at the `first` step momentum buffers
    begin as the gradient."""

    lr: float
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    maximize: bool = False
    first: bool = False


class RMSpropOptions(NamedTuple):
    """The numbers of `Backend.rmsprop_step`, by PyTorch's names."""

    lr: float
    alpha: float
    eps: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    maximize: bool = False


class LionOptions(NamedTuple):
    """The numbers of `Backend.lion_step`; `kept` is 1 - lr * weight_decay."""

    lr: float
    beta1: float
    beta2: float
    kept: float = 1.0
    maximize: bool = False


class SlotMap(NamedTuple):
    """Where a key-value cache keeps its slots, and where among them the queries stand.

    positions  (B, T) int64, rising: each query's; it sees the slots of its row up to its own
    extent     the slots that a composed definition reads, S
    size       positions of a page
    masks      by window: what composed definitions make of this, kept for the next layer
    table      (B, n) int64: the pages of a row, with parts (P, size, Hk, w); None: parts are
               (B, Hk, slots, w), and all of a row lies in one page
    offset     the slot of that page which holds its first position
    wraps      whether position `size` takes the slot of the first again, as in a ring
    start      (B,) int64: each row's first position; None: 0
    fresh      whether the slots are those of the queries and no others
    see_all    whether each query sees all S, but for a window
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
