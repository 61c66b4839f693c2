"""Arithmetic on large arrays as generated kernels: on all threads, in one pass over memory.

A function that uses only operators, such as that of an op or its gradient rule, is traced: it is
called once with stand-ins for its arrays, which note its steps. The kernel of these steps (`fused`)
rounds each step separately. So it gives NumPy's bits, and can replace NumPy at any call.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.base import LARGE, Backend
from gradient.backends.expression import ElementwiseCall, Expression, Input, Result
from gradient.backends.numpy import fused, kernels, threads

PATIENCE = 16
"""Calls that NumPy computes before their kernel is compiled, which takes half a second: a short
script never waits for one."""

calls: Counter[str] = Counter()
"""How often each kernel has been asked for, by its source."""

Shapes = tuple[tuple[int, ...] | None, ...]
"""Those of operands; of Python numbers None."""


class OnePass(Backend[np.ndarray]):
    """Overrides `in_one_pass`."""

    one_pass_from = LARGE

    def in_one_pass(self, function: Callable[..., Any], *operands: Any) -> Any:
        found, dtype = None, None
        shapes: list[tuple[int, ...] | None] = []
        for x in operands:
            if type(x) is float or type(x) is int:
                shapes.append(None)
            elif type(x) is np.ndarray and x.flags.carray and dtype in (None, x.dtype):
                dtype = x.dtype
                shapes.append(x.shape)
            else:
                break
        else:
            if dtype is not None:
                found = _pass_of(function, dtype.char, tuple(shapes))
        kernel = None if found is None else found.kernel()
        if found is None or kernel is None:
            return function(self, *operands)
        out = np.empty(found.shape, found.dtype)
        arguments: list[Any] = [found.walk.columns]
        for x, stride in zip((*operands, out), found.walk.strides, strict=True):
            flat = x.ravel() if type(x) is np.ndarray else np.array([x], dtype)
            arguments += (flat, stride)
        threads.parallel_for(kernel, found.walk.rows, found.chunk, *arguments)
        return out


class _Pass:
    """A function on arrays of a dtype and certain shapes, and its kernel."""

    def __init__(self, expression: Expression, walk: fused.Rows, shape: tuple[int, ...]):
        self.source = fused.source(expression, walk.moves, exact=True)
        self.walk, self.shape = walk, shape
        self.chunk = max(1, fused.CHUNK // walk.columns)
        self.dtype = np.dtype(expression.steps[-1].dtype)
        self._kernel: Any = None

    def kernel(self) -> Any:
        """The kernel, after enough calls; before, None."""
        if self._kernel is None:
            calls[self.source] += 1
            if calls[self.source] > PATIENCE:
                self._kernel = kernels.load("generated").kernel_of(self.source)
        return self._kernel


@functools.lru_cache(maxsize=1024)
def _pass_of(function: Callable[..., Any], char: str, shapes: Shapes) -> _Pass | None:
    """The pass of a function; None if NumPy computes it, for other dtypes, steps, or strides."""
    expression = _expression(function, char, len(shapes)) if char in "fd" else None
    if expression is None:
        return None
    shape = max((s for s in shapes if s is not None), key=lambda s: (np.prod(s), len(s)))
    itemsize = np.dtype(char).itemsize
    layouts = [(s, _strides(s, itemsize), itemsize) for s in (each or () for each in shapes)]
    try:
        if np.broadcast_shapes(*(s for s, _, _ in layouts)) != shape:
            return None
    except ValueError:  # NumPy raises the error
        return None
    size = expression.steps[-1].dtype
    layouts.append((shape, _strides(shape, n := np.dtype(size).itemsize), n))
    walk = fused.rows_of(shape, layouts)
    if walk is None or not walk.moves[-1] or not kernels.available():
        return None
    return _Pass(expression, walk, shape)


def _strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """The strides of an array in row-major order."""
    strides, step = [], itemsize
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


# Steps of a function ---------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def _expression(function: Callable[..., Any], char: str, count: int) -> Expression | None:
    """Trace function(be, *operands) to an expression; None if it has no steps, or uses more than
    operators."""
    steps: list[ElementwiseCall] = []
    try:
        result = function(None, *(_Noted(steps, Input(i), char) for i in range(count)))
    except (AttributeError, TypeError):
        return None
    if not isinstance(result, _Noted) or not isinstance(result.operand, Result):
        return None
    if result.operand != len(steps) - 1:
        return None
    return Expression(tuple(steps), (char,) * count, (result.operand,))


class _Noted:
    """A stand-in for an operand or the result of a step."""

    __array_ufunc__ = None
    __slots__ = ("char", "operand", "steps")

    def __init__(self, steps: list[ElementwiseCall], operand: Input | Result, char: str):
        self.steps, self.operand, self.char = steps, operand, char


def _operator(op: str, reflected: bool, dtype: str | None) -> Callable[..., Any]:
    def method(self: _Noted, *others: Any) -> Any:
        values = (*others, self) if reflected else (self, *others)
        if not all(type(x) in (_Noted, float, int) for x in values):
            return NotImplemented
        operands = tuple(x.operand if isinstance(x, _Noted) else x for x in values)
        char = dtype or self.char
        self.steps.append(ElementwiseCall(op, operands, char))
        return _Noted(self.steps, Result(len(self.steps) - 1), char)

    return method


for _name in ("add", "sub", "mul", "truediv"):
    setattr(_Noted, f"__{_name}__", _operator(_name, False, None))
    setattr(_Noted, f"__r{_name}__", _operator(_name, True, None))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(_Noted, f"__{_name}__", _operator(_name, False, "?"))
setattr(_Noted, "__neg__", _operator("neg", False, None))  # noqa: B010 (as those above)
