"""`nn.DataParallel` and `DistributedDataParallel` on the one device that a process has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from gradient.errors import ArgumentError, sentence
from gradient.nn.module import Module

__all__ = ["DataParallel", "DistributedDataParallel"]


class _Wrapper(Module):
    """Calls `module`, whose name stands before its parameters', as in PyTorch's checkpoints."""

    def __init__(self, module: Module, device_ids: Sequence[Any] | None) -> None:
        super().__init__()
        if device_ids is not None and len(device_ids) > 1:
            raise ArgumentError(sentence(type(self).__name__, "one device", device_ids))
        self.module = module

    def forward(self, *inputs: Any, **options: Any) -> Any:
        return self.module(*inputs, **options)


class DataParallel(_Wrapper):
    """A module on one device."""

    def __init__(
        self,
        module: Module,
        device_ids: Sequence[Any] | None = None,
        output_device: Any = None,
        dim: int = 0,
    ) -> None:
        super().__init__(module, device_ids)


class DistributedDataParallel(_Wrapper):
    """A module in one process: there are no gradients of others to add."""

    def __init__(
        self,
        module: Module,
        device_ids: Sequence[Any] | None = None,
        output_device: Any = None,
        dim: int = 0,
        broadcast_buffers: bool = True,
        init_sync: bool = True,
        process_group: Any = None,
        bucket_cap_mb: float | None = None,
        find_unused_parameters: bool = False,
        check_reduction: bool = False,
        gradient_as_bucket_view: bool = False,
        static_graph: bool = False,
    ) -> None:
        super().__init__(module, device_ids)
        #: Whether scripts want gradients to be added up over processes; it changes nothing.
        self.require_backward_grad_sync = True

    @contextmanager
    def join(
        self,
        divide_by_initial_world_size: bool = True,
        enable: bool = True,
        throw_on_early_termination: bool = False,
    ) -> Iterator[None]:
        """Training on inputs of other numbers in each process; there are no others."""
        yield

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Steps of gradient accumulation, whose gradients are added up later."""
        yield
