"""The kernels of a replayed decoding step on a GPU, for LLaMA 1.1B's shape in bfloat16 and Q4_0.

A kernel's time is that from its predecessor's end to its own, since kernels of a graph overlap: it
may begin long before its predecessor ends. PyTorch's profiler, which sees all kernels of the
process, gives both times. Two texts of different lengths are profiled; the difference per token is
a step's, without the prompt.
"""

from __future__ import annotations

import collections
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import gradient
from bench.cases import Options
from bench.cases.gpu_models import PROMPT, models_to_decode, torch_has
from bench.result import Result
from gradient.generation import generate
from gradient.models.llama import LlamaForCausalLM

FEW, MANY = 64, 192
"""Tokens of the texts; both are long enough for their steps to be replayed."""
ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
"""Categories of a trace's events that are work of the GPU."""


class Event(NamedTuple):
    """A kernel or copy; times in microseconds."""

    name: str
    begin: float
    end: float


def run(options: Options) -> Iterator[Result]:
    usable = gradient.cuda.is_available() and options.peer("torch") and torch_has("cuda")
    if not usable:
        print("gpu-step: needs a CUDA device and PyTorch with CUDA", file=sys.stderr)
        return
    for stored, model in models_to_decode(options, "cuda"):
        if not options.wants(stored):
            continue
        for count in (MANY, FEW) * 2:  # kernels, and the step recorded for caches of both sizes
            _generate(model, count)
        few, many = (times_of(profiled(model, count)) for count in (FEW, MANY))
        yield from results(stored, few, many, MANY - FEW)


def results(
    stored: str, few: dict[str, list[float]], many: dict[str, list[float]], steps: int
) -> Iterator[Result]:
    """A figure for each kernel of a step, the longest first, and one for all."""
    in_step = {
        name: (
            (sum(times) - sum(few.get(name, ()))) / steps,
            (len(times) - len(few.get(name, ()))) / steps,
        )
        for name, times in many.items()
    }
    in_step = {name: found for name, found in in_step.items() if round(found[1]) > 0}
    total = sum(time for time, _ in in_step.values())
    yield _result(f"{stored}: a step", total, f"{sum(n for _, n in in_step.values()):.0f} kernels")
    for name, (time, count) in sorted(in_step.items(), key=lambda each: -each[1][0]):
        each = statistics.median(many[name])
        yield _result(f"{stored}: {name}", time, f"{count:.0f} a step, {each:.2f} us each")


def times_of(events: Sequence[Event]) -> dict[str, list[float]]:
    """By name: microseconds from the end of the event before to an event's own end."""
    found: dict[str, list[float]] = collections.defaultdict(list)
    ordered = sorted(events, key=lambda event: event.begin)
    for before, event in zip(ordered, ordered[1:], strict=False):
        found[event.name].append(event.end - before.end)
    return found


def profiled(model: LlamaForCausalLM, count: int) -> list[Event]:
    """What the GPU does for a text of that many tokens."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        _generate(model, count)
        gradient.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return read_trace(path.read_text())


def read_trace(text: str) -> list[Event]:
    """The GPU's events of a trace in Chrome's format."""
    return [
        Event(event["name"], event["ts"], event["ts"] + event["dur"])
        for event in json.loads(text)["traceEvents"]
        if event.get("cat") in ON_DEVICE
    ]


def _generate(model: LlamaForCausalLM, count: int) -> None:
    generate(model, PROMPT, max_new_tokens=count, temperature=0, ignore_eos=True)


def _result(what: str, value: float, note: str) -> Result:
    return Result(
        case="gpu-step", what=what, contender="gradient", value=value, unit="us", note=note
    )
