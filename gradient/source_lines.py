"""Places in a user's program, for errors that are noticed later than they were made."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
"""Where this package's own source files are."""


class _Inside(dict[str, bool]):
    """Whether a source file is one of this package's: settled once for each."""

    def __missing__(self, filename: str) -> bool:
        self[filename] = inside = filename.startswith(PACKAGE)
        return inside


inside = _Inside()
getframe = sys._getframe


def user_frame(depth: int = 1) -> Any:
    """The nearest calling frame outside this package (or the outermost), from `depth` on."""
    try:
        frame: Any = getframe(depth)
        while inside[frame.f_code.co_filename]:
            frame = frame.f_back
    except (AttributeError, ValueError):  # beyond the outermost one: all of them are inside
        frame = getframe(1)
        while frame.f_back is not None:
            frame = frame.f_back
    return frame


def warn_user(message: str) -> None:
    """A UserWarning at the line of the user's code that called this package."""
    caller = user_frame()
    warnings.warn_explicit(
        message,
        UserWarning,
        caller.f_code.co_filename,
        caller.f_lineno,
        registry=caller.f_globals.setdefault("__warningregistry__", {}),
    )


Location = tuple[Any, int]
"""A place in a program: a code object and an instruction offset. Cheap to make, and it keeps no
frame, and so no local variable, alive."""


def location_of(frame: Any) -> Location:
    return frame.f_code, frame.f_lasti


def source_line(location: Location) -> str:
    """`file:line` of a location."""
    code, offset = location
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= offset < end and number is not None:
            line = number
    return f"{code.co_filename}:{line}"
