"""Ctrl-C at random times while kernels are compiled for the first time: does it end the process?

python tests/support/interrupt_runs.py 200 [--seed 0] [--within 5]

Each run is a program with an empty cache of kernels, which gets one signal, or two, within its
first seconds. Printed is the time from the last signal to the end of the process, and what is
wrong: a process that goes on, or ends by another signal, or tells of a lost exception.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

KERNELS = """
import random, sys
import gradient
from gradient import nn, optim
from gradient.nn import functional as F

def norms():
    x = gradient.randn(256, 256, requires_grad=True)
    layer = nn.LayerNorm(256)
    F.cross_entropy(layer(F.gelu(x)), gradient.arange(256)).backward()

def attention():
    q = gradient.randn(1, 4, 128, 32, requires_grad=True)
    F.scaled_dot_product_attention(q, q, q, is_causal=True).sum().backward()

def steps():
    layer = nn.Linear(512, 512)
    optimizer = optim.AdamW(layer.parameters())
    F.silu(layer(gradient.randn(64, 512))).sum().backward()
    optimizer.step()

def narrow():
    F.linear(gradient.randn(2, 512).bfloat16(), gradient.randn(512, 512).bfloat16())

works = [norms, attention, steps, narrow]
random.Random(int(sys.argv[1])).shuffle(works)
for work in works:
    work()
"""

SMALL = "--n-layer 1 --n-head 2 --n-embd 64 --block-size 64 --batch-size 8 --vocab-size 300"

PROGRAMS = {
    "kernels": [sys.executable, "-c", KERNELS, "{seed}"],
    "generate": [*(sys.executable, "-m", "gradient", "generate"), "def f(x):" * 30, "-n", "100"],
    "train": [
        *(sys.executable, "-m", "gradient", "train", __file__, "--out", "{folder}/run"),
        *SMALL.split(),
        *("--steps", "1000000", "--eval-every", "1000000", "--no-tensorboard"),
    ],
}
"""Command lines; they are killed by nothing but the signals."""

LOST = ("Exception ignored", "Fatal Python error", "terminate called", "Segmentation fault")
HUNG = 60.0
"""Seconds after which a process is said to go on for ever."""


@dataclass
class Run:
    program: str
    signals: int
    seconds: float
    """From the last signal to the end."""
    code: int
    output: str
    in_time: bool
    """Whether it still ran when the first signal came."""

    def problem(self, within: float) -> str:
        # Python loses a signal that comes in this callback of its import locks, and tells of it.
        lost = "ignored in: <function _get_module_lock" in self.output
        if self.seconds >= HUNG:
            return "" if lost and self.signals == 1 else "did not end"
        if self.seconds > within:
            return f"ended after {self.seconds:.1f} s"
        # Python ends by the signal, or with 1 where another thread has executed code since.
        broken_off = self.output.rstrip().endswith("KeyboardInterrupt")
        if self.in_time and self.code not in (130, -signal.SIGINT, 0) and not broken_off:
            return f"ended with {self.code}"
        if self.signals == 2 and "threading.py" in self.output:
            return ""  # Python tells of a signal that comes while it waits for threads at its end
        if lost and self.output.count("Exception ignored") == 1:
            return ""
        return next((f"said {words!r}" for words in LOST if words in self.output), "")


def one(program: str, signals: int, first: float, pause: float, seed: int) -> Run:
    """Run a program with an empty cache; send the first signal after so many seconds."""
    # A helper may write the kernel that it is at (`backends.numpy.ahead`).
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        places = {"seed": seed, "folder": folder}
        command = [part.format(**places) if "{" in part and len(part) < 40 else part
                   for part in PROGRAMS[program]]  # fmt: skip
        environment = os.environ | {"NUMBA_CACHE_DIR": folder, "PYTHONFAULTHANDLER": "1"}
        output = Path(folder, "output")
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
            time.sleep(first)
            in_time = process.poll() is None
            process.send_signal(signal.SIGINT)
            if signals == 2:
                time.sleep(pause)
                process.send_signal(signal.SIGINT)
            sent = time.monotonic()
            try:
                process.wait(HUNG)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGABRT)  # faulthandler shows where it is
                process.wait()
            seconds = time.monotonic() - sent
        text = output.read_text(errors="replace")
        return Run(program, signals, seconds, process.returncode, text, in_time)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--within", type=float, default=5.0, help="seconds that are too long")
    parser.add_argument("--latest", type=float, default=8.0, help="of the first signal, in seconds")
    arguments = parser.parse_args()
    # A shell starts background jobs with SIGINT ignored, which the programs would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    chance = random.Random(arguments.seed)
    names = list(PROGRAMS)
    runs, wrong = [], 0
    for number in range(arguments.count):
        run = one(
            names[number % len(names)],
            1 + number // len(names) % 2,
            chance.uniform(0.3, arguments.latest),
            chance.uniform(0.0, 1.5),
            number,
        )
        runs.append(run)
        problem = run.problem(arguments.within)
        if problem:
            wrong += 1
            print(f"{number}: {run.program}, {run.signals} signals: {problem}", flush=True)
            print(run.output[-3000:], flush=True)
        elif number % 10 == 9:
            print(f"{number + 1} runs, {wrong} wrong", flush=True)
    times = sorted(run.seconds for run in runs)
    codes = dict(Counter(run.code for run in runs))
    print(
        f"{len(runs)} runs, {sum(run.in_time for run in runs)} still running at the signal; "
        f"from the last signal to the end: median {times[len(times) // 2]:.2f} s, "
        f"longest {times[-1]:.2f} s; {wrong} wrong; exit codes {codes}"
    )
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
