"""`utils.flop_counter`: there is no count of operations."""

from __future__ import annotations

from typing import Any

from gradient.errors import BackendError

__all__ = ["FlopCounterMode"]


class FlopCounterMode:
    """A block whose floating-point operations PyTorch would count; entering it raises an error."""

    def __init__(
        self,
        mods: Any = None,
        depth: int = 2,
        display: bool = True,
        custom_mapping: Any = None,
    ) -> None:
        pass

    def __enter__(self) -> None:
        raise BackendError(
            "FlopCounterMode: operations are not counted; gradient.profiler times them"
        )

    def get_flop_counts(self) -> dict[str, dict[Any, int]]:
        """{}: what PyTorch has before a first block, and programs ask for (Lightning's summary)."""
        return {}

    def get_total_flops(self) -> int:
        """0, as before a first block."""
        return 0

    def __exit__(self, *exception: object) -> None:
        pass
