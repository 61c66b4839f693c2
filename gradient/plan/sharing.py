"""One arena for all plans of a compiled function, which run one after the other.

Only lent gradients (`gradient.plan.lending`) and the saved arrays of a pending backward pass must
outlive a run. So plans for other shapes (the last batch of an epoch) or other modes need no memory
of their own.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.numpy import memory
from gradient.plan.lending import Loans


class Arena:
    """Memory that plans run in, one at a time.

    call     returns the replayed call whose backward pass reads this memory, if it is alive
    retired  whether plans must take other memory from now on
    """

    def __init__(self, memory: np.ndarray):
        self.memory, self.loans = memory, Loans()
        self.call: Callable[[], Any] = lambda: None
        self.retired = False

    def is_busy(self) -> bool:
        """Whether a pending backward pass may read it."""
        call = self.call()
        return call is not None and call.executor is not None

    def is_free(self) -> bool:
        """Whether a plan may write to it."""
        return not self.retired and not self.is_busy() and self.loans.take_back()


def own_arena(nbytes: int) -> Arena:
    """Memory for one plan, with address space for scratch memory, which is only paged in on use."""
    return Arena(memory.pages(2 * nbytes))


class SharedArena:
    """Gives plans the same arena if it is free, and large enough or replaceable."""

    def __init__(self) -> None:
        self._current: Callable[[], Arena | None] = lambda: None

    def __call__(self, nbytes: int) -> Arena:
        current = self._current()
        if current is not None and not current.retired:
            if not current.is_free():
                return own_arena(nbytes)
            if nbytes <= current.memory.size:
                return current
            current.retired = True
            memory.release(current.memory)
        made = own_arena(nbytes)
        self._current = weakref.ref(made)
        return made
