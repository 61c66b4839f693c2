"""The interface of executors, which run plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

__all__ = ["Executor"]


class Executor(Protocol):
    """A plan prepared for a device: kernels chosen, memory laid out, addresses fixed.

    It is made for a plan and the memory of its external buffers. If one of these moves to other
    memory, a new executor is made. Each `run` reads the current values of the externals, and
    changes those that the plan writes.
    """

    nbytes: int
    """The bytes of the memory that it holds besides the externals."""

    def run(
        self,
        inputs: Sequence[Any],
        numbers: Mapping[str, float | int],
        outputs: int | None = None,
    ) -> list[Any]:
        """Replay the plan on arrays for its inputs, and values of its host numbers by name. The
        returned arrays of its outputs are new, except those in external memory; `outputs` says how
        many are wanted, of the first ones, if not all."""
