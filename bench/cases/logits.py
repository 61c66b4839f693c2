"""The logits of a GGUF file under gradient and llama.cpp, and their distance from exact ones.

Both round the inputs of products with packed weights to int8. The error of llama.cpp is measured
against its own float32 path, on a file of the same weights in float32, where it
rounds nothing. Our distance from those logits may not be larger than its own. (bfloat16 cannot be
compared: a model computes in it throughout, as in PyTorch, llama.cpp in float32 in between.)

Needs llama-cpp-python, as the case `llama.cpp` does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench import fresh_process, random_llama
from bench.cases import Options
from bench.machine import installed
from bench.result import Result

TOKENS = 64
FORMATS = ("q4_0", "q4_k_m", "q5_k_m", "q6_k", "q8_0")
MOST = 1.1
"""Times llama.cpp's own distance."""

BY_GRADIENT = """
import sys
import numpy as np
import gradient
lm = gradient.hub.load(sys.argv[1])
with gradient.no_grad():
    logits = lm.model(gradient.tensor([list(range(3, 3 + int(sys.argv[3])))]))
np.save(sys.argv[2], logits.float().numpy()[0])
"""
BY_LLAMA_CPP = """
import sys
import numpy as np
from llama_cpp import Llama
count = int(sys.argv[3])
llama = Llama(sys.argv[1], n_ctx=count, logits_all=True, verbose=False)
llama.eval(list(range(3, 3 + count)))
np.save(sys.argv[2], np.array(llama.scores[:count], np.float32))
"""


def run(options: Options) -> Iterator[Result]:
    peer = os.environ.get("LLAMA_CPP_PYTHON", sys.executable)
    if not options.peers or not (peer != sys.executable or installed("llama_cpp")):
        peer = ""
    config = random_llama.LLAMA_1B if options.large else random_llama.SMALL
    shape = "LLaMA 1.1B" if options.large else "LLaMA, small"
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        folder = Path(os.environ.get("GRADIENT_BENCH_MODELS", temporary))
        for name in FORMATS[:1] if options.tiny else FORMATS:
            if not options.wants(f"{shape}, {name}"):
                continue
            file, exact = random_llama.write(config, folder, name), scratch / "exact.gguf"
            random_llama.convert(file, exact, "f32")
            python, code = (peer, BY_LLAMA_CPP) if peer else (sys.executable, BY_GRADIENT)
            reference = _logits(python, code, exact, scratch, options)
            found = {"gradient": _logits(sys.executable, BY_GRADIENT, file, scratch, options)}
            if peer:
                found["llama.cpp"] = _logits(peer, BY_LLAMA_CPP, file, scratch, options)
            exact.unlink()
            yield from _results(f"{shape}, {name}: {TOKENS} positions", found, reference)


def _logits(python: str, code: str, file: Path, folder: Path, options: Options) -> np.ndarray:
    """The logits (T, V) of the same tokens."""
    out = folder / "logits.npy"
    subprocess.run(
        [python, "-P", "-c", code, str(file), str(out), str(TOKENS)],
        env=fresh_process.environment(options.threads),
        check=True,
    )
    return np.load(out)


def _results(what: str, found: dict[str, np.ndarray], exact: np.ndarray) -> Iterator[Result]:
    scale = np.sqrt(np.mean(np.square(exact - exact.mean(-1, keepdims=True))))
    away = {
        label: float(np.sqrt(np.mean(np.square(logits - exact))) / scale)
        for label, logits in found.items()
    }
    for label, distance in away.items():
        compared = label == "gradient" and "llama.cpp" in away
        times = distance / away["llama.cpp"] if compared else None
        yield Result(
            case="logits",
            what=what,
            contender=label,
            value=1e3 * distance,
            unit="thousandths of the logits' spread, rms",
            peer="llama.cpp" if compared else None,
            ratio=times,
            target=f"<= {MOST} x llama.cpp" if compared else None,
            met=times <= MOST if times is not None else None,
        )
