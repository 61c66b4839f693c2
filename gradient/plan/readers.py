"""Numbers of a plan that are read anew before each replay, and who is told what a replay did.

A recorded call holds Python numbers. Most are part of what was asked (an axis, an epsilon). Some
belong to someone who changes them: a generator its offset, an optimiser its learning rate and its
count of steps. `Readers` gives these a name in the plan, and afterwards moves their owners on as
the recorded run did.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from gradient.backends.options import AdamWOptions
from gradient.backends.recording import value_of
from gradient.optim import Optimizer
from gradient.plan.calls import HostNumber
from gradient.plan.errors import PlanError
from gradient.random import Generator, draw_lock
from gradient.tensor import Tensor

DRAWS = ("philox", "uniform", "normal", "integers")
"""Methods that are given a generator's key and offset."""


class Readers:
    """The owners of changing numbers, as they are when a recording begins."""

    def __init__(self, generators: Iterable[Generator], optimizers: Iterable[Optimizer]):
        self.starts = [(generator, generator.offset) for generator in generators]
        self.owners: list[Generator | Optimizer] = []
        self.drawn: list[tuple[Generator, int]] = []
        self.read: dict[str, Callable[[], float | int]] = {}
        self.by_param: dict[int, tuple[Optimizer, dict[str, Any], Tensor]] = {
            id(value_of(p.array)): (optimizer, group, p)
            for optimizer in optimizers
            for group in optimizer.param_groups
            for p in group["params"]
        }
        self._states = {id(o): numbers_of(o) for o in optimizers}
        self.counts: list[dict[str, Any]] = []
        self.live: set[tuple[int, str]] = set()
        """(id of a parameter group, option) that replays read anew."""

    # While it is recorded ------------------------------------------------------------------------

    def named(
        self, op: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call with `HostNumber`s for the numbers that have an owner."""
        if op in DRAWS and len(args) > 1:
            return (*self._place(*args[:2]), *args[2:]), options
        if op in ("adamw_step", "sgd_step") and args[0]:
            found = self.by_param.get(id(value_of(args[0][0])))
            if found is not None:
                if op == "sgd_step":
                    return args, {**options, "lr": self._rate(found, options["lr"])}
                return (*args[:4], self._adamw(found, args[4])), options
        return args, options

    def _place(self, key: int, offset: int) -> tuple[HostNumber, HostNumber]:
        for generator, start in self.starts:
            if generator.key == key and generator.offset == offset:
                i, further = self._number(generator), offset - start
                names = f"key {i}", f"offset {i} + {further}"
                self.read[names[0]] = functools.partial(getattr, generator, "key")
                self.read[names[1]] = functools.partial(_offset_of, generator, further)
                return HostNumber(names[0], key), HostNumber(names[1], offset)
        raise PlanError("random numbers are drawn from a generator that was made meanwhile")

    def _rate(self, found: tuple[Optimizer, dict[str, Any], Tensor], lr: float) -> Any:
        optimizer, group, _ = found
        if float(group["lr"]) != lr:
            return lr
        name = f"lr of group {optimizer.param_groups.index(group)} of {self._shown(optimizer)}"
        self.read[name] = lambda: float(group["lr"])
        self.live.add((id(group), "lr"))
        return HostNumber(name, lr)

    def _adamw(self, found: tuple[Optimizer, dict[str, Any], Tensor], o: AdamWOptions) -> Any:
        optimizer, _, p = found
        state = optimizer.state[p]
        step: Any = o.step
        if state.get("step") == step:
            name = f"step {len(self.read)} of {self._shown(optimizer)}"
            self.read[name] = lambda: state["step"] + 1
            step = HostNumber(name, o.step)
        return o._replace(lr=self._rate(found, o.lr), step=step)

    def _shown(self, optimizer: Optimizer) -> str:
        return f"{type(optimizer).__name__} {self._number(optimizer)}"

    def _number(self, owner: Generator | Optimizer) -> int:
        """Which of those that are used it is."""
        if not any(owner is each for each in self.owners):
            self.owners.append(owner)
        return next(i for i, each in enumerate(self.owners) if each is owner)

    # Afterwards ----------------------------------------------------------------------------------

    def finish(self) -> str | None:
        """Note how far the owners moved; say where one did so in a way that is not repeated."""
        for generator, start in self.starts:
            if generator.offset != start:
                self.drawn.append((generator, generator.offset - start))
        for optimizer in {id(o): o for o, _, _ in self.by_param.values()}.values():
            before = self._states[id(optimizer)]
            for p, state in optimizer.state.items():
                for key, value in state.items():
                    was = before.get((id(p), key))
                    if not isinstance(value, (int, float)) or value == was:
                        continue
                    if key != "step" or was is None or value != was + 1:
                        return (
                            f"{type(optimizer).__name__} changes the number {key!r} of its state "
                            f"from {was} to {value}"
                        )
                    self.counts.append(state)
        return None

    def take(self) -> dict[str, float | int]:
        """Every number by its name, for one replay; generators are moved on."""
        if not self.drawn:
            return {name: read() for name, read in self.read.items()}
        with draw_lock:
            numbers = {name: read() for name, read in self.read.items()}
            for generator, blocks in self.drawn:
                generator.offset += blocks
        return numbers

    def replayed(self) -> None:
        """Count the step that a replay made."""
        for state in self.counts:
            state["step"] += 1


def _offset_of(generator: Generator, further: int) -> int:
    return generator.offset + further


def numbers_of(optimizer: Optimizer) -> dict[tuple[int, str], Any]:
    """The numbers in an optimiser's state, by parameter and name."""
    return {
        (id(p), key): value
        for p, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, (int, float)) or value is None
    }
