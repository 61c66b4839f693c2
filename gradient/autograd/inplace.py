"""Track in-place writes, so that a backward pass that needs overwritten values raises an error.

PyTorch has a version counter in every tensor. Here the forward pass has no such cost: an in-place
write takes a number from the counter that numbers the nodes, and stores it for the owner of the
memory. A saved array was overwritten if this number is larger than its node's. The backward pass
checks the saved arrays of a node only if the node is older than the last write to any tensor. An
ordinary training step makes its graph after the optimiser's writes, so it checks none.
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
    """The last in-place write to an array's memory: (sequence number, op, location)."""

    __slots__ = ("last", "owner")

    last: tuple[int, str, Location]

    def __init__(self, owner: Any):
        self.owner = owner  # keeps the key of the mark valid: see _new_mark


marks: dict[int, Overwrite] = {}
"""The marks by the id of the memory's owner; removed when the owner is freed."""


class _LastWrite:
    sequence_nr = 0


last_write = _LastWrite()


by_data: set[weakref.ref[Any]] = set()
"""The tensors that `x.data` returned; writes to them and to their views are not recorded."""


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
        held = owner  # it allows no weak references: keep it, so that its id is not used again
    mark = Overwrite(held)
    mark.last = write  # before another thread can find the mark
    marks[key] = mark
    return mark


def version(backend: Any, array: Any) -> int:
    """Return the sequence number of the last in-place write to the memory of `array`, or 0."""
    mark = marks.get(id(backend.storage(array)))
    return mark.last[0] if mark else 0


def check_saved(node: Node) -> None:
    """Raise if a value that `node` saved has been overwritten since."""
    for name, value in _kept(node):
        mark = marks.get(id(node.backend.storage(value)))
        if mark is None or 0 in value.shape:  # an empty array cannot be overwritten
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
    """Yield the arrays that `node` holds, with their names: saved values, and options such as an
    index or a mask."""
    options = getattr(node, "options", None) or {}
    saved = zip(node.op.saved_names, node.saved or (), strict=False)
    for name, value in (*saved, *options.items()):
        for part in value if type(value) is tuple else (value,):
            if isinstance(part, Variable):  # saved by a user's Function
                yield name, part.array
            elif hasattr(part, "dtype"):
                yield from ((name, array) for array in parts_of(part))


def place_of(node: Node) -> str:
    """Return the source line that called the node's op; for a line inside this package, add how to
    find the user's line."""
    line = source_line(node.location)
    if line.startswith(PACKAGE):
        line += "; run under gradient.autograd.detect_anomaly() for the line of your program"
    return line
