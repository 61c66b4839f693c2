"""The public names of a package: those of its files, each of which says them in its `__all__`.

A package star-imports them, and so has no list of its own; but its files are among a package's
names, too, and so is what it asks of the type checker (`public`). Files that few programs need are
star-imported for type checkers, and at run time when one of their names is asked for (`on_demand`).
`dir`, and an editor's completion, show the public names alone (`shown`).
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from types import FrameType, ModuleType
from typing import Any

from gradient.locks import import_lock
from gradient.source_lines import inside


def load(module: str) -> Any:
    """Import a module of this package because one of its names is asked for: one thread after the
    other.

    importlib locks a package before its modules where the package is imported first, and after
    them where a module is, and fails in one of two threads that meet so.
    """
    if _is_importing():  # and so has locks of importlib's, for which the other thread may wait
        return importlib.import_module(module)
    with import_lock:
        return importlib.import_module(module)


def _is_importing() -> bool:
    """Whether this thread is in the midst of importing a module of this package; running one, as
    `python -m gradient` does, is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "<module>" and inside[code.co_filename]:
            return frame.f_globals.get("__name__") != "__main__"
        frame = frame.f_back
    return False


def public(names: Mapping[str, object]) -> list[str]:
    """A package's `__all__`: its names that are neither private, nor modules, nor flags such as
    `TYPE_CHECKING`."""
    return sorted(
        name
        for name, value in names.items()
        if not name.startswith("_") and not isinstance(value, (ModuleType, bool))
    )


def shown(
    names: Mapping[str, object], *others: str, files: tuple[str, ...] = ()
) -> Callable[[], list[str]]:
    """A package's `__dir__`: what `public` gives when it is asked, the names that Python itself
    gives to modules, those of `files` (`on_demand`), which are imported then, and of `others`
    (modules for users, names that are imported when first used) what is not private."""

    def __dir__() -> list[str]:
        own = {name for name in names if name.startswith("__") and name != "__dir__"}
        rest = (name for name in others if name[0] != "_")
        return sorted({*public(names), *own, *_exported(files), *rest})

    return __dir__


def on_demand(
    package: str, *files: str, otherwise: Callable[[str], Any] | None = None
) -> Callable[[str], Any]:
    """The `__getattr__` of a package, or module, for the names of these modules, which are imported
    one after the other until one has the name that is asked for; the package has it then. Names
    that none has are left to another such function. `from package import *` brings all of them,
    and what is `public` beside."""

    def __getattr__(name: str) -> Any:
        names = vars(sys.modules[package])
        if name == "__all__":
            return sorted({*public(names), *_exported(files)})
        if f"{package}.{name}" in files:
            return load(f"{package}.{name}")
        if not name.startswith("__"):  # the import system asks for such
            for module in map(load, files):
                if name in getattr(module, "__all__", ()):  # which one has not that is under way
                    return names.setdefault(name, getattr(module, name))
        if otherwise is not None:
            return otherwise(name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return __getattr__


def _exported(files: tuple[str, ...]) -> set[str]:
    """The names that these modules export, which are imported."""
    return {name for file in files for name in load(file).__all__}
