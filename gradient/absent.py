"""Names that PyTorch has and this package's own modules have not.

`gradient.compat` has old and foreign spellings of what is here, and says of the rest what to use
instead. It is loaded when such a name is asked for, and not before: no module imports it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from typing import Any

COMPAT = "gradient.compat"


def names(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module, for names that it has not."""

    def __getattr__(name: str) -> Any:
        if name.startswith("__") or is_file(module, name):  # what the import system asks for
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return importlib.import_module(COMPAT).attribute(module, name)

    return __getattr__


def is_file(module: str, name: str) -> bool:
    """Whether a name is that of a module in a package's folder, which `from` imports next."""
    path = getattr(sys.modules[module], "__path__", None)
    return bool(path) and PathFinder.find_spec(f"{module}.{name}", path) is not None


class Finder:
    """Finds modules by PyTorch's names, such as `gradient.nn.modules`, for `import` statements."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        if not name.startswith("gradient."):
            return None
        return importlib.import_module(COMPAT).spec(name)
