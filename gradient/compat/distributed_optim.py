"""`distributed.optim`, of one process."""

from __future__ import annotations

from typing import Any

from gradient.optim import Optimizer

__all__ = ["ZeroRedundancyOptimizer"]


class _Whole:
    """An optimiser's whole state lies in this process."""

    def consolidate_state_dict(self, to: int = 0) -> None:
        """Bring the state together in process `to`: it is."""


def ZeroRedundancyOptimizer(
    params: Any,
    optimizer_class: type[Optimizer],
    process_group: object = None,
    parameters_as_bucket_view: bool = False,
    overlap_with_ddp: bool = False,
    **defaults: Any,
) -> Optimizer:
    """The `optimizer_class` itself: of one process, its state is divided among one."""
    kind = type(optimizer_class.__name__, (_Whole, optimizer_class), {})
    return kind(params, **defaults)
