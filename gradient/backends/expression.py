"""Expressions of elementwise calls: what a fused kernel computes for each element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Input(int):
    """An operand: the expression's input with this number."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"x{int(self)}"


class Result(int):
    """An operand: the result of the earlier step with this number."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"v{int(self)}"


class ElementwiseCall(NamedTuple):
    """One elementwise call: its name in a plan, its operands, and the dtype of its result.

    An operand is an `Input`, a `Result` or a Python number. dtypes are NumPy's characters: f, d or
    ?, and on a GPU also e or E, the 16-bit floats.
    """

    op: str
    operands: tuple[Input | Result | float, ...]
    dtype: str


class End(NamedTuple):
    """A reduction of a step's result, by its name in plans: over the last axis, or over `all`."""

    op: str
    step: Result
    all: bool
    keepdims: bool


class Expression(NamedTuple):
    """A fused kernel's computation.

    steps   the calls, in order
    inputs  the dtypes of the input arrays
    kept    the steps whose results are written to memory
    ends    reductions of results: all of them over the last axis, or all over all axes
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
    walks       a function of a shape and of layouts that broadcast to it: can one loop read them?
    contiguous  whether results must be in row-major order
    reductions  names of the reductions that may end an expression
    activations names of the activations that may end a linear layer (`Backend.linear_activation`)
    exact       calls whose results are, bit for bit, those of the backend's methods
    """

    calls: frozenset[str]
    dtypes: str
    walks: Callable[[tuple[int, ...], Sequence[Layout]], bool]
    contiguous: bool = False
    reductions: frozenset[str] = frozenset()
    activations: frozenset[str] = frozenset()
    exact: frozenset[str] = frozenset()
