"""Causes of slowness on this machine or in this shell, for `gradient doctor`."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Any

#: Variables that an earlier session or a batch system may have set, and their cost.
SLOW_SETTINGS = {
    "NUMBA_DISABLE_JIT": "kernels are not compiled: the CPU runs compositions of NumPy functions, "
    "several times slower",
    "PYTHONDONTWRITEBYTECODE": "Python compiles every module again in each process: a command "
    "begins a second later",
    "GRADIENT_CPU": "kernels are made for a lesser processor than this one, as in tests",
}


def slowness(kernel_cache: Path | None, cached_bytes: int) -> list[dict[str, str]]:
    """Each cause of slowness, under "what", and its remedy, under "fix".

    Args:
        kernel_cache: the folder of compiled kernels; None: there is none.
        cached_bytes: the size of its content.
    """
    found = [
        (f"{name} is set: {costs}", f"unset {name}")
        for name, costs in SLOW_SETTINGS.items()
        if os.environ.get(name, "0") not in ("", "0")
    ]
    if not _installed("numba"):
        found.append((
            "there is no numba: the CPU runs compositions of NumPy functions, several times slower",
            "pip install numba",
        ))  # fmt: skip
    found += _threads()
    if kernel_cache is None:
        found.append((
            "compiled kernels can be kept nowhere: each process compiles them, for up to a minute",
            "set NUMBA_CACHE_DIR to a folder that can be written",
        ))  # fmt: skip
    elif not cached_bytes and _installed("numba"):
        found.append((
            "no kernel is compiled yet: the first run compiles them, for up to a minute",
            'gradient generate "Once upon a time"   (once; later runs find them)',
        ))  # fmt: skip
    data = os.environ.get("GRADIENT_TEST_DATA")
    if data and not Path(data).is_dir():
        found.append((
            f"GRADIENT_TEST_DATA is {data!r}, where no folder is: tests of real models are left "
            "out, and so are benchmarks of them",
            "set it to the folder of the data, or unset GRADIENT_TEST_DATA",
        ))  # fmt: skip
    return [{"what": what, "fix": fix} for what, fix in found]


def _threads() -> list[tuple[str, str]]:
    """Idle cores of this machine."""
    from gradient.backends.numpy.cpu_count import cpu_quota, usable_cpus
    from gradient.backends.numpy.threads import get_num_threads

    cores, usable, threads = os.cpu_count() or 1, usable_cpus(), get_num_threads()
    if threads < usable:
        said = os.environ.get("OMP_NUM_THREADS")
        why = f" (OMP_NUM_THREADS is {said!r})" if said else ""
        fix = "unset OMP_NUM_THREADS" if said else f"gradient.set_num_threads({usable})"
        what = f"kernels run on {threads} of the {usable} cores that this process may use{why}"
        return [(what, f"{fix}, or set OMP_NUM_THREADS={usable}" if said else fix)]
    if usable == 1 < cores:
        by = "a container's quota" if cpu_quota() <= 1 else "taskset, or a batch system"
        return [
            (
                f"this process may use one of the machine's {cores} cores ({by})",
                "start it with more: docker run --cpus, taskset -c, or the job's number of CPUs",
            )
        ]
    return []


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def print_slowness(found: list[dict[str, Any]]) -> None:
    """Print the results of `slowness`, each with its remedy."""
    import typer

    for each in found:
        typer.echo(f"slow: {each['what']}\n    {each['fix']}")
