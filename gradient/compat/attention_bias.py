"""`nn.attention.bias`: masks of causal attention whose ends are aligned."""

from __future__ import annotations

from gradient.tensor import Tensor
from gradient.tensor.creation import ones

__all__ = ["causal_lower_right", "causal_upper_left"]


def causal_upper_left(*size: int) -> Tensor:
    """A mask (L, S) that lets query i look at keys 0 to i."""
    return ones(size, dtype=bool).tril()


def causal_lower_right(*size: int) -> Tensor:
    """A mask (L, S) that lets the last query look at all keys, the one before at one less."""
    return ones(size, dtype=bool).tril(size[1] - size[0])
