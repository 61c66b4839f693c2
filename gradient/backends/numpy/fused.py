"""Fused kernels: the source of one loop that computes an expression over arrays.

The source depends only on the expression and on which operands are constant along a row, not on
sizes, addresses or layer numbers. So equal chains, in different layers or time steps, share a
kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.expression import ElementwiseCall, Expression, Fusing, Input, Layout, Result
from gradient.backends.numpy import kernels
from gradient.dtypes import bfloat16

CHUNK = 1 << 15
"""Elements, in whole rows, that a thread takes at a time."""

SHORTEST = 1 << 11
"""Elements of a part of a contiguous array, at least: beginning a row takes as long as computing a
vector or two."""

TEXTS = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "truediv": "{0} / {1}",
    "neg": "-{0}", "abs": "abs({0})", "sqrt": "np.sqrt({0})", "square": "{0} * {0}",
    "exp": "exp({0})", "tanh": "tanh({0})",
    "lt": "{0} < {1}", "le": "{0} <= {1}", "gt": "{0} > {1}", "ge": "{0} >= {1}",
    "eq": "{0} == {1}", "ne": "{0} != {1}", "isnan": "{0} != {0}",
    "isfinite": "abs({0}) < np.inf",
    "and": "{0} & {1}", "or": "{0} | {1}", "invert": "not {0}",
    "where": "{1} if {0} else {2}",
    # Both return NaN if an operand is NaN.
    "maximum": "{0} if ({0} > {1} or {0} != {0}) else {1}",
    "minimum": "{0} if ({0} < {1} or {0} != {0}) else {1}",
    # As in `kernels.elementwise`.
    "relu": "{T}(0) if {0} < {T}(0) else {0}",
    "relu_grad": "{T}(0) if {1} <= {T}(0) else {0}",
    "silu": "{0} * sigmoid({0})",
    "silu_grad": "{0} * (sigmoid({1}) * ({T}(1) + {1} * ({T}(1) - sigmoid({1}))))",
    "gelu": "gelu({0})",
    "gelu_grad": "{0} * (normal({1})[0] + {1} * normal({1})[1])",
}  # fmt: skip
"""Elementwise calls of a plan in the words of a kernel; T is the type of the result."""

TYPES = {"f": "F4", "d": "F8", "?": "bool", "e": "as_float16", "E": "as_bfloat16"}
"""Functions that round a result to its type; 16-bit floats are computed in float32."""

HALVES = "eE"


def dtype_of(char: str) -> np.dtype:
    """The dtype of one of TYPES."""
    return bfloat16.numpy if char == "E" else np.dtype(char)


HEAD = """import numpy as np
from gradient.backends.numpy.kernels.compilation import {kind}_kernel
from gradient.backends.numpy.kernels.functions import exp, gelu, normal, sigmoid, tanh
from gradient.backends.numpy.kernels.half_precision import as_bfloat16, as_float16, get, put

F4, F8 = np.float32, np.float64


@{kind}_kernel
def fused({parameters}):
"""

ONE_AXIS = """    for i in range(start, stop):
"""

THREE_AXES = """    i, j, k = start // n2 // n1, start // n2 % n1, start % n2
    for _ in range(start, stop):
"""

NEXT_ROW = """        k += 1
        if k == n2:
            j, k = j + 1, 0
            if j == n1:
                i, j = i + 1, 0
"""


class Rows(NamedTuple):
    """A joint traversal of arrays: the numbers of rows and columns, and for each array its row
    stride, in elements, and whether it moves along a row (or is constant)."""

    rows: int
    columns: int
    strides: tuple[int, ...]
    moves: tuple[bool, ...]
    sizes: tuple[int, ...] = ()
    """If rows are along three axes, the sizes of the last two; an array then has three strides."""

    def arguments(self, arrays: Sequence[np.ndarray]) -> list[Any]:
        """What a kernel takes after `start` and `stop`, for flat arrays."""
        given: list[Any] = [self.columns, *self.sizes]
        count = len(self.strides) // len(self.moves)
        for i, x in enumerate(arrays):
            given += (x, *self.strides[i * count : (i + 1) * count])
        return given

    def spans(self) -> list[int]:
        """For each array, from its first element to its last."""
        outer = [self.rows]
        if self.sizes:
            outer = [self.rows // math.prod(self.sizes), *self.sizes]
        return [
            sum((n - 1) * self.strides[i * len(outer) + axis] for axis, n in enumerate(outer))
            + (self.columns if moves else 1)
            for i, moves in enumerate(self.moves)
        ]


def rows_of(shape: tuple[int, ...], layouts: Sequence[Layout]) -> Rows | None:
    """The traversal of arrays of (shape, strides, itemsize) that broadcast to `shape`; None if four
    axes are not enough."""
    full = []
    for own, strides, _ in layouts:
        lead = (0,) * (len(shape) - len(own))
        full.append(lead + tuple(0 if n == 1 else s for n, s in zip(own, strides, strict=True)))
    merged: list[tuple[int, tuple[int, ...]]] = []
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        steps = tuple(each[axis] for each in full)
        if merged and all(a == b * n for a, b in zip(merged[-1][1], steps, strict=True)):
            merged[-1] = (merged[-1][0] * n, steps)
        else:
            merged.append((n, steps))
    if len(merged) > 4 or any(0 in own for own, _, _ in layouts):
        return None
    if not merged:  # one element
        merged = [(1, tuple(itemsize for _, _, itemsize in layouts))]
    if len(merged) == 1:
        n, steps = merged[0]
        # Split into parts for threads.
        rows = math.gcd(n, 1 << (n // SHORTEST).bit_length() - 1) if n > CHUNK else 1
        merged = [(rows, tuple(s * (n // rows) for s in steps)), (n // rows, steps)]
    *outer, (columns, along) = merged
    sizes = [itemsize for _, _, itemsize in layouts]
    if any(step not in (0, size) for step, size in zip(along, sizes, strict=True)):
        return None
    for _, across in outer:
        if any(step < 0 or step % size for step, size in zip(across, sizes, strict=True)):
            return None
    rows = math.prod(n for n, _ in outer)
    if columns < 8 < rows:  # each short row would need its own loop
        return None
    if len(outer) > 1:
        outer = [(1, (0,) * len(layouts))] * (3 - len(outer)) + outer
    strides = tuple(across[i] // size for i, size in enumerate(sizes) for _, across in outer)
    moves = tuple(step != 0 for step in along)
    return Rows(rows, columns, strides, moves, tuple(n for n, _ in outer[1:]))


def _walks(shape: tuple[int, ...], layouts: Sequence[Layout]) -> bool:
    return rows_of(shape, layouts) is not None


EXACT = {
    *("add", "sub", "mul", "truediv", "neg", "abs", "sqrt", "pow", "where", "maximum", "minimum"),
    *("lt", "le", "gt", "ge", "eq", "ne", "isnan", "isfinite", "and", "or", "invert"),
    *("relu", "relu_grad", "astype"),
}
"""Calls whose results are correctly rounded, in NumPy as in a kernel."""

FUSING = Fusing(
    frozenset(TEXTS), "fd?", _walks, activations=frozenset({"relu"}), exact=frozenset(EXACT)
)


def source(expression: Expression, walk: Rows, exact: bool = False) -> str:
    """The source of the kernel for such a traversal of operands, then results. If `exact`, each
    step is rounded separately."""
    moves = walk.moves
    count = len(expression.inputs)
    names = [*(f"x{i}" for i in range(count)), *(f"y{i}" for i in range(len(expression.kept)))]
    parameters = ["start", "stop", "columns", *(("n1", "n2") if walk.sizes else ())]
    loads = []
    for name, move in zip(names, moves, strict=True):
        strides = [f"{axis}_{name}" for axis in ("ijk" if walk.sizes else "i")]
        parameters += [name, *strides]
        at = " + ".join(f"{stride[0]} * {stride}" for stride in strides)
        # Slice the row first: then LLVM knows that no index is negative, and vectorises.
        is_half = name[0] == "x" and expression.inputs[int(name[1:])] in HALVES
        length = "columns" if move else "1" if is_half else ""
        loads.append(f"r_{name} = {name}[{at} : {at} + {length}]" if length else
                     f"r_{name} = {name}[{at}]")  # fmt: skip

    def operand(x: Input | Result | float, dtype: str) -> str:
        if isinstance(x, Input):
            if expression.inputs[x] in HALVES:
                return f"get(r_x{int(x)}, {'m' if moves[x] else 0})"
            return f"r_x{int(x)}[m]" if moves[x] else f"r_x{int(x)}"
        if isinstance(x, Result):
            return f"v{int(x)}"
        return f"{TYPES[dtype]}({_number(x)})"

    body = [f"v{n} = {_text(expression, step, operand)}" for n, step in enumerate(expression.steps)]
    body += [
        f"put(r_y{i}, m, v{int(step)})"
        if expression.steps[step].dtype in HALVES
        else f"r_y{i}[m] = v{int(step)}"
        for i, step in enumerate(expression.kept)
    ]
    lines = [" " * 8 + line for line in (*loads, "for m in range(columns):")]
    lines += [" " * 12 + line for line in body]
    head = HEAD.format(kind="ordered" if exact else "strict", parameters=", ".join(parameters)) + (
        THREE_AXES if walk.sizes else ONE_AXIS
    )
    return head + "\n".join(lines) + "\n" + (NEXT_ROW if walk.sizes else "")


def _number(x: float) -> str:
    if math.isfinite(x):
        return repr(float(x))
    return "np.nan" if math.isnan(x) else "np.inf" if x > 0 else "-np.inf"


def _text(expression: Expression, step: ElementwiseCall, operand: Callable[[Any, str], str]) -> str:
    def dtype_of(x: Input | Result) -> str:
        return expression.inputs[x] if isinstance(x, Input) else expression.steps[x].dtype

    # A number has the type of the other operand.
    arrays = [x for x in step.operands if isinstance(x, (Input, Result))]
    beside = next((d for x in reversed(arrays) if (d := dtype_of(x)) != "?"), step.dtype)
    texts = [operand(x, beside) for x in step.operands]
    if step.op != "astype":
        kind = TYPES[step.dtype]
        return f"{kind}({TEXTS[step.op].format(*texts, T=kind)})"
    (x,) = arrays
    if step.dtype == "?":
        return f"{texts[0]} != 0"
    if dtype_of(x) == "?":
        return f"{TYPES[step.dtype]}(1) if {texts[0]} else {TYPES[step.dtype]}(0)"
    return f"{TYPES[step.dtype]}({texts[0]})"


def bound(
    expression: Expression,
    arrays: Sequence[np.ndarray],
    results: Sequence[np.ndarray],
    exact: bool = False,
) -> tuple[Any, int, int, tuple[Any, ...]] | None:
    """The kernel, rows, rows per chunk, and arguments, for `threads.Tasks.append`."""
    every = [*arrays, *results]
    rows = rows_of(results[0].shape, [(x.shape, x.strides, x.itemsize) for x in every])
    if rows is None or not all(rows.moves[len(arrays) :]) or not kernels.available():
        return None
    kernel = kernels.load("generated").kernel_of(source(expression, rows, exact))
    arguments = rows.arguments([flat(x, n) for x, n in zip(every, rows.spans(), strict=True)])
    chunk = max(1, CHUNK // rows.columns)
    return kernel, rows.rows, chunk, tuple(arguments)


class _Memory:
    """The memory of an array from its first element on, as a contiguous array."""

    def __init__(self, x: np.ndarray, size: int):
        self.x = x  # kept alive
        # Always marked writable, as numba would compile separately for read-only arrays.
        self.__array_interface__ = {
            **{"shape": (size,), "typestr": x.dtype.str, "version": 3},
            "data": (x.__array_interface__["data"][0], False),
        }


def flat(x: np.ndarray, size: int) -> np.ndarray:
    """The first `size` elements of the memory of an array, as one dimension."""
    return np.asarray(_Memory(x, size)).view(x.dtype)  # bfloat16 has no name of its own there
