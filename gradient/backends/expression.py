"""Chains of elementwise calls as one value: what a fused kernel computes for each element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Given(int):
    """The number of an operand: an array that the expression reads."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"x{int(self)}"


class Made(int):
    """The number of an earlier step, whose result is used."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"v{int(self)}"


class Step(NamedTuple):
    """One elementwise call: what a plan calls it, its operands, and the dtype of its result.

    An operand is a `Given`, a `Made` or a Python number. dtypes are NumPy's characters: f, d or ?,
    and on a GPU e or E, the 16-bit floats.
    """

    op: str
    operands: tuple[Given | Made | float, ...]
    dtype: str


class End(NamedTuple):
    """A reduction of a step's results, by its name in plans: over the last axis, or over `all`."""

    op: str
    made: Made
    all: bool
    keepdims: bool


class Expression(NamedTuple):
    """Steps in order, the dtypes of the arrays they read, the steps whose results are kept, and
    the reductions that end it: all over the last axis, or all over all axes."""

    steps: tuple[Step, ...]
    given: tuple[str, ...]
    kept: tuple[Made, ...]
    ends: tuple[End, ...] = ()

    def __repr__(self) -> str:
        names = [*(step.op for step in self.steps), *(end.op for end in self.ends)]
        return f"<{' '.join(names)}>"


Layout = tuple[tuple[int, ...], tuple[int, ...], int]
"""An array's shape, strides and bytes of an element."""


class Fusing(NamedTuple):
    """What a backend makes one kernel of.

    calls       the names of the elementwise calls that it has words for
    dtypes      the characters of the dtypes that they may have
    walks       whether arrays of these layouts, which broadcast to a shape, can be walked together
    contiguous  whether results have to be in row-major order
    reductions  the names of those that may end an expression
    """

    calls: frozenset[str]
    dtypes: str
    walks: Callable[[tuple[int, ...], Sequence[Layout]], bool]
    contiguous: bool = False
    reductions: frozenset[str] = frozenset()
