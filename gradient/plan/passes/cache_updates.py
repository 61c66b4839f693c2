"""Rotary positions, and the writing of keys and values to a cache, as one call.

    q, k = rope(q, cos, sin), rope(k, cos, sin)
    keys[rows, :, slots], values[rows, :, slots] = k, v       (q, _, _) = rope_update(q, k, v, ...)

The results of the call are the same, bit for bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gradient.plan.calls import Call, Ref
from gradient.plan.plan import Plan

__all__ = ["with_cache_updates"]

HEADS_INWARD = (0, 2, 1, 3)
"""The order of axes in which new vectors (B, H, T, w) are written: (B, T, H, w)."""


def with_cache_updates(plan: Plan) -> Plan:
    """Join a layer's rotations and its two writes to the cache to one call, if no other call reads
    the cache or the rotated keys in between."""
    readers: dict[Ref, list[int]] = {}
    for i, call in enumerate(plan.calls):
        for ref in call.inputs:
            readers.setdefault(ref, []).append(i)
    maker = {ref: i for i, call in enumerate(plan.calls) for ref in call.outputs}
    found = _Calls(plan, readers, maker)
    gone: set[int] = set()
    made: dict[int, Call] = {}
    last: tuple[int, _Write] | None = None
    rotations: list[int] = []
    for i, call in enumerate(plan.calls):
        if call.op == "rope" and type(call.out) is Ref:
            rotations.append(i)
        write = found.write(call)
        if write is None:
            continue
        before, last = last, (i, write)
        if before is None or before[1].places != write.places:
            continue
        update = found.update(before, last, [n for n in rotations if n not in gone])
        if update is not None:
            calls, made[i] = update
            gone |= calls
            last = None
    kept = []
    for i, call in enumerate(plan.calls):
        if i in made:
            kept.append(made[i])
        elif i not in gone:
            kept.append(call)
    return plan.with_calls(kept)


class _Write(NamedTuple):
    """Vectors (B, H, T, w), the array they are written to, the index, and the views between."""

    vectors: Ref
    cache: Ref
    places: tuple[Ref, Ref]
    views: tuple[int, ...]


class _Calls(NamedTuple):
    plan: Plan
    readers: dict[Ref, list[int]]
    maker: dict[Ref, int]

    def write(self, call: Call) -> _Write | None:
        """The write of a call to a cache, x[rows, :, slots] = vectors; None for other calls."""
        if call.op != "assign" or call.options or len(call.args) != 3:
            return None
        x, index, value = call.args
        if type(x) is not Ref or type(value) is not Ref or type(index) is not tuple:
            return None
        if len(index) != 3 or index[1] != slice(None):
            return None
        rows, _, slots = index
        if type(rows) is not Ref or type(slots) is not Ref:
            return None
        views: list[int] = []
        at = self.maker.get(value)
        if at is not None and self.plan.calls[at].op == "reshape":  # without leading axes of 1
            source = self.plan.calls[at].args[0]
            shape, whole = self.plan.buffers[value].shape, self.plan.buffers[source].shape
            if not self.plan.calls[at].view or whole != (1,) * (len(whole) - len(shape)) + shape:
                return None
            views.append(at)
            at = self.maker.get(source)
        if at is None or (moved := self.plan.calls[at]).op != "permute":
            return None
        if moved.args[1:] != (HEADS_INWARD,) or type(moved.args[0]) is not Ref:
            return None
        return _Write(moved.args[0], x, (rows, slots), (*views, at))

    def update(
        self, first: tuple[int, _Write], second: tuple[int, _Write], rotations: list[int]
    ) -> tuple[set[int], Call] | None:
        """The numbers of the joined calls, and the new call, which replaces the second write."""
        (i, keys), (j, values) = first, second
        calls, root = self.plan.calls, self.plan.root
        of_k = self.maker.get(keys.vectors)
        if of_k not in rotations or root(keys.cache) == root(values.cache):
            return None
        k, *how = calls[of_k].args
        of_q = [n for n in rotations if n not in (of_k, self.maker.get(values.vectors))
                and calls[n].args[1:] == tuple(how) and not calls[n].options]  # fmt: skip
        if not of_q or calls[of_k].options or len(how) not in (2, 3):
            return None
        rotation = calls[of_q[-1]]
        gone = {of_q[-1], of_k, i, *keys.views}
        used = [keys.vectors, *(calls[n].out for n in keys.views)]
        if any(not set(self.readers.get(ref, ())) <= gone for ref in used):
            return None
        if any(ref in self.plan.outputs for ref in used):
            return None
        if any(n <= j for n in self.readers.get(rotation.out, ())):
            return None
        q, angles, by = rotation.args[0], tuple(how[:2]), bool(how[2]) if len(how) > 2 else False
        cache, given = (keys.cache, values.cache), (q, k, values.vectors, *angles, *keys.places)
        if any(type(ref) is not Ref for ref in given):
            return None
        roots, ours = {root(ref) for ref in given}, {root(ref) for ref in cache}
        for n in range(min(gone), j):
            read = {root(ref) for ref in calls[n].inputs}
            if n not in gone and (read & ours or set(calls[n].writes) & (roots | ours)):
                return None
        if roots & ours:
            return None
        args: tuple[Any, ...] = (
            q, k, values.vectors, angles, by, cache, keys.places,
        )  # fmt: skip
        writes = tuple(dict.fromkeys((*calls[i].writes, *calls[j].writes)))
        out = (rotation.out, None, None)
        return gone, Call("rope_update", args, {}, out, writes, location=calls[j].location)
