"""Results computed directly in the buffer to which the next call assigns them: `x.mul_(y)` is a
product and an assignment in a plan, but one pass over memory on a device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from gradient.plan.calls import BOUNDARY, WHOLE, Buffer, Call, Ref


def assigned_in_place(
    calls: Sequence[Call],
    buffers: Sequence[Buffer],
    outputs: Sequence[Ref],
    elementwise: Callable[[Call], bool],
) -> tuple[dict[Ref, Ref], frozenset[int]]:
    """Map each result that can be computed in another buffer to that buffer; also return the
    numbers of the assignments that become unnecessary.

    `elementwise` says whether a call may write over its operands. A result qualifies if only the
    assignment reads it, and no call between the two uses the target of the assignment.
    """
    uses = Counter(buffers[ref].root for call in calls for ref in call.inputs)
    uses.update(buffers[ref].root for ref in outputs)
    makers: dict[Ref, int] = {}
    touched: dict[Ref, int] = {}  # by root: the last call that reads or writes it
    places: dict[Ref, Ref] = {}
    done = set()
    for i, call in enumerate(calls):
        if call.op == BOUNDARY:
            makers = {}
        elif call.op == "assign" and _whole(call):
            x, _, value = call.args
            maker = makers.get(value, i)
            alike = (buffers[x].shape, buffers[x].dtype) == (
                *(buffers[value].shape, buffers[value].dtype),
            )
            apart = 0 not in buffers[x].strides and uses[value] == 1
            if maker < i and alike and apart and touched.get(buffers[x].root, -1) <= maker:
                places[value] = x
                done.add(i)
        elif isinstance(call.out, Ref) and buffers[call.out].root == call.out and elementwise(call):
            makers[call.out] = i
        for ref in (*call.inputs, *call.outputs, *call.writes):
            touched[buffers[ref].root] = i
    return places, frozenset(done)


def _whole(call: Call) -> bool:
    _, index, value = call.args
    kinds = (tuple, type(Ellipsis))
    return isinstance(value, Ref) and isinstance(index, kinds) and index in WHOLE
