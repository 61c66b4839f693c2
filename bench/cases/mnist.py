"""The default run of examples/digits_cnn.py on MNIST, in both packages: its time and test accuracy.

`GRADIENT_BENCH_MNIST` is the folder with MNIST's four idx files, gzipped or not. Each run is
a separate process, timed from reading the files to the accuracy of the saved model, without
the imports. The packages take turns, with another seed each turn.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator
from pathlib import Path

from bench import fresh_process
from bench.cases import Options
from bench.result import Result

ACCURACY = 0.99
"""Of the 10,000 test images: what the example is to reach."""

RUN = """
import contextlib, io, json, sys, time
sys.path.insert(0, "examples")
import under_torch
package, *arguments = sys.argv[1:]
example = under_torch.load("digits_cnn", package)
began = time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()):
    result = example.main(arguments)
print(json.dumps([time.perf_counter() - began, result["accuracy"]]))
"""


def run(options: Options) -> Iterator[Result]:
    folder = os.environ.get("GRADIENT_BENCH_MNIST")
    if folder is None and not options.tiny:
        raise ValueError("GRADIENT_BENCH_MNIST: expected a folder with MNIST's idx files")
    arguments = ["--data", str(Path(folder).resolve())] if folder else []
    arguments += ["--steps", "2"] if options.tiny else []
    contenders = ["gradient", "torch"] if options.peer("torch") else ["gradient"]
    times: dict[str, list[float]] = {name: [] for name in contenders}
    accuracies: dict[str, list[float]] = {name: [] for name in contenders}
    for seed in range(options.rounds(5)):
        for name in contenders:
            said = fresh_process.run(
                RUN, name, *arguments, "--seed", str(seed), threads=options.threads
            )
            seconds, accuracy = json.loads(said)
            times[name].append(seconds)
            accuracies[name].append(accuracy)
    for name in contenders:
        value = statistics.median(times[name])
        accuracy = statistics.median(accuracies[name])
        ours = name == "gradient"
        yield Result(
            case="mnist",
            what=f"digits_cnn.py, {accuracy:.2%} of test images",
            contender=name,
            value=value,
            unit="s",
            best=min(times[name]),
            samples=len(times[name]),
            peer="torch" if ours and "torch" in times else None,
            ratio=value / statistics.median(times["torch"]) if ours and "torch" in times else None,
            target=f">= {ACCURACY:.0%}" if ours and not options.tiny else None,
            met=accuracy >= ACCURACY if ours and not options.tiny else None,
        )
