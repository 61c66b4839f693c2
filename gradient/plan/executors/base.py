"""What runs a plan: the interface of all executors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

__all__ = ["Executor"]


class Executor(Protocol):
    """A plan made ready for a device: kernels chosen, memory laid out, addresses fixed.

    One is made for a plan and the memory of its external buffers; where one of those lies elsewhere
    from now on, another executor is made. Each `run` reads the externals as they are, and writes
    those that the plan writes.
    """

    nbytes: int
    """Of the memory that it holds beside the externals."""

    def run(self, inputs: Sequence[Any], numbers: Mapping[str, float | int]) -> list[Any]:
        """Replay: arrays for the plan's inputs, and its host numbers by name, to arrays of its
        outputs, which nobody else holds (save those that lie in external memory)."""
