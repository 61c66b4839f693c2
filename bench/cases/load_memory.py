"""Time and peak memory of loading a model file, in a fresh process for each measurement.

Memory is the growth of the process's peak resident set (VmHWM) from just before the load, with all
modules and kernels imported, to just after it, and to after a first forward pass, which reads the
weights. Pages of the memory-mapped file count once they are touched, so a loader that copies
the mapped weights shows twice the file. ru_maxrss is unusable on Linux: a child inherits it.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import fresh_process, random_gpt2
from bench.cases import Options
from bench.result import Result

TARGET = 1.1  # times the file

# Defines peak(): the peak resident memory of the process so far, in bytes; and forget_peak(), which
# resets it (Linux), because importing and compiling used memory that is free again.
PEAK = """
import contextlib, pathlib, resource, sys
def forget_peak():
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")
def peak():
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])
"""

BY_GRADIENT = """
import json, time
import gradient
from gradient.checkpoints import load_model
from gradient.models import gpt2
with gradient.no_grad():  # the kernels of a forward pass are imported at the first call of one
    gradient.nn.functional.linear(gradient.ones(1, 256), gradient.ones(256, 256))
forget_peak()
before, start = peak(), time.perf_counter()
model = load_model(sys.argv[1])
seconds, loaded = time.perf_counter() - start, peak()
with gradient.no_grad():
    model(gradient.tensor([[1, 2, 3]]))
print(json.dumps({"seconds": seconds, "load": loaded - before, "forward": peak() - before}))
"""

BY_TRANSFORMERS = """
import json, time
import torch
from transformers import GPT2LMHeadModel
before, start = peak(), time.perf_counter()
model = GPT2LMHeadModel.from_pretrained(sys.argv[1])
seconds, loaded = time.perf_counter() - start, peak()
with torch.no_grad():
    model(torch.tensor([[1, 2, 3]]))
print(json.dumps({"seconds": seconds, "load": loaded - before, "forward": peak() - before}))
"""


def load_in_fresh_process(code: str, folder: Path) -> dict[str, Any]:
    """Seconds of the load, and the growth of the peak in bytes: after load and forward pass."""
    return json.loads(fresh_process.run(PEAK + code, str(folder)))


def run(options: Options) -> Iterator[Result]:
    roofline = options.roofline()
    codes = {"gradient": BY_GRADIENT}
    if options.peer("torch") and options.peer("transformers"):
        codes["transformers"] = BY_TRANSFORMERS
    configs = [random_gpt2.SMALL, *([random_gpt2.GPT2_124M] if options.large else [])]
    for config in configs:
        loads: dict[str, list[dict[str, Any]]] = {contender: [] for contender in codes}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            file_bytes = random_gpt2.write(config, folder)
            for _ in range(options.rounds(5)):
                for contender, code in codes.items():
                    loads[contender].append(load_in_fresh_process(code, folder))
        for contender, runs in loads.items():
            yield from _results(
                contender, runs, random_gpt2.describe(config, file_bytes), file_bytes, roofline
            )


def _results(contender, runs, what, file_bytes, roofline) -> Iterator[Result]:
    seconds = [run["seconds"] for run in runs]
    yield Result(
        case="load",
        what=f"{what}: time",
        contender=contender,
        value=1e3 * statistics.median(seconds),
        unit="ms",
        best=1e3 * min(seconds),
        samples=len(runs),
        note=f"reading the file's bytes from memory takes "
        f"{1e3 * file_bytes / roofline.read_bandwidth:.1f} ms; a mapped file is read on first use",
    )
    for part, name in (("load", "peak memory"), ("forward", "peak memory, forward included")):
        times_file = [run[part] / file_bytes for run in runs]
        value = statistics.median(times_file)
        ours = contender == "gradient" and part == "load"
        yield Result(
            case="load",
            what=f"{what}: {name}",
            contender=contender,
            value=value,
            unit="x file",
            best=min(times_file),
            samples=len(runs),
            target=f"<= {TARGET} x file" if ours else None,
            met=value <= TARGET if ours else None,
        )
