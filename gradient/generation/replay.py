"""Decoding by plans: a step is recorded from the model's own modules, and replayed.

Python between the operations of a step takes as long as a small model's kernels. So the step for a
batch and a block of cache slots is recorded once (`gradient.plan`), and then replayed without
Python. Replays give bit-identical results. A step that cannot be recorded, or that may have changed
since, is run by the modules.

A change of weights, attributes or hooks is noticed at the next token, a change in a dict or list of
a module at the next text. A change of a closure's or a global variable is not: use `compile=False`.
(On a GPU, steps that are queued already use the numbers that a weight had before it was written to
in place.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import gradient
from gradient.autograd.modes import mode
from gradient.backends import matmul_precision, small_calls
from gradient.dtypes import get_default_dtype
from gradient.generation.bound_steps import BoundSteps, may_take_over
from gradient.generation.queued_steps import QueuedSteps, queue_replays
from gradient.generation.recorded_steps import RecordedSteps, recorded_before, recorded_steps
from gradient.kv_cache import KVCache
from gradient.models.causal_lm import CausalLM
from gradient.nn.evaluating import evaluating
from gradient.plan.errors import PlanError
from gradient.plan.executors import has_executor
from gradient.plan.step import RecordedStep, Replay, has_kernels
from gradient.tensor import Tensor
from gradient.tensor.device import default_device

#: Steps by the modules before one is recorded, as recording takes as long as some tens of steps.
#: They are counted for each number of tokens in a step.
PATIENCE = 12
#: Recordings for one cache and key, after which the modules are taken to change at every step.
MOST_RECORDINGS = 4
#: A step is recorded only if at least this many steps of its kind are expected: those to come in
#: this text, and for later texts as many as earlier ones had by the modules.
WORTH_RECORDING = 32
#: The same number for a step that is recorded already, and has to be bound to the cache. (A text
#: that can take over a bound one, by one copy, always does.)
WORTH_BINDING = 12
#: The maximum number of slots in a block: a step is recorded again for each block.
LARGEST_BLOCK = 1024
SMALLEST_BLOCK = 64
#: With few rows, texts of any length share a recorded step up to this many slots in a row: a pass
#: over masked slots takes no longer, but they take memory.
USUAL_BLOCK = 256

#: Seconds of the passes that are made at once, before the host reads the chosen tokens.
AT_ONCE = 0.02
#: The same where the device works ahead: while the host reads, it has other passes to make. So few
#: are in vain when a text ends.
AHEAD = 0.005
#: The maximum number of these passes.
MOST_AT_ONCE = 32

Run = Callable[..., tuple[Tensor, ...]]
"""A pass through the modules of what is given: of new tokens, and perhaps of random numbers."""

Choice = Callable[[Tensor, Tensor | None], Tensor]
"""A choice of tokens (B,) by logits (B, V) and perhaps other numbers, such as random ones."""

Numbers = Callable[[int], Tensor | None]
"""The other numbers of a choice for so many steps, (steps, N); None if it takes none."""


def block_size(model: CausalLM, capacity: int, rows: int = 1) -> int:
    """Return the block size of a cache for replayed steps; 1 if there are none.

    A power of two, so that texts of about the same length share a recorded step, and short ones of
    any length.
    """
    if not has_executor(str(model.device)) or model.dtype.itemsize > 4:
        return 1
    if _on_cpu(model) and not has_kernels():
        return 1
    capacity = max(capacity, min(USUAL_BLOCK, LARGEST_BLOCK // max(rows, 1)))
    block = SMALLEST_BLOCK
    while block < min(capacity, LARGEST_BLOCK):
        block *= 2
    return block


def _on_cpu(model: CausalLM) -> bool:
    return str(model.device).partition(":")[0] == "cpu"


class DecodingSteps:
    """Passes of new tokens through a model with a cache, replayed where possible.

    Attributes:
        replayed: the number of replayed passes.
        works_ahead: whether passes can be queued before those before them have been read.
        reason: why other passes were not replayed, or None.
        seconds: the time of a pass when several were last queued; 0 before.
    """

    def __init__(
        self, model: CausalLM, cache: KVCache, allowed: bool | None = None, lasting: bool = True
    ) -> None:
        """Args:
        allowed: whether to record; None is where it pays.
        lasting: whether the cache is likely to serve many passes. Beams get another one with
            nearly every token; to it nothing is bound before it has served some, where it cannot
            take over the memory of the one before.
        """
        self.model, self.cache = model, cache
        self.allowed, self.wait = allowed, 0 if lasting or may_take_over(cache) else 2
        self.replayed = 0
        # Not over the pages of a pool: passes that are in vain would take them from other caches.
        self.works_ahead = cache.lengths.backend.reads_wait and cache.pool is None
        self.bound: BoundSteps | None = None
        self.passes: dict[Any, int] = {}
        self.seen: dict[Any, int] = {}
        self.earlier: dict[Any, int] = {}
        self.recordings: dict[Any, int] = {}
        self.recorded: RecordedSteps | None = None
        before = recorded_before(model)
        self.seconds = 0.0 if before is None else before.seconds
        self._read_at = 0.0
        self.reason = self._why_not_recordable()

    def continued(self, cache: KVCache) -> DecodingSteps:
        """Return the steps for a cache with all or some of the rows."""
        lasting = cache.batch_size < self.cache.batch_size
        steps = DecodingSteps(self.model, cache, self.allowed, lasting)
        steps.replayed = self.replayed
        steps.recorded, steps.seen, steps.recordings = self.recorded, self.seen, self.recordings
        steps.earlier = self.earlier
        return steps

    def _why_not_recordable(self) -> str | None:
        """The reason why nothing can be recorded, or None."""
        if self.allowed is False:
            return "compile=False"
        if not has_executor(str(self.model.device)):
            return f"there are no plans for the device that the model is on, {self.model.device}"
        if _on_cpu(self.model) and not has_kernels():
            return "there are no kernels without numba"
        block = self.cache.layouts[0].spec.block
        if block < SMALLEST_BLOCK:
            return f"the cache has blocks of {block} slots, and each is recorded anew"
        return None

    @gradient.no_grad()
    def logits(self, tokens: Tensor, left: int, *, every: bool = False) -> Tensor:
        """Return the logits (B, V) after the last of new tokens (B, T) of each row.

        Args:
            left: about how many more passes are to come.
            every: return the logits after each new token, (B, T, V).
        """
        run = self._every if every else self._last
        if self.reason is not None and (self.bound is None or not self.bound.replays):
            (logits,) = self._by_modules(run, (tokens,))
            return logits
        self.cache.make_room(tokens.shape[1])
        key = self._key(tokens.shape[1], every)
        replay = self._replay_of(key)
        if replay is not None:
            (logits,) = self._replay(replay, (tokens,))
        else:
            (logits,) = self._new(key, run, (tokens,), left)
        return logits

    @gradient.no_grad()
    def queue(
        self,
        choice: Choice,
        choice_key: Any,
        newest: Tensor,
        numbers: Numbers,
        left: Sequence[int],
        unread: int = 0,
    ) -> QueuedSteps | None:
        """Queue several passes, each of which reads the previous one's tokens and chooses one of
        each row.

        Args:
            choice: a function of logits (B, V) and a pass's numbers that returns tokens (B,).
            choice_key: equal keys mean equal operations of `choice`.
            newest: (B,) int64, the previous tokens.
            numbers: returns the numbers of `choice` for so many passes, (steps, N).
            left: how many tokens each row may still get by these and later passes.
            unread: how many queued passes have not been read yet, of which `newest` is the last.

        Returns:
            The passes; None if there can be none before those that are queued have been read.
        """
        if unread:
            steps = self._steps_ahead(choice_key, unread, min(left))
            if not steps:
                return None
        else:
            steps = self._steps_at_once(min(left))
        begun = time.perf_counter()
        self.cache.make_room(steps)
        key = self._key(1, choice_key)
        replay = self._replay_of(key)
        given = numbers(steps)
        if replay is not None:
            cache, counts = self.cache, self.cache.counts
            try:
                queued = queue_replays(replay, newest, given, steps, begun)
                cache.set_counts([count + queued.count for count in counts], on_device=False)
            except BaseException:
                cache.set_counts(counts)
                raise
            return queued

        def run(newest: Tensor, *numbers: Tensor) -> tuple[Tensor, Tensor]:
            (logits,) = self._last(newest.unsqueeze(1))
            return choice(logits, numbers[0] if numbers else None), logits

        inputs = (newest,) if given is None else (newest, given[0])
        chosen, logits = self._new(key, run, inputs, max(left), MOST_AT_ONCE)
        known = [chosen.tolist()]
        return QueuedSteps(chosen, logits, begun, replayed=False, known=known)

    def read(self, queued: QueuedSteps) -> list[list[int]]:
        """Return the tokens of each pass, at least one; the last pass if one of them is -1, which
        means that no token is possible."""
        found = queued.read()
        now = time.perf_counter()
        if queued.replayed:
            self.replayed += len(found)
            # The device began with them when it was done with those before.
            self.seconds = (now - max(queued.begun, self._read_at)) / len(found)
            if self.recorded is not None:
                self.recorded.seconds = self.seconds
        self._read_at = now
        return found

    def _steps_at_once(self, left: int) -> int:
        """The number of passes to queue, with `left` still to come."""
        if self.works_ahead:
            passes = AHEAD / self.seconds if self.seconds > 0 else 1
        else:
            passes = AT_ONCE / self.seconds if self.seconds > 0 else MOST_AT_ONCE
        return self.cache.equal_steps(max(1, min(int(min(passes, MOST_AT_ONCE)), left)))

    def _steps_ahead(self, choice_key: Any, unread: int, left: int) -> int:
        """The number of passes to queue before `unread` ones are read: 0 if the next pass is not
        bound to the cache, or if the cache could not be rewound to before them all."""
        if left > 0 and self._bound(self._key(1, choice_key)) is not None:
            most = self.cache.max_rewind
            left = left if most is None else min(left, most - unread)
            return self._steps_at_once(left) if left > 0 else 0
        return 0

    def _last(self, tokens: Tensor) -> tuple[Tensor, ...]:
        return (self.model(tokens, self.cache, last_only=True)[:, -1],)

    def _every(self, tokens: Tensor) -> tuple[Tensor, ...]:
        return (self.model(tokens, self.cache),)

    def _key(self, tokens: int, kind: Any) -> Any:
        """What determines the operations of a pass of `kind` over this many tokens per row."""
        modes = (
            mode.inference, mode.anomaly, tuple((mode.autocast or {}).items()),
            get_default_dtype(), default_device(), matmul_precision.rounds_inputs(),
        )  # fmt: skip
        return self.cache.step_key(tokens), kind, modes

    def _replay_of(self, key: Any) -> Replay | None:
        """The step recorded and bound to the cache for this key, if it is still valid. If there is
        none, the cache takes over the memory of one that is gone and had it."""
        replay = self._bound(key)
        if replay is not None:
            return replay
        name = (*key, self.cache.room)
        recorded = self.recorded = self._current()
        if key in recorded.refused or recorded.structure.not_recordable or not recorded.use(name):
            return None
        found = recorded.bound.find(self.cache, name)
        if found is None:
            return None
        self.bound = found
        return found.replays.get(name)

    def _bound(self, key: Any) -> Replay | None:
        """The step bound to the cache for this key, if it is still valid."""
        if self.bound is None or not self.valid():
            return None
        self.bound.used()
        return self.bound.replays.get((*key, self.cache.room))

    def valid(self) -> bool:
        """Whether modules and weights are unchanged since the recording."""
        return self.recorded is not None and self.recorded.valid()

    def _current(self) -> RecordedSteps:
        """The model's recorded steps; none are left if it has changed."""
        recorded = recorded_steps(self.model)
        if recorded is not self.recorded:  # another generation may have seen the change first
            self.bound = None
        return recorded

    def _by_modules(self, run: Run, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        with evaluating(self.model), small_calls.repeated():
            return run(*given)

    def _replay(self, replay: Replay, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Replay the plan on the device, and repeat the host side of the modules here.

        An exception, Ctrl-C included, leaves the cache with the tokens that it held.
        """
        cache, counts = self.cache, self.cache.counts
        tokens = given[0]
        more = tokens.shape[1] if tokens.ndim == 2 else 1
        try:
            found = replay(*[t.array for t in given])
            cache.set_counts([count + more for count in counts], on_device=False)
        except BaseException:
            cache.set_counts(counts)
            raise
        self.replayed += 1
        return found

    def _new(
        self, key: Any, run: Run, given: Sequence[Tensor], left: int, runs: int = 1
    ) -> tuple[Tensor, ...]:
        """Bind a recorded step to this cache, record a new one, or run the modules. So many runs of
        a step may follow each other."""
        recorded = self.recorded
        assert recorded is not None
        self.reason = recorded.structure.not_recordable or recorded.refused.get(key)
        number = self.seen[key] = self.seen.get(key, 0) + 1
        every_length = (key[0][1:], *key[1:])  # drafts are of one length now, of another then
        total = self.seen[every_length] = self.seen.get(every_length, 0) + 1
        passes = self.passes[key] = self.passes.get(key, 0) + 1
        name = (*key, self.cache.room)
        step = recorded.steps.get(name)
        earlier = self.earlier.setdefault(name, recorded.passes.get(name, 0))
        recorded.count(name)
        expected = left * number // total + earlier
        worth = expected >= (WORTH_RECORDING if step is None else WORTH_BINDING)
        wanted = self.allowed or (worth and (step or total + earlier > PATIENCE))
        if self.reason is not None or not wanted:
            return self._by_modules(run, given)
        # What is born at first use is not part of a step: so none is recorded at once.
        if passes <= self.wait or (step is None and number <= 2):
            return self._by_modules(run, given)
        counts = self.cache.counts
        try:
            if step is None:
                times = self.recordings[key] = self.recordings.get(key, 0) + 1
                if times > MOST_RECORDINGS:
                    raise PlanError("the model's modules change from step to step")
                with evaluating(self.model):
                    step = RecordedStep(run, given, self.cache.tensors, runs)
                recorded.add(name, step)
                result, step.result = step.result, None
                assert result is not None
                return result
            if self.bound is None or not self.bound.belong_to(self.cache):
                self.bound = recorded.bound.get(self.cache)
            replay = Replay(step, self.cache.tensors)
        except PlanError as error:
            self.cache.set_counts(counts)  # the run that was recorded wrote its tokens
            self.reason = str(error)
            recorded.refuse(key, self.reason)
            return self._by_modules(run, given)
        self.bound.replays[name] = replay
        recorded.bound.trim()
        if step.checked:
            return self._replay(replay, given)
        step.checked = True
        return self._checked(key, replay, run, given)

    def _checked(
        self, key: Any, replay: Replay, run: Run, given: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """Replay a step for the first time, and compare it with the modules."""
        counts = self.cache.counts
        found = self._replay(replay, given)
        self.replayed -= 1
        self.cache.set_counts(counts)
        expected = self._by_modules(run, given)
        pairs = zip(found, expected, strict=True)
        if any(x.numpy(force=True).tobytes() != y.numpy(force=True).tobytes() for x, y in pairs):
            self.reason = "what the model computes changes from step to step"
            assert self.recorded is not None
            self.recorded.refuse(key, self.reason)
            assert self.bound is not None
            self.bound.replays.clear()
        return expected
