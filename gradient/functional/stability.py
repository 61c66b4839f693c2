"""Bounds that keep a division or logarithm finite."""

from __future__ import annotations

from gradient.tensor import Tensor
from gradient.tensor.joining import where


def at_least(input: Tensor, least: float) -> Tensor:
    """The input, and `least` where it is smaller. Unlike that of `clamp`, the gradient is the
    input's everywhere: the bound is for stability only."""
    detached = input.detach()
    return where(detached < least, input + (least - detached), input)
