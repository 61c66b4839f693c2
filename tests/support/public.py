"""What a module offers its users."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any


def public(module: ModuleType) -> dict[str, Any]:
    """The names of a module's `__all__`, or all that are neither private nor modules."""
    names = getattr(module, "__all__", None) or [n for n in dir(module) if not n.startswith("_")]
    values = {name: getattr(module, name) for name in names if name != "TYPE_CHECKING"}
    return {name: value for name, value in values.items() if not inspect.ismodule(value)}
