"""Compare two recordings of one function: are they the same plan?

If two runs differ, the program made a number or an array on the host that changes. A plan would
repeat the value of one run for ever, so it is refused; the error has the name and line.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gradient.backends.packed import PackedArray
from gradient.plan.calls import Buffer, Call, HostNumber, Ref
from gradient.plan.plan import Plan
from gradient.plan.recording import Recording

SMALL = 1 << 12
"""Elements up to which arrays that are made anew in each run, of equal values, are constants."""


def difference(first: Recording, second: Recording) -> str | None:
    """How the plan of a second run differs; None if it does not."""
    a, b = first.plan, second.plan
    for x, y in zip(a.calls, b.calls, strict=False):
        found = _call(x, y)
        if found is not None:
            return f"{found} from call to call, at {y.line}"
    if len(a.calls) != len(b.calls):
        longer = max(a.calls, b.calls, key=len)
        extra = longer[min(len(a.calls), len(b.calls))]
        return f"the number of calls differs from call to call, at {extra.line}"
    owners = first.readers.owners, second.readers.owners
    if any(x is not y for x, y in zip(*owners, strict=True)):
        return "the generator or optimiser that is used differs from call to call"
    written = set(b.written)
    for number, (before, after) in enumerate(zip(a.buffers, b.buffers, strict=True)):
        ref = Ref(number)
        if not _alike(before, after) or not (
            before.array is after.array
            or _same_tensor(first, second, ref)
            or (after.root not in written and _equal_values(before.array, after.array))
        ):
            users = [call for call in b.calls if ref in call.inputs]
            where = f", at {users[0].line}" if users else ""
            what = f"an array of shape {after.shape}"
            return f"{what} that the host makes differs from call to call{where}"
    return None


def with_constants(first: Recording, second: Recording) -> Plan:
    """The second plan, with constants in place of arrays that both runs made on the host with equal
    values."""
    buffers = [
        replace(after, kind="constant")
        if after.kind == "external"
        and before.array is not after.array
        and not _same_tensor(first, second, Ref(number))
        else after
        for number, (before, after) in enumerate(
            zip(first.plan.buffers, second.plan.buffers, strict=True)
        )
    ]
    return replace(second.plan, buffers=tuple(buffers))


def _same_tensor(a: Recording, b: Recording, ref: Ref) -> bool:
    """Whether the array belonged to the same tensor, or to the gradient of the same tensor, in
    both runs."""
    before, after = a.gradients.get(ref), b.gradients.get(ref)
    if before is not None or after is not None:
        return before is after
    mine = {id(t) for t in a.tensors.get(ref, ())}
    return any(id(t) in mine for t in b.tensors.get(ref, ()))


def _call(a: Call, b: Call) -> str | None:
    if a.op != b.op:
        return f"what is computed changes ({a.op}, then {b.op})"
    for part in ("args", "options", "out", "writes", "view"):
        found = _values(getattr(a, part), getattr(b, part))
        if found is not None:
            return f"{a.op}: {found}"
    if len(a.pieces) != len(b.pieces):
        return f"{a.op}: what it is composed of changes"
    for x, y in zip(a.pieces, b.pieces, strict=True):
        found = _call(x, y)
        if found is not None:
            return found
    return None


def _values(a: Any, b: Any) -> str | None:
    if a is b:
        return None
    if type(a) is not type(b):
        return f"{a!r} becomes {b!r}"
    if isinstance(a, (tuple, list)):
        if len(a) != len(b):
            return f"{a!r} becomes {b!r}"
        return next(filter(None, map(_values, a, b)), None)
    if isinstance(a, dict):
        if list(a) != list(b):
            return f"{a!r} becomes {b!r}"
        return next(filter(None, map(_values, a.values(), b.values())), None)
    if isinstance(a, PackedArray):
        return "the packed weight changes"
    if isinstance(a, HostNumber):
        return None if a.name == b.name else f"{a!r} becomes {b!r}"
    if isinstance(a, slice):
        return _values((a.start, a.stop, a.step), (b.start, b.stop, b.step))
    same = repr(a) == repr(b) if isinstance(a, (float, complex)) else a == b
    return None if same else f"the number {a!r} becomes {b!r}"


def _alike(a: Buffer, b: Buffer) -> bool:
    return (a.shape, a.dtype, a.strides, a.kind, a.root) == (
        *(b.shape, b.dtype, b.strides, b.kind, b.root),
    )


def _equal_values(a: Any, b: Any) -> bool:
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        return a is b
    return a.size <= SMALL and a.tobytes() == b.tobytes()
