"""Plans as captured graphs (CUDA graphs): a replay is one launch for each graph.

The first run makes each call. It shows which calls move values between host and device: these stay
calls, and the calls between them are captured as graphs. A call that cannot be captured stays a
call, too. Numbers that change from run to run are kept on the device, if the backend's kernels can
read them there; one copy before the graphs updates them all. Other calls with such numbers are in
no graph.

Outputs are copied, except lent ones: gradients, which the next step replaces.

If a capture fails, the next run tries to capture each call by itself. So one more run finds all
calls that cannot be captured.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gradient.backends.placement import on_device_of
from gradient.garbage import no_collections
from gradient.plan.calls import BOUNDARY, Call, HostNumber, Ref
from gradient.plan.errors import PlanError
from gradient.plan.executors.whole_calls import Masks, run_call
from gradient.plan.listing import listing
from gradient.plan.plan import Plan

FLOAT64, INT64 = np.dtype(np.float64), np.dtype(np.int64)

Numbers = Mapping[str, Any]
"""By name: Python's, or 0-d arrays on the device."""


class Refused(Exception):  # noqa: N818
    """A call cannot be captured: its number, and the reason."""


class GraphExecutor:
    """A plan on a backend with `graph_recorder`, `launch_graph`, `refill` and `holders`.

    Inputs are copied to their own memory. The arrays of results are dropped after their last use,
    so graphs use as much memory as a run of single calls.
    """

    def __init__(self, plan: Plan, backend: Any, externals: Mapping[Ref, Any] | None = None):
        self.plan, self.backend = plan, backend
        self.calls: tuple[Call, ...] = tuple(c for c in plan.calls if c.op != BOUNDARY)
        self.recorder = backend.graph_recorder()
        numbered = [(i, call) for i, call in enumerate(self.calls) if call.numbers]
        self.alone = {
            i: "takes a number" for i, call in numbered if call.op not in backend.device_numbers
        }
        """Calls that are in no graph, and why."""
        self._cells = Cells(backend, [x for i, call in numbered if i not in self.alone
                                      for x in call.numbers])  # fmt: skip
        self._held: dict[Ref, Any] = dict(externals or {})
        for ref, buffer in enumerate(plan.buffers):
            if buffer.array is not None:
                self._held.setdefault(Ref(ref), backend.asarray(buffer.array))
        for ref in plan.inputs:
            buffer = plan.buffers[ref]
            self._held[ref] = backend.empty(buffer.shape, buffer.dtype)
        self._dropped = _last_uses(self.calls, plan)
        self._places: dict[Ref, Any] = {}
        self._parts: list[Any] | None = None
        self._doubtful = False
        """Whether a capture was refused, and the calls have to be tried one by one."""
        self._outputs: list[Any] = []
        self._external = {
            i for i, ref in enumerate(plan.outputs)
            if plan.buffers[plan.buffers[ref].root].kind == "external"
        }  # fmt: skip
        self._lent: set[int] = set()
        """The numbers of the outputs that are returned without a copy."""
        self._holders: list[Any] = []
        """The owners of the lent outputs' memory: the program has dropped the outputs when these
        have as many references as `_counts`."""
        self._counts: list[int] | None = None
        self.nbytes = 0

    @property
    def program(self) -> Sequence[Any]:
        """The parts of a replay: graphs, and ranges of calls outside of graphs."""
        return self.calls if self._parts is None else self._parts

    def lend(self, outputs: Iterable[int]) -> None:
        """Return these outputs in the graph's memory, without a copy. The next run may only begin
        when the program has dropped them (`is_free`). Outputs that share memory are still copied.
        """
        buffers = self.plan.buffers
        roots = Counter(buffers[ref].root for ref in self.plan.outputs)
        for i in outputs:
            buffer = buffers[self.plan.outputs[i]]
            alone = roots[buffer.root] == 1 and buffers[buffer.root].kind == "internal"
            if alone and all(
                step or n < 2 for step, n in zip(buffer.strides, buffer.shape, strict=True)
            ):
                self._lent.add(i)

    def is_free(self) -> bool:
        """Whether the program has dropped all lent arrays."""
        return self._counts is None or self._counts == self._held_by()

    def _held_by(self) -> list[int]:
        return [*map(sys.getrefcount, self._holders)]

    def run(self, inputs: Sequence[Any], numbers: Numbers, outputs: int | None = None) -> list[Any]:
        return on_device_of(self.backend, self._run, inputs, numbers, outputs)

    def run_again(self, numbers: Numbers, outputs: int | None = None) -> list[Any]:
        """`run` on what its inputs hold: what the plan wrote there (`Backend.feed_back`)."""
        return on_device_of(self.backend, self._run, None, numbers, outputs)

    def _run(
        self, be: Any, inputs: Sequence[Any] | None, numbers: Numbers, wanted: int | None
    ) -> list[Any]:
        if inputs is not None:
            for ref, given in zip(self.plan.inputs, inputs, strict=True):
                be.refill(self._held[ref], given)
        if self._parts is None:
            outputs = self.recorder.run(lambda: self._first_run(numbers))
            self._capture()
            return outputs[:wanted]
        self._cells.tell(numbers)
        for part in self._parts:
            if isinstance(part, range):
                self._run_alone(part, numbers)
            else:
                be.launch_graph(part)
        if self._counts is None:
            self._counts = self._held_by()
        return self._fresh(self._outputs[:wanted], self._lent)

    def _first_run(self, numbers: Numbers) -> list[Any]:
        """Run each call. The results of calls outside of graphs are kept as their places."""
        made: dict[Ref, Any] = {}
        masks: Masks = {}
        self._places.clear()
        for i in range(len(self.calls)):
            if self._doubtful and i not in self.alone:
                self._try(i, made, masks)
            before = self.backend.transfers
            self._call(i, made, numbers, masks)
            if self.backend.transfers != before:
                self.alone[i] = "takes values to the host, or from it"
            if i in self.alone:
                if self.calls[i].view:
                    raise PlanError(f"a view that {self.calls[i].op} takes by a changing number")
                self._places.update((ref, made[ref]) for ref in self.calls[i].outputs)
            self._drop(i, made)
        return self._fresh([self._array(ref, made) for ref in self.plan.outputs])

    def _try(self, i: int, made: Mapping[Ref, Any], masks: Masks) -> None:
        """Capture a call only to see whether that fails; drop the graph."""
        part, others = range(i, i + 1), {key: dict(each) for key, each in masks.items()}
        try:
            self._captured(part, dict(made), others)
        except Exception as error:
            self._refuse(error, part)

    def _captured(self, part: range, made: dict[Ref, Any], masks: Masks) -> Any:
        """The graph of a range of calls."""
        with no_collections():  # what a finalizer does would be captured, too
            graph, _ = self.recorder.capture(
                lambda: self._calls(part, made, self._cells.arrays, masks)
            )
        return graph

    def _refuse(self, error: Exception, part: range) -> None:
        """Note that a call cannot be captured; or all calls of a part, if the capture failed only
        at its end."""
        if isinstance(error, Refused):
            i, error = error.args
            part = range(i, i + 1)
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        self.alone.update(dict.fromkeys(part, reason))

    def _capture(self) -> None:
        """Make the graphs. If a call cannot be captured, it is noted, and the next run makes each
        call again, to get its results; this repeats until all the rest can be captured."""
        parts: list[Any] = []
        made: dict[Ref, Any] = dict(self._places)
        masks: Masks = {}
        read = [ref for i in self.alone for ref in self.calls[i].inputs]
        for part in self._divided():
            if part[0] in self.alone:
                parts.append(part)
                continue
            try:
                graph = self._captured(part, made, masks)
            except Exception as error:
                if isinstance(error, Refused) or self._doubtful:
                    self._refuse(error, part)
                self._doubtful = True
                return
            parts.append(graph)
            # At once: a later graph with its last use would drop it before a call between them.
            self._places.update((ref, made[ref]) for ref in read if ref in made)
        self._outputs = [self._array(ref, made) for ref in self.plan.outputs]
        self._holders = [x for i in self._lent for x in self.backend.holders(self._outputs[i])]
        self.nbytes = int(self.recorder.nbytes)
        self._parts = parts

    def _divided(self) -> list[range]:
        """Ranges of calls: those captured together, and those that run outside of graphs."""
        ends = [i for i in range(1, len(self.calls))
                if (i in self.alone) != (i - 1 in self.alone)]  # fmt: skip
        bounds = [0, *ends, len(self.calls)]
        return [range(a, b) for a, b in zip(bounds, bounds[1:], strict=False) if a < b]

    def _calls(self, part: range, made: dict[Ref, Any], numbers: Numbers, masks: Masks) -> None:
        for i in part:
            try:
                self._call(i, made, numbers, masks)
            except Exception as error:
                raise Refused(i, error) from error
            self._drop(i, made)

    def _run_alone(self, part: range, numbers: Numbers) -> None:
        """Run the calls, and copy their results to where later graphs read them."""
        made: dict[Ref, Any] = dict(self._places)
        for i in part:
            self._call(i, made, numbers, {})
            for ref in self.calls[i].outputs:
                if made[ref] is not self._places[ref]:
                    self.backend.assign(self._places[ref], ..., made[ref])
                    made[ref] = self._places[ref]

    def _call(self, i: int, made: dict[Ref, Any], numbers: Numbers, masks: Masks) -> None:
        def number(x: HostNumber) -> Any:
            return numbers[x.name]

        run_call(
            self.backend, self.calls[i], lambda ref: self._array(ref, made), number, masks, made
        )

    def _array(self, ref: Ref, made: Mapping[Ref, Any]) -> Any:
        found = made.get(ref)
        if found is None:
            found = self._held.get(ref)
        if found is None:
            raise PlanError(f"buffer {ref!r} is read before a call has made it")
        return found

    def _drop(self, i: int, made: dict[Ref, Any]) -> None:
        for ref in self._dropped.get(i, ()):
            made.pop(ref, None)

    def _fresh(self, outputs: Sequence[Any], lent: Iterable[int] = ()) -> list[Any]:
        """Copies of the outputs, except those that are lent or in external memory."""
        given = self._external.union(lent)
        return [x if i in given else self.backend.clone(x) for i, x in enumerate(outputs)]

    def __str__(self) -> str:
        """The plan's listing, which marks calls outside of graphs."""
        lines = [listing(self.calls, self.plan.buffers, self.plan.outputs)]
        if self._parts is None:
            lines.append("not captured yet")
        for i, why in sorted(self.alone.items()):
            lines.append(f"{self.calls[i].op} {self.calls[i].line} is in no graph: {why}".rstrip())
        return "\n".join(lines)


class Cells:
    """Numbers on the device by name: 0-d float64 and int64 views of one contiguous array."""

    def __init__(self, backend: Any, numbers: Sequence[HostNumber]):
        self.backend = backend
        floats, ints = (
            [*dict.fromkeys(x.name for x in numbers if isinstance(x.value, kind))]
            for kind in (float, int)
        )
        self._names, self._floats = floats + ints, len(floats)
        self.arrays: dict[str, Any] = {}
        if self._names:
            self._table = backend.zeros((len(self._names),), INT64)
        for i, name in enumerate(self._names):
            cell = self._table[i : i + 1]
            self.arrays[name] = (cell.view(FLOAT64) if i < len(floats) else cell).reshape(())

    def tell(self, numbers: Numbers) -> None:
        """Copy the host's numbers to the device, asynchronously."""
        if not self._names:
            return
        values = [numbers[name] for name in self._names]
        told = np.empty(len(values), INT64)
        told[: self._floats].view(FLOAT64)[...] = values[: self._floats]
        # Keys of generators are unsigned 64-bit integers.
        told[self._floats :].view(np.uint64)[...] = [x % 2**64 for x in values[self._floats :]]
        self.backend.refill(self._table, told)


def _last_uses(calls: Sequence[Call], plan: Plan) -> dict[int, list[Ref]]:
    """By a call's number, the buffers that no later call reads and that are no outputs. (A view
    keeps the memory of its buffer alive.)"""
    last: dict[Ref, int] = {}
    for i, call in enumerate(calls):
        last.update(dict.fromkeys((*call.inputs, *call.outputs), i))
    dropped: dict[int, list[Ref]] = {}
    for ref, i in last.items():
        if ref not in plan.outputs:
            dropped.setdefault(i, []).append(ref)
    return dropped
