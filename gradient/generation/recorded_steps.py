"""A model's recorded decoding steps, and whether they still match its modules."""

from __future__ import annotations

import operator
import weakref
from collections import OrderedDict
from typing import Any

from gradient.backends import packed
from gradient.generation.bound_steps import BoundStepsPool
from gradient.models.causal_lm import CausalLM
from gradient.nn import structure
from gradient.plan.step import RecordedStep

#: The maximum number of kinds of steps that are counted, and of kinds that are known not to be
#: recordable. There may be many: on a server, each text may have another top_p.
MOST_COUNTED = 1024
#: The maximum number of recorded steps of a model; of more, those used least recently are dropped.
MOST_RECORDED = 32

_array = operator.attrgetter("array")


class RecordedSteps:
    """A model's recorded steps, and whether they still match its modules.

    Attributes:
        steps: {what determines the operations: step}, the most recently used one last.
        refused: {kind of step: why it cannot be recorded}.
        passes: {kind of step: the number of passes by the modules}, of all texts.
        bound: the steps bound to caches, of this text and for the next ones.
        seconds: the time of a pass in the last text; 0 before the first one.
    """

    def __init__(self, model: CausalLM) -> None:
        self.steps: OrderedDict[Any, RecordedStep] = OrderedDict()
        self.refused: dict[Any, str] = {}
        self.passes: dict[Any, int] = {}
        self.structure = structure.Structure(model)
        self.tensors = [*model.parameters(), *model.buffers()]
        self.arrays = [t.array for t in self.tensors]
        # Plans hold the parts of packed weights, and arrays that kernels made of these.
        self.written = packed.written()
        self.contents: list[Any] | None = None
        self.bound = BoundStepsPool()
        self.seconds = 0.0

    def valid(self) -> bool:
        """Whether modules and weights are unchanged since the recording."""
        return (
            self.structure.unchanged()
            and self.written == packed.written()
            and all(map(operator.is_, map(_array, self.tensors), self.arrays))
        )

    def use(self, name: Any) -> bool:
        """Return whether there is a step of this name, and mark it as the most recently used."""
        try:
            self.steps.move_to_end(name)
        except KeyError:
            return False
        return True

    def count(self, name: Any) -> None:
        """Count a pass by the modules."""
        if len(self.passes) >= MOST_COUNTED:
            self.passes.clear()
        self.passes[name] = self.passes.get(name, 0) + 1

    def refuse(self, key: Any, reason: str) -> None:
        """Run steps of this key by the modules from now on."""
        if len(self.refused) >= MOST_COUNTED:
            self.refused.clear()
        self.refused[key] = reason

    def add(self, name: Any, step: RecordedStep) -> None:
        """Keep a step, and watch the tensors that it uses besides the model's; drop the least
        recently used steps."""
        self.steps[name] = step
        while len(self.steps) > MOST_RECORDED:
            forgotten, _ = self.steps.popitem(last=False)
            self.bound.forget(forgotten)
        self.contents = self.structure.contents()
        known = set(map(id, self.tensors))
        for t, array in step.watched:
            if id(t) not in known:
                self.tensors.append(t)
                self.arrays.append(array)


_recorded: weakref.WeakKeyDictionary[CausalLM, RecordedSteps] = weakref.WeakKeyDictionary()


def recorded_steps(model: CausalLM) -> RecordedSteps:
    """Return the model's recorded steps: none if it has changed since the last ones."""
    recorded = _recorded.get(model)
    if recorded is None or not recorded.valid():
        recorded = _recorded[model] = RecordedSteps(model)
    return recorded


def recorded_before(model: CausalLM) -> RecordedSteps | None:
    """Return the steps that earlier texts recorded; forget them if a dict or list of a module has
    changed since."""
    recorded = _recorded.get(model)
    if recorded is not None and recorded.contents not in (None, recorded.structure.contents()):
        del _recorded[model]
        return None
    return recorded
