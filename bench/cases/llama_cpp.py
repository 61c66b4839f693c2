"""The same GGUF file under gradient and llama.cpp: decoding one row, and reading a prompt.

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
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from bench import fresh_process, random_llama
from bench.cases import Options
from bench.machine import installed
from bench.measure import interleave
from bench.result import Result
from bench.roofline import Roofline

PROMPT, NEW_TOKENS = 16, 64
LONG_PROMPT = 512
FORMATS = ("q4_0", "q4_k_m", "q8_0", "bf16")
MORE_FORMATS = ("q5_k_m", "q6_k", "f16", "f32")
TARGETS = {"q4_0": 1.3, "q4_k_m": 1.2, "q5_k_m": 1.2, "q6_k": 1.2, "q8_0": 1.6, "bf16": 1.05}
"""Times llama.cpp's tokens a second when decoding the 1.1B shape."""

# A contender reads lines "PROMPT NEW": the tokens to read and to generate. It answers each with a
# line when it is done.
BY_GRADIENT = """
import sys
import gradient
lm = gradient.hub.load(sys.argv[1])
for line in sys.stdin:
    prompt, new = map(int, line.split())
    lm.generate(list(range(3, 3 + prompt)), max_new_tokens=new, ignore_eos=True, temperature=0)
    print("done", flush=True)
"""
BY_LLAMA_CPP = """
import sys
import numpy as np
from llama_cpp import Llama, llama_cpp as c
threads = int(sys.argv[2])
llama = Llama(sys.argv[1], n_ctx=1024, n_batch=512, n_ubatch=512, n_threads=threads,
              n_threads_batch=threads, verbose=False)
context, words = llama.ctx, llama.n_vocab()
def run(tokens):
    array = (c.llama_token * len(tokens))(*tokens)
    if c.llama_decode(context, c.llama_batch_get_one(array, len(tokens))):
        raise RuntimeError("llama_decode failed")
    logits = c.llama_get_logits_ith(context, -1)
    return int(np.ctypeslib.as_array(logits, (words,)).argmax())
for line in sys.stdin:
    prompt, new = map(int, line.split())
    c.llama_memory_clear(c.llama_get_memory(context), True)
    token = run(list(range(3, 3 + prompt)))
    for _ in range(new - 1):
        token = run([token])
    print("done", flush=True)
"""


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

    def run(self, prompt: int, new: int) -> None:
        """Read `prompt` tokens and generate `new`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{prompt} {new}\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "done\n":
            raise RuntimeError(f"a contender ended with status {self._process.wait()}")

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
    config = random_llama.LLAMA_1B if options.large else random_llama.SMALL
    formats = FORMATS if options.quick else FORMATS + MORE_FORMATS
    formats = formats[:1] if options.tiny else formats
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(os.environ.get("GRADIENT_BENCH_MODELS", temporary))
        for name, file in random_llama.write(config, folder, formats).items():
            yield from _compare(name, file, config.num_hidden_layers, roofline, options)


def _compare(
    name: str, file: Path, layers: int, roofline: Roofline, options: Options
) -> Iterator[Result]:
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
        for what, prompt, new in (
            (f"decode {NEW_TOKENS}", PROMPT, NEW_TOKENS),
            (f"prompt of {LONG_PROMPT}", LONG_PROMPT, 1),
        ):
            calls = {
                label: lambda c=contender, p=prompt, n=new: c.run(p, n)
                for label, contender in contenders.items()
            }
            for call in calls.values():  # warm up: pages, compilations
                call()
            samples = interleave(calls, rounds=options.rounds(8), settle=0.3)
            tokens = new if new > 1 else prompt
            for label, sample in samples.items():
                faster = None
                if label == "gradient" and "llama.cpp" in samples:
                    faster = 1 / sample.ratio(samples["llama.cpp"])
                target = TARGETS.get(name) if new > 1 and options.large else None
                yield Result(
                    case="llama.cpp",
                    what=f"{name}, {size / 1e6:,.0f} MB, {layers} layers: {what}",
                    contender=label,
                    value=tokens / sample.median,
                    unit="tokens/s",
                    best=tokens / sample.best,
                    samples=len(sample.seconds),
                    peer="llama.cpp" if faster else None,
                    ratio=faster,
                    roofline=size * new / roofline.read_bandwidth / sample.median
                    if new > 1
                    else None,
                    bound=f"{roofline.read_bandwidth / 1e9:.1f} GB/s read",
                    target=f">= {target} x llama.cpp" if target and faster else None,
                    met=faster >= target if target and faster else None,
                )
