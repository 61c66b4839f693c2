"""Arithmetic on large arrays as generated kernels: on all threads, in one pass over memory.

A function that uses only operators, such as that of an op or its gradient rule, is traced: it is
called once with stand-ins for its arrays, which note its steps. The kernel of these steps (`fused`)
rounds each step separately. So it gives NumPy's bits, and can replace NumPy at any call.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradient.backends.array_api import FLOAT32
from gradient.backends.base import LARGE, Backend
from gradient.backends.expression import ElementwiseCall, Expression, Input, Result
from gradient.backends.numpy import fused, kernels, threads, transposes, workspace
from gradient.backends.numpy.turned_arrays import joint_orders, result_strides
from gradient.dtypes import HALF_PRECISION

PATIENCE = 16
"""Calls that NumPy computes before their kernel is compiled, which takes half a second: a short
script never waits for one."""

calls: Counter[str] = Counter()
"""How often each kernel has been asked for, by its source."""

Layouts = tuple[tuple[tuple[int, ...], tuple[int, ...]] | None, ...]
"""Shapes and strides of operands; of Python numbers None."""


class OnePass(Backend[np.ndarray]):
    """Overrides `in_one_pass`."""

    one_pass_from = LARGE

    def in_one_pass(self, function: Callable[..., Any], *operands: Any) -> Any:
        if len(operands) == 2 and (wide := _beside_number(self, *operands)) is not None:
            *operands, half = wide  # type: ignore[assignment]
            made = self.in_one_pass(function, *operands)
            return made if made.dtype.char == "?" else self.astype(made, half)
        found, dtype = None, None
        layouts: list[Any] = []
        operands, back = _in_rows(operands)
        for x in operands:
            if type(x) is float or type(x) is int:
                layouts.append(None)
            elif type(x) is np.ndarray and dtype in (None, x.dtype) and x.flags.aligned:
                dtype = x.dtype
                layouts.append((x.shape, x.strides))
            else:
                break
        else:
            if dtype is not None:
                found = _pass_of(function, dtype.char, tuple(layouts))
        kernel = None if found is None else found.kernel()
        if found is None or kernel is None:
            made = function(self, *operands)
            return made if back is None else made.transpose(back)
        out = np.empty(found.shape, found.dtype)
        flat = [
            _flat(x, span, dtype) for x, span in zip((*operands, out), found.spans, strict=True)
        ]
        if found.halves:
            flat = list(map(kernels.load("half_precision").stored, flat))
        threads.parallel_for(kernel, found.walk.rows, found.chunk, *found.walk.arguments(flat))
        return out if back is None else out.transpose(back)


def _beside_number(be: Backend[np.ndarray], a: Any, b: Any) -> tuple[Any, Any, np.dtype] | None:
    """A large array of 16-bit floats and a number, in this order or the other, as what to compute
    in float32, and the dtype to round to; None for other operands. NumPy converts 16-bit floats one
    after another. It takes Python numbers in their dtype, and what has a dtype as it is."""
    x, number = (a, b) if getattr(a, "shape", ()) else (b, a)
    if type(x) is not np.ndarray or x.size < LARGE or x.dtype not in HALF_PRECISION:
        return None
    if type(number) is float or type(number) is int:
        with np.errstate(over="ignore"):
            number = x.dtype.type(number)
    elif getattr(number, "shape", None) != () or number.dtype not in (FLOAT32, x.dtype):
        return None
    given = be.astype(x, FLOAT32), float(number)
    return (*(given if x is a else given[::-1]), x.dtype)


def _flat(x: Any, span: int, dtype: Any) -> np.ndarray:
    """The memory of an operand, from its first element to its last."""
    if type(x) is not np.ndarray:
        return np.array([x], dtype)
    return x.ravel() if x.flags.carray else fused.flat(x, span)


def _in_rows(operands: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[int, ...] | None]:
    """The operands with their axes in the order in memory of NumPy's result, and the order that
    reverses this, None if it is row-major; copies in place of those whose rows are not runs of
    memory or of one number."""
    arrays = [x for x in operands if type(x) is np.ndarray]
    if all(x.flags.c_contiguous for x in arrays) or not kernels.awake:
        return operands, None
    if not all(x.dtype in transposes.COPIED or x.dtype in HALF_PRECISION for x in arrays):
        return operands, None
    try:
        shape, order, back = joint_orders(tuple((x.shape, x.strides) for x in arrays))
    except ValueError:  # NumPy raises the error
        return operands, None
    made = []
    for x in operands:
        if type(x) is np.ndarray and x.ndim:
            x = x if order is None else np.broadcast_to(x, shape).transpose(order)
            if x.shape[-1] > 1 and x.strides[-1] not in (0, x.itemsize):
                x = workspace.contiguous(x)
        made.append(x)
    return tuple(made), None if order is None else back


class _Pass:
    """A function on arrays of a dtype and certain shapes, and its kernel."""

    def __init__(self, expression: Expression, walk: fused.Rows, shape: tuple[int, ...]):
        self.source = fused.source(expression, walk, exact=True)
        self.walk, self.shape, self.spans = walk, shape, walk.spans()
        self.chunk = max(1, fused.CHUNK // walk.columns)
        self.dtype = fused.dtype_of(expression.steps[-1].dtype)
        self.halves = expression.inputs[0] in fused.HALVES
        self._kernel: Any = None

    def kernel(self) -> Any:
        """The kernel, after enough calls; before, None."""
        if self._kernel is None:
            calls[self.source] += 1
            if calls[self.source] > PATIENCE:
                self._kernel = kernels.load("generated").kernel_of(self.source)
        return self._kernel


@functools.lru_cache(maxsize=1024)
def _pass_of(function: Callable[..., Any], char: str, given: Layouts) -> _Pass | None:
    """The pass of a function; None if NumPy computes it, for other dtypes, steps, or strides."""
    expression = _expression(function, char, len(given)) if char in "fdeE" else None
    if expression is None or (
        char in fused.HALVES and (None in given or not _of_arrays(expression))
    ):
        return None
    arrays = [layout for layout in given if layout is not None]
    try:
        shape = np.broadcast_shapes(*(own for own, _ in arrays))
    except ValueError:  # NumPy raises the error
        return None
    itemsize = fused.dtype_of(char).itemsize
    if 0 in shape or _order(shape, arrays, itemsize) != _strides(shape, itemsize):
        return None
    layouts = [(*(layout or ((), ())), itemsize) for layout in given]
    size = expression.steps[-1].dtype
    layouts.append((shape, _strides(shape, n := fused.dtype_of(size).itemsize), n))
    walk = fused.rows_of(shape, layouts)
    if walk is None or not walk.moves[-1] or not kernels.available():
        return None
    return _Pass(expression, walk, shape)


def _of_arrays(expression: Expression) -> bool:
    """Whether kernels compute an expression of 16-bit floats: without Python numbers, whose dtype
    would be another one."""
    return all(
        isinstance(x, (Input, Result)) for step in expression.steps for x in step.operands
    ) and kernels.computes(fused.dtype_of(expression.inputs[0]))


def _order(shape: tuple[int, ...], arrays: Sequence[Any], itemsize: int) -> tuple[int, ...]:
    """The strides of NumPy's result for arrays of such shapes and strides."""
    if (shape, _strides(shape, itemsize)) in arrays:
        return _strides(shape, itemsize)
    return result_strides(shape, arrays, itemsize)


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
