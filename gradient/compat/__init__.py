"""Old and foreign spellings: names of PyTorch's that scripts use and the core does not need.

Modules ask here for a name that they have not (`gradient.absent`), so that nothing of this is
loaded before a script says `nn.DataParallel` or `import gradient.nn.modules`.
`gradient.compat.tables` lists the names, `gradient.compat.hints` what to use in place of others.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from gradient.compat.hints import HINTS, PAGE
from gradient.compat.tables import FILES, MODULES, RENAMED

LAYERS = "gradient.nn.modules."
"""Modules of PyTorch's layers, some of which stand in other files here."""


def attribute(module: str, name: str) -> Any:
    """What `name` means in a module that has no such name itself; AttributeError if nothing."""
    path = f"{module}.{name}"
    if path in MODULES:
        return importlib.import_module(path)
    if path in RENAMED:
        target, _, own = RENAMED[path].rpartition(".")
        return getattr(importlib.import_module(target), own)
    if module in FILES:
        found = vars(importlib.import_module(FILES[module]))
        if not name.startswith("_") and name in found.get("__all__", ()):
            return found[name]
    if module.startswith(LAYERS):
        layers = importlib.import_module("gradient.nn")
        if hasattr(layers, name):
            return getattr(layers, name)
    hint = HINTS.get(path, f"for what PyTorch has and gradient does not, {PAGE}")
    raise AttributeError(f"module {module!r} has no attribute {name!r}; {hint}")


def spec(path: str) -> ModuleSpec | None:
    """How to import a module by PyTorch's name of it; None if there is none."""
    if path in MODULES:
        return ModuleSpec(path, Alias(MODULES[path]), is_package=True)
    if path in HINTS:
        raise ModuleNotFoundError(f"No module named {path!r}; {HINTS[path]}", name=path)
    return None


class Alias(importlib.abc.Loader):
    """Loads a module that has the names of another."""

    def __init__(self, target: str) -> None:
        self.target = target

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        target = importlib.import_module(self.target)
        taken = ("__all__", "__version__")
        for name, value in vars(target).items():
            if f"{module.__name__}.{name}" in MODULES:
                continue  # a file of the target, which may have fewer names
            if not name.startswith("__") or name in taken:
                module.__dict__[name] = value
        module.__class__ = type(target)  # one may have settings, which are properties
        module.__doc__ = target.__doc__
        module.__dict__["__getattr__"] = lambda name: self.other(module.__name__, name)

    def other(self, path: str, name: str) -> Any:
        """A name that was not copied: the other module's `__getattr__` may know it."""
        if not name.startswith("__") and f"{path}.{name}" not in {*MODULES, *HINTS}:
            with contextlib.suppress(AttributeError):
                return getattr(importlib.import_module(self.target), name)
        return attribute(path, name)
