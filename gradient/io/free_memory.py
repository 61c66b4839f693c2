"""The memory that a process can still use, and a warning before more is needed."""

from __future__ import annotations

import warnings
from pathlib import Path

_GIB = 1 << 30


def warn_if_larger(what: str, *, made: int, mapped: int = 0) -> None:
    """Warn if weights are larger than the free memory, before they are loaded.

    Args:
        what: the model's name.
        made: bytes of new arrays (by conversion, packing or a copy to another device), which must
            fit.
        mapped: bytes that stay in mapped files: pages that do not fit are read again and again.
    """
    free = available()
    if free is None or made + mapped <= free:
        return
    room = f"{free / _GIB:.1f} GiB of memory are free"
    if made > free:
        text = (
            f"{what}: loading makes {made / _GIB:.1f} GiB of weights, and {room}: the system will "
            'swap, or end the process. Pack them with quantize= ("q4_k_m"), or keep their dtype'
        )
    else:
        text = (
            f"{what}: its weights have {(made + mapped) / _GIB:.1f} GiB, and {room}: they are "
            "mapped, so this works, but most of them are read from disk for each token. Pack them "
            'with quantize= ("q4_k_m"), or take a smaller file'
        )
    warnings.warn(text, stacklevel=3)


def available() -> int | None:
    """Bytes that a new process can use without swapping: of the machine, or of the container if
    that has less; None if the system does not report it."""
    info = Path("/proc/meminfo")
    if not info.exists():
        return None
    line = next((row for row in info.read_text().splitlines() if row.startswith("MemAvail")), "")
    found = [1024 * int(line.split()[1])] if line else []
    found += [free for free in [left_in(Path("/sys/fs/cgroup"))] if free is not None]
    return min(found, default=None)


def left_in(group: Path) -> int | None:
    """The free bytes of a Linux control group (version 2); None if it has no limit."""
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        pairs = [line.split() for line in (group / "memory.stat").read_text().splitlines()]
    except (OSError, ValueError):  # no such file; or "max"
        return None
    cached = next((int(n) for name, n in pairs if name == "inactive_file"), 0)  # can be reclaimed
    return max(limit - used + cached, 0)
