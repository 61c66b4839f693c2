"""Plans as messages: the plan is sent once, and each replay is one more message.

`RemoteExecutor` sends; `PlanRunner`, on the other side, runs each call on any backend. The
transport of messages and arrays is exchangeable; in the tests it is a function call, and a backend
of opaque handles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradient.backends import Backend
from gradient.backends.recording_backend import OPERATORS
from gradient.plan.calls import Ref
from gradient.plan.errors import PlanError
from gradient.plan.messages import decode, encode
from gradient.plan.plan import Plan

Send = Callable[[list[Any]], Any]
"""Sends a message and gives the answer; arrays in both are NumPy's."""


class RemoteExecutor:
    """Runs a plan on the other side of `send`. External arrays are sent with the plan and stay on
    the other side: `read` fetches them."""

    nbytes = 0

    def __init__(self, plan: Plan, send: Send):
        self.plan, self.send = plan, send
        for i, buffer in enumerate(plan.buffers):
            if buffer.array is not None and buffer.root != i:
                raise PlanError("external buffers that share memory cannot be sent apart")
        held = {int(i): b.array for i, b in enumerate(plan.buffers) if b.array is not None}
        self.number = send([*encode(plan), held])

    def run(
        self,
        inputs: Sequence[Any],
        numbers: Mapping[str, float | int],
        outputs: int | None = None,
    ) -> list[Any]:
        answer: list[Any] = self.send(["run", self.number, list(inputs), dict(numbers)])
        return answer[:outputs]

    def read(self, ref: Ref) -> Any:
        """Fetch the values of a buffer of the other side, such as a parameter after a step."""
        return self.send(["read", self.number, int(ref)])


class PlanRunner:
    """The other side: answers messages, with arrays of its backend."""

    def __init__(self, backend: Backend[Any]):
        self.backend = backend
        self.plans: list[tuple[dict[str, Any], dict[int, Any]]] = []

    def __call__(self, message: list[Any]) -> Any:
        kind, *rest = message
        return getattr(self, f"_{kind}")(*rest)

    def _plan(self, plan: dict[str, Any], held: dict[int, Any]) -> int:
        arrays = {ref: self.backend.copy(self.backend.asarray(x)) for ref, x in held.items()}
        self.plans.append((plan, arrays))
        return len(self.plans) - 1

    def _read(self, number: int, ref: int) -> Any:
        return self.backend.to_numpy(self.plans[number][1][ref])

    def _run(self, number: int, inputs: list[Any], numbers: dict[str, float | int]) -> list[Any]:
        plan, held = self.plans[number]
        arrays = dict(held)
        for ref, given in zip(plan["inputs"], inputs, strict=True):
            arrays[ref] = self.backend.asarray(given)
        for op, args, options, out in plan["calls"]:
            given = [decode(arg, arrays, numbers) for arg in args]
            named = {name: decode(value, arrays, numbers) for name, value in options.items()}
            result = (OPERATORS.get(op) or getattr(self.backend, op))(*given, **named)
            _keep(out, result, arrays)  # none if the call only writes
        return [self.backend.to_numpy(arrays[ref]) for ref in plan["outputs"]]


def _keep(out: Any, result: Any, arrays: dict[int, Any]) -> None:
    """Store the arrays of a result by the numbers of their buffers."""
    if isinstance(out, list) and out[0] == "ref":
        arrays[out[1]] = result
    elif isinstance(out, list):
        for part, value in zip(out[1:], result, strict=True):
            _keep(part, value, arrays)
