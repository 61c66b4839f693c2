"""The same GGUF file under gradient and llama.cpp: decoding one row and several, after a short
prompt and a long one, and reading a prompt.

Each contender has a process of its own, since two thread pools in one process spoil both, and they
take turns. llama.cpp is llama-cpp-python's, through its C functions; build it for the machine:
`CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary llama-cpp-python llama-cpp-python`. Where it
has an environment of its own, LLAMA_CPP_PYTHON names that environment's interpreter.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench import fresh_process, random_llama
from bench.cases import Options
from bench.machine import installed
from bench.measure import Samples
from bench.result import Result
from bench.roofline import Roofline

PROMPT, NEW_TOKENS = 16, 64
LONG_PROMPT = 512
LONG_CONTEXT, AFTER_LONG = 2000, 32
ROWS = 4
FORMATS = ("q4_0", "q4_k_m", "q8_0", "bf16")
MORE_FORMATS = ("q5_k_m", "q6_k", "f16", "f32")
OTHERS = ("q4_0", "q8_0")
"""Formats of the other shapes: their rows are not all of whole blocks of 256."""
TARGETS = {"q4_0": 1.3, "q4_k_m": 1.2, "q5_k_m": 1.2, "q6_k": 1.2, "q8_0": 1.6, "bf16": 1.05}
"""Times llama.cpp's tokens a second when decoding the 1.1B shape."""

# A contender reads lines "PROMPT NEW ROWS": the tokens to read and to generate, of so many rows at
# once. It answers each with the seconds of both: until the first token is there, and after it.
BY_GRADIENT = """
import sys
import gradient
lm = gradient.hub.load(sys.argv[1])
for line in sys.stdin:
    prompt, new, rows = map(int, line.split())
    prompts = [list(range(3 + row, 3 + row + prompt)) for row in range(rows)]
    done = lm.generate(prompts, max_new_tokens=new, ignore_eos=True, temperature=0)
    timings = done[0].timings
    print(timings.prompt_seconds, timings.decode_seconds, flush=True)
"""
BY_LLAMA_CPP = """
import sys, time
import numpy as np
from llama_cpp import Llama, llama_cpp as c
threads, most, size = int(sys.argv[2]), 4, 4096
llama = Llama(sys.argv[1], n_ctx=64, n_threads=threads, verbose=False)
params = c.llama_context_default_params()
params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = size, size, 512, most
params.n_threads = params.n_threads_batch = threads
params.kv_unified = True
context, words = c.llama_init_from_model(llama.model, params), llama.n_vocab()
batch = c.llama_batch_init(size, 0, 1)
def run(tokens, first):  # tokens (rows, T), from position `first` on: the next token of each row
    rows, count = tokens.shape
    batch.n_tokens = tokens.size
    for i, token in enumerate(tokens.reshape(-1)):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = int(token), first + i % count, 1
        batch.seq_id[i][0], batch.logits[i] = i // count, i % count == count - 1
    if c.llama_decode(context, batch):
        raise RuntimeError("llama_decode failed")
    last = (np.ctypeslib.as_array(c.llama_get_logits_ith(context, count * (row + 1) - 1), (words,))
            for row in range(rows))
    return np.array([[logits.argmax()] for logits in last])
for line in sys.stdin:
    prompt, new, rows = map(int, line.split())
    c.llama_memory_clear(c.llama_get_memory(context), True)
    start = time.perf_counter()
    tokens = run(np.arange(3, 3 + prompt) + np.arange(rows)[:, None], 0)
    read = time.perf_counter()
    for i in range(new - 1):
        tokens = run(tokens, prompt + i)
    print(read - start, time.perf_counter() - read, flush=True)
"""


@dataclass(frozen=True)
class Task:
    """What contenders are timed at: reading a prompt, or the tokens after the first one."""

    what: str
    prompt: int
    new: int
    rows: int = 1

    @property
    def tokens(self) -> int:
        """How many tokens are timed, in all rows."""
        return self.rows * (self.new - 1) if self.new > 1 else self.prompt


DECODE = Task(f"decode {NEW_TOKENS}", PROMPT, NEW_TOKENS)
READ = Task(f"prompt of {LONG_PROMPT}", LONG_PROMPT, 1)
QUICK = (DECODE, READ)
TASKS = (
    *QUICK,
    Task(f"decode {NEW_TOKENS} of {ROWS} sequences", PROMPT, NEW_TOKENS, ROWS),
    Task(f"decode {AFTER_LONG} after {LONG_CONTEXT}", LONG_CONTEXT, AFTER_LONG),
)
TINY = (Task("decode 3", 4, 3), Task("decode 3 of 2 sequences", 4, 3, 2))


class Contender:
    """A process that holds a model and runs it on request."""

    def __init__(self, python: str, code: str, file: Path, threads: int) -> None:
        self._process = subprocess.Popen(
            [python, "-P", "-c", code, str(file), str(threads)],
            env=fresh_process.environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, task: Task) -> float:
        """The seconds of what a task times."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{task.prompt} {task.new} {task.rows}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().split()
        if len(answer) != 2:
            raise RuntimeError(f"a contender ended with status {self._process.wait()}")
        return float(answer[task.new > 1])

    def __enter__(self) -> Contender:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


def run(options: Options) -> Iterator[Result]:
    roofline = options.roofline()
    formats = FORMATS if options.quick else FORMATS + MORE_FORMATS
    tasks = TINY if options.tiny else QUICK if options.quick else TASKS
    shapes = {"LLaMA, small": (random_llama.SMALL, formats[:1] if options.tiny else formats)}
    if options.large:
        shapes = {"LLaMA 1.1B": (random_llama.LLAMA_1B, formats)}
        if not options.quick:
            shapes |= {shape: (config, OTHERS) for shape, config in random_llama.OTHERS.items()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(os.environ.get("GRADIENT_BENCH_MODELS", temporary))
        for shape, (config, wanted) in shapes.items():
            for name, file in random_llama.write(config, folder, wanted).items():
                for task in tasks:
                    yield from compare(shape, name, file, task, roofline, options)


def compare(
    shape: str, name: str, file: Path, task: Task, roofline: Roofline, options: Options
) -> Iterator[Result]:
    """Time one task on one file by each contender."""
    pythons = {"gradient": (sys.executable, BY_GRADIENT)}
    peer = os.environ.get("LLAMA_CPP_PYTHON", sys.executable)
    if options.peers and (peer != sys.executable or installed("llama_cpp")):
        pythons["llama.cpp"] = (peer, BY_LLAMA_CPP)
    size = file.stat().st_size
    with ExitStack() as stack:
        contenders = {
            label: stack.enter_context(Contender(python, code, file, options.threads))
            for label, (python, code) in pythons.items()
        }
        samples = _take_turns(contenders, task, options.rounds(8))
    for label, sample in samples.items():
        faster = None
        if label == "gradient" and "llama.cpp" in samples:
            faster = 1 / sample.ratio(samples["llama.cpp"])
        decodes = task.new > 1
        target = TARGETS.get(name, 1.2) if decodes and options.large else None
        yield Result(
            case="llama.cpp",
            what=f"{shape}, {name}, {size / 1e6:,.0f} MB: {task.what}",
            contender=label,
            value=task.tokens / sample.median,
            unit="tokens/s",
            best=task.tokens / sample.best,
            samples=len(sample.seconds),
            peer="llama.cpp" if faster else None,
            ratio=faster,
            roofline=size * (task.new - 1) / roofline.read_bandwidth / sample.median
            if decodes
            else None,
            bound=f"{roofline.read_bandwidth / 1e9:.1f} GB/s read",
            target=f">= {target} x llama.cpp" if target and faster else None,
            met=faster >= target if target and faster else None,
        )


def _take_turns(contenders: dict[str, Contender], task: Task, rounds: int) -> dict[str, Samples]:
    """As `interleave`, by the seconds that the contenders themselves give."""
    seconds: dict[str, list[float]] = {label: [] for label in contenders}
    order = list(contenders)
    for contender in contenders.values():  # warm up: pages, compilations
        contender.run(task)
    for _ in range(rounds):
        for label in order:
            time.sleep(0.3)  # the other's threads go to sleep
            seconds[label].append(contenders[label].run(task))
        order.append(order.pop(0))
    return {label: Samples(tuple(values)) for label, values in seconds.items()}
