"""Join linear layers of one input, and the calls around them in a decoder, to one call.

A decoder's layer multiplies a normalised row by the weights of queries, keys and values, adds a
product to the residual stream, and gates one product by another:

    y, _ = rms_norm(x, norm, eps)              (a, b, c) = projections(x, (A, B, C), norm, eps)
    a, b, c = linear(y, A), linear(y, B), linear(y, C)
    z = linear(v, O); r = x + z                (r,) = projections(v, (O,), residual=x)
    s = silu(linear(y, G)) * linear(y, U)      (s,) = projections(y, (G, U), gated=True)

The results of the call are the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from gradient.plan.calls import Call, Ref, leaves
from gradient.plan.passes.counts import uses_of
from gradient.plan.plan import Plan

__all__ = ["with_projections"]

PROJECTIONS = "projections"
MOST = 3
"""The most linear layers of one call."""


def with_projections(plan: Plan) -> Plan:
    """Join the linear layers of each input to one call, with the norm before and the gate or the
    sum after them, if nothing else reads the results between."""
    found = _Layers(plan)
    groups: dict[Ref, list[int]] = {}
    for i, call in enumerate(plan.calls):
        if found.is_linear(call):
            groups.setdefault(call.args[0], []).append(i)
    made: dict[int, Call] = {}  # by the number of the call that they replace
    gone: set[int] = set()
    for x, numbers in groups.items():
        for some in found.side_by_side(numbers):
            group = found.group(x, some, whole=len(some) == len(numbers))
            if group is not None and len(group.calls) > 1 and not group.calls & gone:
                gone.update(group.calls)
                made[group.at] = group.call(plan)
    kept = []
    for i, call in enumerate(plan.calls):
        if i in made:
            kept.append(made[i])
        elif i not in gone:
            kept.append(call)
    return plan.with_calls(kept)


@dataclass
class _Group:
    """The joined calls, the place of the new call, and its arguments and options."""

    at: int
    calls: set[int]
    x: Ref
    weights: tuple[Any, ...]
    outs: tuple[Ref, ...]
    norm: tuple[Any, ...] = (None, 0.0, False)
    gated: bool = False
    residual: Ref | None = None

    def call(self, plan: Plan) -> Call:
        args = (self.x, self.weights, *self.norm, self.gated, self.residual)
        first = plan.calls[self.at]
        return Call(PROJECTIONS, args, {}, self.outs, location=first.location)


class _Layers:
    """The linear layers of a plan, and the readers and writers of each buffer."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.uses = uses_of(plan)
        self.maker = {ref: i for i, call in enumerate(plan.calls) for ref in call.outputs}
        self.readers: dict[Ref, list[int]] = {}
        for i, call in enumerate(plan.calls):
            for ref in call.inputs:
                self.readers.setdefault(ref, []).append(i)
        self.writes = [(i, root) for i, call in enumerate(plan.calls) for root in call.writes]
        self.changes = {root for _, root in self.writes}
        self.changes.update(ref for ref in self.maker if plan.root(ref) == ref)
        """The roots that calls make or write."""

    def is_linear(self, call: Call) -> bool:
        """Whether a call is a linear layer without a bias."""
        return (
            call.op == "linear"
            and not call.options
            and type(call.args[0]) is Ref
            and call.args[2:] in ((), (None,))
            and type(call.out) is Ref
        )

    def side_by_side(self, numbers: list[int]) -> list[list[int]]:
        """Split the layers of an input into groups of at most three. A group runs in the place of
        its first layer; a layer whose weight is made after that starts a new group."""
        groups: list[list[int]] = []
        for i in numbers:
            weight = leaves(self.plan.calls[i].args[1], Ref)
            made = max((self.maker.get(ref, -1) for ref in weight), default=-1)
            if groups and len(groups[-1]) < MOST and made < groups[-1][0]:
                groups[-1].append(i)
            else:
                groups.append([i])
        return groups

    def group(self, x: Ref, numbers: list[int], whole: bool) -> _Group | None:
        """The group of these layers of x and the calls around them; None if a call between them
        writes what they read."""
        calls = [self.plan.calls[i] for i in numbers]
        group = _Group(
            numbers[0], set(numbers), x,
            tuple(call.args[1] for call in calls), tuple(call.out for call in calls),
        )  # fmt: skip
        for more in (self._gated(group), self._added(group)):
            if more is not None and not self._has_hazard(more):
                group = more
                break
        if self._has_hazard(group):
            return None
        with_norm = self._normed(group) if whole else None
        return group if with_norm is None or self._has_hazard(with_norm) else with_norm

    def _has_hazard(self, group: _Group) -> bool:
        """Whether an operand of the new call is written among the joined calls, or a weight
        anywhere in the plan."""
        if any(
            self.plan.root(ref) in self.changes for ref in leaves((group.weights, group.norm), Ref)
        ):
            return True  # kernels may read weights early
        given = leaves((group.x, group.weights, group.norm, group.residual), Ref)
        read = {self.plan.root(ref) for ref in given}
        first, last = min(group.calls), max(group.calls)
        return any(first <= i <= last and root in read for i, root in self.writes)

    def _only_reader(self, ref: Ref) -> int | None:
        """The number of the only call that reads a buffer; None if there are several or none."""
        if self.uses[ref] != 1 or len(self.readers.get(ref, ())) != 1:
            return None
        return self.readers[ref][0]

    def _alike(self, *refs: Ref) -> bool:
        buffers = [self.plan.buffers[ref] for ref in refs]
        return len({(b.shape, b.strides, b.dtype) for b in buffers}) == 1

    def _gated(self, group: _Group) -> _Group | None:
        if len(group.outs) != 2:
            return None
        for gate, up, at in ((0, 1, 0), (1, 0, 1)):
            first = self._only_reader(group.outs[gate])
            if first is None or (silu := self.plan.calls[first]).op != "silu":
                continue
            second = self._only_reader(silu.out)
            if second is None or second != self._only_reader(group.outs[up]):
                continue
            product = self.plan.calls[second]
            given = {silu.out, group.outs[up]}
            if product.op != "mul" or set(product.args) != given or silu.args[1:] or silu.options:
                continue
            if not self._alike(*given, product.out):
                continue
            weights = group.weights if at == 0 else group.weights[::-1]
            return replace(
                group, calls={*group.calls, first, second}, weights=weights, outs=(product.out,),
                gated=True,
            )  # fmt: skip
        return None

    def _added(self, group: _Group) -> _Group | None:
        if len(group.outs) != 1:
            return None
        [product] = group.outs
        at = self._only_reader(product)
        if at is None or (call := self.plan.calls[at]).op != "add" or len(call.args) != 2:
            return None
        others = [ref for ref in call.args if ref != product]
        if len(others) != 1 or type(others[0]) is not Ref:
            return None
        if not self._alike(others[0], product, call.out):
            return None
        # In the place of the sum, as the other term may be made after the product.
        return replace(group, at=at, calls={*group.calls, at}, outs=(call.out,), residual=others[0])

    def _normed(self, group: _Group) -> _Group | None:
        at = self.maker.get(group.x)
        if at is None or (call := self.plan.calls[at]).op != "rms_norm" or call.options:
            return None
        if type(call.out) is not tuple or call.out[0] != group.x or self.uses[call.out[1]]:
            return None
        readers: Iterable[int] = self.readers.get(group.x, ())
        if not set(readers) <= group.calls or self.uses[group.x] != len(list(readers)):
            return None
        x, weight, *how = call.args
        if type(x) is not Ref or type(weight) is not Ref or call.numbers:
            return None
        eps, round_first = (*how, False)[:2]
        return replace(group, calls={*group.calls, at}, x=x, norm=(weight, eps, round_first))
