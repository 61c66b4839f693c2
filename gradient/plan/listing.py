"""A plan as text: a line for each call, with shapes, bytes, and the user's source line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradient.backends.expression import Expression
from gradient.plan.calls import Buffer, Call, HostNumber, Ref, leaves

Buffers = Sequence[Buffer]


def listing(
    calls: Sequence[Call],
    buffers: Buffers,
    outputs: Sequence[Ref] = (),
    pieces: bool = False,
    kernels: Mapping[int, str] | None = None,
) -> str:
    """All calls of a plan, a line each. With `pieces`, also the calls that they were composed of,
    indented; `kernels` gives the kernel of a call, by its number."""
    lines = [summary(calls, buffers)]
    for i, call in enumerate(calls):
        lines += _lines(buffers, call, 0, pieces, (kernels or {}).get(i))
    if outputs:
        lines.append("return " + ", ".join(map(repr, outputs)))
    return "\n".join(lines)


def summary(calls: Sequence[Call], buffers: Buffers) -> str:
    """The number of calls, and the size of the buffers of each kind."""
    sizes: dict[str, int] = {}
    used = {buffers[ref].root for call in calls for ref in (*call.inputs, *call.outputs)}
    for root in used:
        buffer = buffers[root]
        sizes[buffer.kind] = sizes.get(buffer.kind, 0) + buffer.nbytes
    parts = [f"{kind} {nbytes(size)}" for kind, size in sorted(sizes.items())]
    return f"plan: {len(calls)} calls; {', '.join(parts) or 'no buffers'}"


def _lines(
    buffers: Buffers, call: Call, depth: int, pieces: bool, kernel: str | None = None
) -> list[str]:
    left = "  " * depth + (f"{_shown(call.out)} = " if call.outputs else "")
    given = [_shown(arg) for arg in call.args]
    given += [f"{name}={_shown(value)}" for name, value in call.options.items()]
    text = f"{left}{call.op}({', '.join(given)})"
    facts = [_layout(buffers[ref]) for ref in call.outputs]
    if call.view:
        facts.append("view")
    elif call.outputs:
        facts.append(nbytes(sum(buffers[ref].nbytes for ref in call.outputs)))
    if call.writes:
        facts.append("writes " + ", ".join(map(repr, call.writes)))
    if call.pieces:
        facts.append(f"{len(call.pieces)} pieces")
    if kernel is not None:
        facts.append(f"by {kernel}")
    where = _short(call.line)
    lines = [f"{text:<60} # {'  '.join([*facts, where])}".rstrip()]
    for piece in call.pieces if pieces else ():
        lines += _lines(buffers, piece, depth + 1, pieces)
    return lines


def _layout(buffer: Buffer) -> str:
    return f"{buffer.dtype.name}{list(buffer.shape)}"


def _shown(value: Any) -> str:
    if isinstance(value, (Ref, HostNumber)):
        return repr(value)
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, Expression):
        return repr(value)
    if isinstance(value, (tuple, list)):
        refs = list(leaves(value, Ref))
        if len(refs) > 4 and len(refs) == len(value):
            return f"[{refs[0]!r}, ... {len(refs)} in all]"
        inner = ", ".join(map(_shown, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    return repr(value)


def _short(line: str) -> str:
    """The line without its folder, if it has a file."""
    return os.path.basename(line) if line else ""


def nbytes(size: int) -> str:
    """A number of bytes, as 1.5 MiB."""
    number = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
