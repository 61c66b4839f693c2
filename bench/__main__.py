"""`python -m bench [CASE ...]`: measure, print a table, write JSON lines (see bench/README.md)."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import fresh_process, machine
from bench.cases import CASES, Options
from bench.result import Result, table

ROOT = Path(__file__).resolve().parent.parent


def arguments() -> argparse.Namespace:
    listing = "\n".join(f"  {name:11} {case.summary}" for name, case in CASES.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure gradient beside its peers, each figure next to the machine's limit.",
        epilog=f"cases:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="what to measure (default: all)")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="append the results as JSON lines (default of gpu, on a GPU: bench/results/DATE-gpu)",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no torch.compile")
    parser.add_argument(
        "--tiny", action="store_true", help="one round at small sizes: shows only that cases run"
    )
    parser.add_argument("--large", action="store_true", help="GPT-2 124M's shape too: minutes")
    parser.add_argument(
        "--only", metavar="TEXT", help="of llama.cpp: what has this in its name, quick or not"
    )
    parser.add_argument("--no-peers", action="store_true", help="gradient and numpy alone")
    parser.add_argument("--threads", type=int, help="for cases not defined for one thread")
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.cases) - set(CASES)):
        parser.error(f"unknown case {', '.join(unknown)}; known: {', '.join(CASES)}")
    return chosen


def measure(name: str, options: Options) -> Iterator[Result]:
    """Yield the results of one case as they come, from a process with pools of `options.threads`
    threads, which is ended after the case's time limit."""
    limit, ended = CASES[name].seconds, threading.Event()
    with subprocess.Popen(
        [sys.executable, "-m", "bench.worker", name, json.dumps(dataclasses.asdict(options))],
        cwd=ROOT,
        env=fresh_process.environment(options.threads),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def end() -> None:
            ended.set()
            process.kill()

        timer = threading.Timer(limit or 0.0, end)
        if limit is not None:
            timer.start()
        try:
            for line in process.stdout or ():
                if line.startswith('{"kind": "result"'):
                    yield Result.from_json(line)
                else:  # a library's own chatter
                    sys.stderr.write(line)
        finally:
            timer.cancel()
    if ended.is_set():
        raise RuntimeError(f"case {name!r} was ended after {limit:.0f} s: its results so far stand")
    if process.returncode:
        raise RuntimeError(f"case {name!r} failed with exit status {process.returncode}")


def default_file(chosen: argparse.Namespace, description: dict[str, Any]) -> Path | None:
    """The file for figures of a GPU if none is given: they are rare, so they are always kept."""
    if chosen.cases != ["gpu"] or chosen.tiny or "gpu" not in description:
        return None
    return ROOT / "bench" / "results" / f"{description['date'].split()[0]}-gpu.jsonl"


def main() -> int:
    chosen = arguments()
    description = machine.describe()
    print(", ".join(f"{key} {value}" for key, value in description.items() if key != "packages"))
    print(", ".join(f"{name} {version}" for name, version in description["packages"].items()))
    lines = [json.dumps({"kind": "machine", **description})]
    results: list[Result] = []
    failures = []
    for name in chosen.cases or CASES:
        options = Options(
            threads=CASES[name].threads or chosen.threads or machine.cpus(),
            quick=chosen.quick or chosen.tiny,
            tiny=chosen.tiny,
            large=chosen.large,
            peers=not chosen.no_peers,
            only=chosen.only,
        )
        print(f"measuring {name}: {CASES[name].summary}", file=sys.stderr)
        try:
            results += measure(name, options)  # those that came before an error, too
        except RuntimeError as error:
            failures.append(str(error))
    print(table(results))
    if path := chosen.json or default_file(chosen, description):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines + [result.json() for result in results])
    for failure in failures:
        print(failure, file=sys.stderr)
    missed = [result for result in results if result.met is False]
    return 1 if failures or missed else 0


if __name__ == "__main__":
    sys.exit(main())
