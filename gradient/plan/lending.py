"""Gradients that a replay returns in its arena, without a copy.

They are lent until the next replay. By then a training loop usually has dropped them, by
`zero_grad()`. If only a tensor's `grad` still refers to one, it is moved to its own memory. If the
program holds other references, or views, the arena is left to them and replaced by a new one that
lends nothing. So a gradient is stored once, as in eager execution.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradient.backends.numpy import memory

LARGE = 1 << 16
"""The minimum bytes of a gradient that is lent: a smaller one is copied in less time."""


class Loans:
    """The arrays that an arena has lent to the gradients of `holders`, the tensors of the
    plan that `lender` returns."""

    def __init__(self) -> None:
        self.holders: Sequence[Any] = ()
        self.lender: Callable[[], Any] = lambda: None
        self._given: list[weakref.ref[Any]] = []

    def lend(self, x: np.ndarray) -> np.ndarray:
        """Return the array `x` of the arena for use outside, and note it."""
        made, loan = memory.borrowed(x)
        self._given.append(loan)
        return made

    def take_back(self) -> bool:
        """Move gradients that only their tensors hold to their own memory; return whether nothing
        outside refers to the arena then."""
        if not self._given:
            return True
        if any(loan() is not None for loan in self._given):
            for t in self.holders:
                if t._grad is not None:
                    self._move(t._grad)
        self._given = [loan for loan in self._given if loan() is not None]
        return not self._given

    def _move(self, t: Any) -> None:
        array = t.array
        owner = getattr(array, "base", None)
        if not isinstance(owner, memory.Loan):
            return
        if (sys.getrefcount(owner), sys.getrefcount(array)) == _UNSHARED:
            t.array = array.copy("K")


def _unshared() -> tuple[int, int]:
    """The reference counts of a lent array that only a tensor holds, as `_move` sees them."""

    class Holder:
        array = memory.borrowed(np.zeros(1))[0]

    array = Holder.array
    owner = array.base
    return sys.getrefcount(owner), sys.getrefcount(array)


_UNSHARED = _unshared()
