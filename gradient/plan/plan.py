"""A plan: buffers, and calls that read and write them. Immutable data.

A *call* is a call of a backend's method (`layer_norm`) or of an operator ("add"). In its arguments
and results, a `Ref`, the number of a *buffer*, replaces each array, and a `HostNumber` each number
that changes from one replay to the next. All else (an axis, a shape, a factor) is kept as it was.
If a composed default made other calls, these are its *pieces*. An executor or a pass chooses the
level: the whole call, if it has a kernel for it, or the pieces. Both give the same results, bit for
bit.

A *pass* is a function from plan to plan. It makes a new plan by `dataclasses.replace`:

    def without_copies(plan: Plan) -> Plan:
        kept = [call for call in plan.calls if call.op != "copy"]
        return replace(plan, calls=tuple(kept))

What a pass may rely on:

- Calls are in the order in which they ran. A buffer is the result of at most one call, which comes
  before all its readers; inputs, externals and constants are the result of none.
- Buffers that share memory have the same `root`: the buffer that owns it. A call with `view` takes
  a view of its first array and computes nothing. A call's `writes` are the *roots* whose memory it
  changes. Later reads of such a root see the new values, so a pass must keep the order of a write
  and other calls on that root.
- A call with neither results nor writes is a check (`check_indices`): it raises where eager
  execution would, and is kept.
- The results of a plan are its `outputs`, and the inputs and externals that its calls write.
- `strides` of a buffer matter: the order of additions in a sum, and whether a reshape copies,
  depend on them.
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
        """The numbers that are read before a replay, without repeats."""
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
