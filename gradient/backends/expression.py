"""Expressions of elementwise calls: what a fused kernel computes for each element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Input(int):
    """An operand that is the array of this number among the expression's inputs."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"x{int(self)}"


class Result(int):
    """An operand that is the result of the earlier step of this number."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"v{int(self)}"


class ElementwiseCall(NamedTuple):
    """One elementwise call: its name in a plan, its operands, and the dtype of its result.

    An operand is an `Input`, a `Result` or a Python number. dtypes are NumPy's characters: f, d or
    ?, and on a GPU e or E, the 16-bit floats.
    """

    op: str
    operands: tuple[Input | Result | float, ...]
    dtype: str


class End(NamedTuple):
    """A reduction of a step's results, by its name in plans: over the last axis, or over `all`."""

    op: str
    step: Result
    all: bool
    keepdims: bool


class Expression(NamedTuple):
    """A fused kernel's computation.

    steps   the calls, in order
    inputs  the dtypes of the arrays that they read
    kept    the steps whose results are written
    ends    reductions of results: all over the last axis, or all over all axes
    """

    steps: tuple[ElementwiseCall, ...]
    inputs: tuple[str, ...]
    kept: tuple[Result, ...]
    ends: tuple[End, ...] = ()

    def __repr__(self) -> str:
        names = [*(step.op for step in self.steps), *(end.op for end in self.ends)]
        return f"<{' '.join(names)}>"


Layout = tuple[tuple[int, ...], tuple[int, ...], int]
"""An array's shape, strides and bytes of an element."""


class Fusing(NamedTuple):
    """What a backend can fuse into one kernel.

    calls       names of elementwise calls
    dtypes      characters of their dtypes
    walks       called with a shape and layouts that broadcast to it: whether one loop can read them
    contiguous  whether results have to be in row-major order
    reductions  names of the reductions that may end an expression
    activations those in which a product with a bias may end (`Backend.linear_activation`)
    """

    calls: frozenset[str]
    dtypes: str
    walks: Callable[[tuple[int, ...], Sequence[Layout]], bool]
    contiguous: bool = False
    reductions: frozenset[str] = frozenset()
    activations: frozenset[str] = frozenset()
