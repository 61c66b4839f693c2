"""Tensors that show the memory of others, and what becomes of their graph when it is overwritten.

Each view remembers the tensor it was taken of and the op that takes it; that tensor remembers its
views weakly. When one of them is written in place, the news goes up to the owner of the memory, as
a node that says which part was replaced, and down to all other views, which are taken of it anew.
So whatever shows the memory afterwards has the gradient of what it shows, as in PyTorch.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from gradient.autograd.modes import mode
from gradient.autograd.op import op

PRUNE_AT = 64
"""How many views a tensor remembers before it looks for dead ones."""


class Link(NamedTuple):
    """How a view was taken: `op.function(backend, base.array, **options)`."""

    base: Any
    op: Any
    options: dict[str, Any]


def view_of(base: Any, out: Any, taken_by: Any, **options: Any) -> Any:
    """`out`, noted as the view of `base` that the op `taken_by` gave, if it shares its memory.

    Not outside the graph's recording, and not for leaves that require a gradient: those cannot be
    overwritten while it is recorded.
    """
    if not mode.grad:
        return out
    if not base.array.shape and isinstance(base.array, np.generic):
        base.array = owned(base)
        out.array = taken_by.op.function(base.backend, base.array, **options)
    if not base.backend.is_view_of(out.array, base.array):
        return out
    out.link = Link(base, taken_by.op, options)
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


def link_of(tensor: Any) -> Link | None:
    return getattr(tensor, "link", None)


def sharing(tensor: Any) -> Iterator[Any]:
    """The tensor, what it is a view of, and so on to the owner of the memory."""
    yield tensor
    while (link := link_of(tensor)) is not None:
        tensor = link.base
        yield tensor


def owned(tensor: Any) -> Any:
    """Its array, as one that can be written: a full reduction may have given a NumPy scalar."""
    array = tensor.array
    return tensor.backend.copy(array) if isinstance(array, np.generic) else array


@op(lambda g, be, taken_by, options, x_shape: g - scattered(be, g, taken_by, options, x_shape),
    lambda g, be, taken_by, options: taken_by.function(be, g, **options),
    numbers="any")  # fmt: skip
def write_through(be, x, value, /, *, taken_by, options):
    """x in which the part that the op `taken_by` shows is `value`: already so in memory."""
    return x


def scattered(be: Any, g: Any, taken_by: Any, options: dict[str, Any], x_shape: Any) -> Any:
    """What the view shows of g, in its place, zero elsewhere: by the view's own gradient rule."""
    part = taken_by.function(be, g, **options)
    scope = {**taken_by.defaults, **options, "be": be, "x_shape": x_shape}
    return taken_by.rules[0](part, *[scope[name] for name in taken_by.needs[0]])


def spread_news(tensor: Any) -> None:
    """After `tensor` was overwritten and has its new node: renew the nodes of all that share its
    memory."""
    top = tensor
    while (link := link_of(top)) is not None:
        base = link.base
        if top.node is not None or base.node is not None:
            base.node = write_through.op.record(
                base.backend, (base.array, top.array), (base.node, top.node), base.array, None,
                {"taken_by": link.op, "options": link.options},
            )  # fmt: skip
        top = base
    retake(top)


def retake(base: Any) -> None:
    """Take all views of `base` anew, and the views of those."""
    for ref in getattr(base, "views", ()):
        view = ref()
        if view is None or (view.node is not None and view.node.op is None):
            continue  # gone, or a leaf in its own right
        link = view.link
        if base.node is None:
            view.node = None
        else:
            view.node = link.op.record(
                base.backend, (base.array,), (base.node,), view.array, None, link.options
            )
        retake(view)
