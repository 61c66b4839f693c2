"""Chains of elementwise calls as one kernel, whose CUDA C is made here from an `Expression`.

    y = silu(a + bias) * 2       x0 (T, C), x1 (C,), y0 (T, C)

is one kernel that reads a and bias once and writes y once; what lies between is in registers. The
source is a function of the expression, of the number of axes that are left when those that lie
together are merged, of how operands move along the last one, and of whether 16 bytes can be loaded
at a time: no sizes or addresses. So equal chains share a kernel, which NVRTC compiles once and the
disk keeps.

16-bit floats are computed in float32 and rounded where they are stored, or cast.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.cuda.launching import KernelLauncher
from gradient.backends.expression import Expression, Fusing, Given, Layout, Made, Step
from gradient.dtypes import bfloat16

BLOCK = 256
MOST_AXES = 4
LOAD = 16
"""Bytes that a thread loads at a time, where arrays are aligned so."""

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
    # NaN wins in both.
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

STORED = {"f": "float", "d": "double", "e": "__half", "E": "__nv_bfloat16", "?": "bool"}
COMPUTED = {"f": "float", "d": "double", "e": "float", "E": "float", "?": "bool"}


class Walk(NamedTuple):
    """How arrays are walked together: the sizes of the axes that are left, and for each array its
    strides along them, in elements."""

    sizes: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]


def walk_of(shape: tuple[int, ...], layouts: Sequence[Layout]) -> Walk | None:
    """How to walk arrays that broadcast to `shape`, the axes merged that lie together; None where
    there are too many."""
    steps = []
    for own, strides, itemsize in layouts:
        if any(stride % itemsize for stride in strides):
            return None
        moved = (0 if n == 1 else s // itemsize for n, s in zip(own, strides, strict=True))
        steps.append((0,) * (len(shape) - len(own)) + tuple(moved))
    axes: list[tuple[int, tuple[int, ...]]] = []
    for axis, n in enumerate(shape):
        along = tuple(each[axis] for each in steps)
        if n == 1:
            continue
        if axes and all(a == b * n for a, b in zip(axes[-1][1], along, strict=True)):
            axes[-1] = (axes[-1][0] * n, along)
        else:
            axes.append((n, along))
    axes = axes or [(1, (1,) * len(layouts))]
    if len(axes) > MOST_AXES:
        return None
    return Walk(tuple(n for n, _ in axes), tuple(zip(*(along for _, along in axes), strict=True)))


def can_walk(shape: tuple[int, ...], layouts: Sequence[Layout]) -> bool:
    return walk_of(shape, layouts) is not None


FUSING = Fusing(frozenset(TEXTS), "fdeE?", can_walk, contiguous=True)


class FusedKernels(KernelLauncher):
    """The call that fused chains of a plan become."""

    fusing = FUSING

    def fused(
        self, *arrays: Array, expression: Expression, exact: bool = False
    ) -> tuple[Array, ...]:
        """The kept results of an expression over arrays that broadcast together."""
        shape = np.broadcast_shapes(*(x.shape for x in arrays))
        kept = [_dtype(expression.steps[made].dtype) for made in expression.kept]
        outs = [self.empty(shape, dtype) for dtype in kept]
        every = [*arrays, *outs]
        walk = walk_of(shape, [(x.shape, x.strides, x.itemsize) for x in every])
        assert walk is not None, "the pass has asked `can_walk`"
        width = self._width(walk, every)
        moves = "".join("ros"[min(abs(s[-1]), 2) if s[-1] >= 0 else 2] for s in walk.strides)
        packs = math.prod(walk.sizes[:-1]) * -(-walk.sizes[-1] // width)
        text = source(expression, len(walk.sizes), moves, width, packs * width >= 1 << 31)
        strides = [s for each in walk.strides for s in each]
        self.runtime.launch_source(
            text, (-(-packs // BLOCK),), BLOCK, *every, *map(np.int64, (*walk.sizes, *strides))
        )
        return tuple(outs)

    def _width(self, walk: Walk, arrays: Sequence[Array]) -> int:
        """How many elements a thread takes: as many as are LOAD bytes of the widest array, if all
        that move along the last axis are aligned so."""
        width = LOAD // max(x.itemsize for x in arrays)
        for x, strides in zip(arrays, walk.strides, strict=True):
            *outer, inner = strides
            aligned = self.runtime.address(x) % (width * x.itemsize) == 0
            if inner == 1 and not (aligned and all(s % width == 0 for s in outer)):
                return 1
        return width


@functools.cache
def source(expression: Expression, axes: int, moves: str, width: int, wide: bool) -> str:
    """The text of the kernel for operands and then results.

    moves   of each array along the last axis: "r" stays where it is, "o" goes one by one, "s" by a
            stride
    wide    whether there are more elements than 32 bits count
    """
    given = [(f"x{i}", STORED[d], f"const {STORED[d]}*") for i, d in enumerate(expression.given)]
    dtypes = [expression.steps[made].dtype for made in expression.kept]
    kept = [(f"y{i}", STORED[d], f"{STORED[d]}*") for i, d in enumerate(dtypes)]
    names = [name for name, _, _ in (*given, *kept)]
    at = dict(zip(names, moves, strict=True))
    sizes = [f"n{axis}" for axis in range(axes)]
    strides = [f"{name}_{axis}" for name in names for axis in range(axes)]
    parameters = [f"{pointer} {name}" for name, _, pointer in (*given, *kept)]
    parameters += [f"Int {name}" for name in (*sizes, *strides)]

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
    one = ", ".join(f"{kind} g_{n}" for n, kind, _ in given)
    one += "".join(f", {kind}& {n}" for n, kind, _ in kept)
    body = [f"const {COMPUTED[d]} x{i} = {COMPUTED[d]}(g_x{i});"
            for i, d in enumerate(expression.given)]  # fmt: skip
    body += [
        f"const {COMPUTED[step.dtype]} v{n} = {_text(expression, step)};"
        for n, step in enumerate(expression.steps)
    ]
    body += [
        f"y{i} = {STORED[d]}(v{int(made)});"
        for i, (d, made) in enumerate(zip(dtypes, expression.kept, strict=True))
    ]
    packed, single = (", ".join(element(name, p) for name in names) for p in (True, False))
    return f"""// {expression}: each array is read once, and each result written once. A thread
// takes N elements of the last axis of n{axes - 1}. Grid: a thread for each such pack.
#include "functions.cuh"
#include "rows.cuh"

constexpr int N = {width};
typedef {"Int" if wide else "unsigned"} Index;

__device__ inline void one({one}) {{
    {_lines(body, 4)}
}}

extern "C" __global__ void fused({", ".join(parameters)}) {{
    const Index packs = Index((n{axes - 1} + N - 1) / N);
    Index row = Index(blockIdx.x) * blockDim.x + threadIdx.x;
    const Int first = Int(row % packs) * N;
    row /= packs;
    if (row >= Index({" * ".join(sizes[:-1]) or "1"})) return;
    {_lines([*rows, *moved], 4)}
    if (first + N <= n{axes - 1}) {{
        {_lines([*loads, *makes], 8)}
#pragma unroll
        for (int k = 0; k < N; k++) one({packed});
        {_lines(stores, 8)}
    }} else {{
        for (int k = 0; first + k < n{axes - 1}; k++) one({single});
    }}
}}
"""


def _dtype(char: str) -> np.dtype:
    return bfloat16.numpy if char == "E" else np.dtype(char)


def _lines(lines: list[str], indent: int) -> str:
    return ("\n" + " " * indent).join(lines)


def _text(expression: Expression, step: Step) -> str:
    def dtype_of(x: Given | Made) -> str:
        return expression.given[x] if isinstance(x, Given) else expression.steps[x].dtype

    arrays = [x for x in step.operands if isinstance(x, (Given, Made))]
    # A number has the type of what stands beside it.
    beside = next((d for x in reversed(arrays) if (d := dtype_of(x)) != "?"), step.dtype)
    kind, own = COMPUTED[step.dtype], COMPUTED[beside]
    texts = [repr(x) if isinstance(x, (Given, Made)) else _number(x, own) for x in step.operands]
    if step.op != "astype":
        return f"{kind}({TEXTS[step.op].format(*texts, T=kind, A=own)})"
    if step.dtype == "?":
        return f"{texts[0]} != 0"
    stored = STORED[step.dtype]
    return f"{kind}({stored}({kind}({texts[0]})))"


def _number(x: float, kind: str) -> str:
    if math.isfinite(x):
        return f"{kind}({float(x)!r})"
    infinite = f"infinity<{kind}>()"
    return f"({infinite} - {infinite})" if math.isnan(x) else infinite if x > 0 else f"-{infinite}"
