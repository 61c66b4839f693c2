"""Tensors that show the memory of others, and what becomes of their graph when it is overwritten.

Each view remembers the tensor it was taken of and the op that takes it; that tensor remembers its
views weakly. When one of them is written in place, the news goes up to the owner of the memory, as
a node that says which part was replaced, and down to all other views, which are taken of it anew.
So whatever shows the memory afterwards has the gradient of what it shows, as in PyTorch.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from gradient.autograd.inference import is_inference
from gradient.autograd.modes import inference_used, mode
from gradient.autograd.op import op, op_of

PRUNE_AT = 64
"""How many views a tensor remembers before it looks for dead ones."""


Link = tuple[Any, Any, dict[str, Any]]
"""How a view was taken: (base, op, options), by `op.function(backend, base.array, **options)`; the
op is None where that was not recorded. (A plain tuple, as each view makes one.)"""


def view_of(base: Any, out: Any, taken_by: Any, options: dict[str, Any]) -> Any:
    """`out`, noted as the view of `base` that the op `taken_by` gave, if it shares its memory.

    A leaf that requires a gradient does not remember its views: it cannot be overwritten while the
    graph is recorded. Nor does any tensor those taken while it is not: writing to them is refused.
    """
    array, backend = base.array, base.backend
    if not array.shape and (own := backend.writable(array)) is not array:
        base.array = array = own
        out.array = op_of(taken_by).function(backend, array, **options)
    if not backend.is_view_of(out.array, array):
        return out
    if inference_used:
        out.inference = is_inference(base)
    if not mode.grad:
        link = link_of(base)  # to the first one that was recorded: loops make long chains
        out.link = link if link is not None and link[1] is None else (base, None, options)
        return out
    out.link = (base, op_of(taken_by), options)
    node = base.node
    if node is not None and node.op is None:
        return out
    views = getattr(base, "views", None)
    if views is None:
        base.views = [weakref.ref(out)]
    else:
        if len(views) >= PRUNE_AT and not len(views) & (len(views) - 1):
            views[:] = [ref for ref in views if ref() is not None]
        views.append(weakref.ref(out))
    return out


def unlinked(out: Any) -> Any:
    """`out`, a view of what nobody else holds, as no view."""
    out.link = None
    return out


def link_of(tensor: Any) -> Link | None:
    return getattr(tensor, "link", None)


def sharing(tensor: Any) -> Iterator[Any]:
    """The tensor, what it is a view of, and so on to the owner of the memory."""
    yield tensor
    while (link := link_of(tensor)) is not None:
        tensor = link[0]
        yield tensor


@op(lambda g, be, taken_by, options, x_shape: cleared(be, g, taken_by, options, x_shape),
    lambda g, be, taken_by, options: taken_by.function(be, g, **options),
    promotion="none")  # fmt: skip
def write_through(be, x, value, /, *, taken_by, options):
    """x in which the part that the op `taken_by` shows is `value`: already so in memory."""
    return x


def cleared(be: Any, g: Any, taken_by: Any, options: dict[str, Any], x_shape: Any) -> Any:
    """g with 0 where the view lies, which is where its own gradient rule puts ones."""
    ones = be.ones(tuple(x_shape), g.dtype)
    scope = {**taken_by.defaults, **options, "be": be, "x_shape": x_shape}
    part = taken_by.function(be, ones, **options)
    shown = taken_by.rules[0](part, *[scope[name] for name in taken_by.needs[0]])
    return be.where(shown != 0, be.full((), 0, g.dtype), g)


def renew(tensor: Any, node: Any) -> None:
    """Give `tensor` the node of its new value. It retains the gradient of the value that it has;
    hooks stay with the one that they were registered on. (Both as in PyTorch.)"""
    before = tensor.node
    if before is not None and before.retained is not None and node is not None:
        node.retained, before.retained = before.retained, None
        node.hooks = node.hooks or []  # where there are hooks, the engine looks for `retained`
    tensor.node = node


def spread_news(tensor: Any) -> None:
    """After `tensor` was overwritten and has its new node: renew the nodes of all that share its
    memory."""
    top = tensor
    while (link := link_of(top)) is not None:
        base, taken_by, options = link
        if top.node is not None or base.node is not None:
            nodes = (base.node, top.node)
            options = {"taken_by": taken_by, "options": options}
            arrays = (base.array, top.array)
            renew(base, op_of(write_through).record(
                base.backend, arrays, nodes, base.array, None, options
            ))  # fmt: skip
        top = base
    retake(top)


def retake(base: Any) -> None:
    """Take all views of `base` anew, and those of views, which may be nested deeply."""
    bases = [base]
    while bases:
        base = bases.pop()
        for ref in getattr(base, "views", ()):
            view = ref()
            if view is None or link_of(view) is None:
                continue  # gone, or a view no longer
            if view.node is not None and view.node.op is None:
                continue  # a leaf in its own right
            if base.node is None:
                view.node = None
            else:
                _, taken_by, options = view.link
                arrays, nodes = (base.array,), (base.node,)
                renew(view, taken_by.record(base.backend, arrays, nodes, view.array, None, options))
            bases.append(view)
