"""Replace a buffer by another one, for passes that find two to be equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from gradient.plan.calls import Call, Ref, mapped
from gradient.plan.plan import Plan


def with_aliases(plan: Plan, aliases: Mapping[Ref, Ref]) -> Plan:
    """Replace each buffer that is a key of `aliases` by its value, a buffer of the same layout.

    Views of such a buffer become views of its replacement.
    """
    if not aliases:
        return plan

    def of(ref: Ref) -> Ref:
        while ref in aliases:
            ref = aliases[ref]
        return ref

    def root(ref: Ref) -> Ref:
        return plan.root(of(ref))

    return replace(
        plan,
        buffers=tuple(
            buffer if (own := root(buffer.root)) == buffer.root else replace(buffer, root=own)
            for buffer in plan.buffers
        ),
        calls=tuple(_mapped(call, of, root) for call in plan.calls),
        outputs=tuple(map(of, plan.outputs)),
    )


def _mapped(call: Call, of: Callable[[Ref], Ref], root: Callable[[Ref], Ref]) -> Call:
    args, options, out = mapped((call.args, call.options, call.out), Ref, of)
    writes = tuple(dict.fromkeys(map(root, call.writes)))
    pieces = tuple(_mapped(piece, of, root) for piece in call.pieces)
    return replace(call, args=args, options=options, out=out, writes=writes, pieces=pieces)
