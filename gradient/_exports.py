"""What `from package import *` brings of a package whose names come by stars.

Each file's `__all__` says what is public, so a package has no list of its own; but its files are
among a package's names, too, and so is what it asks of the type checker.
"""

from collections.abc import Mapping
from types import ModuleType


def public(names: Mapping[str, object]) -> list[str]:
    """A package's `__all__`: its names that are neither private, nor modules, nor flags such as
    `TYPE_CHECKING`."""
    return sorted(
        name
        for name, value in names.items()
        if not name.startswith("_") and not isinstance(value, (ModuleType, bool))
    )
