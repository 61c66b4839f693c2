"""Plans on a device in another process: the plan is sent once, a replay is one message."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradient.backends.options import SlotMap
from gradient.backends.process.backend import ProcessBackend
from gradient.backends.process.graph import Graph
from gradient.backends.process.run_numbers import Number
from gradient.backends.recording import OPERATORS, WRITES
from gradient.plan.calls import BOUNDARY, HostNumber, Ref, mapped
from gradient.plan.errors import PlanError
from gradient.plan.plan import Plan


class ProcessExecutor:
    """A plan of calls of a `ProcessBackend`, held by the plugin as a graph.

    Calls are whole: the backend composes what the plugin lacks, once, when the graph is made.
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

        masks: dict[Any, dict[Any, Any]] = {}

        def shared(x: SlotMap) -> SlotMap:
            """With the masks that an earlier call has made of the same positions."""
            arrays = id(x.positions), id(x.table), id(x.start)
            plain = x._replace(positions=None, table=None, start=None, masks={})
            return x._replace(masks=masks.setdefault((arrays, repr(plain)), {}))

        for call in self.plan.calls:
            if call.op == BOUNDARY:
                continue
            # Masks that were made in a call are no arguments of it.
            given = mapped((call.args, call.options), SlotMap, lambda x: x._replace(masks={}))
            given = mapped(mapped(given, Ref, array), HostNumber, number)
            args, options = mapped(given, SlotMap, shared)
            result = (OPERATORS.get(call.op) or getattr(tracing, call.op))(*args, **options)
            if call.op not in WRITES:
                _keep(call.out, result, arrays)
        return [array(ref) for ref in self.plan.outputs]

    def run(self, inputs: Sequence[Any], numbers: Mapping[str, float | int]) -> list[Any]:
        return list(self.graph.run(inputs, numbers))


def _keep(out: Any, result: Any, arrays: dict[Ref, Any]) -> None:
    """Put the arrays of a result in their places."""
    if isinstance(out, Ref):
        arrays[out] = result
    elif isinstance(out, (tuple, list)):
        for part, value in zip(out, result, strict=True):
            _keep(part, value, arrays)
