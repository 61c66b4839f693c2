"""Views: tensors that share memory, and the changes of their graph by in-place writes.

Each view stores its base tensor and the op that made it. After an in-place write to a view, its
base, the base's base and so on, up to the owner of the memory, get a node that records the replaced
part. All other views get new nodes from there. So, as in PyTorch, each tensor on this memory has
the gradient of its new values.

Only this needs the views of a base, and most programs never do it. So a base has no list of its
views, which would take a fifth of a view's time, until it happens for the first time: `list_views`
then finds all views in the process, and later views are listed when they are made.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from gradient.autograd import variable
from gradient.autograd.inference import is_inference
from gradient.autograd.modes import inference_used, mode, switched
from gradient.autograd.moving import moved
from gradient.autograd.node import Node, next_sequence_nr, watch
from gradient.autograd.op import Op, op, op_of, shape_of_array
from gradient.autograd.outputs import OUTPUT, outputs
from gradient.autograd.variable import Variable
from gradient.backends.composed.shared import is_complex
from gradient.backends.packed import map_parts
from gradient.ops.index import getitem

if TYPE_CHECKING:
    from gradient.backends import Array, Backend
    from gradient.ops.shape import Indices
    from gradient.tensor.core import Tensor

V = TypeVar("V", bound=Variable)

listing: list[bool] = []
"""Empty until the first call of `list_views`."""

PRUNE_AT = 64
"""The number of views of a tensor at which freed ones are first removed from its list; then at each
doubling."""


def viewer(call: Any) -> Callable[..., Tensor]:
    """Return a function that makes the view of a tensor by the op `call`, given the op's option.

    It does `view_of(base, call(base, option=value), ...)` in one function, for speed: views are
    as frequent as all other ops together. Its nodes have no line of the user's program, as no
    gradient needs an array that could be overwritten.
    """
    made: Op = call.op
    function, (name,) = made.function, made.options
    only_strides, saves_shape = made.only_strides, bool(made.saved_names)

    def view(base: Any, value: Any) -> Tensor:
        try:
            array, backend = base.array, base.backend
            size = array.shape
            if not size:
                base.array = array = backend.writable(array)
            shown = function(backend, array, value)
            shared = only_strides and backend.strided
        except Exception as error:
            shown = moved(made, (base,), {name: value}, error)
            shared = False
        out: Any = variable.new_tensor()
        out.array = shown
        out.backend = backend
        out._grad = out.views = None
        options = {name: value}
        parent, grad = base.node, not switched or mode.grad
        if parent is not None and grad:
            out.node = node = Node()
            node.op = made
            node.parents = (parent,)
            node.backend = backend
            node.sequence_nr = next_sequence_nr()
            node.saved = (size,) if saves_shape else ()
            node.options = options
            node.shape = shown.shape
            node.dtype = shown.dtype
            if grad is not True:
                watch(node)
        else:
            out.node = None
            if inference_used and mode.inference:
                out.inference = True
        if not shared and not backend.is_view_of(shown, array):
            out.view_info = None
        elif inference_used or not grad:
            note(base, out, made, options)
        else:
            out.view_info = (base, made, options)
            if parent is None or parent.op is not None:
                base._viewed = True
                if listing:
                    known_views(base).append(weakref.ref(out))
        return out

    return view


indexed = viewer(getitem)


def view_of(base: Any, out: Any, call: Any, options: dict[str, Any]) -> Tensor:
    """Record `out` as the view of `base` that the op `call` made, if it shares its memory; return
    `out`."""
    array, backend = base.array, base.backend
    if not array.shape and (own := backend.writable(array)) is not array:
        base.array = array = own
        out.array = call.op.function(backend, array, **options)
    if backend.is_view_of(out.array, array):
        note(base, out, call.op, options)
    return out


def views_of(base: Any, call: Any, indices: Indices, axis: int) -> tuple[Tensor, ...]:
    """Make the views of `base`, which is not 0-d, at these indices, by the op `call`, which makes
    all of them at once. Either all share the memory of `base`, or none."""
    made: Op = call.op
    array, backend = base.array, base.backend
    parent, grad = base.node, not switched or mode.grad
    try:
        shown = made.function(backend, array, indices=indices, axis=axis)
    except Exception as error:
        shown = moved(made, (base,), {"indices": indices, "axis": axis}, error)
    node = None
    if parent is not None and grad:
        node = Node()  # like `Op.record`; no gradient needs an array
        node.op = made
        node.backend = backend
        node.parents = (parent,)
        node.saved = ()
        node.options = {"indices": indices, "axis": axis}
        node.sequence_nr = next_sequence_nr()
        node.n_outputs = len(shown)
        node.shape = list(map(shape_of_array, shown))
        node.dtype = [array.dtype] * len(shown)
        if grad is not True:
            watch(node)
    if not shown or not backend.is_view_of(shown[0], array):
        return tuple(outputs(shown, backend, node))
    view_op = op_of(getitem)
    if inference_used or not grad:
        outs = outputs(shown, backend, node)
        for out, at in zip(outs, indices, strict=True):
            note(base, out, view_op, {"index": at})
        return tuple(outs)
    outs, parents, dtype = [], (node,), array.dtype
    number = next_sequence_nr()  # the same for all pieces: none depends on another
    for i, piece in enumerate(shown):
        view: Any = variable.new_tensor()  # like `outputs` and `note`
        view.array = piece
        view.backend = backend
        view._grad = view.views = None
        view.view_info = (base, view_op, {"index": indices[i]})
        if node is None:
            view.node = None
        else:
            view.node = own = Node()
            own.op = OUTPUT
            own.backend = backend
            own.parents = parents
            own.saved = (i,)
            own.sequence_nr = number
            own.shape = piece.shape
            own.dtype = dtype
        outs.append(view)
    if parent is None or parent.op is not None:
        base._viewed = True
        if listing:
            known_views(base, len(outs)).extend(map(weakref.ref, outs))
    return tuple(outs)


def note(base: Any, out: Any, view_op: Op, options: dict[str, Any]) -> None:
    """Record `out` as the view of `base` that `view_op` made.

    A leaf that requires a gradient has no list of its views: it cannot be overwritten while the
    graph is recorded. Views made under no_grad are not listed either: writes to them raise.
    """
    if inference_used:
        out.inference = is_inference(base)
    if switched and not mode.grad:
        info = base.view_info  # use the first recorded base: loops would make long chains
        out.view_info = info if info is not None and info[1] is None else (base, None, options)
        return
    out.view_info = (base, view_op, options)
    node = base.node
    if node is None or node.op is not None:
        base._viewed = True
        if listing:
            known_views(base).append(weakref.ref(out))


def list_views() -> None:
    """Give each tensor the list of its views, now and from now on, at the first call."""
    if listing:
        return
    import gc

    listing.append(True)  # first: a view that another thread makes meanwhile may be listed twice
    if gc.get_freeze_count():
        gc.unfreeze()  # `gc.get_objects` leaves out frozen objects
    for each in gc.get_objects():
        # Not isinstance: for a weak proxy it raises an error if the object was freed.
        info = getattr(each, "view_info", None) if issubclass(type(each), Variable) else None
        if info is not None and info[1] is not None and hasattr(info[0], "_viewed"):
            known_views(info[0]).append(weakref.ref(each))


def known_views(base: Any, more: int = 1) -> list[weakref.ref[Tensor]]:
    """Return the list of the views of `base`, to append `more` of them. If half of the views were
    freed, remove these first."""
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
    """Remove the view relation of `out`: there is no other reference to its base."""
    out.view_info = None
    return out


def in_order(out: V) -> V:
    """Make `out`, a new tensor, contiguous, as in PyTorch. NumPy's functions with indices return
    other orders, for which `out.view(...)` would raise."""
    flags = getattr(out.array, "flags", None)  # None: a handle, without strides
    if flags is not None and not flags.c_contiguous:
        out.array = map_parts(out.backend.copy, out.array)
    return out


def with_bases(tensor: Any) -> Iterator[Tensor]:
    """Yield the tensor, its base, and so on up to the owner of the memory."""
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
    """x with `value` in the part that the op `view_op` selects; the memory already has it."""
    return x


def part_of(be: Backend[Array], g: Array, view_op: Op, options: dict[str, Any]) -> Array:
    """The part of a gradient that a view selects. A view of complex numbers as real ones, or the
    reverse, selects from the gradient that users see, the conjugate of the engine's."""
    part = view_op.function(be, g, **options)
    if is_complex(part) is is_complex(g):
        return part
    return be.conj(view_op.function(be, be.conj(g), **options))


def cleared(
    be: Backend[Array], g: Array, view_op: Op, options: dict[str, Any], x_shape: Any
) -> Array:
    """g with 0 at the elements of the view, which are those where its gradient rule puts ones."""
    ones = be.ones(tuple(x_shape), g.dtype)
    scope = {**view_op.defaults, **options, "be": be, "x_shape": x_shape}
    part = view_op.function(be, ones, **options)
    shown = view_op.rules[0](part, *[scope[name] for name in view_op.needs[0]])
    return be.where(shown != 0, be.full((), 0, g.dtype), g)


def rebase_history(tensor: Any, node: Any) -> None:
    """Give `tensor` the node of its new value. As in PyTorch, `retain_grad` moves to the new node,
    and hooks stay on the old one."""
    before = tensor.node
    if before is not None and before.retained is not None and node is not None:
        node.retained, before.retained = before.retained, None
        node.hooks = node.hooks or []  # the engine reads `retained` only with such a list
    tensor.node = node


def propagate_write(tensor: Any) -> None:
    """Give new nodes to all tensors that share the memory of `tensor`, after it was overwritten and
    got its new node."""
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
    regenerate_views(top)


def regenerate_views(base: Any) -> None:
    """Give all views of `base`, and their views, new nodes that depend on its new node."""
    if not hasattr(base, "_viewed"):
        return
    list_views()
    bases = [base]
    while bases:
        base = bases.pop()
        for ref in base.views or ():
            view = ref()
            if view is None or view.view_info is None:
                continue  # freed, or no longer a view
            if view.node is not None and view.node.op is None:
                continue  # a leaf
            if base.node is None:
                view.node = None
            else:
                _, view_op, options = view.view_info
                arrays, nodes = (base.array,), (base.node,)
                rebase_history(
                    view, view_op.record(base.backend, arrays, nodes, view.array, None, options)
                )
            bases.append(view)
