"""A plan: buffers, and calls that read and write them. Immutable data.

A *call* is what the program asked of the backend: a method (`layer_norm`) or an operator ("add").
Where an argument or a result was an array there stands a `Ref`, the number of a *buffer*; where it
was a number that changes from one replay to the next there stands a `HostNumber`; all else (an
axis, a shape, a factor) is what it was. A call that was composed has its *pieces* beneath it, calls
of the same kind, so that an executor or a pass chooses the level: the whole, where it has a kernel
for it, or the pieces. Either gives the same results, bit for bit.

A *pass* is a function from plan to plan, which makes a new one by `dataclasses.replace`:

    def without_copies(plan: Plan) -> Plan:
        kept = [call for call in plan.calls if call.op != "copy"]
        return replace(plan, calls=tuple(kept))

What a pass may rely on:

- Calls are in the order in which they ran. A buffer is the result of one call at most, which comes
  before all that read it; inputs, externals and constants are the result of none.
- Buffers that share memory have the same `root`: the buffer that owns it. A call with `view` takes
  a view of its first array and computes nothing. A call's `writes` are the *roots* whose memory it
  changes; every call after it that reads a buffer of such a root sees the new values, so the order
  of a write and of other calls on that root must be kept.
- A call with neither results nor writes is a check (`check_indices`): it raises where eager
  execution would, and is kept.
- What is seen after the plan: `outputs`, and the memory of inputs and externals that calls write.
- `strides` of a buffer matter: the order in which a sum adds, and whether a reshape copies, hang
  on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from gradient.plan.calls import Buffer, Call, HostNumber, Ref, expand
from gradient.plan.listing import listing

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """Calls in order, their buffers, and which of these are inputs and outputs."""

    buffers: tuple[Buffer, ...]
    calls: tuple[Call, ...]
    inputs: tuple[Ref, ...] = ()
    outputs: tuple[Ref, ...] = ()

    def root(self, ref: Ref) -> Ref:
        return self.buffers[ref].root

    @property
    def numbers(self) -> tuple[HostNumber, ...]:
        """Every number that is read before a replay, once each."""
        return tuple(dict.fromkeys(n for call in self.calls for n in call.numbers))

    @property
    def written(self) -> tuple[Ref, ...]:
        """The roots of inputs and externals that the plan changes."""
        found = dict.fromkeys(root for call in self.calls for root in call.writes)
        return tuple(root for root in found if self.buffers[root].kind in ("input", "external"))

    def with_calls(self, calls: list[Call]) -> Plan:
        return replace(self, calls=tuple(calls))

    def expanded(self, keep: Callable[[Call], bool] = lambda call: False) -> Plan:
        """The plan with composed calls replaced by their pieces, except those that `keep` keeps."""
        return self.with_calls([piece for call in self.calls for piece in expand(call, keep)])

    def __str__(self) -> str:
        return listing(self.calls, self.buffers, self.outputs)
