"""Timing of several contenders in turn, so that a disturbance affects all of them.

A machine's speed drifts: other processes, turbo, temperature. So the contenders take turns within
each round, and two of them are compared round by round: the figure is the median over rounds of the
ratio (or difference) of neighbours in time, not the ratio of two distant medians.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Samples:
    """Seconds per call of one contender, one entry a round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        """The fastest round: the cost of the code on an otherwise idle machine."""
        return min(self.seconds)

    def ratio(self, peer: Samples) -> float:
        """Median over rounds of this contender's time divided by the peer's."""
        return statistics.median(a / b for a, b in zip(self.seconds, peer.seconds, strict=True))

    def beyond(self, peer: Samples) -> float:
        """Median over rounds of this contender's seconds beyond the peer's."""
        return statistics.median(a - b for a, b in zip(self.seconds, peer.seconds, strict=True))


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    sample_seconds: float = 0.0,
    settle: float = 0.0,
    within: float | None = None,
) -> dict[str, Samples]:
    """Time the contenders in turn for `rounds` rounds; each must have been warmed up by the caller.

    Args:
        contenders: a label and a call without arguments for each.
        rounds: how often each is timed; each round begins with the next contender.
        sample_seconds: repeat the call within a sample until it takes about this long; 0 means
            one call a sample. Microsecond calls need some milliseconds.
        settle: seconds to sleep before each sample, so that worker threads that the previous
            contender left spinning (OpenMP's, OpenBLAS's) are asleep; then an untimed call wakes
            the contender's own threads.
        within: seconds after which no further round begins; one round is always made.
    """
    begun = time.monotonic()
    calls = {label: _calls_for(run, sample_seconds) for label, run in contenders.items()}
    seconds: dict[str, list[float]] = {label: [] for label in contenders}
    labels = list(contenders)
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # a collection of all contenders' objects would slow down one sample
    try:
        for made in range(rounds):
            if made and within is not None and time.monotonic() - begun > within:
                break
            for label in labels:
                if settle:
                    time.sleep(settle)
                    contenders[label]()
                seconds[label].append(_sample(contenders[label], calls[label]))
            labels.append(labels.pop(0))
    finally:
        if collecting:
            gc.enable()
    return {label: Samples(tuple(values)) for label, values in seconds.items()}


def _sample(run: Callable[[], object], calls: int) -> float:
    repeats = range(calls)
    start = time.perf_counter()
    for _ in repeats:
        run()
    return (time.perf_counter() - start) / calls


def _calls_for(run: Callable[[], object], sample_seconds: float) -> int:
    if sample_seconds <= 0:
        return 1
    once = min(_sample(run, 3) for _ in range(3))
    return max(1, round(sample_seconds / once))
