"""Plans on the CPU: NumPy calls and kernels that write to fixed places in one arena.

Every buffer keeps its address for the executor's whole life. So views are made once, when the
executor is built, and a replay is a loop over functions with bound arguments. `lowering` makes
calls write to their places. Other calls run by the backend's method, and the result is copied.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gradient import backends
from gradient.autograd.explain import index_error
from gradient.backends import small_calls
from gradient.backends.numpy import memory, threads
from gradient.backends.recording_backend import OPERATORS, definitions
from gradient.errors import IndexOutOfRange
from gradient.plan import arena
from gradient.plan.calls import BOUNDARY, Call, HostNumber, Ref, leaves, mapped
from gradient.plan.errors import PlanError
from gradient.plan.executors import classes, fused, small, updates
from gradient.plan.executors.concurrency import Accesses, with_concurrency
from gradient.plan.executors.copied import lower_on_copies
from gradient.plan.executors.given import LARGE, Given, read_by_tasks
from gradient.plan.executors.lowering import LOWERINGS, UFUNCS
from gradient.plan.executors.overwriting import written_over
from gradient.plan.executors.places import assigned_in_place
from gradient.plan.executors.program import (
    Step,
    joined,
    method,
    named,
    scratch_of,
    with_scratch,
    with_scratch_buffers,
    workspace_of,
)
from gradient.plan.executors.tasks import lower
from gradient.plan.executors.watched import WatchedCall, by_call, run_watched, watching
from gradient.plan.lending import LARGE as LENT
from gradient.plan.listing import listing
from gradient.plan.plan import Plan
from gradient.plan.sharing import Arena, own_arena

__all__ = ["CpuExecutor"]

KERNELS = definitions()
"""Methods with a composed definition. Calls were expanded to its pieces, if there were any: so a
call of these methods that is left is made by a kernel."""
TRIMMED = 1 << 20
"""Beyond so many bytes an arena has pages of its own, and freed memory is given back to the system
before it is made, and after a call with arrays of more bytes was tried."""
COPIED = 1 << 16
"""The minimum bytes of an array for whose copy by a method there is scratch memory."""
SPARED = 1 << 18
"""The minimum bytes to save by another layout of the arena that includes scratch memory."""
WORD = 1 << 64
"""Kernels take a generator's key and offset modulo this, as unsigned 64-bit integers."""
NO_OTHERS: Mapping[Ref, np.ndarray] = {}
CREATIONS = ("full", "zeros", "ones", "arange", "empty")


class CpuExecutor:
    """A plan with its memory.

    Args:
        externals: arrays for external buffers that have moved since they were recorded.
        poison: fill the arena with NaN before each run, for tests.
        arena_of: returns memory of so many bytes; it is used if that is large.
        repeated: run small calls by kernels too, whose rounding differs.
    """

    def __init__(
        self,
        plan: Plan,
        externals: Mapping[Ref, np.ndarray] | None = None,
        poison: bool = False,
        arena_of: Callable[[int], Arena] = own_arena,
        repeated: bool = False,
    ):
        self.plan, self.poison = plan, poison
        self._kernels = small_calls.repeated if repeated else contextlib.nullcontext
        self.backend: Any = backends.get("cpu")
        self.numbers: Mapping[str, float | int] = {}
        self._cells: dict[tuple[str, str], np.ndarray] = {}
        calls, outputs = plan.expanded(fused.runs).calls, plan.outputs
        buffers = plan.buffers
        self._constants = _constant_roots(calls)
        self._bounds = small.index_bounds(calls, buffers)
        places, assigned = assigned_in_place(calls, buffers, outputs, _is_ufunc)
        lives = arena.lifetimes(calls, buffers, outputs)
        elsewhere = {*self._constants, *places}
        places |= written_over(calls, buffers, lives, elsewhere, self._is_given)
        elsewhere |= places.keys()
        lives = {root: life for root, life in lives.items() if root not in elsewhere}
        layout = arena.packed(lives, buffers)
        self._trims = layout.nbytes > TRIMMED
        if self._trims:
            memory.trim()  # earlier eager runs have freed as much
            self.arena = arena_of(layout.nbytes)
        else:
            self.arena = Arena(arena.block(layout.nbytes))
        self._memory = self.arena.memory
        self.calls, self.kernels = calls, dict.fromkeys(assigned, "the call before")
        self._places, self._externals = places, dict(externals or {})
        with self._kernels():
            steps, boundary, needed = self._lowered_calls(layout, lives)
        if self.nbytes > layout.nbytes + SPARED:  # no room for scratch memory: lay it out, too
            lives, buffers = with_scratch_buffers(lives, buffers, needed)
            better = arena.packed(lives, buffers)
            if better.nbytes + SPARED < self.nbytes:
                with self._kernels():
                    steps, boundary, _ = self._lowered_calls(better, lives, needed)
        if self._trims:
            memory.use_huge(self._memory, self.nbytes)
        steps, self._scratch = with_scratch(steps)
        touched = list(map(self._touched, self._calls_of))
        steps = [
            *with_concurrency(steps[:boundary], touched[:boundary]),
            *with_concurrency(steps[boundary:], touched[boundary:]),
        ]
        read = read_by_tasks(plan, self._calls_of, steps)
        copied = sum(buffers[ref].nbytes for ref in plan.inputs if ref not in read)
        self.nbytes += self._scratch.nbytes + copied
        self._steps, self._boundary = steps, boundary
        first = joined(steps[:boundary])
        self._second = len(first)
        self.program: list[Step] = [*first, *joined(steps[boundary:])]
        self._inputs = [self._arrays[ref] for ref in plan.inputs]
        lists = [given[0] for function, given in self.program if function is threads.run_tasks]
        self._given = {
            i: Given(self._inputs[i], lists) for i, ref in enumerate(plan.inputs) if ref in read
        }
        for given in self._given.values():
            memory.release(given.place)
        self._outputs = [self._output(ref) for ref in outputs]
        self._untouched = self._trims

    # Building ------------------------------------------------------------------------------------

    def _lowered_calls(
        self,
        layout: arena.Layout,
        lives: dict[Ref, tuple[int, int]],
        scratch: Mapping[int, int] | None = None,
    ) -> tuple[list[Step], int, dict[int, int]]:
        """Lower the calls in this layout: their steps, the step at which a plan's second part
        begins, and the bytes of scratch memory of each call. If the layout has places for scratch
        memory, after the plan's buffers in order, `scratch` has these bytes."""
        buffers = self.plan.buffers
        self.nbytes = layout.nbytes
        self._arrays = dict(self._externals)
        self._placed = frozenset(ref for ref in layout.offsets if ref < len(buffers))
        for root in self._placed:
            at, buffer = layout.offsets[root], buffers[root]
            self._arrays[root] = arena.array_at(self._memory[at : at + buffer.nbytes], buffer)
        for ref in self.plan.inputs:
            nbytes = buffers[ref].nbytes
            own = memory.pages(nbytes) if nbytes >= LARGE else arena.block(max(1, nbytes))
            self._arrays[ref] = arena.array_at(own, buffers[ref])
        scratch_at = {i: layout.offsets[Ref(len(buffers) + n)] for n, i in enumerate(scratch or ())}
        steps: list[Step] = []
        found: dict[int, int] = {}
        self._calls_of: list[Call] = []
        boundary = 0
        for i, call in enumerate(self.calls):
            if self.kernels.get(i) == "the call before":
                continue
            if call.op == BOUNDARY:
                boundary = len(steps)
                continue
            if isinstance(call.out, Ref) and call.out in self._places:
                self._arrays[call.out] = self._array(self._places[call.out])
            first = call.outputs[0] if call.outputs else None
            if first is not None and buffers[first].root in self._constants and not call.view:
                self._arrays[first] = np.asarray(self._function(call)())
            elif call.view:
                self._view(call)
            else:
                made = self._lower(call)
                self.kernels[i] = named(call, made)
                if needed := scratch_of(made):
                    if i in scratch_at:
                        at = scratch_at[i]
                    else:
                        at = arena.place_during(i, needed, layout, lives, buffers)
                    if at + needed <= self._memory.size:
                        found[i] = needed
                        made, _ = with_scratch(made, self._memory[at:])
                        self.nbytes = max(self.nbytes, at + needed)
                steps += made
                self._calls_of += [call] * len(made)
                self._forget_trial(call)
        return steps, boundary, found

    def _forget_trial(self, call: Call) -> None:
        """Free the memory that was used to try a call."""
        if not self._trims:
            return
        memory.release(self._memory)
        refs = (*call.inputs, *call.outputs)
        if sum(self.plan.buffers[ref].nbytes for ref in refs) > TRIMMED:
            memory.trim()

    def _array(self, ref: Ref) -> np.ndarray:
        found = self._arrays.get(ref)
        if found is None:
            found = self.plan.buffers[ref].array
            if found is None:
                raise PlanError(f"buffer {ref!r} is read before a call has made it")
            self._arrays[ref] = found
        return found

    def _view(self, call: Call) -> None:
        out = call.outputs[0]
        made = np.asarray(self._function(call)())
        buffer = self.plan.buffers[out]
        shares = np.may_share_memory(made, self._array(call.inputs[0]))
        if made.shape != buffer.shape or (made.size and not shares):
            raise PlanError(f"{call.op} at {call.line} is no view of the memory it is given now")
        self._arrays[out] = made

    def _function(
        self, call: Call, others: Mapping[Ref, np.ndarray] = NO_OTHERS
    ) -> Callable[[], Any]:
        """The backend's method for a call, on the arrays of its buffers or on `others`."""

        def array(ref: Ref) -> np.ndarray:
            return others[ref] if ref in others else self._array(ref)

        args, options = mapped((call.args, call.options), Ref, array)
        method = OPERATORS.get(call.op) or getattr(self.backend, call.op)
        if not call.numbers:
            return lambda: method(*args, **options)

        def run() -> Any:
            now = self._now((args, options))
            return method(*now[0], **now[1])

        return run

    def _lower(self, call: Call) -> list[Step]:
        """Lower a call to functions that write to the places of its results."""
        args, options = mapped((call.args, call.options), Ref, self._array)
        out = mapped(call.out, Ref, self._array)
        tasks = small.lower(call, args, out, self._bound)
        if tasks is None:
            tasks = updates.lower(call, args, out, self._now)
        if tasks is None:
            tasks = classes.lower(call, args, out, self._is_given)
        if tasks is not None:
            return list(tasks)
        lowering = LOWERINGS.get(call.op)
        if _is_ufunc(call):
            dtypes = {x.dtype.char for x in args if isinstance(x, np.ndarray)}
            if len(dtypes) == 1 and dtypes <= {"f", "d"}:
                char = dtypes.pop()
                args = mapped(args, HostNumber, lambda number: self._cell(number.name, char))
        elif call.op == "dropout":  # its key and offset
            args = mapped(args, HostNumber, lambda number: self._cell(number.name, "Q"))
        if lowering is not None and next(leaves((args, options), HostNumber), None) is None:
            steps = lowering(args, options, out)
            if steps is not None:
                return list(steps)
        function = self._function(call)
        if not call.outputs:
            return [(function, ())]
        if not call.numbers and call.op in KERNELS and call.op not in self.backend.kept_whole:
            operands = [self._array(ref) for ref in call.inputs]
            found = lower(function, operands, self._is_own, out, _kind(call))
            if found is None:
                by_ref = dict(zip(call.inputs, operands, strict=True))
                on = functools.partial(self._function, call)
                found = lower_on_copies(on, by_ref, self._is_own, out, _kind(call))
            if found is not None:
                return found
            return method(function, out, workspace_of(function, out))
        return method(function, out, _of_copies(map(self._array, (*call.inputs, *call.outputs))))

    def _output(self, ref: Ref) -> Callable[[], np.ndarray]:
        """A function that returns an output: a copy, unless it lies in external memory."""
        x, buffers = self._array(ref), self.plan.buffers
        if buffers[buffers[ref].root].kind == "external":
            return lambda: x
        return functools.partial(arena.copied, x) if arena.has_gaps(x) else lambda: x.copy("K")

    def _now(self, tree: Any) -> Any:
        """The arguments, with the numbers of this run."""
        return mapped(tree, HostNumber, lambda number: self.numbers[number.name])

    def _is_given(self, ref: Ref) -> bool:
        """Whether a buffer is an input that no call writes."""
        return self.plan.buffers[self.plan.root(ref)].kind == "input"

    def _touched(self, call: Call) -> Accesses:
        """The arrays that a call reads and writes."""
        written = [*call.outputs, *call.writes]
        roots = set(map(self.plan.root, written))
        read = [ref for ref in call.inputs if self.plan.root(ref) not in roots]
        return Accesses(list(map(self._array, read)), list(map(self._array, written)))

    def _bound(self, x: Any) -> int | None:
        """The known bound of a buffer's integers (from 0 to below it), or None."""
        return self._bounds.get(self.plan.buffers[x].root) if isinstance(x, Ref) else None

    def _cell(self, name: str, dtype: str) -> np.ndarray:
        """The 0-d array, of the given dtype, of a number that is read before each run."""
        return self._cells.setdefault((name, dtype), np.zeros((), dtype))

    def _is_own(self, x: np.ndarray) -> bool:
        """Whether an array lies in the arena, or is an input's place."""
        return x.flags.writeable and (
            np.may_share_memory(x, self._memory)
            or any(np.may_share_memory(x, self._arrays[ref]) for ref in self.plan.inputs)
        )

    # Replaying -----------------------------------------------------------------------------------

    def lend(self, outputs: range) -> None:
        """Return these outputs, if they are large, without a copy in the arena. The caller must
        take back the arena's `loans` before the next run."""
        roots = Counter(self.plan.root(self.plan.outputs[i]) for i in outputs)
        for i in outputs:
            ref = self.plan.outputs[i]
            x = self._array(ref)
            own = ref in self._placed and roots[ref] == 1
            if own and x.nbytes >= LENT and not arena.has_gaps(x):
                self._outputs[i] = functools.partial(self.arena.loans.lend, x)

    def run(
        self,
        inputs: Sequence[Any],
        numbers: Mapping[str, float | int],
        outputs: int | None = None,
    ) -> list[np.ndarray]:
        self._begin(numbers)
        return self._run(slice(None), self._inputs, inputs, self._outputs[:outputs])

    def start(
        self, inputs: Sequence[Any], numbers: Mapping[str, float | int], outputs: int
    ) -> list[np.ndarray]:
        """Run the first part of a plan in two parts on its first inputs; return the first `outputs`
        outputs."""
        self._begin(numbers)
        places = self._inputs[: len(inputs)]
        return self._run(slice(self._second), places, inputs, self._outputs[:outputs])

    def finish(self, inputs: Sequence[Any], outputs: int) -> list[np.ndarray]:
        """Run the second part, once after each `start`, on the last inputs; return the last
        `outputs` outputs."""
        places = self._inputs[len(self._inputs) - len(inputs) :]
        wanted = self._outputs[len(self._outputs) - outputs :]
        return self._run(slice(self._second, None), places, inputs, wanted)

    def _begin(self, numbers: Mapping[str, float | int]) -> None:
        if self._untouched:  # the memory of the recorded runs is free by now
            self._untouched = False
            memory.trim()
        if self.poison:
            self._memory.fill(0xFF)
            self._scratch.fill(0xFF)
        self.numbers = numbers
        for (name, _), cell in self._cells.items():
            cell[...] = numbers[name] % WORD if cell.dtype == np.uint64 else numbers[name]

    def _run(
        self,
        part: slice,
        places: list[np.ndarray],
        inputs: Sequence[Any],
        outputs: list[Callable[[], np.ndarray]],
    ) -> list[np.ndarray]:
        watch = watching()
        for i, (place, x) in enumerate(zip(places, inputs, strict=True)):
            given = self._given.get(i) if watch is None else None
            np.copyto(place, x) if given is None else given.bind(x)
        with self._kernels():
            if watch is not None:
                steps = slice(*(self._boundary if x else x for x in (part.start, part.stop)))
                run_watched(self._by_call(steps), watch)
            else:
                self._run_program(part)
        return [output() for output in outputs]

    def _run_program(self, part: slice) -> None:
        function: Any = None
        args: tuple[Any, ...] = ()
        try:
            for function, args in self.program[part]:
                function(*args)
        except IndexOutOfRange:
            raise
        except IndexError as error:  # an index out of range, found during the run
            pairs = zip(self._calls_of, self._steps, strict=True)
            found = [call for call, step in pairs if step[0] is function and step[1] is args]
            name = found[0].place if found else "compiled function"
            raise index_error(name, error) from error

    def _by_call(self, part: slice) -> list[WatchedCall]:
        return by_call(self._calls_of[part], self._steps[part], self.plan.buffers)

    def __str__(self) -> str:
        """The plan's listing, with the kernel of each call."""
        plan = self.plan
        return listing(self.calls, plan.buffers, plan.outputs, kernels=self.kernels)

    def value(self, ref: Ref) -> np.ndarray:
        """The array of a buffer, until the next run or until its place is reused."""
        return self._array(ref)


def _of_copies(arrays: Iterable[np.ndarray]) -> int:
    """An estimate, without a run, of the bytes that a method uses for contiguous copies of its
    arguments and results."""
    others = (x.nbytes for x in arrays if x.nbytes >= COPIED and not x.flags.c_contiguous)
    return sum(-(-nbytes // arena.ALIGNMENT) * arena.ALIGNMENT for nbytes in others)


def _is_ufunc(call: Call) -> bool:
    return call.op in UFUNCS and not call.options


def _kind(call: Call) -> str:
    """A key of a call: its op, arguments and options, without the buffers."""
    return repr(mapped((call.op, call.args, call.options), Ref, lambda ref: None))


def _constant_roots(calls: Sequence[Call]) -> frozenset[Ref]:
    """The buffers made by calls without arrays and written by no call: they are made once."""
    written = {root for call in calls for root in call.writes}
    return frozenset(
        call.outputs[0]
        for call in calls
        if call.op in CREATIONS
        and len(call.outputs) == 1
        and not call.inputs
        and not call.numbers
        and next(leaves(call.out, Ref)) not in written
    )
