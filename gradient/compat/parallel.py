"""`nn.DataParallel` on the one device that a process has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradient.errors import ArgumentError, sentence
from gradient.nn.module import Module

__all__ = ["DataParallel"]


class DataParallel(Module):
    """Calls `module`, whose name stands before its parameters', as in PyTorch's checkpoints."""

    def __init__(
        self,
        module: Module,
        device_ids: Sequence[Any] | None = None,
        output_device: Any = None,
        dim: int = 0,
    ) -> None:
        super().__init__()
        if device_ids is not None and len(device_ids) > 1:
            raise ArgumentError(sentence("DataParallel", "one device", device_ids))
        self.module = module

    def forward(self, *inputs: Any, **options: Any) -> Any:
        return self.module(*inputs, **options)
