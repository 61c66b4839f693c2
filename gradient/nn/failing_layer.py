"""A note on an error with the path of the layer that raised it.

Calls that succeed record nothing, and no module knows its parents. When a call fails, the traceback
has the modules that were being called; the path of the innermost is found in the outermost module
that contains it.
"""

from __future__ import annotations

import sys
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradient.nn.module import Module


class LayerNote(str):
    """The note of an error about its layer. Each module that the error leaves replaces it by a note
    with a longer path."""


def note_layer(module: Any, call: CodeType) -> None:
    """Add a note to the error being handled, which leaves a call of `module`: the layer that raised
    it.

    Args:
        call: the code object of `Module.__call__`; in its frames `self` is the module. It must not
            have the error in a variable: `f_locals` copies the variables of a frame, and the copy
            would keep the error alive, and with it all frames of its traceback.
    """
    error: Any = sys.exception()
    if isinstance(error, RecursionError):  # the stack may be too full for further calls
        return
    called = []
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code is call:
            called.append(step.tb_frame.f_locals["self"])
        step = step.tb_next
    failed = called[-1] if called else module
    paths = (path for path, below in module.named_modules() if below is failed)
    path = next(paths, None)
    notes = getattr(error, "__notes__", [])
    old = next((at for at, note in enumerate(notes) if isinstance(note, LayerNote)), None)
    if path is None and old is not None:
        return  # the layer is not a submodule of this module: keep the path in an inner one
    summary = _summary(failed)
    note = LayerNote(f"in {path} ({summary})" if path else f"in {summary}")
    if old is None:
        error.add_note(note)
    else:
        notes[old] = note


def _summary(module: Module) -> str:
    """Return the `repr` of a module without its children."""
    try:
        options = " ".join(module.extra_repr().split())
    except Exception:  # a user's extra_repr may fail, as of a module whose __init__ failed
        options = ""
    return f"{module._get_name()}({options})"
