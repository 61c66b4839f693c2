"""Source lines of the user's program, for errors that are found later than they are made."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
"""The folder of this package's source files."""


class _Inside(dict[str, bool]):
    """Whether a source file belongs to this package; computed once for each file."""

    def __missing__(self, filename: str) -> bool:
        self[filename] = inside = filename.startswith(PACKAGE)
        return inside


inside = _Inside()
getframe = sys._getframe


def user_frame(depth: int = 1) -> Any:
    """Return the nearest calling frame outside this package, from `depth` frames up; if there is
    none, the outermost frame."""
    try:
        frame: Any = getframe(depth)
        while inside[frame.f_code.co_filename]:
            frame = frame.f_back
    except (AttributeError, ValueError):  # past the outermost frame: all are in this package
        frame = getframe(1)
        while frame.f_back is not None:
            frame = frame.f_back
    return frame


def warn_user(message: str) -> None:
    """Issue a UserWarning at the user's line that called this package."""
    caller = user_frame()
    warnings.warn_explicit(
        message,
        UserWarning,
        caller.f_code.co_filename,
        caller.f_lineno,
        registry=caller.f_globals.setdefault("__warningregistry__", {}),
    )


Location = tuple[Any, int]
"""A position in a program: a code object and an instruction offset. It is cheap to make, and keeps
no frame, and so no local variable, alive."""


def location_of(frame: Any) -> Location:
    return frame.f_code, frame.f_lasti


def source_line(location: Location) -> str:
    """Return `file:line` of a location."""
    code, offset = location
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= offset < end and number is not None:
            line = number
    return f"{code.co_filename}:{line}"
