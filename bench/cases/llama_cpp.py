"""The same GGUF file under gradient and llama.cpp: decoding one row and several, after a short
prompt and a long one, and reading a prompt.

Contenders take turns, each in its own process, because two thread pools in one process slow down
both. llama.cpp is that of llama-cpp-python, by its C functions; build it for the machine:
`CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary llama-cpp-python llama-cpp-python`. If it is
installed in another environment, LLAMA_CPP_PYTHON names that environment's interpreter.
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
from typing import Any

from bench import fresh_process, random_llama
from bench.cases import Options
from bench.machine import installed
from bench.measure import Samples
from bench.result import Result
from bench.roofline import Roofline

PROMPT, NEW_TOKENS = 16, 64
MORE_TOKENS = 400
LONG_PROMPT = 512
LONG_CONTEXT = 2000
ROWS = 4
FORMATS = ("q4_0", "q4_k_m", "q8_0", "bf16")
MORE_FORMATS = ("q5_k_m", "q6_k", "f16", "f32")
OTHERS = ("q4_0", "q8_0")
"""Formats of the other shapes: their rows are not all of whole blocks of 256."""
TARGETS = {"q4_0": 1.3, "q4_k_m": 1.2, "q5_k_m": 1.2, "q6_k": 1.2, "q8_0": 1.6}
TARGETS |= {"bf16": 1.05, "f16": 1.05}
"""Times llama.cpp's tokens a second when decoding one row of the 1.1B shape."""
OTHER_TARGET = 1.2
"""The same of the other shapes."""
READ_TARGETS = {"q4_0": 1.3, "q4_k_m": 1.3, "q8_0": 2.0, "bf16": 1.0, "f32": 1.2}
"""Times llama.cpp's tokens of a prompt, of the 1.1B shape."""
STORIES, STORIES_TARGET = "stories260K", 3.0
"""A real model of 260 thousand parameters in float32, where the test data is."""
TOGETHER = 2.5
"""Times one sequence's tokens a second when ROWS are decoded together."""

# A contender reads lines "PROMPT NEW ROWS KEEP": the number of tokens to read and to generate, the
# number of rows, and whether the cache of the previous line may be kept. It answers each with
# two times in seconds: until the first token, and after it.
BY_GRADIENT = """
import sys
import gradient
from gradient.generation import PromptCache
lm = gradient.hub.load(sys.argv[1])
kept = None
for line in sys.stdin:
    prompt, new, rows, keep = map(int, line.split())
    prompts = [list(range(3 + row, 3 + row + prompt)) for row in range(rows)]
    options = dict(max_new_tokens=new, ignore_eos=True, temperature=0)
    if keep:
        kept = kept or PromptCache(lm.model)
        timings = lm.generate(prompts[0], prompt_cache=kept, **options).timings
    else:
        timings = lm.generate(prompts, **options)[0].timings
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
memory, kept = c.llama_get_memory(context), None
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
    prompt, new, rows, keep = map(int, line.split())
    ids = np.arange(3, 3 + prompt) + np.arange(rows)[:, None]
    start, first = time.perf_counter(), 0
    if keep and kept == prompt:
        first = prompt - 1
        c.llama_memory_seq_rm(memory, 0, first, -1)
    else:
        c.llama_memory_clear(memory, True)
    tokens = run(ids[:, first:], first)
    read = time.perf_counter()
    for i in range(new - 1):
        tokens = run(tokens, prompt + i)
    print(read - start, time.perf_counter() - read, flush=True)
    kept = prompt if keep else None
"""


@dataclass(frozen=True)
class Task:
    """A measured task: reading a prompt, or generating the tokens after the first one.

    `keep`: read the prompt once, not in each round.
    """

    what: str
    prompt: int
    new: int
    rows: int = 1
    keep: bool = False

    @property
    def tokens(self) -> int:
        """The number of timed tokens, in all rows."""
        return self.rows * (self.new - 1) if self.new > 1 else self.prompt


DECODE = Task(f"decode {NEW_TOKENS}", PROMPT, NEW_TOKENS)
READ = Task(f"prompt of {LONG_PROMPT}", LONG_PROMPT, 1)
TOGETHER_TASK = Task(f"{ROWS} sequences, decode {NEW_TOKENS}", PROMPT, NEW_TOKENS, ROWS)
AFTER = Task(f"after {LONG_CONTEXT}, decode {NEW_TOKENS}", LONG_CONTEXT, NEW_TOKENS, keep=True)
QUICK = (DECODE, READ)
TASKS = (DECODE, TOGETHER_TASK, READ, AFTER)
TINY = (
    Task("decode 3", 4, 3),
    Task("2 sequences, decode 3", 4, 3, 2),
    Task("after 6, decode 3", 6, 3, keep=True),
)


class Contender:
    """A process that loads a model and runs tasks on request."""

    def __init__(self, python: str, code: str, file: Path, threads: int) -> None:
        self._process = subprocess.Popen(
            [python, "-P", "-c", code, str(file), str(threads)],
            env=fresh_process.environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, task: Task) -> float:
        """Run a task and return its seconds."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{task.prompt} {task.new} {task.rows} {int(task.keep)}\n")
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
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(os.environ.get("GRADIENT_BENCH_MODELS", temporary))
        for shape, (config, formats) in _shapes(options).items():
            for name in formats:
                tasks = [t for t in _tasks(options) if options.wants(f"{shape}, {name}: {t.what}")]
                if tasks:
                    file = random_llama.write(config, folder, name)
                    yield from compare(shape, name, file, tasks, roofline, options)
    stories = Path(os.environ.get("GRADIENT_TEST_DATA", "../shared/data"), "stories260k")
    file = stories / f"{STORIES}.gguf"
    tiny = Task(f"decode {MORE_TOKENS}", PROMPT, MORE_TOKENS)
    if options.wants(f"{STORIES}, f32: {tiny.what}") and file.exists():
        yield from compare(STORIES, "f32", file, [tiny], roofline, options)


def _shapes(options: Options) -> dict[str, tuple[Any, tuple[str, ...]]]:
    """The models and their formats; all of them if some are selected by name."""
    formats = FORMATS if options.quick and not options.only else FORMATS + MORE_FORMATS
    if not options.large:
        return {"LLaMA, small": (random_llama.SMALL, formats[:1] if options.tiny else formats)}
    shapes: dict[str, tuple[Any, tuple[str, ...]]] = {
        "LLaMA 1.1B": (random_llama.LLAMA_1B, formats)
    }
    if options.only or not options.quick:
        shapes |= {shape: (config, OTHERS) for shape, config in random_llama.OTHERS.items()}
    return shapes


def _tasks(options: Options) -> tuple[Task, ...]:
    return TINY if options.tiny else QUICK if options.quick and not options.only else TASKS


def compare(
    shape: str, name: str, file: Path, tasks: list[Task], roofline: Roofline, options: Options
) -> Iterator[Result]:
    """Time tasks on one file by each contender."""
    pythons = {"gradient": (sys.executable, BY_GRADIENT)}
    peer = os.environ.get("LLAMA_CPP_PYTHON", sys.executable)
    if options.peers and (peer != sys.executable or installed("llama_cpp")):
        pythons["llama.cpp"] = (peer, BY_LLAMA_CPP)
    if TOGETHER_TASK in tasks and DECODE not in tasks:
        tasks = [DECODE, *tasks]
    size = file.stat().st_size
    one: Samples | None = None
    with ExitStack() as stack:
        contenders = {
            label: stack.enter_context(Contender(python, code, file, options.threads))
            for label, (python, code) in pythons.items()
        }
        for task in tasks:
            samples = _take_turns(contenders, task, options.rounds(8))
            what = f"{shape}, {name}, {size / 1e6:,.0f} MB: {task.what}"
            target = _target(shape, name, task) if options.large or shape == STORIES else None
            read = None if shape == "8 experts" else size  # a token reads only two of them
            yield from _results(what, task, target, samples, read, roofline)
            if task == DECODE:
                one = samples["gradient"]
            if task == TOGETHER_TASK and one is not None:
                yield _together(what, samples["gradient"], one)


def _target(shape: str, name: str, task: Task) -> float | None:
    """The target, as a multiple of llama.cpp's tokens per second."""
    if shape == STORIES:
        return STORIES_TARGET
    decodes, own = task.new > 1, shape == "LLaMA 1.1B"
    if task.rows > 1 or not (decodes or own):
        return None
    return (TARGETS if decodes else READ_TARGETS).get(name) if own else OTHER_TARGET


def _results(
    what: str,
    task: Task,
    target: float | None,
    samples: dict[str, Samples],
    read: int | None,
    roofline: Roofline,
) -> Iterator[Result]:
    """The figures of one task; `read`: bytes of weights that a token needs."""
    for label, sample in samples.items():
        faster = None
        if label == "gradient" and "llama.cpp" in samples:
            faster = 1 / sample.ratio(samples["llama.cpp"])
        yield Result(
            case="llama.cpp",
            what=what,
            contender=label,
            value=task.tokens / sample.median,
            unit="tokens/s",
            best=task.tokens / sample.best,
            samples=len(sample.seconds),
            peer="llama.cpp" if faster else None,
            ratio=faster,
            roofline=read * (task.new - 1) / roofline.read_bandwidth / sample.median
            if task.new > 1 and read is not None
            else None,
            bound=f"{roofline.read_bandwidth / 1e9:.1f} GB/s read",
            target=f">= {target} x llama.cpp" if target and faster else None,
            met=faster >= target if target and faster else None,
        )


def _together(what: str, several: Samples, one: Samples) -> Result:
    """The tokens per second of several sequences, as a multiple of one sequence's."""
    times = ROWS / several.ratio(one)
    return Result(
        case="llama.cpp",
        what=what,
        contender="gradient, of one",
        value=ROWS * (NEW_TOKENS - 1) / several.median,
        unit="tokens/s",
        peer="one sequence",
        ratio=times,
        target=f">= {TOGETHER} x one sequence",
        met=times >= TOGETHER,
    )


def _take_turns(contenders: dict[str, Contender], task: Task, rounds: int) -> dict[str, Samples]:
    """Like `interleave`, with the seconds that the contenders themselves report."""
    seconds: dict[str, list[float]] = {label: [] for label in contenders}
    order = list(contenders)
    for contender in contenders.values():  # warm up: pages, compilations, recorded steps
        contender.run(task)
    for _ in range(rounds):
        for label in order:
            time.sleep(0.3)  # the other's threads go to sleep
            seconds[label].append(contenders[label].run(task))
        order.append(order.pop(0))
    return {label: Samples(tuple(values)) for label, values in seconds.items()}
