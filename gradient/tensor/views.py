"""Views: tensors that share the memory of others, and how their graph changes with in-place writes.

Each view remembers the tensor it was taken of and the op that takes it; that tensor remembers its
views weakly. When one of them is written in place, the tensors that it is a view of get a node that
says which part was replaced, up to the owner of the memory, and all other views are regenerated
from there: whatever shows the memory then has the gradient of what it shows, as in PyTorch.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from gradient.autograd import variable
from gradient.autograd.inference import is_inference
from gradient.autograd.modes import inference_used, mode, switched
from gradient.autograd.moving import moved
from gradient.autograd.node import Node, next_sequence_nr, watch
from gradient.autograd.op import Op, op, op_of
from gradient.autograd.outputs import OUTPUT, outputs
from gradient.autograd.variable import Variable
from gradient.backends.composed.shared import is_complex
from gradient.backends.packed import map_parts
from gradient.ops.index import getitem
from gradient.source_lines import getframe, inside, user_frame

if TYPE_CHECKING:
    from gradient.backends import Array, Backend
    from gradient.ops.shape import Indices
    from gradient.tensor.core import Tensor

V = TypeVar("V", bound=Variable)

PRUNE_AT = 64
"""How many views a tensor remembers before it looks for dead ones; from then on whenever there are
twice as many."""


def view(base: Any, call: Any, value: Any, depth: int = 2) -> Tensor:
    """The view of `base` that the op `call` takes, by its one option.

    As `view_of(base, call(base, option=value), ...)`, in one function: views are as frequent as all
    other ops together. `depth` is how far up the user's call is, counted as for `sys._getframe`.
    """
    made = call.op
    try:
        array, backend = base.array, base.backend
        size = array.shape
        if not size:
            base.array = array = backend.writable(array)
        shown = made.function(backend, array, value)
        shared = made.only_strides and backend.strided
    except Exception as error:
        shown = moved(made, (base,), {made.options[0]: value}, error)
        shared = False
    out = variable.new_tensor()
    out.array = shown
    out.backend = backend
    out._grad = out.views = None
    options = {made.options[0]: value}
    parent, grad = base.node, not switched or mode.grad
    if parent is not None and grad:
        out.node = node = Node()
        node.op = made
        node.parents = (parent,)
        node.backend = backend
        node.sequence_nr = next_sequence_nr()
        node.saved = (size,) if made.saved_names else ()
        node.options = options
        node.shape = shown.shape
        node.dtype = shown.dtype
        frame = getframe(depth)
        code = frame.f_code
        if inside[code.co_filename]:
            frame = user_frame(depth)
            code = frame.f_code
        node.location = (code, frame.f_lasti)
        if grad is not True:
            watch(node)
    else:
        out.node = None
        if inference_used and mode.inference:
            out.inference = True
    if not shared and not backend.is_view_of(shown, array):
        out.view_info = None
        return out
    if inference_used or not grad:
        note(base, out, made, options)
        return out
    out.view_info = (base, made, options)
    if parent is None or parent.op is not None:
        views = base.views
        if views is None or not len(views) % PRUNE_AT:
            views = known_views(base)
        views.append(weakref.ref(out))
    return out


def view_of(base: Any, out: Any, call: Any, options: dict[str, Any]) -> Tensor:
    """`out`, noted as the view of `base` that the op `call` made, if it shares its memory."""
    array, backend = base.array, base.backend
    if not array.shape and (own := backend.writable(array)) is not array:
        base.array = array = own
        out.array = call.op.function(backend, array, **options)
    if backend.is_view_of(out.array, array):
        note(base, out, call.op, options)
    return out


def views_of(base: Any, call: Any, indices: Indices, axis: int) -> tuple[Tensor, ...]:
    """The views of `base`, which has dimensions, at these indices, by the op `call` that takes them
    all at once: either all of them share its memory, or none."""
    made: Op = call.op
    array, backend = base.array, base.backend
    parent, grad = base.node, not switched or mode.grad
    try:
        shown = made.function(backend, array, indices=indices, axis=axis)
    except Exception as error:
        shown = moved(made, (base,), {"indices": indices, "axis": axis}, error)
    node = None
    if parent is not None and grad:
        options = {"indices": indices, "axis": axis}
        node = made.record(backend, (array,), (parent,), shown, None, options)
    if not shown or not backend.is_view_of(shown[0], array):
        return tuple(outputs(shown, backend, node))
    view_op = op_of(getitem)
    if inference_used or not grad:
        outs = outputs(shown, backend, node)
        for out, at in zip(outs, indices, strict=True):
            note(base, out, view_op, {"index": at})
        return tuple(outs)
    outs, parents, new_tensor = [], (node,), variable.new_tensor
    number = next_sequence_nr()  # of all pieces alike: none depends on another
    for i, at in enumerate(indices):
        out = new_tensor()  # as `outputs` and `note`
        out.array = piece = shown[i]
        out.backend = backend
        out._grad = out.views = None
        out.view_info = (base, view_op, {"index": at})
        if node is None:
            out.node = None
        else:
            out.node = own = Node()
            own.op = OUTPUT
            own.backend = backend
            own.parents = parents
            own.saved = (i,)
            own.sequence_nr = number
            own.location = node.location
            own.shape = piece.shape
            own.dtype = piece.dtype
        outs.append(out)
    if parent is None or parent.op is not None:
        known_views(base, len(outs)).extend(map(weakref.ref, outs))
    return tuple(outs)


def note(base: Any, out: Any, view_op: Op, options: dict[str, Any]) -> None:
    """Note `out` as the view of `base` that `view_op` took.

    A leaf that requires a gradient does not remember its views: it cannot be overwritten while the
    graph is recorded. Nor does any tensor those taken while it is not: writing to them is refused.
    """
    if inference_used:
        out.inference = is_inference(base)
    if switched and not mode.grad:
        info = base.view_info  # to the first one that was recorded: loops make long chains
        out.view_info = info if info is not None and info[1] is None else (base, None, options)
        return
    out.view_info = (base, view_op, options)
    node = base.node
    if node is None or node.op is not None:
        known_views(base).append(weakref.ref(out))


def known_views(base: Any, more: int = 1) -> list[weakref.ref[Tensor]]:
    """The list in which `base` remembers its views, for so many more. Where half of them are dead,
    these go."""
    views: list[Any] | None = base.views
    if views is None:
        base.views = views = []
    n = len(views)
    if n >= PRUNE_AT and (n + more - 1).bit_length() > (n - 1).bit_length():  # at powers of two
        alive = [ref for ref in views if ref() is not None]
        if len(alive) <= n // 2:
            views[:] = alive
    return views


def without_base(out: V) -> V:
    """`out` without its view relation: nobody else holds the tensor that it is a view of."""
    out.view_info = None
    return out


def in_order(out: V) -> V:
    """`out`, which nobody else has seen yet, in row-major order, as PyTorch has it: by indices,
    NumPy's functions keep an order of their own, and `out.view(...)` would be refused."""
    flags = getattr(out.array, "flags", None)  # None: a handle that has no order of its own
    if flags is not None and not flags.c_contiguous:
        out.array = map_parts(out.backend.copy, out.array)
    return out


def with_bases(tensor: Any) -> Iterator[Tensor]:
    """The tensor, the tensor that it is a view of, and so on to the owner of the memory."""
    yield tensor
    while (info := tensor.view_info) is not None:
        tensor = info[0]
        yield tensor


@op(lambda g, be, view_op, options, x_shape: cleared(be, g, view_op, options, x_shape),
    lambda g, be, view_op, options: part_of(be, g, view_op, options),
    promotion="none", takes_complex=True)  # fmt: skip
def copy_slices(
    be: Backend[Array], x: Array, value: Array, /, *, view_op: Op, options: dict[str, Any]
) -> Array:
    """x in which the part that the op `view_op` shows is `value`: already so in memory."""
    return x


def part_of(be: Backend[Array], g: Array, view_op: Op, options: dict[str, Any]) -> Array:
    """What a view shows of a gradient. One of complex numbers as their parts, or the other way,
    shows the parts of the gradient that users see, the conjugate of what the engine passes on."""
    part = view_op.function(be, g, **options)
    if is_complex(part) is is_complex(g):
        return part
    return be.conj(view_op.function(be, be.conj(g), **options))


def cleared(
    be: Backend[Array], g: Array, view_op: Op, options: dict[str, Any], x_shape: Any
) -> Array:
    """g with 0 where the view lies, which is where its own gradient rule puts ones."""
    ones = be.ones(tuple(x_shape), g.dtype)
    scope = {**view_op.defaults, **options, "be": be, "x_shape": x_shape}
    part = view_op.function(be, ones, **options)
    shown = view_op.rules[0](part, *[scope[name] for name in view_op.needs[0]])
    return be.where(shown != 0, be.full((), 0, g.dtype), g)


def rebase_history(tensor: Any, node: Any) -> None:
    """Give `tensor` the node of its new value. It retains the gradient of the value that it has;
    hooks stay with the one that they were registered on. (Both as in PyTorch.)"""
    before = tensor.node
    if before is not None and before.retained is not None and node is not None:
        node.retained, before.retained = before.retained, None
        node.hooks = node.hooks or []  # where there are hooks, the engine looks for `retained`
    tensor.node = node


def propagate_write(tensor: Any) -> None:
    """After `tensor` was overwritten and has its new node: give new nodes to all that share its
    memory."""
    top = tensor
    while (info := top.view_info) is not None:
        base, view_op, options = info
        if top.node is not None or base.node is not None:
            nodes = (base.node, top.node)
            options = {"view_op": view_op, "options": options}
            arrays = (base.array, top.array)
            rebase_history(base, op_of(copy_slices).record(
                base.backend, arrays, nodes, base.array, None, options
            ))  # fmt: skip
        top = base
    if top.views:
        regenerate_views(top)


def regenerate_views(base: Any) -> None:
    """Give all views of `base` nodes on its new one, and those of views, however deeply nested."""
    bases = [base]
    while bases:
        base = bases.pop()
        for ref in base.views or ():
            view = ref()
            if view is None or view.view_info is None:
                continue  # gone, or a view no longer
            if view.node is not None and view.node.op is None:
                continue  # a leaf in its own right
            if base.node is None:
                view.node = None
            else:
                _, view_op, options = view.view_info
                arrays, nodes = (base.array,), (base.node,)
                rebase_history(
                    view, view_op.record(base.backend, arrays, nodes, view.array, None, options)
                )
            bases.append(view)
