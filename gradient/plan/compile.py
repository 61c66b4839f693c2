"""`gradient.compile`: a function recorded in its first calls and replayed in later ones."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, overload

from gradient.autograd.modes import mode
from gradient.backends.numpy import memory
from gradient.checks import check_arguments, one_of, optional
from gradient.errors import TypeMismatch, sentence
from gradient.locks import new_rlock
from gradient.nn import Module
from gradient.plan.arguments import Aliased, Arguments
from gradient.plan.attributes import WithAttributes
from gradient.plan.backward import DifferentiablePlan, WithBackward, seen_in_use
from gradient.plan.comparing import difference
from gradient.plan.compiled_module import CompiledModule, compiled_module
from gradient.plan.compiled_module import compile_in_place as compile_in_place
from gradient.plan.errors import PlanError
from gradient.plan.executors import has_executor
from gradient.plan.executors.fused import FUSED
from gradient.plan.listing import nbytes
from gradient.plan.recording import Recording, is_recording, record
from gradient.plan.sharing import SharedArena
from gradient.plan.variant import Variant, grad_states
from gradient.plan.watch import Transparent, Watch
from gradient.source_lines import warn_user

M = TypeVar("M", bound=Module)
P = ParamSpec("P")
R = TypeVar("R")

SIGNATURES = 64
"""Signatures of arguments that have plans at a time."""
VARIANTS = 8
"""The maximum number of plans of one signature, for attributes and modes that differ. After as many
recordings in a row without a plan, or as many plans in a row that were dropped before they had
paid, calls run eagerly."""
MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
"""PyTorch's values of `mode`, which have no effect here."""
WORTH = 16
"""Replays after which a plan has paid for its recordings."""


class Signature:
    """The plans for calls with one key of arguments, and statistics of such calls.

    held        objects that must live as long as the key (see `Arguments`)
    calls, replays, recordings, plans   how many there were
    fruitless   recordings since the last plan
    wasted      plans in a row that were dropped before they had paid
    variants    the plans, the most recently used one last
    pending     recordings that no other has confirmed yet
    used        the numbers of the first call's results that got a gradient afterwards
    reason      why calls run eagerly, or None
    changes     the changes because of which plans were recorded anew
    """

    def __init__(self, held: list[Any]):
        self.held = held
        self.calls = self.replays = self.recordings = self.fruitless = 0
        self.plans = self.wasted = 0
        self.variants: list[Variant] = []
        self.pending: list[tuple[Recording, Watch]] = []
        self.used: set[int] = set()
        self.reason: str | None = None
        self.changes: list[str] = []

    def use(self, variant: Variant) -> None:
        """Count a replay of a plan, and mark it as the most recently used."""
        self.replays += 1
        variant.replays += 1
        if variant is not self.variants[-1]:
            self.variants.remove(variant)
            self.variants.append(variant)

    def drop(self, variant: Variant) -> None:
        """Remove a plan, its memory and the tensors that it holds."""
        self.variants.remove(variant)
        self.wasted = 0 if variant.replays >= WORTH else self.wasted + 1

    def add(self, variant: Variant) -> None:
        """Keep a plan; if there are too many, it replaces the least recently used."""
        if len(self.variants) == VARIANTS:
            self.drop(self.variants[0])
        self.variants.append(variant)
        self.plans += 1


class Compiled(Transparent, Generic[P, R]):
    """A function whose calls replay plans. `explain()` describes what was recorded."""

    def __init__(self, function: Callable[P, R], fullgraph: bool, fuse: bool):
        self.function, self.fullgraph, self.fuse = function, fullgraph, fuse
        self.signatures: dict[Any, Signature] = {}
        self._arena = SharedArena()
        self._lock = new_rlock()
        self._warned = False
        functools.update_wrapper(self, function, updated=())

    @property
    def _original(self) -> Callable[P, R]:
        return self.function

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __call__(self, *args: P.args, **options: P.kwargs) -> R:
        if is_recording() or mode.anomaly or mode.saved_hooks is not None:
            return self.function(*args, **options)
        if not self._lock.acquire(blocking=False):  # another thread is calling it
            return self.function(*args, **options)
        try:
            return self._call(args, options)
        finally:
            self._lock.release()

    def _call(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        arguments = Arguments(args, options)
        signature = self.signatures.get(arguments.key)
        if signature is None:
            if len(self.signatures) >= SIGNATURES:
                self.signatures.pop(next(iter(self.signatures)))
            signature = self.signatures[arguments.key] = Signature(arguments.held)
            if arguments.device is None:
                signature.reason = "its arguments are on several devices"
            elif not has_executor(arguments.device):
                signature.reason = f"an argument is on the device {arguments.device!r}"
        signature.calls += 1
        if signature.reason is not None:
            return self._eagerly(signature, args, options)
        for variant in reversed(tuple(signature.variants)):
            what = variant.changed()
            if what is None and variant.takes(arguments.inputs):
                try:
                    variant.rebind()
                except PlanError:
                    continue
                ready = variant.free_executor()
                again = functools.partial(self.function, *args, **options)
                if ready is None:
                    self._tell(
                        f"gradients of more than {DifferentiablePlan.EXECUTORS} of its calls are "
                        "still to be computed at a time"
                    )
                    return again()
                signature.use(variant)
                return variant.replay(*ready, arguments.inputs, again)
            if variant.watch.outdated:
                signature.drop(variant)
            if what is not None and what not in signature.changes[-VARIANTS:]:
                signature.changes.append(what)
        if signature.calls == 1:  # a first call also makes state, which is no part of a step
            with memory.exact():  # else lasting state would lie between holes of freed memory
                return seen_in_use(self.function(*args, **options), signature.used)
        return self._record(signature, arguments, args, options)

    def _record(
        self,
        signature: Signature,
        arguments: Arguments,
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        if max(signature.wasted, signature.fruitless) >= VARIANTS:
            changes = signature.changes[-1] if signature.changes else "something it reads"
            signature.reason = (
                f"it was recorded {signature.recordings} times, because {changes} changes"
            )
            return self._eagerly(signature, args, options)
        device = arguments.device or "cpu"
        try:
            watch = Watch(self.function, *arguments.without_inputs(args, options), device=device)
        except PlanError as error:
            signature.reason = str(error)
            return self._eagerly(signature, args, options)
        aliased = Aliased(args, options, arguments.inputs)
        aliases = aliased.aliases
        signature.recordings += 1
        absent = watch.gradients_absent()
        states = watch.random_states()
        function = WithAttributes(functools.partial(self.function, **aliased.options), watch)
        run = WithBackward(function, aliases, signature.used)
        try:
            with memory.exact():  # a recording holds additional memory
                recording = record(
                    run, *aliased.args, inputs=aliases, strict=self.fullgraph, device=device
                )
        finally:
            handed = aliased.hand_back()
        recording.backward = run.backward
        recording.add_leaves([each for each in absent if id(each[0]) not in function.replaced])
        watch.leave_out(recording.owners)
        recording.attributes = function.found(recording)
        result, _ = aliased.original(recording.result)
        signature.reason = (
            recording.broken or run.reason or handed or _side_effect(watch, recording, states)
        )
        if signature.reason is None and recording.readers.born:
            signature.fruitless += 1
        elif signature.reason is None:
            self._compare(signature, recording, watch, device)
        if signature.reason is not None:
            signature.pending = []
            self._warn(signature.reason)
        return result

    def _compare(
        self, signature: Signature, recording: Recording, watch: Watch, device: str
    ) -> None:
        """Make a plan if this recording equals an earlier one of the same state."""
        for first, watched in signature.pending:
            if _same_state(first, recording):
                what = watched.changed(first.live)
                if what is None:
                    break
                signature.changes.append(what)
        else:
            signature.pending = [*signature.pending[1 - VARIANTS :], (recording, watch)]
            recording.forget_tensors()
            signature.fruitless += 1
            return
        signature.pending = [each for each in signature.pending if each[0] is not first]
        signature.fruitless = 0
        signature.reason = difference(first, recording)
        if signature.reason is None:
            try:
                variant = Variant(
                    first, recording, watch, self.fuse, self._tell, device, self._arena
                )
                signature.add(variant)
            except PlanError as error:
                signature.reason = str(error)

    def _eagerly(self, signature: Signature, args: Any, options: Any) -> Any:
        self._warn(str(signature.reason))
        return self.function(*args, **options)

    def _warn(self, reason: str) -> None:
        if self.fullgraph:
            name = getattr(self.function, "__qualname__", type(self.function).__name__)
            raise PlanError(f"{name} cannot be compiled: {reason}")
        self._tell(reason)

    def _tell(self, reason: str) -> None:
        """Warn once that calls run eagerly, and why."""
        if not self._warned:
            self._warned = True
            name = getattr(self.function, "__qualname__", type(self.function).__name__)
            warn_user(f"gradient.compile: {name} runs eagerly: {reason}")

    @property
    def recompiles(self) -> int:
        """The number of plans made after the first."""
        return max(0, sum(s.plans for s in self.signatures.values()) - 1)

    def explain(self, calls: bool = False) -> str:
        """Describe the plans of each signature: calls, memory, and why and where recording failed.
        With `calls`, add a line for each call: shapes, bytes, its kernel, the source line. For
        times, see `gradient.profiler`."""
        lines = [f"{len(self.signatures)} signatures, {self.recompiles} recompiles"]
        for signature in self.signatures.values():
            lines.append(
                f"- {signature.calls} calls, {signature.recordings} recorded, "
                f"{signature.replays} replayed"
            )
            if signature.reason is not None:
                lines.append(f"  runs eagerly: {signature.reason}")
            lines += [f"  recorded anew: {what}" for what in dict.fromkeys(signature.changes)]
            for variant in signature.variants:
                plan, executor = variant.plan, variant.executor
                buffers = [b for i, b in enumerate(plan.buffers) if b.root == i]
                total = sum(b.nbytes for b in buffers if b.kind == "internal")
                chains = sum(call.op == FUSED for call in variant.optimized.calls)
                lines.append(
                    f"  plan of {variant.recorded_calls} calls, {len(executor.program)} steps, "
                    f"{chains} of them fused chains; memory "
                    f"{nbytes(executor.nbytes)} for buffers of {nbytes(total)}; "
                    f"{variant.numbers_read} numbers read anew"
                )
                if variant.differentiable is not None:
                    lines.append("  in two parts: the backward pass is recorded with it")
                if calls:
                    lines += [f"    {line}" for line in str(executor).splitlines()]
        return "\n".join(lines)


@overload
def compile(  # type: ignore[overload-overlap]  # a module is callable too
    model: M,
    *,
    fullgraph: bool = ...,
    dynamic: bool | None = ...,
    backend: Any = ...,
    mode: str | None = ...,
    options: dict[str, Any] | None = ...,
    disable: bool = ...,
    fuse: bool = ...,
) -> M: ...
@overload
def compile(
    model: Callable[P, R],
    *,
    fullgraph: bool = ...,
    dynamic: bool | None = ...,
    backend: Any = ...,
    mode: str | None = ...,
    options: dict[str, Any] | None = ...,
    disable: bool = ...,
    fuse: bool = ...,
) -> Compiled[P, R]: ...
@overload
def compile(
    model: None = None,
    *,
    fullgraph: bool = ...,
    dynamic: bool | None = ...,
    backend: Any = ...,
    mode: str | None = ...,
    options: dict[str, Any] | None = ...,
    disable: bool = ...,
    fuse: bool = ...,
) -> Callable[[Callable[P, R]], Compiled[P, R]]: ...
def compile(
    model: Any = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: Any = "plan",
    mode: str | None = None,
    options: dict[str, Any] | None = None,
    disable: bool = False,
    fuse: bool = False,
) -> Callable[..., Any]:
    """Record a function or module in its first calls, and replay it in later ones.

    Use it like `torch.compile`: `model = gradient.compile(model)`, or `@gradient.compile` on a
    function. A whole training step can be one function: forward, backward, clipping, the
    optimiser's `step()`. Without `fuse`, results equal those of eager execution, bit for bit.

    For each signature of the arguments (shapes, dtypes, strides, modes) the first call runs
    eagerly, two calls are recorded and compared, and all later calls are replayed. If an attribute,
    a closure variable or a global changes that a plan depends on, a new plan is recorded. Code that
    reads a value on the host (`item()`, `print(tensor)`, `if tensor:`) cannot be recorded. Calls
    run eagerly under hooks on saved tensors and under anomaly detection. Other side effects happen
    in the first three calls only: reads of a file or the clock, and output (`print("...")`).

    Args:
        model: a function or an nn.Module; without it, a decorator is returned.
        fullgraph: raise an error if the function cannot be recorded. By default it then runs
            eagerly, with one warning.
        dynamic: accepted as in PyTorch, without effect. Plans are made for shapes that recur; calls
            with other shapes run eagerly.
        backend, mode, options: accepted as in PyTorch, without effect: there is one compiler.
        disable: return the model unchanged.
        fuse: compute each chain of elementwise calls in one pass over memory, and small calls by
            kernels. Results then differ from eager execution by rounding (1e-6 relative in
            float32). Each new chain takes a second to compile; the result is cached on disk.

    Raises:
        ArgumentError: `mode` is not one of PyTorch's.
        PlanError (RuntimeError): with `fullgraph`, if a value is read on the host; the message has
            the function that read it, and the line.
    """
    check_arguments("compile", mode=(mode, optional(one_of(*MODES))))
    if model is None:
        return functools.partial(compile, fullgraph=fullgraph, disable=disable, fuse=fuse)
    if not callable(model):
        raise TypeMismatch(sentence("compile", "a function or a Module", type(model).__name__))
    if disable:
        return model
    if isinstance(model, CompiledModule):
        model = model._orig_mod
    made: Compiled[..., Any] = Compiled(model, bool(fullgraph), bool(fuse))
    return compiled_module(model, made) if isinstance(model, Module) else made


def _same_state(a: Recording, b: Recording) -> bool:
    """Whether two recordings agree in the state that a plan depends on: which leaves have a
    gradient and get one, which attributes are set, and what the optimisers decided. (A leaf that
    was just frozen loses its gradient once.)"""
    mine, theirs = ([(id(t), absent) for t, absent in grad_states(r)] for r in (a, b))
    return (
        mine == theirs
        and a.outcome.gradients == b.outcome.gradients
        and [(each.key, each.was_none) for each in a.attributes]
        == [(each.key, each.was_none) for each in b.attributes]
        and a.readers.decisions == b.readers.decisions
    )


def _side_effect(watch: Watch, recording: Recording, states: list[tuple[str, str]]) -> str | None:
    """A side effect of the run that a replay would not repeat, such as a changed attribute; None if
    there was none."""
    for before, after in zip(states, watch.random_states(), strict=True):
        if before != after:
            return f"it draws {before[0]}, which a replay would not"
    changed = watch.changed(recording.live)
    return None if changed is None else f"it changes {changed}, which a replay would not"
