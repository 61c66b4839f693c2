"""The measured machine and the versions on it: the first line of every result file."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from gradient.backends.cuda import driver

DRIVER = Path("/proc/driver/nvidia/version")
PACKAGES = (
    "gradient-dl",
    "numpy",
    "numba",
    "ml_dtypes",
    "torch",
    "transformers",
    "cupy-cuda13x",
    "cupy-cuda12x",
    "llama_cpp_python",
)


def installed(module: str) -> bool:
    """Whether a peer's module can be imported, without importing it."""
    return importlib.util.find_spec(module) is not None


def cpus() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def largest_cache() -> int:
    """The size of the last-level cache in bytes, as Linux reports it; else 0."""
    sizes = [0]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        number, unit = text.rstrip("KMG"), text[-1:]
        sizes.append(int(number) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(unit, 1))
    return max(sizes)


def describe() -> dict[str, Any]:
    """The machine, the versions and the load at the moment, ready for JSON."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M"),
        **({"gpu": gpu} if (gpu := _gpu()) else {}),
        "cpu": _cpu_model(),
        "cpus": cpus(),
        "load": round(os.getloadavg()[0], 2),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "commit": _commit(),
        "command": " ".join(["python", "-m", "bench", *sys.argv[1:]]),
    }


def _gpu() -> dict[str, Any]:
    """The first GPU, its driver, and the CUDA version that this supports; {} without a GPU."""
    version = driver.cuda_version()
    if version is None:
        return {}
    return {
        "name": driver.device_name(0),
        "architecture": driver.architecture(0),
        "driver": driver_version(DRIVER),
        "cuda": f"{version // 1000}.{version % 1000 // 10}",
    }


def driver_version(file: Path) -> str | None:
    """The version in the text of NVIDIA's kernel module: "... Module  550.54.15  ..."."""
    with contextlib.suppress(OSError):
        if found := re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", file.read_text()):
            return found[0]
    return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The checkout's commit, with a plus sign where gradient/ or bench/ differ from it."""
    folder = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + (
            "+" if git("status", "--porcelain", "--", "gradient", "bench") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None
