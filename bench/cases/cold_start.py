"""The cost of a first text and a first training step, without and with kernels on disk.

CPU seconds of all threads beyond `import gradient`, each in a fresh process: with an empty kernel
cache, then with the one that it filled. At --tiny both use the machine's own cache.

The commands `gradient generate` and `gradient train` (three steps) are measured in seconds with an
empty cache, alone and with helpers that compile. With --large also the first token of 1.1 billion
weights in Q4_0, with the file in memory, and the system's time for as much new memory as loading
needs for the weights' panels.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import fresh_process, random_llama
from bench.cases import Options
from bench.result import Result

COLD, WARM = 15.0, 1.0
"""Seconds that a first token may take."""

MEASURED = """
import os, sys
if sys.argv[1]:
    os.environ["NUMBA_CACHE_DIR"] = sys.argv[1]
import gradient
from gradient import nn
before = os.times()
{work}
after = os.times()
print(after.user + after.system - before.user - before.system)
"""

TOKEN = 'gradient.hub.load("tinyworld").generate("Once upon a time", max_new_tokens=1)'

OF_A_FILE = 'gradient.hub.load(sys.argv[2]).generate("Once upon a time", max_new_tokens=1)'

NEW_MEMORY = """
import numpy as np
np.empty(os.path.getsize(sys.argv[2]), np.uint8)[::4096] = 1
"""

TEXT = 'gradient.hub.load("tinyworld").generate("Once upon a time", max_new_tokens=100)'

CNN_STEP = """
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(16 * 14 * 14, 10),
)
optimizer = gradient.optim.AdamW(model.parameters())
images, labels = gradient.randn(64, 1, 28, 28), gradient.randint(10, (64,))
nn.functional.cross_entropy(model(images), labels).backward()
optimizer.step()
"""

GPT_STEP = """
from gradient.models import GPT2Config, GPT2LMHeadModel
model = GPT2LMHeadModel(GPT2Config(
    vocab_size=256, n_positions=128, n_embd=128, n_layer=2, n_head=4
))
optimizer = gradient.optim.AdamW(model.parameters())
ids = gradient.randint(256, (8, 128))
nn.functional.cross_entropy(model(ids).reshape(-1, 256), ids.reshape(-1)).backward()
optimizer.step()
"""

WORK = {
    "first token of tinyworld": TOKEN,
    "first text of tinyworld": TEXT,
    "first training step of a CNN": CNN_STEP,
    "first training step of a GPT": GPT_STEP,
}

COMMAND = """
import os, sys, time
os.environ["NUMBA_CACHE_DIR"], helped = sys.argv[1:3]
from gradient.backends.numpy import ahead
from gradient.cli import main
if helped == "alone":
    ahead.usable_cpus = lambda: 1
sys.argv[1:] = sys.argv[3:]
before = time.monotonic()
try:
    main()
finally:
    print(time.monotonic() - before)
"""

COMMANDS = {
    "generate": ["Once upon a time"],
    "train": [
        str(Path(__file__).parent),
        *("--steps=3", "--vocab-size=300", "--eval-batches=1", "--out"),
    ],
}


def run(options: Options) -> Iterator[Result]:
    for what, work in WORK.items():
        token = work is TOKEN
        with tempfile.TemporaryDirectory() as folder:
            cache = "" if options.tiny else folder
            if not options.tiny:
                yield _result(what, "empty cache", [_seconds(work, cache)], COLD if token else None)
            warm = [_seconds(work, cache) for _ in range(options.rounds(15))]
            yield _result(what, "kernels on disk", warm, WARM if token else None)
    if not options.tiny:
        for command, arguments in COMMANDS.items():
            yield from _first_use(command, arguments, options.rounds(3))
    if options.large:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(os.environ.get("GRADIENT_BENCH_MODELS", temporary))
            yield from _of_a_file(
                random_llama.write(random_llama.LLAMA_1B, folder, "q4_0"), options
            )


def _first_use(command: str, arguments: list[str], rounds: int) -> Iterator[Result]:
    """A command whose kernels are not in the cache, compiled alone or with helpers."""
    times: dict[str, list[float]] = {"alone": [], "helped": []}
    for _ in range(rounds):
        for how, found in times.items():
            # A helper may write the kernel that it is at.
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                given = [*arguments, f"{folder}/run"] if arguments[-1] == "--out" else arguments
                output = fresh_process.run(COMMAND, folder, how, command, *given, threads=None)
                found.append(float(output.split()[-1]))
    for how, found in times.items():
        yield _result(f"gradient {command}", f"empty cache, {how}", found, None, "s")


def _of_a_file(file: Path, options: Options) -> Iterator[Result]:
    _seconds(OF_A_FILE, "", file)  # compiles kernels, and reads the file
    times: dict[str, list[float]] = {OF_A_FILE: [], NEW_MEMORY: []}
    for _ in range(options.rounds(8)):
        for work, found in times.items():
            found.append(_seconds(work, "", file))
    what = "LLaMA 1.1B, q4_0: first token"
    yield _result(what, "kernels on disk", times[OF_A_FILE], None)
    yield _result(what, "as much new memory alone", times[NEW_MEMORY], None)


def _seconds(work: str, cache: str, file: Path | str = "") -> float:
    return float(fresh_process.run(MEASURED.format(work=work), cache, str(file)).split()[-1])


def _result(
    what: str, cache: str, seconds: list[float], target: float | None, unit: str = "s CPU"
) -> Result:
    value = statistics.median(seconds)
    return Result(
        case="cold",
        what=f"{what}, {cache}",
        contender="gradient",
        value=value,
        unit=unit,
        best=min(seconds),
        samples=len(seconds),
        target=None if target is None else f"< {target:.0f} s",
        met=None if target is None else value < target,
    )
