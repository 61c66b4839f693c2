"""The tensors that a compiled function returns, made from the arrays of a replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradient.autograd.node import Node, next_sequence_nr
from gradient.autograd.variable import wrap
from gradient.plan import arena
from gradient.plan.arguments import is_array, tensors_in
from gradient.plan.backward import is_live
from gradient.plan.calls import Buffer, Ref
from gradient.plan.errors import PlanError
from gradient.plan.recording import Recording
from gradient.source_lines import user_frame
from gradient.tensor import Tensor


class Freed:
    """The op of a result whose graph was freed by a backward pass inside the function."""

    name = public_name = "the compiled function"
    saved_names = ()


@dataclass
class Output:
    """A tensor of the result: a buffer, one of the inputs, or a tensor that was there before.

    source   the number of the replay's array that has its memory
    part     its buffer, if several tensors of the result share that memory
    same     the number of the equal tensor of the result, if one is returned twice
    live     whether it can be differentiated; if only `requires_grad` is set, its graph was freed
    """

    source: int | None = None
    part: Ref | None = None
    input: int | None = None
    tensor: Tensor | None = None
    same: int | None = None
    requires_grad: bool = False
    live: bool = False


class Results:
    """The tensors of a recorded run's result, and `sources`, the buffers that hold their memory.

    Raises:
        PlanError: a replay cannot make these tensors.
    """

    def __init__(self, recording: Recording, backend: Any):
        self.backend, self.buffers = backend, recording.plan.buffers
        refs = {id(t): ref for t, ref in recording.survivors}
        inputs = {id(t): i for i, t in enumerate(recording.inputs)}
        roots = recording.backward.roots if recording.backward is not None else ()
        self.outputs: list[Output] = []
        self.sources: list[Ref] = []
        tensors = tensors_in(recording.result)
        shared = self._shared(tensors, refs, roots)
        seen: dict[int, int] = {}
        for i, t in enumerate(tensors):
            if t.backend is not backend:
                raise PlanError(f"it returns a tensor on the device {t.backend.device!r}")
            if id(t) in inputs:
                self.outputs.append(Output(input=inputs[id(t)]))
            elif id(t) in seen:
                self.outputs.append(Output(same=seen[id(t)]))
            elif id(t) in refs:
                if not is_array(t.array) or type(t) is not Tensor:
                    raise PlanError("it returns a tensor of a class of its own, or a packed one")
                if i not in roots and is_live(t.node):
                    raise PlanError(
                        "it returns a tensor whose graph cannot be recorded; compile the backward "
                        "pass with it, or call it under no_grad()"
                    )
                ref = refs[id(t)]
                root = self.buffers[ref].root
                source = self._source(root if root in shared else ref)
                part = ref if root in shared else None
                made = Output(source, part, requires_grad=t.node is not None, live=i in roots)
                self.outputs.append(made)
            else:
                self.outputs.append(Output(tensor=t))
            seen.setdefault(id(t), i)

    def _source(self, ref: Ref) -> int:
        if ref not in self.sources:
            self.sources.append(ref)
        return self.sources.index(ref)

    def _shared(
        self, tensors: Sequence[Any], refs: dict[int, Ref], roots: Sequence[int]
    ) -> set[Ref]:
        """The roots whose memory several tensors of the result share."""
        by_root: dict[Ref, dict[int, Any]] = {}
        for t in tensors:
            if id(t) in refs and is_array(t.array):
                root = self.buffers[refs[id(t)]].root
                if self.buffers[root].kind == "internal":
                    by_root.setdefault(root, {})[id(t)] = t
        differentiated = {id(tensors[i]) for i in roots}
        found = set()
        for root, group in by_root.items():
            members = list(group.values())
            if not any(_overlap(a, b) for i, a in enumerate(members) for b in members[:i]):
                continue
            if self.backend.device != "cpu":
                raise PlanError("it returns tensors that share memory")
            if sum(id(t) in differentiated for t in members) > 1:
                raise PlanError("it returns tensors that share memory, and can be differentiated")
            found.add(root)
        return found

    def tensors(self, arrays: Sequence[Any], inputs: Sequence[Tensor], executor: Any) -> list[Any]:
        """The tensors of a replay that gave `arrays` for the sources; None for one that is the
        `same` as another."""
        memory: dict[int, np.ndarray] = {}
        made: list[Any] = []
        for output in self.outputs:
            if output.source is not None:
                array = arrays[output.source]
                if output.part is not None:
                    if output.source not in memory:
                        memory[output.source] = _copied(array, self.buffers, self.sources, output)
                    array = self._part(memory[output.source], output, executor)
                freed = output.requires_grad and not output.live
                made.append(_tensor(array, self.backend, freed))
            elif output.input is not None:
                made.append(inputs[output.input])
            else:
                made.append(output.tensor)
        return made

    def _part(self, memory: np.ndarray, output: Output, executor: Any) -> np.ndarray:
        shown = executor.value(output.part)
        whole = executor.value(self.sources[output.source or 0])
        offset = shown.ctypes.data - whole.ctypes.data if shown.size else 0
        return np.ndarray(shown.shape, shown.dtype, memory, offset, shown.strides)


def _copied(
    array: np.ndarray, buffers: Sequence[Buffer], sources: Sequence[Ref], output: Output
) -> np.ndarray:
    """A copy of a source's bytes, in the order of the executor's memory."""
    buffer = buffers[sources[output.source or 0]]
    memory = np.empty(buffer.nbytes, np.uint8)
    np.copyto(arena.array_at(memory, buffer), array)
    return memory


def _overlap(a: Any, b: Any) -> bool:
    if not isinstance(a.array, np.ndarray) or not isinstance(b.array, np.ndarray):
        return True  # their memory is on another device
    try:
        return np.shares_memory(a.array, b.array, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def _tensor(array: Any, backend: Any, requires_grad: bool) -> Tensor:
    if not requires_grad:
        return wrap(array, backend)
    node: Any = Node()
    node.op, node.parents, node.saved, node.options = Freed, (), None, {}
    node.shape, node.dtype, node.backend = array.shape, array.dtype, backend
    node.sequence_nr = next_sequence_nr()
    frame = user_frame(2)
    node.location = frame.f_code, frame.f_lasti
    return wrap(array, backend, node)
