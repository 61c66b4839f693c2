"""`autograd.profiler`, of which `gradient.profiler` is the newer name."""

from __future__ import annotations

import contextlib
from typing import Any

from gradient import profiler
from gradient.profiler import EventList, FunctionEvent, FunctionEventAvg, record_function

__all__ = ["EventList", "FunctionEvent", "emit_nvtx", "profile", "record_function"]


class profile:  # noqa: N801 (PyTorch's name)
    """`with profile() as prof:` of old: `gradient.profiler.profile`, with its arguments' older
    names. `enabled=False` records nothing."""

    def __init__(
        self,
        enabled: bool = True,
        *,
        use_cuda: bool = False,
        use_device: str | None = None,
        record_shapes: bool = False,
        with_flops: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_modules: bool = False,
        use_kineto: bool = False,
        use_cpu: bool = True,
    ) -> None:
        self.enabled = enabled
        self.profiler = profiler.profile(record_shapes=record_shapes, with_stack=with_stack)

    def __enter__(self) -> profile | None:
        if not self.enabled:
            return None
        self.profiler.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.enabled:
            self.profiler.stop()

    @property
    def function_events(self) -> EventList[FunctionEvent]:
        return self.profiler.events()

    @property
    def self_cpu_time_total(self) -> float:
        return self.function_events.self_cpu_time_total

    def key_averages(
        self, group_by_input_shape: bool = False, group_by_stack_n: int = 0
    ) -> EventList[FunctionEventAvg]:
        return self.profiler.key_averages(group_by_input_shape, group_by_stack_n)

    def total_average(self) -> FunctionEventAvg:
        return self.function_events.total_average()

    def table(self, sort_by: str | None = None, row_limit: int = 100) -> str:
        return self.function_events.table(sort_by, row_limit)

    def export_chrome_trace(self, path: Any) -> None:
        self.profiler.export_chrome_trace(path)

    def __str__(self) -> str:
        return self.table()


class emit_nvtx(contextlib.nullcontext[None]):  # noqa: N801 (PyTorch's name)
    """A block that changes nothing: nothing is marked for NVIDIA's tools."""

    def __init__(self, enabled: bool = True, record_shapes: bool = False) -> None:
        super().__init__()


def kineto_available() -> bool:
    """True: `profiler.profile` is there."""
    return True
