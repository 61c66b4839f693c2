"""`utils.flop_counter`: counts the floating-point operations of products, convolutions and
attention, forward and backward.

The formulas are PyTorch's (torch/utils/flop_counter.py): a multiplication and an addition are two
operations, and nothing else is counted.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from gradient.autograd.op import Op
from gradient.autograd.variable import Variable
from gradient.compat.operators import aten
from gradient.errors import ArgumentError, sentence
from gradient.profiler.profile import WATCHED

__all__ = ["FlopCounterMode"]

Shape = tuple[int, ...]
Counted = tuple[str, int, str, list[int]]
"""PyTorch's name of an op and its operations, those of its backward pass and of each input's
gradient."""


def _matmul(a: Shape, b: Shape, out: Shape) -> Counted:
    flops, name = 2 * math.prod(out) * a[-1], "mm" if len(out) == 2 else "bmm"
    return name, flops, name, [flops, flops]


def _linear(x: Shape, weight: Shape, *rest: Shape) -> Counted:
    flops = 2 * math.prod(x) * weight[0]
    return "mm" if len(rest) == 1 else "addmm", flops, "mm", [flops, flops]


def _convolution(x: Shape, weight: Shape, *rest: Shape) -> Counted:
    flops = 2 * x[0] * math.prod(weight) * math.prod(rest[-1][2:])
    groups = x[1] // weight[1]  # PyTorch counts a weight's gradient as that of full channels
    return "convolution", flops, "convolution_backward", [flops, flops * groups]


def _transposed(x: Shape, weight: Shape, out: Shape) -> Counted:
    flops = 2 * x[0] * math.prod(weight) * math.prod(x[2:])
    groups = out[1] // weight[1]
    return "convolution", flops, "convolution_backward", [flops, flops * groups]


def _attention(q: Shape, k: Shape, v: Shape, out: Shape) -> Counted:
    scores, values = (2 * math.prod(shape) * k[-2] for shape in (q, out))
    name = "_scaled_dot_product_flash_attention"  # its backward pass computes the scores again
    return name, scores + values, name + "_backward", [2 * scores + values, scores, values]


FORMULAS: dict[str, Callable[..., Counted]] = {
    "matmul": _matmul, "linear": _linear, "convolution": _convolution,
    "transposed_convolution": _transposed, "attention": _attention,
}  # fmt: skip
"""For each op, a function of its inputs' shapes and the result's."""


class FlopCounterMode:
    """`with FlopCounterMode() as counter:` counts the operations of this thread; then see
    `counter.get_total_flops()`.

    Counted are matrix products, linear layers, convolutions and attention, and their gradients,
    also where PyTorch's CPU has a kernel that it does not count (attention, recurrent layers,
    products with vectors). Not counted are quantised weights and what `gradient.compile` replays.
    Modules are not told apart.

    Args:
        mods, depth: accepted as in PyTorch, without effect.
        display: print a table at the end of the block.
        custom_mapping: must be empty: there are no other operators to count.
    """

    def __init__(
        self,
        mods: Any = None,
        depth: int = 2,
        display: bool = True,
        custom_mapping: dict[Any, Any] | None = None,
    ) -> None:
        if custom_mapping:
            got = f"{len(custom_mapping)} formulas"
            raise ArgumentError(sentence("FlopCounterMode", "no custom_mapping", got))
        self.display = display
        self.counts: Counter[str] = Counter()
        self.nodes: weakref.WeakKeyDictionary[Any, tuple[str, list[int]]]
        self.open: list[FrameType] = []

    def __enter__(self) -> Self:
        self.counts, self.open = Counter(), []
        self.nodes = weakref.WeakKeyDictionary()
        self.before: Any = sys.getprofile()
        sys.setprofile(self.noted)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.setprofile(self.before)
        if self.display and exception[0] is None:
            print(self.get_table())

    def noted(self, frame: FrameType, happened: str, argument: Any) -> None:
        """Python calls this at each call and return."""
        if callable(self.before):
            self.before(frame, happened, argument)
        if (kind := WATCHED.get(frame.f_code)) is None or happened not in ("call", "return"):
            return
        is_rule = frame.f_code in (Op.vjp.__code__, Op.vjp_tensors.__code__)
        if kind == "backward" and not is_rule:
            return  # a Function of a program's, whose backward is counted by its ops
        if happened == "call":
            self.open.append(frame)
            return
        if self.open and self.open[-1] is frame:
            self.open.pop()
        if not self.open and argument is not None:  # no part of another; it raised no error
            (self.differentiated if is_rule else self.computed)(frame.f_locals, frame, argument)

    def computed(self, found: dict[str, Any], frame: FrameType, result: Any) -> None:
        """Count an op that has returned."""
        formula = FORMULAS.get(found["made"].name)
        if formula is None:
            return
        code = frame.f_code
        given = [found.get(name) for name in code.co_varnames[: code.co_argcount]]
        if code.co_flags & 4:  # *args
            given += found.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount], ())
        shapes = [tuple(x.array.shape) for x in (*given, result) if isinstance(x, Variable)]
        name, flops, backward, gradients = formula(*shapes)
        self.counts[name] += flops
        if result.node is not None:
            self.nodes[result.node] = backward, gradients

    def differentiated(self, found: dict[str, Any], frame: FrameType, result: Any) -> None:
        """Count the gradients of an op's inputs."""
        name, gradients = self.nodes.get(found["node"], ("", []))
        for flops, parent in zip(gradients, found["parents"], strict=False):
            if parent is not None:
                self.counts[name] += flops

    def get_flop_counts(self) -> dict[str, dict[Any, int]]:
        """{"Global": {operator: operations}} of the block, with operators such as `ops.aten.mm`; {}
        before a first one."""
        counts = {getattr(aten, name): flops for name, flops in self.counts.items()}
        return {"Global": counts} if counts else {}

    def get_total_flops(self) -> int:
        """The number of operations of the block; 0 before a first one."""
        return self.counts.total()

    def get_table(self, depth: int | None = None) -> str:
        """The counts as text, the largest first."""
        rows = [(name, f"{flops:,}") for name, flops in self.counts.most_common()]
        rows = [("Operation", "FLOP"), *rows, ("Total", f"{self.get_total_flops():,}")]
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        return "\n".join(f"{name:<{widths[0]}}  {flops:>{widths[1]}}" for name, flops in rows)
