"""The parts of a plan: buffers, and calls that read and write them (see `plan`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from gradient.source_lines import Location, source_line

__all__ = ["Buffer", "Call", "HostNumber", "Ref"]

Kind = Literal["input", "external", "constant", "internal"]
"""input      copied in before each replay, named by the caller
external   memory that was there before and is used where it lies: a parameter, an optimiser's
           state, a cache; `array` is it
constant   `array` holds its values, which are the same in every replay
internal   made by a call"""


BOUNDARY = "boundary"
"""The op of a call between the two parts of a plan, which run one after the other when they are
asked to. It is given the results of the first, and does nothing; no call is moved across it."""

WHOLE = (..., (...,), ())
"""The indices of all elements of an array, in a call of "assign"."""


class Ref(int):
    """The number of a buffer; it replaces an array in a call."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"%{int(self)}"


@dataclass(frozen=True)
class HostNumber:
    """A Python number in a call that is read again before each replay, such as a step count or an
    offset. `value` is its value when it was recorded."""

    name: str
    value: float | int = field(compare=False)

    def __repr__(self) -> str:
        return f"<{self.name}>"


@dataclass(frozen=True, slots=True)
class Buffer:
    """An array of a plan: its layout, the origin of its memory, and the root that owns it.

    `nbytes` counts from its first element to its last, gaps included.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    strides: tuple[int, ...]
    kind: Kind
    root: Ref
    array: Any = field(default=None, compare=False, repr=False)
    nbytes: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        steps = zip(self.shape, self.strides, strict=True)
        size = self.dtype.itemsize + sum((n - 1) * abs(step) for n, step in steps)
        object.__setattr__(self, "nbytes", 0 if 0 in self.shape else size)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the backend.

    op        a method's name, or an operator's (`gradient.backends.recording_backend.OPERATORS`)
    args, options   positional and keyword arguments
    out       a Ref, or a tuple of Refs and other values, as the method returns it
    writes    roots whose memory it changes
    view      whether its result is a view of its first array
    location  the user's line
    asked     the public function that made the call, by its name in errors
    pieces    the calls that a composed default made; empty if the backend has a kernel for it
    segment   the number of the checkpointed segment that it computes again; 0: none
    inputs    the buffers among its arguments, with repeats
    outputs   the buffers of its results
    numbers   the arguments that are read again before each replay
    """

    op: str
    args: tuple[Any, ...]
    options: dict[str, Any]
    out: Any = None
    writes: tuple[Ref, ...] = ()
    view: bool = False
    location: Location | None = field(default=None, compare=False)
    asked: str = field(default="", compare=False, repr=False)
    pieces: tuple[Call, ...] = ()
    segment: int = 0
    inputs: tuple[Ref, ...] = field(init=False, compare=False, repr=False)
    outputs: tuple[Ref, ...] = field(init=False, compare=False, repr=False)
    numbers: tuple[HostNumber, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        given = self.args, self.options
        object.__setattr__(self, "inputs", tuple(leaves(given, Ref)))
        object.__setattr__(self, "outputs", tuple(leaves(self.out, Ref)))
        object.__setattr__(self, "numbers", tuple(leaves(given, HostNumber)))

    @property
    def line(self) -> str:
        """`file:line` in the user's program."""
        return "" if self.location is None else source_line(self.location)

    @property
    def place(self) -> str:
        """The public function and the user's line, for errors."""
        return f"{self.asked or self.op} at {self.line}"


def expand(call: Call, keep: Callable[[Call], bool]) -> Iterator[Call]:
    if not call.pieces or keep(call):
        yield call
        return
    for piece in call.pieces:
        yield from expand(piece, keep)


def leaves(tree: Any, kind: Any) -> Iterator[Any]:
    """All values of a type in nested tuples, lists, dicts and slices."""
    if isinstance(tree, kind):
        yield tree
    elif isinstance(tree, (tuple, list)):
        for each in tree:
            yield from leaves(each, kind)
    elif isinstance(tree, dict):
        for each in tree.values():
            yield from leaves(each, kind)


def mapped(tree: Any, kind: Any, function: Callable[[Any], Any]) -> Any:
    """`tree` with `function` applied to each leaf of a type."""
    if isinstance(tree, kind):
        return function(tree)
    if isinstance(tree, (tuple, list)):
        each = [mapped(part, kind, function) for part in tree]
        if hasattr(tree, "_fields"):  # a named tuple
            return type(tree)(*each)
        return type(tree)(each) if type(tree) in (tuple, list) else tuple(each)
    if isinstance(tree, dict):
        return {key: mapped(part, kind, function) for key, part in tree.items()}
    return tree
