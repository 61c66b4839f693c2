"""Track in-place writes, so that a backward pass that needs overwritten values raises an error.

PyTorch counts versions on every tensor. Here the forward pass pays nothing: a write in place marks
the memory's owner with the next of the nodes' sequence numbers. A saved array was overwritten if
its owner's mark is later than its node. The backward pass compares each node's number with that of
the last write anywhere, and looks at the saved arrays of those alone that are older: in an ordinary
training step, whose graph is made after the optimiser has written, of none.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from gradient.autograd.node import Node, next_sequence_nr
from gradient.autograd.variable import Variable
from gradient.backends.packed import parts_of
from gradient.errors import AutogradError
from gradient.source_lines import PACKAGE, Location, source_line, user_frame


class Overwrite:
    """The last time an array's memory was written in place: (sequence number, op, location)."""

    __slots__ = ("last", "owner")

    last: tuple[int, str, Location]

    def __init__(self, owner: Any):
        self.owner = owner  # what keeps the mark's key valid: see _new_mark


marks: dict[int, Overwrite] = {}
"""By the id of the memory's owner; removed when the owner dies."""


class _LastWrite:
    sequence_nr = 0


last_write = _LastWrite()


by_data: set[weakref.ref[Any]] = set()
"""The tensors there are that `x.data` gave, by which, and by whose views, writes are not noted."""


def mark_overwritten(backend: Any, array: Any, op: str, depth: int = 3) -> None:
    """Record that `op` has just written to `array` in place. The user's call is at least `depth`
    frames up, counted from `user_frame`."""
    frame = user_frame(depth)
    last_write.sequence_nr = number = next_sequence_nr()
    owner = backend.storage(array)
    write = number, op, (frame.f_code, frame.f_lasti)
    mark = marks.get(id(owner)) or _new_mark(owner, write)
    mark.last = write


def mark_owners(owners: Iterable[Any], op: str, depth: int = 3) -> None:
    """Record that `op` has just written to the memory of these owners; `depth` as above."""
    frame = user_frame(depth)
    last_write.sequence_nr = number = next_sequence_nr()
    write = number, op, (frame.f_code, frame.f_lasti)
    for owner in owners:
        mark = marks.get(id(owner)) or _new_mark(owner, write)
        mark.last = write


def _new_mark(owner: Any, write: Any) -> Overwrite:
    key = id(owner)
    try:
        held: Any = weakref.ref(owner, lambda _: marks.pop(key, None))
    except TypeError:
        held = owner  # no weak references to it: keep it, so that its id stays its own
    mark = Overwrite(held)
    mark.last = write  # before another thread may find it
    marks[key] = mark
    return mark


def version(backend: Any, array: Any) -> int:
    """The sequence number of the last in-place write to the memory of `array`; 0 if there was
    none."""
    mark = marks.get(id(backend.storage(array)))
    return mark.last[0] if mark else 0


def check_saved(node: Node) -> None:
    """Raise if a value that `node` saved has been overwritten since."""
    for name, value in _kept(node):
        mark = marks.get(id(node.backend.storage(value)))
        if mark is None or 0 in value.shape:  # of nothing, nothing is overwritten
            continue
        number, op, location = mark.last
        if number > node.sequence_nr:
            raise AutogradError(
                f"backward: {node.op.public_name} (called at {place_of(node)}) saved its {name!r} "
                f"of shape {tuple(value.shape)} for the gradient, but {op} (called at "
                f"{source_line(location)}) then overwrote it in place; use the out-of-place "
                "form there, or clone() before it"
            )


def _kept(node: Node) -> Iterator[tuple[str, Any]]:
    """The arrays that `node` holds, by name: saved values, and options such as an index or a
    mask."""
    options = getattr(node, "options", None) or {}
    saved = zip(node.op.saved_names, node.saved or (), strict=False)
    for name, value in (*saved, *options.items()):
        for part in value if type(value) is tuple else (value,):
            if isinstance(part, Variable):  # of a user's Function
                yield name, part.array
            elif hasattr(part, "dtype"):
                yield from ((name, array) for array in parts_of(part))


def place_of(node: Node) -> str:
    """The source line that called the node's op; for a line inside this package, how to find the
    user's line."""
    line = source_line(node.location)
    if line.startswith(PACKAGE):
        line += "; run under gradient.autograd.detect_anomaly() for the line of your program"
    return line
