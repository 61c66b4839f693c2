"""Fuse chains of elementwise calls to one call: each array is read once, and intermediate results
are not written to memory."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from gradient.backends.expression import ElementwiseCall, End, Expression, Fusing, Input, Result
from gradient.backends.numpy.fused import FUSING
from gradient.plan.calls import BOUNDARY, Buffer, Call, Ref
from gradient.plan.executors.fused import FUSED
from gradient.plan.passes.counts import uses_of
from gradient.plan.plan import Plan

__all__ = ["with_fused_chains"]

MOST_CALLS = 48
MOST_ARRAYS = 16
"""The maximum calls and input arrays of a chain: more arrays evict each other from the cache, which
has few ways, and more values do not fit in registers."""
MOST_READ_AND_WRITTEN = 28
"""The maximum inputs and results of a fused call: the room in the block of a kernel's arguments."""
LEAST_ROW = 32
"""The minimum length of rows that are reduced: a kernel has as many threads for each."""

COMPUTED = {"e": "f", "E": "f"}
"""{character of a dtype of 16-bit floats: that of the dtype in which they are computed}."""
INTEGERS = "l"
"""Characters of the integer dtypes that a chain may cast to float32 or float64."""
COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne", "isnan", "isfinite")
LOGICAL = ("and", "or", "invert")
LAST_ARGUMENT = {"pow": (1, 2), "gelu": (1, "none"), "gelu_grad": (2, "none")}
"""{op: (number of operands, the argument after them with which a call can be a step)}."""


def is_fusible(call: Call, fusing: Fusing = FUSING) -> bool:
    """Whether a whole call, not its pieces, may be a step or the end of a chain."""
    return call.op in (fusing.calls | fusing.reductions) and not call.numbers


def with_fused_chains(
    plan: Plan, least: int = 2, exact: bool = False, fusing: Fusing = FUSING
) -> Plan:
    """Replace `least` or more calls of one shape by a fused call in the place of the last; or a
    single call, if it would otherwise run by its pieces.

    Results differ only by rounding: a product and a sum may be rounded once, and exponentials are
    computed by the kernels. With `exact`, results do not differ: chains contain only calls that
    allow this (`fusing.exact`). A chain ends where another call reads one of its results, or writes
    what it reads. `fusing` describes what the backend can fuse.
    """
    return _Fusion(plan, least, exact, fusing).run()


@dataclass
class _Chain:
    """Calls of one shape that become one fused call."""

    shape: tuple[int, ...]
    calls: list[Call] = field(default_factory=list)
    made: set[Ref] = field(default_factory=set)
    reads: dict[Ref, None] = field(default_factory=dict)  # of other calls' results, in order
    ends: dict[Ref, tuple[Ref, str, bool, bool]] = field(default_factory=dict)
    """{result of a reduction: (operand, op, whether over all axes, keepdims)}."""


class _Fusion:
    def __init__(self, plan: Plan, least: int, exact: bool, fusing: Fusing):
        self.plan, self.least, self.exact, self.fusing = plan, least, exact, fusing
        self.steps = fusing.exact if exact else {*fusing.calls, "pow", "astype"}
        self.uses = uses_of(plan)
        self.written = {root for call in plan.calls for root in call.writes}
        self.open: dict[tuple[int, ...], _Chain] = {}
        self.at = {id(call): i for i, call in enumerate(plan.calls)}
        self.calls: list[tuple[int, Call]] = []
        """The new plan's calls, and their places: those of the calls that they replace."""

    def run(self) -> Plan:
        for call in self.plan.calls:
            step = self.fits(call)
            end = None if step else self.reduction(call)
            of = call.args[0] if end else call.outputs[0] if step else None
            chain = None if of is None else self.open.get(self.plan.buffers[of].shape)
            self.settle(call, chain)
            if end and chain is not None and self.open.get(chain.shape) is chain:
                chain.calls.append(call)
                chain.ends[call.outputs[0]] = end
                continue
            if call.op == BOUNDARY:
                self.close_all()
            if not step:
                self.keep(call)
                continue
            chain = self.chain_for(call)
            chain.calls.append(call)
            chain.reads.update(dict.fromkeys(r for r in call.inputs if r not in chain.made))
            chain.made.update(call.outputs)
        self.close_all()
        return self.plan.with_calls([call for _, call in sorted(self.calls, key=lambda x: x[0])])

    def keep(self, *calls: Call) -> None:
        self.calls += [(self.at[id(call)], call) for call in calls]

    def close_all(self) -> None:
        for chain in list(self.open.values()):
            self.close(chain)

    def settle(self, call: Call, own: _Chain | None) -> None:
        """Close the chains that must run before this call."""
        reads = {self.plan.root(ref) for ref in call.inputs}
        # A view of a result must be read from memory.
        names = set(call.inputs)
        for chain in list(self.open.values()):
            made_here = reads & chain.made
            if chain is own:
                made_here = made_here - names
            of_chain = {self.plan.root(ref) for ref in (*chain.reads, *chain.made)}
            if made_here or reads & chain.ends.keys() or of_chain & set(call.writes):
                self.close(chain)

    def chain_for(self, call: Call) -> _Chain:
        shape = self.plan.buffers[call.outputs[0]].shape
        chain = self.open.get(shape)
        if chain is not None:
            arrays = {*chain.reads, *chain.made, *call.inputs, *call.outputs}
            many = len({*chain.reads, *call.inputs} - chain.made) > MOST_ARRAYS
            if many or len(chain.calls) >= MOST_CALLS or not self.walks(shape, arrays):
                self.close(chain)
                chain = None
        if chain is None:
            chain = self.open[shape] = _Chain(shape)
        return chain

    def walks(self, shape: tuple[int, ...], refs: set[Ref]) -> bool:
        buffers = [self.plan.buffers[ref] for ref in refs]
        layouts = [(b.shape, b.strides, b.dtype.itemsize) for b in buffers]
        return self.fusing.walks(shape, layouts)

    def close(self, chain: _Chain) -> None:
        """Emit a chain: as one fused call if that pays, else as its calls."""
        del self.open[chain.shape]
        if len(chain.calls) < self.least and not any(call.pieces for call in chain.calls):
            self.keep(*chain.calls)
            return
        self.fuse(chain, max(self.at[id(call)] for call in chain.calls))

    def fuse(self, chain: _Chain, at: int) -> None:
        """Emit a chain as a fused call in this place, or as two where it has too many arrays."""
        inside = Counter(ref for call in chain.calls for ref in call.inputs)
        kept = [
            call.outputs[0]
            for call in chain.calls
            if self.uses[call.outputs[0]] > inside[call.outputs[0]]
        ]
        if not kept:  # no result is used
            return
        kept.sort(key=chain.ends.__contains__)  # results of reductions come last
        expression, inputs = self.expression(chain, kept)
        if len(inputs) + len(kept) > MOST_READ_AND_WRITTEN:
            # Both in the same place: reductions of the first may follow calls of the second.
            for part in self.halves(chain):
                self.fuse(part, at)
            return
        fused = Call(
            FUSED,
            tuple(inputs),
            {"expression": expression, "exact": self.exact},
            tuple(kept),
            location=chain.calls[0].location,
            pieces=tuple(chain.calls),
        )
        self.calls.append((at, fused))

    def halves(self, chain: _Chain) -> tuple[_Chain, _Chain]:
        """Two chains, one after the other; a reduction is in that of what it reduces."""
        first, second = parts = _Chain(chain.shape), _Chain(chain.shape)
        steps = [call for call in chain.calls if call.outputs[0] not in chain.ends]
        for i, call in enumerate(steps):
            part = parts[2 * i >= len(steps)]
            part.calls.append(call)
            part.reads.update(dict.fromkeys(r for r in call.inputs if r not in part.made))
            part.made.update(call.outputs)
        for call in chain.calls:
            if (end := chain.ends.get(call.outputs[0])) is not None:
                part = first if end[0] in first.made else second
                part.calls.append(call)
                part.ends[call.outputs[0]] = end
        return parts

    # Calls as steps ------------------------------------------------------------------------------

    def fits(self, call: Call) -> bool:
        """Whether a call can be a step of an expression."""
        plan = self.plan
        if call.op not in self.steps:
            return False
        if (
            call.view
            or call.writes
            or call.numbers
            or call.options
            or not isinstance(call.out, Ref)
        ):
            return False
        out = plan.buffers[call.out]
        if plan.root(call.out) != call.out or not out.shape or 0 in out.shape:
            return False
        dtypes = [plan.buffers[ref].dtype.char for ref in call.inputs]
        floats = {COMPUTED.get(d, d) for d in dtypes if d != "?"}
        if not dtypes or not set((*dtypes, out.dtype.char)) <= set(self.fusing.dtypes):
            return False
        if self.fusing.contiguous and not _is_contiguous(out):
            return False
        if not self.walks(out.shape, {*call.inputs, call.out}):
            return False
        if call.op == "astype":
            return self.casts(dtypes[0], out.dtype.char)
        if self.exact and COMPUTED.keys() & {*dtypes, out.dtype.char}:
            return False  # results of 16 bits would be rounded where they are stored only
        if set(INTEGERS) & {*dtypes, out.dtype.char}:
            return False
        operands, *last = LAST_ARGUMENT.get(call.op, (len(call.args),))
        if call.args[operands:] != tuple(last):
            return False
        if not all(type(x) in (Ref, int, float) for x in _operands(call)):
            return False
        if call.op in COMPARISONS:
            return len(floats) == 1 and "?" not in dtypes
        if call.op in LOGICAL:
            return not floats
        own = dtypes[1:] if call.op == "where" else dtypes
        if call.op == "where" and (dtypes[0] != "?" or not isinstance(call.args[0], Ref)):
            return False
        char = out.dtype.char
        return char != "?" and {COMPUTED.get(d, d) for d in own} <= {COMPUTED.get(char, char)}

    def casts(self, given: str, made: str) -> bool:
        """Whether a kernel casts between these dtypes."""
        if given in INTEGERS or made in INTEGERS:
            return made in "fd" and given != made
        return not (self.exact and given == "d" and made in COMPUTED)  # it rounds by float32

    def reduction(self, call: Call) -> tuple[Ref, str, bool, bool] | None:
        """The operand of a reduction that may end the chain of this operand, and how it reduces."""
        if self.exact or call.op not in self.fusing.reductions or call.numbers:
            return None
        given = dict(zip(("x", "axis", "keepdims"), call.args, strict=False)) | call.options
        x, axis, out = given["x"], given.get("axis"), call.out
        if not isinstance(out, Ref) or call.args[:1] != (x,) or not isinstance(x, Ref):
            return None
        buffer, made = self.plan.buffers[x], self.plan.buffers[out]
        chain, count = self.open.get(buffer.shape), len(buffer.shape)
        if chain is None or x not in chain.made or buffer.dtype != made.dtype:
            return None
        axes = range(count) if axis is None else (axis,) if isinstance(axis, int) else axis
        over = {each % count for each in axes}
        whole = over == set(range(count))
        if not (whole or over == {count - 1}) or buffer.dtype.char == "?":
            return None
        if not whole and buffer.shape[-1] < LEAST_ROW:
            return None
        if any(each[2] != whole for each in chain.ends.values()):
            return None
        return x, call.op, whole, bool(given.get("keepdims", False))

    def expression(self, chain: _Chain, kept: list[Ref]) -> tuple[Expression, list[Ref]]:
        """The chain's expression, and the buffers that it reads."""
        results: dict[Ref, Result] = {}
        inputs: dict[Ref, Input] = {}

        def operand(x: Any) -> Any:
            if not isinstance(x, Ref):
                return x
            if x in results:
                return results[x]
            number = self.number(x)
            if number is not None:
                return number
            return inputs.setdefault(x, Input(len(inputs)))

        steps = []
        for call in chain.calls:
            if call.outputs[0] in chain.ends:
                continue
            op = "square" if call.op == "pow" else call.op
            operands = tuple(map(operand, _operands(call)))
            steps.append(ElementwiseCall(op, operands, self.char(call.outputs[0])))
            results[call.outputs[0]] = Result(len(results))
        dtypes = tuple(self.char(ref) for ref in inputs)
        written = tuple(results[ref] for ref in kept if ref in results)
        reduced = [chain.ends[ref] for ref in kept if ref in chain.ends]
        ends = tuple(End(op, results[of], *how) for of, op, *how in reduced)
        return Expression(tuple(steps), dtypes, written, ends), list(inputs)

    def char(self, ref: Ref) -> str:
        return str(self.plan.buffers[ref].dtype.char)

    def number(self, ref: Ref) -> float | None:
        """The number of a constant of one element, which becomes part of the expression."""
        buffer = self.plan.buffers[ref]
        if buffer.kind != "constant" or math.prod(buffer.shape) != 1 or buffer.dtype.char == "?":
            return None
        return None if self.plan.root(ref) in self.written else float(buffer.array.reshape(())[()])


def _is_contiguous(buffer: Buffer) -> bool:
    """Whether the buffer is in row-major order, without gaps."""
    step = buffer.dtype.itemsize
    for n, stride in zip(buffer.shape[::-1], buffer.strides[::-1], strict=True):
        if n != 1 and stride != step:
            return False
        step *= n
    return True


def _operands(call: Call) -> tuple[Any, ...]:
    """The arguments of a step that are its operands."""
    count = 1 if call.op == "astype" else LAST_ARGUMENT.get(call.op, (len(call.args),))[0]
    return call.args[:count]
