"""The public names of a package: those of its files, each of which says them in its `__all__`.

A package star-imports them, and so has no list of its own; but its files are among a package's
names, too, and so is what it asks of the type checker (`public`). Files that few programs need are
star-imported for type checkers, and at run time when one of their names is asked for (`on_demand`).
"""

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from gradient.absent import is_file


def public(names: Mapping[str, object]) -> list[str]:
    """A package's `__all__`: its names that are neither private, nor modules, nor flags such as
    `TYPE_CHECKING`."""
    return sorted(
        name
        for name, value in names.items()
        if not name.startswith("_") and not isinstance(value, (ModuleType, bool))
    )


def on_demand(package: str, *files: str) -> Callable[[str], Any]:
    """The `__getattr__` of a package, or module, for the names of these modules, which are imported
    when it is asked for a name that it has not."""

    def __getattr__(name: str) -> Any:
        # The import system asks for these, and for files before it looks for them.
        if (name == "__all__" or not name.startswith("__")) and not is_file(package, name):
            names = {each: file for file in map(importlib.import_module, files)
                     for each in file.__all__}  # fmt: skip
            if name == "__all__":
                return sorted(names)
            if name in names:
                return getattr(names[name], name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return __getattr__
