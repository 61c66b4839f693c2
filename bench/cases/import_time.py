"""CPU time of `import gradient` beyond `import numpy`, which NumPy's users pay anyway."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from bench import fresh_process
from bench.cases import Options
from bench.result import Result

TARGET = 100.0  # milliseconds


def cpu_milliseconds(modules: list[str], rounds: int) -> dict[str, list[float]]:
    """CPU ms of a fresh `python -c "import MODULE"`, the modules in turn; one entry a round.

    Each is imported once before, so that its bytecode exists and its files are in memory.
    """
    for module in modules:
        fresh_process.cpu_seconds(f"import {module}")
    times: dict[str, list[float]] = {module: [] for module in modules}
    for _ in range(rounds):
        for module in modules:
            times[module].append(1e3 * fresh_process.cpu_seconds(f"import {module}"))
    return times


def run(options: Options) -> Iterator[Result]:
    modules = ["numpy", "gradient", *(["torch"] if options.peer("torch") else [])]
    times = cpu_milliseconds(modules, options.rounds(15))
    for module, values in times.items():
        yield Result(
            case="import",
            what=f"import {module}, the whole process",
            contender=module,
            value=statistics.median(values),
            unit="ms CPU",
            best=min(values),
            samples=len(values),
        )
    beyond = [a - b for a, b in zip(times["gradient"], times["numpy"], strict=True)]
    value = statistics.median(beyond)
    yield Result(
        case="import",
        what="import gradient beyond numpy",
        contender="gradient",
        value=value,
        unit="ms CPU",
        best=min(times["gradient"]) - min(times["numpy"]),
        samples=len(beyond),
        target=f"< {TARGET:.0f} ms",
        met=value < TARGET,
    )
