"""Which executor runs the plans of a backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradient import backends
from gradient.plan.calls import Ref
from gradient.plan.executors.base import Executor
from gradient.plan.executors.cpu import CpuExecutor
from gradient.plan.plan import Plan
from gradient.plan.sharing import Arena, own_arena

__all__ = ["executor_for", "has_executor"]


def has_executor(device: str) -> bool:
    """Whether plans can be run on a device."""
    return device == "cpu" or any(
        hasattr(backends.get(device), name) for name in ("client", "graph_recorder")
    )


def executor_for(
    plan: Plan,
    backend: Any,
    externals: Mapping[Ref, Any] | None = None,
    arena_of: Callable[[int], Arena] = own_arena,
    repeated: bool = False,
) -> Executor:
    """Return an executor of the plan: for the CPU, for a backend that captures graphs, or for one
    in another process. On the CPU, `arena_of` gives the memory, and if `repeated`, kernels compute
    small calls too."""
    if hasattr(backend, "graph_recorder"):
        from gradient.plan.executors.graph import GraphExecutor

        return GraphExecutor(plan, backend, externals)
    if not hasattr(backend, "client"):
        return CpuExecutor(plan, externals, arena_of=arena_of, repeated=repeated)
    from gradient.plan.executors.process import ProcessExecutor

    return ProcessExecutor(plan, backend, externals)
