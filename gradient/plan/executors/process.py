"""Plans on a device in another process: the plan is sent once, a replay is one message."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradient.backends.process.backend import ProcessBackend
from gradient.backends.process.graph import Graph
from gradient.backends.process.run_numbers import Number
from gradient.plan.calls import HostNumber, Ref
from gradient.plan.errors import PlanError
from gradient.plan.executors.whole_calls import Masks, run_call
from gradient.plan.plan import Plan


class ProcessExecutor:
    """A plan of calls of a `ProcessBackend`, stored by the plugin as a graph.

    Calls are not split here: the backend composes what the plugin lacks when it makes the graph.
    """

    nbytes = 0

    def __init__(
        self, plan: Plan, backend: ProcessBackend, externals: Mapping[Ref, Any] | None = None
    ):
        self.plan, self.backend = plan, backend
        self.externals = dict(externals or {})
        inputs = [backend.full(b.shape, 0, b.dtype) for b in (plan.buffers[r] for r in plan.inputs)]
        self.graph = Graph(backend, inputs, self._compute)
        self.program = range(self.graph.length)

    def __str__(self) -> str:
        return str(self.plan)

    def _compute(self, tracing: Any, lift: Callable[[Any], Any], *inputs: Any) -> list[Any]:
        arrays: dict[Ref, Any] = dict(zip(self.plan.inputs, inputs, strict=True))

        def array(ref: Ref) -> Any:
            found = arrays.get(ref)
            if found is None:
                buffer = self.plan.buffers[ref]
                value = self.externals.get(ref, buffer.array)
                if value is None:
                    raise PlanError(f"buffer {ref!r} is read before a call has made it")
                found = arrays[ref] = value if isinstance(value, np.ndarray) else lift(value)
            return found

        numbers: dict[str, Number] = {}

        def number(x: HostNumber) -> Number:
            return numbers.setdefault(x.name, Number.named(x.name, x.value))

        masks: Masks = {}
        for call in self.plan.calls:
            run_call(tracing, call, array, number, masks, arrays)
        return [array(ref) for ref in self.plan.outputs]

    def run(
        self,
        inputs: Sequence[Any],
        numbers: Mapping[str, float | int],
        outputs: int | None = None,
    ) -> list[Any]:
        return list(self.graph.run(inputs, numbers))[:outputs]
