"""In-place writes to a tensor's memory.

An in-place operation computes its result like the out-of-place op, and writes it to the tensor's
memory. The tensor gets the result's node. This has two further effects:

* if a node saved the old values, the backward pass raises an error (`gradient.autograd.inplace`);
* tensors that share the memory get new nodes, so that gradients go through the write
  (`gradient.tensor.views`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from gradient.autograd.inference import refuse_write
from gradient.autograd.inplace import by_data, mark_overwritten
from gradient.autograd.modes import enable_grad, inference_used, mode, switched
from gradient.autograd.node import Node, packing_used
from gradient.autograd.numbers import among_samples
from gradient.autograd.op import op_of
from gradient.autograd.variable import Variable, wrap
from gradient.backends.placement import device_contexts
from gradient.dtypes import PackedDType, uint8
from gradient.errors import AutogradError, BackendError, DTypeError, ShapeError, sentence
from gradient.ops import elementwise, index
from gradient.ops.index import IN_PLACE
from gradient.source_lines import location_of, user_frame
from gradient.tensor.float8 import view_as_bits
from gradient.tensor.packed import overwrite_parts, refuse
from gradient.tensor.views import list_views, propagate_write, rebase_history, with_bases

if TYPE_CHECKING:
    from gradient.backends.operators import ArrayOperators
    from gradient.tensor.core import Tensor

T = TypeVar("T", bound=Variable)
G = TypeVar("G")
P = ParamSpec("P")
Method = Callable[Concatenate[Any, P], "Tensor"]


def unwritten(tensor: Any) -> Tensor:
    """Return the tensor from which an in-place form computes its result: self, or a copy if
    saved-tensor hooks are on, which may keep the tensor that they get."""
    if packing_used and mode.saved_hooks is not None and mode.grad:
        return tensor.clone()
    return tensor


def overwrite(tensor: Any, result: Tensor, name: str) -> Tensor:
    """Write `result` to the memory of `tensor`, and give `tensor` the node of `result`."""
    dtype = tensor.array.dtype
    if isinstance(dtype, PackedDType):
        if result.array.dtype is not dtype or result.array.shape != tensor.array.shape:
            refuse(name, tensor)
        overwrite_packed(tensor, (), result, name)
        return tensor
    try:
        node = result.node
    except AttributeError:  # what an operand's `__torch_function__` returned
        return result
    check_graph(tensor, name, node)
    if result.array.shape != tensor.array.shape:
        raise ShapeError(
            f"{name}: output with shape {list(tensor.array.shape)} doesn't match the broadcast "
            f"shape {list(result.array.shape)}"
        )
    if result.array.dtype != tensor.array.dtype and not _fits(result, tensor):
        raise DTypeError(
            f"{name}: result type {result.dtype} can't be cast to the desired output type "
            f"{tensor.dtype}"
        )
    if result.node is not None:
        keep_old(tensor, result.node)
    write(tensor, ..., result.array, name)
    if not switched or mode.grad:
        node = result.node
        if node is not None and node.op is not None:
            node.location = location_of(user_frame())
        if node is not None and result.array.dtype != tensor.array.dtype:
            node = elementwise.astype(result, dtype=tensor.array.dtype).node
        rebase_history(tensor, node)
        propagate_write(tensor)
    return tensor


def direct_operand(tensor: Variable, other: Any) -> ArrayOperators | float | None:
    """Return the array or number `other` if NumPy's own augmented assignment can be used: for a
    small array of floats, or of int64 and an int, that is not in a graph. Otherwise return None."""
    array = tensor.array
    dtype, recording = array.dtype, not switched or mode.grad
    if (
        (dtype.char not in "fd" and not (dtype.char in "lq" and type(other) is int))
        or 0 < tensor.backend.one_pass_from <= array.size  # large arrays: all threads are faster
        or (recording and (tensor.node is not None or tensor.view_info is not None))
        or inference_used
        or device_contexts
        or (not tensor.backend.repeats_are_read_only and not array.flags.c_contiguous)
    ):
        return None
    if type(other) is float or type(other) is int:
        return other
    if (
        isinstance(other, Variable)
        and not (recording and other.node is not None)
        and other.backend is tensor.backend
        and other.array.dtype is dtype
    ):
        return other.array
    return None


def written(tensor: T, name: str) -> T:
    """Mark `tensor` as overwritten, after its array was changed in place; return it."""
    if not by_data or is_noted(tensor):
        mark_overwritten(tensor.backend, tensor.array, name, 4)
    return tensor


def overwrite_at(tensor: Variable, at: tuple[Any, ...], value: Any, name: str = "setitem") -> None:
    """Do tensor[at] = value, a tensor or an array on the same device, and record it in the graph,
    if there is one: the rest of the elements keep their gradients."""
    before = tensor.array
    if isinstance(before.dtype, PackedDType):
        overwrite_packed(tensor, at, value, name)
        return
    array, node = value, None
    if isinstance(value, Variable):
        array, node = value.array, value.node
        if value.backend is not tensor.backend:
            if among_samples and (seen := among_samples[0]((tensor, value), None)) is not None:
                if seen[0] is not tensor:
                    raise shared_by_samples()
                value = seen[1]
                array, node = value.array, value.node
            else:
                array = tensor.backend.asarray(value.backend.to_numpy(array))
    if node is None and tensor.node is None and tensor.view_info is None:
        write(tensor, at, array, name)
        return
    check_graph(tensor, name, node)
    write(tensor, at, array, name)
    record_write(tensor, index.setitem, (before, array), node, {"index": at})


def before_write(tensor: Variable, name: str, node: Node | None) -> None:
    """Raise if `tensor`, which is not packed, must not be overwritten (see `check`), or was made in
    `inference_mode`."""
    check_graph(tensor, name, node)
    if inference_used:
        refuse_write(tensor, name)


def record_write(
    tensor: Variable, op: Callable[..., Tensor], arrays: Sequence[Any], node: Any, options: Any
) -> None:
    """Record that `tensor` is now the result of `op` on its old array and another, `arrays`, of
    which the second has this node."""
    if (node is not None or tensor.node is not None) and (not switched or mode.grad):
        nodes = (tensor.node, node)
        made = op_of(op).record(tensor.backend, arrays, nodes, tensor.array, None, options)
        rebase_history(tensor, made)
        propagate_write(tensor)


Put = Callable[..., "Tensor"]
"""A method such as `index_add` ends with `put(op, x, value, **options)`, where the op is `setitem`,
`index_add` or `put_along` (`gradient.ops.index`) and `put` is `to_copy`. Its in-place form,
`index_add_`, is the same method with a `PutInPlace`: it takes as long as the index is large, not as
long as the tensor."""


def to_copy(op: Callable[..., Tensor], x: Tensor, value: Tensor, **options: Any) -> Tensor:
    """The result of an op that writes at an index: x, or a view of it, is not changed."""
    return op(x, value, **options)


class PutInPlace:
    """Writes to the memory of `tensor`, where x of a call is this tensor or a view of it.

    `done` says whether a call has written; other calls compute like `to_copy`.
    """

    def __init__(self, tensor: Tensor, name: str) -> None:
        self.tensor, self.name, self.done = tensor, name, False

    def __call__(
        self, op: Callable[..., Tensor], x: Tensor, value: Tensor, **options: Any
    ) -> Tensor:
        array, backend = x.array, x.backend
        owner = backend.storage(array)
        if (
            owner is not backend.storage(self.tensor.array)
            or value.backend is not backend
            or value.array.dtype != array.dtype
            or (among_samples and among_samples[0]((x, value), options) is not None)
        ):
            return op(x, value, **options)
        before_write(self.tensor, self.name, value.node)

        def apart(given: G) -> G:
            """A copy of an array, or of those in a tuple, whose memory is being written."""
            if isinstance(given, tuple):
                return type(given)(map(apart, given))
            shares = hasattr(given, "dtype") and backend.storage(given) is owner
            return backend.copy(given) if shares else given

        source = apart(value.array)
        settled = {name: apart(given) for name, given in options.items()}
        try:
            x.array = IN_PLACE[op](backend, array, source, **settled)
        except (IndexError, TypeError, ValueError):
            op(x, value, **options)  # raises an error with names and shapes
            raise
        written(self.tensor, self.name)
        record_write(x, op, (array, source), value.node, settled)
        self.done = True
        return x


def takes_writes(tensor: Tensor) -> bool:
    """Whether a tensor's memory can be written at an index: it is not read-only, as NumPy's arrays
    are that `expand` made. Other tensors, and `vmap`'s and autocast's, are computed anew."""
    array, backend = tensor.array, tensor.backend
    flags = getattr(array, "flags", None)
    return (
        flags is not None
        and (flags.writeable if backend.repeats_are_read_only else flags.c_contiguous)
        and len(array.shape) > 0
        and 0 not in array.shape
        and not isinstance(array.dtype, PackedDType)
        and backend.reads_values
        and mode.autocast is None
        and mode.saved_hooks is None
    )


def in_place_at(
    method: Method[P], general: Callable[Concatenate[Any, Put, P], Tensor]
) -> Method[P]:
    """Make the in-place form of a method that writes at an index. `general` is the method with the
    writing function as an argument."""
    name = method.__name__ + "_"

    def run(self: Any, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        if not takes_writes(self):
            return overwrite(self, method(unwritten(self), *args, **kwargs), name)
        put = PutInPlace(self, name)
        out = general(self, put, *args, **kwargs)
        return self if put.done else overwrite(self, out, name)

    run.__name__ = name
    # By which errors of a plan name it: `general` has no public name.
    run.__code__ = run.__code__.replace(co_name=name, co_qualname=name)
    run.__doc__ = f"In-place form of `{method.__name__}`."
    vars(run)["__wrapped__"] = method  # for its signature
    return run


def overwrite_packed(tensor: Variable, at: tuple[Any, ...], value: Any, name: str) -> None:
    """Do `overwrite_at` for a packed tensor: at any index for 8-bit floats, whose codes are
    written; only by `copy_`, as a whole, for blocks."""
    dtype = tensor.array.dtype
    if not isinstance(value, Variable):
        value = wrap(value, tensor.backend)
    if dtype.elementwise:
        codes = view_as_bits(value.to(dtype=dtype), uint8)
        overwrite_at(view_as_bits(tensor, uint8), at, codes, name)
    elif name == "copy_":
        overwrite_parts(tensor, value)
    else:
        refuse(name, tensor)


def become_view(tensor: T, name: str, take: Callable[[Any], Tensor]) -> T:
    """Turn `tensor` into the view of itself that `take` returns; existing views become views of its
    old self."""
    check(tensor, name)
    list_views()
    before = object.__new__(type(tensor))
    before.array, before.backend = tensor.array, tensor.backend
    before.node, before._grad = tensor.node, None
    before.view_info, before.views = tensor.view_info, tensor.views or []
    with enable_grad():  # also under no_grad: later writes reach existing views through it
        shown = take(before)
    tensor.array = shown.array
    if tensor.node is not None and tensor.node.op is None:  # a leaf, under no_grad
        tensor.node.shape = tensor.array.shape
        return tensor
    for ref in before.views:
        view = ref()
        if view is not None and view is not shown and view.view_info is not None:
            view.view_info = (before, *view.view_info[1:])
    if tensor.node is None and not before.views[:-1] and before.view_info is None:
        return tensor  # its old self is not needed
    if before.view_info is not None and (listed := before.view_info[0].views) is not None:
        listed[:] = [weakref.ref(before) if ref() is tensor else ref for ref in listed]
    tensor.view_info = shown.view_info
    tensor.views = []
    before.views = [ref for ref in before.views if ref() is not shown] + [weakref.ref(tensor)]
    rebase_history(tensor, shown.node)
    return tensor


def keep_old(tensor: Variable, node: Node) -> None:
    """Copy the old values of `tensor` that `node`, which computed the new ones, has saved; call
    this before `tensor` is overwritten."""
    backend = tensor.backend
    owner = backend.storage(tensor.array)
    copies: dict[int, Any] = {}
    for value in node.saved or ():
        if hasattr(value, "dtype") and id(value) not in copies and backend.storage(value) is owner:
            copies[id(value)] = backend.copy(value)
    if copies:
        node.saved = tuple([copies.get(id(value), value) for value in node.saved or ()])


def check(tensor: Variable, name: str, node: Node | None = None) -> None:
    """Raise if `tensor` must not be overwritten: a leaf that requires a gradient, or a view whose
    write cannot be recorded in the graph. `node` is the node of the new value."""
    if isinstance(tensor.array.dtype, PackedDType):
        refuse(name, tensor)
    check_graph(tensor, name, node)


def check_graph(tensor: Variable, name: str, node: Node | None) -> None:
    """Do the same as `check` for a tensor that is not packed."""
    if switched and not mode.grad:
        return
    shared: Any = tensor
    while shared is not None:
        info = shared.view_info
        if info is not None and info[1] is None and (node or info[0].node) is not None:
            raise AutogradError(
                f"{name}: a view that was taken under no_grad is being written in place outside "
                "it, so whether the write belongs to the graph is not clear; take the view where "
                "you write to it"
            )
        if shared.node is not None and shared.node.op is None:
            what = "a leaf Variable" if shared is tensor else "a view of a leaf Variable"
            raise AutogradError(
                f"{name}: {what} that requires grad is being used in an in-place operation; do it "
                "under no_grad(), or on a clone"
            )
        shared = None if info is None else info[0]


def write(tensor: Any, at: Any, value: Any, name: str, depth: int = 5) -> None:
    """Do tensor.array[at] = value, and mark the memory as overwritten. `depth` is that of
    `mark_overwritten`."""
    if inference_used:
        refuse_write(tensor, name)
    array, backend = tensor.array, tensor.backend
    if value.dtype.kind == "c" and array.dtype.kind != "c":
        fix = "take .real of it"
        raise DTypeError(sentence(name, f"values that {tensor.dtype} can hold", value.dtype, fix))
    if not array.shape:
        array = backend.writable(array)
    try:
        tensor.array = array = backend.assign(array, at, value)
    except BackendError:
        if getattr(value, "be", backend) is not backend:
            raise shared_by_samples() from None
        raise
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        # Not in a graph: other elements at the same memory would keep their old gradients.
        shown_by = [array, *(each.array for each in with_bases(tensor))]
        if 0 not in array.shape and (
            tensor.node is not None or not backend.assign_shared(array, at, value, shown_by)
        ):
            raise AutogradError(
                f"{name}: the memory of this tensor cannot be written (an expanded tensor, or a "
                "read-only array or file); clone() it first"
            ) from None
    if not by_data or is_noted(tensor):
        mark_overwritten(backend, array, name, depth)


def shared_by_samples() -> BackendError:
    """Return the error for a write of what differs between the samples of `vmap` to a tensor that
    they share."""
    from gradient.backends.batched.array import SHARED  # loaded already

    return BackendError(SHARED)


def is_noted(tensor: Any) -> bool:
    """Whether in-place writes to a tensor are tracked; those to `x.data` are not."""
    return not any(getattr(each, "unnoted", False) for each in with_bases(tensor))


def _fits(result: Any, tensor: Tensor) -> bool:
    order = {"bool": 0, "int": 1, "float": 2, "complex": 3}
    return order[result.dtype.kind] <= order[tensor.dtype.kind]
