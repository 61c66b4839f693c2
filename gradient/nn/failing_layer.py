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
    """The note of an error about its layer: each module that it leaves writes it anew."""


def note_layer(module: Any, call: CodeType) -> None:
    """Note on the error being handled, as it leaves a call of `module`, in which layer it arose.

    Args:
        call: the code by which modules are called, in whose frames `self` is one, and no variable
            the error: what `f_locals` copies would hold it, and so all that its traceback holds.
    """
    error: Any = sys.exception()
    if isinstance(error, RecursionError):  # there may be no room for what follows
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
        return  # called by this module, but no part of it: what it is called below stays
    note = LayerNote(f"in {path} ({shown(failed)})" if path else f"in {shown(failed)}")
    if old is None:
        error.add_note(note)
    else:
        notes[old] = note


def shown(module: Module) -> str:
    """A module as it prints, without its children."""
    try:
        options = " ".join(module.extra_repr().split())
    except Exception:  # a user's, of a module that is half made
        options = ""
    return f"{module._get_name()}({options})"
