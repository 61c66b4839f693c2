"""Runs code in a fresh process that imports the same gradient as this one, and measures it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path


def environment(threads: int | None = None) -> dict[str, str]:
    """The environment of a measured process.

    Bytecode may be written: under PYTHONDONTWRITEBYTECODE every process would compile its imports
    again, within the measured time. The variables limit the libraries' thread pools, which read
    them once, when they are loaded.
    """
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    spec = importlib.util.find_spec("gradient")
    if spec is not None and spec.origin is not None:
        variables["PYTHONPATH"] = str(Path(spec.origin).parent.parent)
    if threads is not None:
        for library in ("OMP", "OPENBLAS", "MKL", "NUMBA", "VECLIB"):
            variables[f"{library}_NUM_THREADS"] = str(threads)
    return variables


def run(code: str, *arguments: str, threads: int | None = 1) -> str:
    """Return the output of `python -c CODE ARGUMENTS`; raise with its errors if it fails."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        env=environment(threads),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"a measured process failed:\n{done.stderr}")
    return done.stdout


def cpu_seconds(code: str) -> float:
    """Return the user and system time of `python -c CODE` in all its threads, with start-up."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        env=environment(threads=1),
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"`python -c {code!r}` failed with exit status {process.returncode}")
    return usage.ru_utime + usage.ru_stime
