"""The number of processors that this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def usable_cpus() -> int:
    """The number of processors that the process may run on, or a container's quota of processor
    time, rounded up, if that is lower."""
    known = hasattr(os, "sched_getaffinity")  # absent on macOS and Windows
    cpus = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return max(1, math.ceil(min(cpus, cpu_quota())))


def cpu_quota(root: Path = Path("/")) -> float:
    """The processor time that Linux's control groups allow the process, in seconds per second: the
    minimum over its group and those above it; infinity if there is no limit."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return math.inf
    mounted = root / "sys/fs/cgroup"
    limits = [math.inf]
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if not controllers:  # version 2: one tree for all controllers
            folders = _upwards(mounted, path)
            limits += (_limit(*_numbers(folder / "cpu.max", 2)) for folder in folders)
        elif "cpu" in controllers.split(","):
            for folder in _upwards(mounted / controllers, path):
                quota = _numbers(folder / "cpu.cfs_quota_us", 1)
                limits.append(_limit(*quota, *_numbers(folder / "cpu.cfs_period_us", 1)))
    return min(limits)


def _upwards(top: Path, path: str) -> Iterator[Path]:
    """A group's folder and those above it. In a container the path may be the host's, of which only
    the top is visible."""
    folder = top / path.lstrip("/")
    while folder != top and top in folder.parents:
        yield folder
        folder = folder.parent
    yield top


def _numbers(file: Path, count: int) -> list[float]:
    """The file's numbers; infinity if it is absent or says "max"."""
    try:
        return [float(word) for word in file.read_text().split()[:count]]
    except (OSError, ValueError):
        return []


def _limit(quota: float = -1, period: float = 0) -> float:
    return quota / period if quota > 0 and period > 0 else math.inf
