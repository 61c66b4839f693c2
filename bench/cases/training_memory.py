"""Peak memory of training steps beside PyTorch's, each contender in a fresh process.

The peak resident set (VmHWM) of the process in six steps, with its libraries and kernels, and
the part of it after the imports. (PyTorch's kernels are loaded by its import.)
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from bench import fresh_process
from bench.cases import Options
from bench.cases.load_memory import PEAK
from bench.result import Result
from bench.training_models import MODELS

STEPS = """
import importlib
import gradient
from bench.cases.training import training_step
from bench.training_models import MODELS
name, package, compiled, threads = sys.argv[1:]
(model,) = (m for m in MODELS if m.name == name)
package = importlib.import_module(package)
package.set_num_threads(int(threads))
compile = (lambda step: package.compile(step, fullgraph=True)) if compiled else None
(package.ones(8, 8, requires_grad=True) @ package.ones(8, 8)).sum().backward()
forget_peak()
before = peak()
step = training_step(package, model, compile)
for _ in range(6):
    step()
print(before, peak())
"""

CONTENDERS = {
    "gradient": ("gradient", ""),
    "gradient compile": ("gradient", "compiled"),
    "torch eager": ("torch", ""),
}


def run(options: Options) -> Iterator[Result]:
    contenders = {
        label: given
        for label, given in CONTENDERS.items()
        if given[0] == "gradient" or options.peer("torch")
    }
    models = [m for m in MODELS if options.wants(m.name) and (options.large or not m.large)]
    for model in models[:1] if options.tiny else models:
        code, rounds = PEAK + STEPS, 1 if options.tiny else 3
        given = {label: (model.name, *each) for label, each in contenders.items()}
        threads = options.threads
        found: dict[str, list[int]] = {label: [] for label in given}
        grown: dict[str, int] = {}
        for label in ("gradient", "gradient compile"):  # kernels are compiled, once
            fresh_process.run(code, *given[label], str(threads), threads=threads)
        for _ in range(rounds):
            for label, arguments in given.items():
                printed = fresh_process.run(code, *arguments, str(threads), threads=threads)
                before, peak = map(int, printed.split()[-2:])
                found[label].append(peak)
                grown[label] = peak - before
        medians = {label: statistics.median(sizes) for label, sizes in found.items()}
        peer = medians.get("torch eager")
        for label, value in medians.items():
            ratio = value / peer if peer is not None and label != "torch eager" else None
            yield Result(
                case="training-memory",
                what=model.name,
                contender=label,
                value=value / 2**20,
                unit="MiB",
                best=min(found[label]) / 2**20,
                samples=rounds,
                peer="torch eager" if ratio is not None else None,
                ratio=ratio,
                target="<= 1.0 x torch eager" if ratio is not None else None,
                met=ratio <= 1 if ratio is not None else None,
                note=f"{grown[label] / 2**20:.0f} MiB beyond the imports",
            )
