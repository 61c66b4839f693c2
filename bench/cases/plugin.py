"""The costs of a device in another process: a queued op, a replayed step, a copy to the device and
back, and the time until a fault is reported.

The time of a queued op is that of the client's thread, whatever the plugin does meanwhile.
Copies are compared with NumPy's copies of as many bytes, to memory that is already mapped. The
client and the plugin copy in parallel if two cores are free; else twice the time is the minimum.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np

import gradient
import gradient.functional as F
from bench import random_llama
from bench.cases import Options
from bench.machine import installed
from bench.measure import interleave
from bench.result import Result
from gradient import backends, nn, optim
from gradient.backends import process
from gradient.generation import generate
from gradient.models.registry import model_class

OPS = 1000  # ops between two waits
TARGET_OP = 3.0  # microseconds
TARGET_FAULT = 100.0  # milliseconds
TARGET_COPY = 0.5  # of NumPy's bytes per second


def run(options: Options) -> Iterator[Result]:
    process.register("numpy-plugin", process.NUMPY_PLUGIN)
    for place in ("numpy-plugin", *(["metal"] if installed("mlx") else [])):
        backend: Any = backends.get(place)
        yield from queued(place, backend, options)
        yield from copies(place, backend, options)
        yield step(place, backend)
        if place == "metal":
            yield decoding(place, options)
        yield from faults(place, backend)


def queued(place: str, backend: Any, options: Options) -> Iterator[Result]:
    x = gradient.randn(8, 8).to(place)
    y = gradient.randn(8, 8).to(place)
    a, b = x.array, y.array
    calls: dict[str, Callable[[], object]] = {
        "array + array": lambda: a + b,
        "array * number": lambda: a * 2.0,
        "array @ array": lambda: backend.matmul(a, b),
        "tensor + tensor": lambda: x + y,
    }
    for what, call in calls.items():
        samples = []
        for _ in range(options.rounds(30)):
            backend.synchronize()
            began = time.thread_time()
            for _ in range(OPS):
                call()
            samples.append((time.thread_time() - began) / OPS * 1e6)
        value = median(samples)
        goal = what.startswith("array")
        yield Result(
            case="plugin",
            what=f"queue {what} (8, 8)",
            contender=place,
            value=value,
            unit="us",
            best=min(samples),
            samples=len(samples),
            target=f"<= {TARGET_OP} us" if goal else None,
            met=value <= TARGET_OP if goal else None,
        )


def copies(place: str, backend: Any, options: Options) -> Iterator[Result]:
    size = 1 << (20 if options.tiny else 26)
    source, target = (np.ones(size // 4, np.float32) for _ in range(2))
    there = backend.asarray(source)

    def upload() -> None:
        backend.asarray(source)
        backend.synchronize()

    contenders = {
        "memcpy": lambda: np.copyto(target, source),
        "upload": upload,
        "download": lambda: backend.to_numpy(there),
    }
    samples = interleave(contenders, rounds=options.rounds(15), sample_seconds=0.02)
    for name, sample in samples.items():
        ratio = sample.ratio(samples["memcpy"]) if name != "memcpy" else None
        yield Result(
            case="plugin",
            what=f"{name} of {size >> 20} MiB",
            contender=place if name != "memcpy" else "numpy",
            value=size / sample.median / 1e9,
            unit="GB/s",
            best=size / sample.best / 1e9,
            samples=len(sample.seconds),
            peer="memcpy" if ratio else None,
            ratio=ratio,
            target=f">= {TARGET_COPY} of memcpy" if ratio else None,
            met=samples["memcpy"].median >= TARGET_COPY * sample.median if ratio else None,
        )


def faults(place: str, backend: Any) -> Iterator[Result]:
    """The time from a fault to the error."""
    rows = gradient.arange(8).to(place)
    beyond = (rows + 8).array
    weight = gradient.randn(8, 4).to(place).array

    def killed(busy: bool) -> float:
        x = backend.full((1 << 12, 1 << 12), 1e-4, np.dtype(np.float32))
        if busy:
            for _ in range(64):
                x = backend.matmul(x, x)
        else:
            backend.synchronize()
        backend.client.flush()
        child = backend.client.connection.process
        began = time.perf_counter()
        child.kill()
        with contextlib.suppress(process.PluginError):
            backend.synchronize()
        seconds = time.perf_counter() - began
        backend.restart()
        return seconds

    def refused() -> float:
        backend.synchronize()
        began = time.perf_counter()
        with contextlib.suppress(process.PluginError):
            backend.to_numpy(backend.embedding(weight, beyond))
        return time.perf_counter() - began

    measured: dict[str, Callable[[], float]] = {
        "an op has raised": refused,
        "the plugin is killed, idle": lambda: killed(False),
        "the plugin is killed in an op": lambda: killed(True),
    }
    for what, measure in measured.items():
        samples = [1e3 * measure() for _ in range(5)]
        value = median(samples)
        yield Result(
            case="plugin", what=f"error after {what}", contender=place, value=value,
            unit="ms", best=min(samples), samples=len(samples), target=f"<= {TARGET_FAULT} ms",
            met=value <= TARGET_FAULT,
        )  # fmt: skip
    backend.close()


def step(place: str, backend: Any) -> Result:
    """A compiled training step: the number of messages of a replay."""
    layers = nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 10)
    model = nn.Sequential(*layers).to(place)
    optimizer = optim.AdamW(model.parameters())
    x, y = gradient.randn(16, 64).to(place), gradient.randint(0, 10, (16,)).to(place)

    @gradient.compile(fullgraph=True)
    def train(x: gradient.Tensor, y: gradient.Tensor) -> gradient.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    for _ in range(6):
        train(x, y)
    backend.synchronize()
    before = backend.client.sent + len(backend.client.queue)
    train(x, y)
    count = backend.client.sent + len(backend.client.queue) - before
    return Result(
        case="plugin", what="messages of a compiled training step", contender=place,
        value=count, unit="messages", target="= 1", met=count == 1,
    )  # fmt: skip


def decoding(place: str, options: Options) -> Result:
    """Greedy text of a small LLaMA with random weights, by planned steps, beside the CPU's."""
    config = random_llama.SMALL
    gradient.manual_seed(0)
    model = model_class(config.model_type)(config)
    prompt, count = list(range(100, 116)), 2 if options.tiny else 32
    models = {place: copy.deepcopy(model).to(place), "cpu": model}
    runs = {
        device: functools.partial(generate, each, prompt, max_new_tokens=count, ignore_eos=True)
        for device, each in models.items()
    }
    if len({tuple(run().token_ids) for run in runs.values()}) > 1:
        raise RuntimeError(f"{place} and the CPU generate different tokens")
    samples = interleave(runs, rounds=options.rounds(5))
    ours = samples[place]
    return Result(
        case="plugin", what=f"decode, LLaMA of {model.num_parameters() >> 20} M parameters",
        contender=place, value=1e3 * ours.median / count, unit="ms/token",
        best=1e3 * ours.best / count, samples=len(ours.seconds), peer="cpu",
        ratio=ours.ratio(samples["cpu"]),
    )  # fmt: skip
