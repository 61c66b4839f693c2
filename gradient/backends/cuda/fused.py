"""Chains of elementwise calls as one kernel, whose CUDA C is made here from an `Expression`.

    y = silu(a + bias) * 2       x0 (T, C), x1 (C,), y0 (T, C)

is one kernel that reads a and bias once and writes y once; intermediate values stay in registers.
The source depends only on the expression, the number of axes after adjacent ones are merged, how
operands move along the last axis, and whether 16 bytes can be loaded at a time; not on sizes or
addresses. So equal chains share a kernel, which NVRTC compiles once and the disk caches.

16-bit floats are computed in float32 and rounded where they are stored, or cast.

A reduction may end a chain, over the last axis or over all:

    s = ((a - b) ** 2).sum(-1)           a, b (T, C), s (T,)

is also one kernel, in which each block computes a row and sums it without rounding. Over all axes,
each block reduces a part to a number, and a second kernel reduces these. The order is
deterministic.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.cuda.launching import LOAD, KernelLauncher, block_of
from gradient.backends.cuda.products import ACTIVATIONS
from gradient.backends.expression import (
    ElementwiseCall,
    End,
    Expression,
    Fusing,
    Input,
    Layout,
    Result,
)
from gradient.backends.required import Shape
from gradient.dtypes import bfloat16

BLOCK, ROW_BLOCK = 256, 512
"""Threads of a block; and at most, where a block has a row: 128 registers for each are enough."""
MOST_BLOCKS = 1024
"""That a reduction over all axes is divided among."""
FEW_BLOCKS = 128
"""Of a kernel that may begin early and let its successor do so: at most about one for each
multiprocessor. Beside the loads of a larger one, those of its successor would be in the way."""
MOST_AXES = 4

TEXTS = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "truediv": "{0} / {1}",
    "neg": "-{0}", "abs": "abs({0})", "sqrt": "sqrt({0})", "square": "{0} * {0}",
    **{name: f"{name}({{0}})" for name in ("exp", "log", "sin", "cos", "tan", "tanh", "expm1",
                                           "log1p", "floor", "ceil", "erf", "sigmoid")},
    "lt": "{0} < {1}", "le": "{0} <= {1}", "gt": "{0} > {1}", "ge": "{0} >= {1}",
    "eq": "{0} == {1}", "ne": "{0} != {1}", "isnan": "{0} != {0}",
    "isfinite": "abs({0}) < infinity<{A}>()",
    "and": "{0} && {1}", "or": "{0} || {1}", "invert": "!{0}",
    "where": "{0} ? {1} : {2}",
    # Both return NaN if an operand is NaN.
    "maximum": "({0} > {1} || {0} != {0}) ? {0} : {1}",
    "minimum": "({0} < {1} || {0} != {0}) ? {0} : {1}",
    "logsigmoid": "({0} < 0 ? {0} : {T}(0)) - log1p(exp(-abs({0})))",
    "relu": "{0} <= 0 ? {T}(0) : {0}",
    "relu_grad": "{1} <= 0 ? {T}(0) : {0}",
    "silu": "{0} * sigmoid({0})",
    "silu_grad": "{0} * (sigmoid({1}) * (1 + {1} * (1 - sigmoid({1}))))",
    "gelu": "{0} * normal_cdf({0})",
    "gelu_grad": "{0} * (normal_cdf({1}) + {1} * normal_density({1}))",
}  # fmt: skip
"""Elementwise calls of a plan in CUDA C. T is the type that the result is computed in, A that of
the operands."""

ROUNDED = {
    "add": "rounded_sum({0}, {1})", "sub": "rounded_sum({0}, -({1}))",
    "mul": "rounded_product({0}, {1})", "square": "rounded_product({0}, {0})",
}  # fmt: skip
"""Where results must be those of single calls: a compiler may join other sums and products."""

EXACT = {
    *("add", "sub", "mul", "truediv", "neg", "abs", "sqrt", "pow", "where", "astype", "sin", "cos"),
    *("lt", "le", "gt", "ge", "eq", "ne", "isnan", "isfinite", "and", "or", "invert"),
}
"""Calls whose results are, with `ROUNDED`, those of the kernels of single calls."""

STORED = {
    "f": "float", "d": "double", "e": "__half", "E": "__nv_bfloat16", "?": "bool", "l": "Int",
}  # fmt: skip
COMPUTED = {"f": "float", "d": "double", "e": "float", "E": "float", "?": "bool", "l": "Int"}

REDUCTIONS = {
    "sum": ("0", "{0} + {1}", "block_sum"), "mean": ("0", "{0} + {1}", "block_sum"),
    "max": ("-infinity<{A}>()", "larger({0}, {1})", "block_max"),
    "min": ("infinity<{A}>()", "smaller({0}, {1})", "block_min"),
}  # fmt: skip
"""What a reduction begins with, how it takes one more number, how a block joins its threads'."""


class Walk(NamedTuple):
    """A joint traversal of arrays: the sizes of the merged axes, and each array's strides along
    them, in elements."""

    sizes: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]


def walk_of(shape: tuple[int, ...], layouts: Sequence[Layout], apart: bool = False) -> Walk | None:
    """The traversal of arrays that broadcast to `shape`, with adjacent axes merged (but not the
    last, if `apart`); None if too many axes remain."""
    steps = []
    for own, strides, itemsize in layouts:
        if any(stride % itemsize for stride in strides):
            return None
        moved = (0 if n == 1 else s // itemsize for n, s in zip(own, strides, strict=True))
        steps.append((0,) * (len(shape) - len(own)) + tuple(moved))
    axes: list[tuple[int, tuple[int, ...]]] = []
    for axis, n in enumerate(shape):
        along = tuple(each[axis] for each in steps)
        last = apart and axis == len(shape) - 1
        if n == 1 and not last:
            continue
        if axes and not last and all(a == b * n for a, b in zip(axes[-1][1], along, strict=True)):
            axes[-1] = (axes[-1][0] * n, along)
        else:
            axes.append((n, along))
    axes = axes or [(1, (1,) * len(layouts))]
    if len(axes) > MOST_AXES + apart:
        return None
    return Walk(tuple(n for n, _ in axes), tuple(zip(*(along for _, along in axes), strict=True)))


def can_walk(shape: tuple[int, ...], layouts: Sequence[Layout]) -> bool:
    return walk_of(shape, layouts) is not None


FUSING = Fusing(
    frozenset(TEXTS), "fdeE?l", can_walk, contiguous=True, reductions=frozenset(REDUCTIONS),
    activations=frozenset(ACTIVATIONS), exact=frozenset(EXACT),
)  # fmt: skip


class FusedKernels(KernelLauncher):
    """The method for fused chains of a plan."""

    fusing = FUSING
    sum: Any
    max: Any
    min: Any
    reshape: Any

    def fused(
        self,
        *arrays: Array,
        expression: Expression,
        exact: bool = False,
        early_reads: bool = False,
    ) -> tuple[Array, ...]:
        """The kept results of an expression over arrays that broadcast together, then those of its
        reductions. With `early_reads`, no earlier kernel of a graph writes the arrays."""
        shape = np.broadcast_shapes(*(x.shape for x in arrays))
        kept = [_dtype(expression.steps[step].dtype) for step in expression.kept]
        outs = [self.empty(shape, dtype) for dtype in kept]
        every, ends = [*arrays, *outs], expression.ends
        in_rows = bool(ends) and not ends[0].all
        walk = walk_of(shape, [(x.shape, x.strides, x.itemsize) for x in every], apart=in_rows)
        assert walk is not None, "the pass has asked `can_walk`"
        width = self._width(walk, every)
        moves = "".join("ros"[min(abs(s[-1]), 2) if s[-1] >= 0 else 2] for s in walk.strides)
        *rows, columns = walk.sizes
        packs = math.prod(rows) * -(-columns // width)
        blocks, block = -(-packs // BLOCK), BLOCK
        if in_rows:
            blocks, block = math.prod(rows), min(block_of(columns), ROW_BLOCK)
        elif ends:
            blocks = min(blocks, MOST_BLOCKS)
        reduced = [self._reduced(expression, end, shape, blocks) for end in ends]
        wide = packs * width >= 1 << 31
        early_reads = early_reads and not ends and blocks <= FEW_BLOCKS
        text = source(expression, len(walk.sizes), moves, width, wide, exact, early_reads)
        strides = [s for each in walk.strides for s in each]
        self.runtime.launch_source(
            text, (blocks,), block, *every, *reduced, *walk.sizes, *strides,
            early=blocks <= FEW_BLOCKS,
        )  # fmt: skip
        if ends and not in_rows:
            joined = zip(ends, reduced, strict=True)
            reduced = [self._joined(expression, end, x, shape) for end, x in joined]
        return *outs, *reduced

    def _reduced(self, expression: Expression, end: End, shape: Shape, blocks: int) -> Array:
        """An array for the results of rows; or, over all axes, for the blocks' unrounded ones."""
        char = expression.steps[end.step].dtype
        if end.all:
            return self.empty((blocks,), np.dtype("d" if char == "d" else "f"))
        return self.empty((*shape[:-1], 1) if end.keepdims else shape[:-1], _dtype(char))

    def _joined(self, expression: Expression, end: End, x: Array, shape: Shape) -> Array:
        """Reduce the blocks' results to the final one."""
        joins = {"sum": self.sum, "mean": self.sum, "max": self.max, "min": self.min}
        out = joins[end.op](x, None, False)
        if end.op == "mean":
            out = out / math.prod(shape)
        out = self.astype(out, _dtype(expression.steps[end.step].dtype))
        return self.reshape(out, (1,) * len(shape)) if end.keepdims else out

    def _width(self, walk: Walk, arrays: Sequence[Array]) -> int:
        """The number of elements per thread: LOAD bytes of the narrowest array, and several loads
        of wider ones, if all that move along the last axis are aligned for it."""
        width = LOAD // min([x.itemsize for x in arrays if x.dtype != bool] or [8])
        for x, strides in zip(arrays, walk.strides, strict=True):
            *outer, inner = strides
            aligned = self.runtime.address(x) % min(LOAD, width * x.itemsize) == 0
            if inner == 1 and not (aligned and all(s % width == 0 for s in outer)):
                return 1
        return width


@functools.cache
def source(
    expression: Expression,
    axes: int,
    moves: str,
    width: int,
    wide: bool,
    exact: bool = False,
    early_reads: bool = False,
) -> str:
    """The source of the kernel.

    moves   for each operand, then result, along the last axis: "r" constant, "o" contiguous, "s"
            strided
    wide    whether indices need more than 32 bits
    exact   whether each step is rounded as if it were a kernel of its own
    early_reads   whether arrays are read before the kernel waits for the previous one
    """
    given = [(f"x{i}", STORED[d], f"const {STORED[d]}*") for i, d in enumerate(expression.inputs)]
    dtypes = [expression.steps[step].dtype for step in expression.kept]
    kept = [(f"y{i}", STORED[d], f"{STORED[d]}*") for i, d in enumerate(dtypes)]
    names = [name for name, _, _ in (*given, *kept)]
    at = dict(zip(names, moves, strict=True))
    sizes = [f"n{axis}" for axis in range(axes)]
    strides = [f"{name}_{axis}" for name in names for axis in range(axes)]
    numbers = [f"Int {name}" for name in (*sizes, *strides)]
    parameters = [f"{pointer} {name}" for name, _, pointer in (*given, *kept)] + numbers
    ends = [_End.of(expression, end, i, axes) for i, end in enumerate(expression.ends)]
    sums = "".join(f", {end.kind}& s{i}" for i, end in enumerate(ends))
    passed = "".join(f", s{i}" for i in range(len(ends)))

    rows = []
    for axis in reversed(range(axes - 1)):
        place = "row" if axis == 0 else f"row % Index(n{axis})"
        rows.append(f"const Int i{axis} = Int({place});")
        rows += [f"row /= Index(n{axis});"] if axis else []
    moved = []
    for name in names:
        last = {"r": [], "o": ["first"], "s": [f"first * {name}_{axes - 1}"]}[at[name]]
        parts = [*(f"i{axis} * {name}_{axis}" for axis in range(axes - 1)), *last]
        moved += [f"{name} += {' + '.join(parts)};"] if parts else []

    def element(name: str, packed: bool) -> str:
        return {
            "r": f"*{name}", "s": f"{name}[k * {name}_{axes - 1}]",
            "o": f"p_{name}.values[k]" if packed else f"{name}[k]",
        }[at[name]]  # fmt: skip

    loads = [f"const auto p_{n} = load_pack<N>({n});" for n, _, _ in given if at[n] == "o"]
    makes = [f"Pack<{kind}, N> p_{n};" for n, kind, _ in kept]
    stores = [f"*reinterpret_cast<Pack<{kind}, N>*>({n}) = p_{n};" for n, kind, _ in kept]
    waits = ["wait_for_previous_kernel();"]
    begin = [f"if (gridDim.x <= {FEW_BLOCKS}) trigger_next_kernel();"]
    if not early_reads:
        begin, waits = begin + waits, []
    one = ", ".join(f"{kind} g_{n}" for n, kind, _ in given)
    one += "".join(f", {kind}& {n}" for n, kind, _ in kept) + sums
    body = [f"const {COMPUTED[d]} x{i} = {COMPUTED[d]}(g_x{i});"
            for i, d in enumerate(expression.inputs)]  # fmt: skip
    body += [
        f"const {COMPUTED[step.dtype]} v{n} = {_text(expression, step, exact)};"
        for n, step in enumerate(expression.steps)
    ]
    body += [
        f"y{i} = {STORED[d]}(v{int(step)});"
        for i, (d, step) in enumerate(zip(dtypes, expression.kept, strict=True))
    ]
    body += [end.taken for end in ends]
    packed, single = (", ".join(element(name, p) for name in names) + passed for p in (True, False))
    by_one = f"for (int k = 0; first + k < n{axes - 1}; k++) one({single});"
    call = f"take({{}}, {', '.join((*names, *sizes, *strides))}{passed});"
    whole = bool(expression.ends) and expression.ends[0].all
    most = ROW_BLOCK if ends and not whole else BLOCK
    outs = [f"{end.stored}* z{i}" for i, end in enumerate(ends)]
    signature = ", ".join((*parameters[: len(names)], *outs, *numbers))
    return f"""// {expression}: each array is read once, and each result written once. A thread
// takes N elements of the last axis of n{axes - 1} at a time. {_grid(ends, whole)}
#include <following.cuh>

#include "functions.cuh"
#include "rows.cuh"

constexpr int N = {width};
typedef {"Int" if wide else "unsigned"} Index;

__device__ inline void one({one}) {{
    {_lines(body, 4)}
}}

__device__ inline void take(Index row, {", ".join(parameters)}{sums}) {{
    const Index packs = Index((n{axes - 1} + N - 1) / N);
    const Int first = Int(row % packs) * N;
    row /= packs;
    {_lines([*rows, *moved], 4)}
    if (first + N <= n{axes - 1}) {{
        {_lines([*loads, *makes], 8)}
#pragma unroll
        for (int k = 0; k < N; k++) one({packed});
        {_lines(waits + stores, 8)}
    }} else {{
        {_lines([*waits, by_one], 8)}
    }}
}}

extern "C" __global__ void __launch_bounds__({most}, 1) fused({signature}) {{
    {_lines(begin, 4)}
    const Index packs = Index((n{axes - 1} + N - 1) / N);
    const Index rows = Index({" * ".join(sizes[:-1]) or "1"});
    {_lines(_walked(ends, whole, call), 4)}
}}
"""


class _End(NamedTuple):
    """Source fragments of a reduction: the type of computation, the type of the result, the initial
    value, the step for one more number, and the final value."""

    kind: str
    stored: str
    start: str
    taken: str
    given: str

    @classmethod
    def of(cls, expression: Expression, end: End, i: int, axes: int) -> _End:
        char = expression.steps[end.step].dtype
        kind, stored = COMPUTED[char], STORED[char]
        start, taken, joined = REDUCTIONS[end.op]
        value = f"{joined}(s{i})"
        if end.all:
            stored = kind
        elif end.op == "mean":
            value += f" / {kind}(n{axes - 1})"
        taken = taken.format(f"v{int(end.step)}", f"s{i}")
        return cls(kind, stored, start.format(A=kind), f"s{i} = {taken};", value)


def _grid(ends: Sequence[_End], whole: bool) -> str:
    if not ends:
        return "Grid: a thread for each such pack."
    return "Grid: blocks share out the packs." if whole else "Grid: a block for each row."


def _walked(ends: Sequence[_End], whole: bool, call: str) -> list[str]:
    """The source lines of the kernel's loop over packs."""
    if not ends:
        return [
            "const Index pack = Index(blockIdx.x) * blockDim.x + threadIdx.x;",
            f"if (pack < packs * rows) {call.format('pack')}",
        ]
    start, stop, step = "blockIdx.x * packs + threadIdx.x", "(blockIdx.x + 1) * packs", "blockDim.x"
    if whole:
        start, stop = "Index(blockIdx.x) * blockDim.x + threadIdx.x", "packs * rows"
        step = "Index(gridDim.x) * blockDim.x"
    return [
        *(f"{end.kind} s{i} = {end.start};" for i, end in enumerate(ends)),
        f"for (Index pack = {start}; pack < {stop}; pack += {step})",
        f"    {call.format('pack')}",
        *(f"s{i} = {end.given};" for i, end in enumerate(ends)),
        "if (threadIdx.x > 0) return;",
        *(f"z{i}[blockIdx.x] = {end.stored}(s{i});" for i, end in enumerate(ends)),
    ]


def _dtype(char: str) -> np.dtype:
    return bfloat16.numpy if char == "E" else np.dtype(char)


def _lines(lines: list[str], indent: int) -> str:
    return ("\n" + " " * indent).join(lines)


def _text(expression: Expression, step: ElementwiseCall, exact: bool) -> str:
    def dtype_of(x: Input | Result) -> str:
        return expression.inputs[x] if isinstance(x, Input) else expression.steps[x].dtype

    arrays = [x for x in step.operands if isinstance(x, (Input, Result))]
    # A number has the type of the other operand.
    beside = next((d for x in reversed(arrays) if (d := dtype_of(x)) != "?"), step.dtype)
    kind, own = COMPUTED[step.dtype], COMPUTED[beside]
    texts = [repr(x) if isinstance(x, (Input, Result)) else _number(x, own) for x in step.operands]
    if step.op != "astype":
        text = (ROUNDED if exact else TEXTS).get(step.op, TEXTS[step.op])
        return f"{kind}({text.format(*texts, T=kind, A=own)})"
    if step.dtype == "?":
        return f"{texts[0]} != 0"
    stored = STORED[step.dtype]
    return f"{kind}({stored}({kind}({texts[0]})))"


def _number(x: float, kind: str) -> str:
    if math.isfinite(x):
        return f"{kind}({float(x)!r})"
    infinite = f"infinity<{kind}>()"
    return f"({infinite} - {infinite})" if math.isnan(x) else infinite if x > 0 else f"-{infinite}"
