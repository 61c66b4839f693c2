"""The difference between two runs of a model: the first module, and the first op, that differ.

A run is one forward pass over the same tokens, by our model in some dtype, packing, device,
in one pass or token by token with a cache; or by transformers. Since our modules have the names of
its checkpoints, results are compared by name.

Errors are relative to the largest result of the module: max |a - b| / max |b|. They grow along a
correct model too, as rounding errors add up; a fault shows as a jump.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

import gradient
from gradient.errors import ArgumentError
from gradient.evaluation.trace import Event, trace
from gradient.kv_cache import KVCache
from gradient.models.causal_lm import CausalLM
from gradient.models.pretrained import PretrainedModel
from gradient.nn.evaluating import evaluating

__all__ = ["Difference", "Divergence", "activations", "compare"]


@dataclass(frozen=True)
class Difference:
    """The error of one result between two runs; infinite if only one of them is a number."""

    name: str
    error: float
    event: Event


@dataclass(frozen=True)
class Divergence:
    """The comparison of two runs.

    Attributes:
        modules: every module that both ran, in order of its completion.
        ops: every op that both ran, in order; empty unless both runs noted their ops.
        tolerance: the largest error that does not count as a difference.
    """

    modules: list[Difference]
    ops: list[Difference]
    tolerance: float

    @property
    def first_module(self) -> Difference | None:
        """The first module that differs: the innermost, as it finishes before outer ones."""
        return self._first(self.modules)

    @property
    def first_op(self) -> Difference | None:
        """The first op that differs."""
        return self._first(self.ops)

    def _first(self, differences: list[Difference]) -> Difference | None:
        return next((each for each in differences if not each.error <= self.tolerance), None)

    @property
    def largest(self) -> float:
        """The largest error of any module."""
        return max((each.error for each in self.modules), default=0.0)


@gradient.no_grad()
def activations(
    model: PretrainedModel, tokens: Sequence[int], *, cached: bool = False, ops: bool = True
) -> list[Event]:
    """Return the results of all modules and ops in one forward pass over a text's token ids.

    Args:
        cached: pass the tokens one at a time, with a key-value cache. Ops are not recorded then,
            since their shapes differ.

    Raises:
        ArgumentError: no tokens; or `cached`, and the model is an encoder, which has no cache.
    """
    if not tokens:
        raise ArgumentError("diff: expected a text of at least one token")
    ids = gradient.tensor([list(tokens)], dtype=gradient.int64, device=model.device)
    with evaluating(model):
        if not cached:
            return trace(model, lambda: model(ids), ops=ops)
        if not isinstance(model, CausalLM):
            raise ArgumentError(
                f"diff: cached: {model.architecture} is an encoder, which reads a text as a whole"
            )
        cache = KVCache.for_model(model, 1, len(tokens))
        steps = [
            trace(model, partial(model, ids[:, at : at + 1], cache), ops=False)
            for at in range(len(tokens))
        ]
    return [_joined(events) for events in zip(*steps, strict=True)]


def _joined(events: Sequence[Event]) -> Event:
    """Join one module's results for single tokens to its result for all of them."""
    first = events[0]
    value = first.value
    if value.ndim >= 2 and value.shape[1] == 1:
        value = np.concatenate([event.value for event in events], axis=1)
    return Event(first.module, first.op, first.number, first.where, value)


def compare(a: Sequence[Event], b: Sequence[Event], tolerance: float | None = None) -> Divergence:
    """Compare two runs, the second being the reference.

    Args:
        tolerance: the largest relative error that does not count as a difference; None: 1e-3.

    Raises:
        ArgumentError: they have no module in common, or most results differ in shape.
    """
    reference = {event.key: event for event in b}
    modules: list[Difference] = []
    ops: list[Difference] = []
    unlike: list[str] = []
    for event in a:
        other = reference.get(event.key)
        errors = [] if other is None else errors_of(event.value, other.value)
        if other is not None and not errors and not event.op:
            unlike.append(f"{event} gives {event.value.shape} and {other.value.shape}")
        if not errors:  # only one of them ran it, or with another shape
            continue
        error = min(errors)
        (ops if event.op else modules).append(Difference(str(event), error, event))
    if len(unlike) > len(modules):
        raise ArgumentError(
            f"diff: these cannot be compared: {unlike[0]}, and {len(unlike) - 1} more modules "
            "differ in the shapes of their results: are they of one model?"
        )
    if not modules:
        raise ArgumentError("diff: the two runs have no module in common: are they of one model?")
    return Divergence(modules, ops, 1e-3 if tolerance is None else tolerance)


def errors_of(a: np.ndarray, b: np.ndarray) -> list[float]:
    """Return the error for each way in which `a` and `b` can be the same result.

    Axes of length 1 may be missing, and heads (B, H, T, D) may come after tokens (B, T, H, D).
    """
    ways = [a.squeeze()]
    if a.ndim == b.ndim == 4:
        ways.append(a.swapaxes(1, 2).squeeze())
    b = b.squeeze()
    return [relative_error(way, b) for way in ways if way.shape == b.shape]


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """Return max |a - b| / max |b|: infinite if only one of them is a number."""
    if not b.size:
        return 0.0
    finite_a, finite_b = np.isfinite(a), np.isfinite(b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if not np.array_equal(finite_a | same, finite_b | same):
        return math.inf
    both = finite_a & finite_b
    if not both.any():
        return 0.0 if same.all() else math.inf
    scale = float(np.abs(b[both]).max())
    error = float(np.abs(a[both].astype(np.float64) - b[both]).max())
    return error / scale if scale else (0.0 if error == 0 else math.inf)
