"""Numbers of a plan that are read again before each replay, and owners to update after it.

A recorded call holds Python numbers. Most are constants (an axis, an epsilon). Some have an owner
that changes them: a generator its offset, an optimiser its learning rate and step count. `Readers`
gives these a name in the plan, and after each replay it updates their owners as the recorded run
did.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from gradient.backends.options import AdamWOptions
from gradient.backends.recording_backend import value_of
from gradient.optim import Optimizer
from gradient.optim.masters import MASTER
from gradient.optim.numbers import settings_read
from gradient.plan.calls import HostNumber, mapped
from gradient.plan.errors import PlanError
from gradient.tensor import Tensor
from gradient.tensor import generator as generators
from gradient.tensor.generator import Generator, draw_lock

DRAWS = ("philox", "uniform", "normal", "integers", "dropout")
"""Methods that are given a generator's key and offset."""


@dataclass
class Computed:
    """A number that an optimiser computes (`gradient.optim.numbers`), and how to compute it again.

    `name` is its name in the plan, if a call uses it: `kind` and a number. `settings` are the
    parameter groups, and names in them, that it depends on. `keeps` is the state, and the key in
    it, where it is stored.
    """

    kind: str
    value: Any
    compute: Callable[[], Any]
    settings: list[tuple[dict[str, Any], str]]
    name: str | None = None
    keeps: tuple[dict[str, Any], str] | None = None


class Readers:
    """The owners of changing numbers, in their state when a recording begins."""

    def __init__(
        self, living: Iterable[Generator], optimizers: Iterable[Optimizer], device: str = "cpu"
    ):
        self._on_host = device == "cpu"
        self.starts = [(generator, generator.offset) for generator in living]
        self._seeded, self._asked = generators.seeded.times, generators.seeded.asked
        self.owners: list[Generator | Optimizer] = []
        self.drawn: list[tuple[Generator, int]] = []
        self.read: dict[str, Callable[[], float | int]] = {}
        self.by_param: dict[int, tuple[Optimizer, dict[str, Any], Tensor]] = {
            id(value_of(p.array)): (optimizer, group, p)
            for optimizer in optimizers
            for group in optimizer.param_groups
            for p in group["params"]
        }
        self.by_param |= {
            id(value_of(optimizer.state[p][MASTER].array)): (optimizer, group, p)
            for optimizer, group, p in self.by_param.values()
            if MASTER in optimizer.state.get(p, ())
        }
        self._states = {id(o): values_of(o) for o in optimizers}
        self.counts: list[dict[str, Any]] = []
        self.together: list[list[dict[str, Any]]] = []
        """States of parameters of one call, which have one count of steps."""
        self.born = False
        """Whether the run made the state of a parameter that had none: no later step does."""
        self.computed: list[Computed] = []
        self._by_id: dict[int, Computed] = {}
        self._kept: list[tuple[dict[str, Any], str, Any]] = []
        self.live: set[tuple[int, str]] = set()
        """(id of a parameter group, option) that replays read anew."""

    # During recording ----------------------------------------------------------------------------

    def named(
        self, op: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call, with a `HostNumber` for each number that has an owner.

        Raises:
            PlanError: the generator of a random number is unknown or ambiguous.
        """
        if op in DRAWS and len(args) > 1:
            return (*self._place(op, *args[:2]), *args[2:]), options
        if op == "adamw_step" and args[0]:
            found = self.by_param.get(id(value_of(args[0][0])))
            if found is not None:
                args = *args[:4], self._counted(found, args[4], args[0]), *args[5:]
        if self._by_id:
            args, options = mapped((args, options), float, self._named)
        return args, options

    def listen(self, kind: str, value: Any, compute: Callable[[], Any]) -> Any:
        """Note a number that an optimiser has computed; calls with this object are found by
        identity."""
        read = settings_read(compute)
        if not self._on_host and any(name != "lr" for _, name in read):
            return value  # graphs cannot take other numbers: a change records a new plan
        if isinstance(value, float):
            value *= 1.0  # make a new object
        made = Computed(kind, value, compute, read)
        self.computed.append(made)
        self._by_id[id(value)] = made
        return value

    def _named(self, x: float) -> Any:
        found = self._by_id.get(id(x))
        if found is None or found.value is not x:
            return x
        if found.name is None:
            found.name = f"{found.kind} {sum(each.name is not None for each in self.computed)}"
            self._depend(found)
        return HostNumber(found.name, x)

    def _depend(self, found: Computed) -> None:
        self.live.update((id(group), name) for group, name in found.settings)

    def _place(self, op: str, key: int, offset: int) -> tuple[HostNumber, HostNumber]:
        """Find the generator of the numbers at (key, offset); return its key, and its offset plus
        the distance drawn so far."""
        found = [
            (generator, start)
            for generator, start in self.starts
            if generator.key == key and start <= offset <= generator.offset
        ]
        latest = [each for each in found if each[0] is generators.drawing]
        if op == "dropout":  # in a gradient it repeats the draw of the forward pass
            moved = [each for each in found if each[0].offset > offset]
            if len(moved) > 1:
                raise PlanError(
                    "dropout draws from one of several generators that are at one place of one "
                    "stream, and it cannot be told which; seed them differently"
                )
            latest = moved or latest
        if not found:
            raise PlanError("random numbers are drawn from a generator that was made meanwhile")
        generator, start = (latest or found)[0]
        i, further = self._number(generator), offset - start
        names = f"key {i}", f"offset {i} + {further}"
        self.read[names[0]] = functools.partial(getattr, generator, "key")
        self.read[names[1]] = functools.partial(_offset_of, generator, further)
        return HostNumber(names[0], key), HostNumber(names[1], offset)

    def _counted(
        self, found: tuple[Optimizer, dict[str, Any], Tensor], o: AdamWOptions, batch: list[Any]
    ) -> AdamWOptions:
        optimizer, _, p = found
        state = optimizer.state[p]
        if not isinstance(state.get("step"), int) or state["step"] != o.step:
            return o  # the count is on the device, or there is none
        owners = (self.by_param.get(id(value_of(x))) for x in batch)
        self.together.append([each[0].state[each[2]] for each in owners if each is not None])
        name = f"step {len(self.read)} of {self._shown(optimizer)}"
        self.read[name] = lambda: state["step"] + 1
        step: Any = HostNumber(name, o.step)
        return o._replace(step=step)

    def _shown(self, optimizer: Optimizer) -> str:
        return f"{type(optimizer).__name__} {self._number(optimizer)}"

    def _number(self, owner: Generator | Optimizer) -> int:
        """The owner's number among those that the run uses."""
        if not any(owner is each for each in self.owners):
            self.owners.append(owner)
        return next(i for i, each in enumerate(self.owners) if each is owner)

    # After recording -----------------------------------------------------------------------------

    def finish(self, touched: set[int]) -> str | None:
        """Note how far the owners moved; return a reason if a replay could not repeat the change.

        `touched` are the ids of tensors that the run has used. An optimiser of other tensors
        belongs to another thread, and so does a generator that no call has drawn from.
        """
        if self._seeded != generators.seeded.times:
            return "it seeds a generator, which a replay would not"
        if self._asked != generators.seeded.asked:
            return (
                "it asks a generator for its state or seed (get_rng_state(), get_state(), "
                "initial_seed()), which a replay would not; ask outside of it"
            )
        for generator, start in self.starts:
            if generator.offset != start and any(generator is each for each in self.owners):
                self.drawn.append((generator, generator.offset - start))
        states, self._states = self._states, {}  # so that these tensors can be freed
        own = [o for o, _, p in self.by_param.values() if id(p) in touched]
        for optimizer in {id(o): o for o in own}.values():
            before = states[id(optimizer)]
            for p, state in optimizer.state.items():
                for key, value in state.items():
                    was = before.get((id(p), key))
                    made = self._by_id.get(id(value))
                    if made is not None and made.value is value and was is not None:
                        made.keeps = state, key
                        self._depend(made)
                        continue
                    if (id(p), key) not in before or (was is None and value is not None):
                        self.born = True
                        continue
                    if not isinstance(value, (int, float)) or value == was:
                        continue
                    if key != "step" or was is None or value != was + 1:
                        return (
                            f"{type(optimizer).__name__} changes the number {key!r} of its state "
                            f"from {was} to {value}"
                        )
                    self.counts.append(state)
        self.computed = [
            each for each in self.computed
            if each.name or each.keeps or isinstance(each.value, bool)
        ]  # fmt: skip
        for each in self.computed:
            if isinstance(each.value, bool):
                self._depend(each)
        return None

    @property
    def decisions(self) -> list[bool]:
        """The branches that the optimisers of the recorded run took by their numbers."""
        return [each.value for each in self.computed if isinstance(each.value, bool)]

    def decides_otherwise(self) -> bool:
        """Whether an optimiser would take another branch in the next step."""
        if any(len({state["step"] for state in states}) > 1 for states in self.together):
            return True  # a parameter had no gradient for some steps
        decisions = self.decisions
        return bool(decisions) and decisions != [
            value for value in self._computed_now() if isinstance(value, bool)
        ]

    def _computed_now(self) -> list[Any]:
        """The computed numbers of the next step. Step counts are raised and results stored while
        the later ones are computed; then both are restored."""
        if not self.computed:
            return []
        found = []
        kept: list[tuple[dict[str, Any], str, Any]] = []
        for state in self.counts:
            state["step"] += 1
        try:
            for each in self.computed:
                value = each.compute()
                found.append(value)
                if each.keeps is not None:
                    state, key = each.keeps
                    kept.append((state, key, state[key]))
                    state[key] = value
        finally:
            self._kept = [(state, key, state[key]) for state, key, _ in kept]
            for state, key, was in reversed(kept):
                state[key] = was
            for state in self.counts:
                state["step"] -= 1
        return found

    def next_numbers(self) -> dict[str, float | int]:
        """All numbers by name, for one replay; advances the generators."""
        numbers: dict[str, float | int] = {
            each.name: value
            for each, value in zip(self.computed, self._computed_now(), strict=True)
            if each.name is not None
        }
        if not self.drawn:
            return numbers | {name: read() for name, read in self.read.items()}
        with draw_lock:
            numbers |= {name: read() for name, read in self.read.items()}
            for generator, blocks in self.drawn:
                generator.offset += blocks
        return numbers

    def replayed(self) -> None:
        """Count the step that a replay made, and store its numbers."""
        for state in self.counts:
            state["step"] += 1
        for state, key, value in self._kept:
            state[key] = value


def _offset_of(generator: Generator, further: int) -> int:
    return generator.offset + further


def values_of(optimizer: Optimizer) -> dict[tuple[int, str], Any]:
    """The values of an optimiser's state, by parameter and name."""
    return {
        (id(p), key): value for p, state in optimizer.state.items() for key, value in state.items()
    }
