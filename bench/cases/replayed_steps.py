"""The Python of a replayed decoding step, for several numbers of layers, and recording it.

The step is `Decoder.step` of a greedy text: the model, the choice of the token, and the bookkeeping
of both; a call makes AT_ONCE of them. Its Python is the time that remains if the lists of
kernels are empty.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator

import gradient
from bench.cases import Options
from bench.measure import interleave
from bench.result import Result
from gradient.backends.numpy import threads
from gradient.generation import (
    Decoder,
    GenerationOptions,
    Sampler,
    bound_steps,
    recorded_steps,
    replay,
)
from gradient.generation.cache_config import CacheConfig
from gradient.models import LlamaConfig, LlamaForCausalLM

LAYERS = (4, 22, 44)
TARGET = 150.0
"""Microseconds of Python in a step."""
RECORDING_TARGET = 1.0
"""Seconds to record 22 layers."""
LENGTH = 1000
AT_ONCE = 8


class Steps:
    """Endless decoding steps: a text that is full starts again."""

    def __init__(self, layers: int) -> None:
        gradient.manual_seed(0)
        sizes = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 172}
        heads = {"num_attention_heads": 8, "num_key_value_heads": 4}
        config = LlamaConfig(**sizes, **heads, num_hidden_layers=layers)
        self.model = LlamaForCausalLM(config).eval()
        self.begin()  # which compiles the kernels
        recorded_steps._recorded.pop(self.model)
        self.recording = self.begin()

    def begin(self) -> float:
        """Begin a text, and record its step if needed; return the seconds of the longest step."""
        options = GenerationOptions()
        cache_config = CacheConfig(compile=True)
        sampler = Sampler(options, 1)
        self.decoder = Decoder(
            self.model, [[1, 5, 7]], sampler, limits=[LENGTH], cache_config=cache_config
        )
        seconds = []
        while not (self.decoder.steps and self.decoder.steps.replayed):
            start = time.perf_counter()
            self.decoder.step()
            seconds.append(time.perf_counter() - start)
        return max(seconds[1:])

    def whole(self) -> None:
        if self.decoder.lengths[0] >= LENGTH - AT_ONCE:
            self.begin()
        self.decoder.step()

    def python(self) -> Callable[[], None]:
        """A step without its kernels."""
        other = Steps.__new__(Steps)
        other.model = self.model
        empty = threads.Tasks()

        def begin() -> None:
            other.begin()
            assert other.decoder.steps is not None
            assert other.decoder.steps.bound is not None
            for each in other.decoder.steps.bound.replays.values():
                each.executor.program = [
                    (function, (empty,) if function is threads.run_tasks else arguments)
                    for function, arguments in each.executor.program
                ]

        counter = itertools.count()

        def step() -> None:
            if next(counter) == 0 or other.decoder.lengths[0] >= LENGTH - AT_ONCE:
                begin()
            other.decoder.step()

        step()
        return step


def run(options: Options) -> Iterator[Result]:
    seconds, most, kept = replay.AT_ONCE, replay.MOST_AT_ONCE, bound_steps.KEPT_BYTES
    replay.AT_ONCE, replay.MOST_AT_ONCE = math.inf, AT_ONCE
    bound_steps.KEPT_BYTES = 0  # so that no text takes over steps without their kernels
    try:
        yield from measured(options)
    finally:
        replay.AT_ONCE, replay.MOST_AT_ONCE, bound_steps.KEPT_BYTES = seconds, most, kept


def measured(options: Options) -> Iterator[Result]:
    for layers in LAYERS:
        steps = Steps(layers)
        samples = interleave(
            {"whole": steps.whole, "Python": steps.python()},
            rounds=options.rounds(100),
            sample_seconds=0.005,
        )
        for part, sample in samples.items():
            yield Result(
                case="replay",
                what=f"decode step of {layers} layers: {part}",
                contender="gradient",
                value=1e6 * sample.median / AT_ONCE,
                unit="us",
                best=1e6 * sample.best / AT_ONCE,
                samples=len(sample.seconds),
                target=f"<= {TARGET:.0f} us" if part == "Python" else None,
                met=1e6 * sample.best / AT_ONCE <= TARGET if part == "Python" else None,
            )
        yield Result(
            case="replay",
            what=f"recording a step of {layers} layers",
            contender="gradient",
            value=steps.recording,
            unit="s",
            best=steps.recording,
            samples=2,
            target=f"<= {RECORDING_TARGET:.0f} s" if layers == 22 else None,
            met=steps.recording <= RECORDING_TARGET if layers == 22 else None,
        )
