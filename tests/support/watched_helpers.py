"""A module of a program's own, whose state a compiled function reads (tests/plan/test_watch.py)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

CONFIG = {"scale": 1.0}
SETTINGS = SimpleNamespace(scale=1.0)


def scaled(x: Any) -> Any:
    return x * CONFIG["scale"] * SETTINGS.scale
