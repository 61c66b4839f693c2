"""The public names of a package: those of its files, each of which says them in its `__all__`.

A package star-imports them, and so has no list of its own; but its files are among a package's
names, too, and so is what it asks of the type checker (`public`). Files that few programs need are
star-imported for type checkers, and at run time when one of their names is asked for (`on_demand`).
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


def public(names: Mapping[str, object]) -> list[str]:
    """A package's `__all__`: its names that are neither private, nor modules, nor flags such as
    `TYPE_CHECKING`."""
    return sorted(
        name
        for name, value in names.items()
        if not name.startswith("_") and not isinstance(value, (ModuleType, bool))
    )


def on_demand(
    package: str, *files: str, otherwise: Callable[[str], Any] | None = None
) -> Callable[[str], Any]:
    """The `__getattr__` of a package, or module, for the names of these modules, which are imported
    one after the other until one has the name that is asked for; the package has it then. Names
    that none has are left to another such function."""

    def __getattr__(name: str) -> Any:
        if name == "__all__":
            return sorted(
                {each for file in files for each in importlib.import_module(file).__all__}
            )
        if not name.startswith("__"):  # the import system asks for such
            for module in map(importlib.import_module, files):
                if name in getattr(module, "__all__", ()):  # which one has not that is under way
                    return vars(sys.modules[package]).setdefault(name, getattr(module, name))
        if otherwise is not None:
            return otherwise(name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return __getattr__
