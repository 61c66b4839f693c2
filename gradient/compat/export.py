"""`export` without its tracer: scripts import it and seldom call it."""

from __future__ import annotations

from typing import Any, NoReturn

from gradient.compat.hints import TRACING
from gradient.errors import BackendError

__all__ = ["Dim", "ExportedProgram", "export", "load", "save"]


class ExportedProgram:
    """What `export` would return."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise BackendError(f"export: {TRACING}")


class Dim(ExportedProgram):
    """A size that may differ from call to call, for `export`."""


def export(*args: Any, **options: Any) -> NoReturn:
    raise BackendError(f"export: {TRACING}; save the weights by gradient.save")


save = load = export
