"""In-place operations.

An in-place operation computes its result as the plain op does, writes it into the tensor's memory
and gives the tensor the result's node. Whoever shares the memory sees the new values:

* nodes that saved the old ones notice in the backward pass (`gradient.autograd.inplace`);
* tensors that share the memory get new nodes, so that gradients go through the write
  (`gradient.tensor.views`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradient.autograd.inference import refuse_write
from gradient.autograd.inplace import mark_overwritten
from gradient.autograd.modes import inference_used, mode
from gradient.autograd.node import spot_of, user_frame
from gradient.autograd.variable import Variable
from gradient.backends.packed import PackedArray
from gradient.errors import AutogradError, DTypeError, ShapeError, sentence
from gradient.ops import elementwise, index
from gradient.tensor.arguments import fitting, number_of
from gradient.tensor.packed import overwrite_parts, refuse
from gradient.tensor.views import link_of, owned, renew, sharing, spread_news


def overwrite(tensor: Any, result: Any, name: str) -> Any:
    """Write `result` into `tensor`'s memory and make it `tensor`'s value in the graph."""
    check(tensor, name, result.node)
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
    if mode.grad:
        node = result.node
        if node is not None and node.op is not None:
            node.spot = spot_of(user_frame())
        if node is not None and result.array.dtype != tensor.array.dtype:
            node = elementwise.astype(result, dtype=tensor.array.dtype).node
        renew(tensor, node)
        spread_news(tensor)
    return tensor


def overwrite_at(tensor: Any, at: tuple[Any, ...], value: Any, name: str = "setitem") -> None:
    """tensor[at] = value, of which the graph, if there is one, keeps that the rest is as before."""
    check(tensor, name, value.node)
    array = value.array
    if value.backend is not tensor.backend:
        array = tensor.backend.asarray(value.backend.to_numpy(array))
    recorded = bool(mode.grad) and (tensor.node is not None or value.node is not None)
    before = tensor.array
    write(tensor, at, array, name)
    if recorded:
        nodes = (tensor.node, value.node)
        node = index.setitem.op.record(
            tensor.backend, (before, array), nodes, tensor.array, None, {"index": at}
        )
        renew(tensor, node)
        spread_news(tensor)


def keep_old(tensor: Any, node: Any) -> None:
    """Before `tensor` is overwritten: have `node`, which computed the new values, save copies of
    the old ones that its gradient needs."""
    backend = tensor.backend
    owner = backend.storage(tensor.array)
    copies: dict[int, Any] = {}
    for value in node.saved or ():
        if hasattr(value, "dtype") and id(value) not in copies and backend.storage(value) is owner:
            copies[id(value)] = backend.copy(value)
    if copies:
        node.saved = tuple([copies.get(id(value), value) for value in node.saved])


def check(tensor: Any, name: str, node: Any = None) -> None:
    """Refuse to overwrite a leaf of the graph that is being recorded, and what would miss its way
    into the graph; `node` is that of the new value."""
    if type(tensor.array) is PackedArray:
        refuse(name, tensor)
    if not mode.grad:
        return
    for shared in sharing(tensor):
        link = link_of(shared)
        if link is not None and link[1] is None and (node or link[0].node) is not None:
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


def write(tensor: Any, at: Any, value: Any, name: str) -> None:
    """tensor.array[at] = value, marked as overwritten."""
    if inference_used:
        refuse_write(tensor, name)
    tensor.array = owned(tensor)
    try:
        tensor.array = tensor.backend.assign(tensor.array, at, value)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise AutogradError(
            f"{name}: the memory of this tensor cannot be written (an expanded tensor, or a "
            "read-only array or file); clone() it first"
        ) from None
    mark_overwritten(tensor.backend, tensor.array, name)


def _fits(result: Any, tensor: Any) -> bool:
    order = {"bool": 0, "int": 1, "float": 2}
    return order[result.dtype.kind] <= order[tensor.dtype.kind]


def _in_place(method: str) -> Callable[..., Any]:
    """The in-place form `name_` of a method: the same arguments, the result written over self."""
    name = method + "_"

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        return overwrite(self, getattr(self, method)(*args, **kwargs), name)

    run.__name__ = name
    run.__doc__ = f"In-place form of `{method}`."
    return run


class InPlace:
    """Methods that end in an underscore, and augmented assignment."""

    __slots__ = ()

    array: Any
    backend: Any
    node: Any

    def __iadd__(self, other: Any) -> Any:
        return overwrite(self, elementwise.add(self, other), "add_")

    def __isub__(self, other: Any) -> Any:
        return overwrite(self, elementwise.sub(self, other), "sub_")

    def __imul__(self, other: Any) -> Any:
        return overwrite(self, elementwise.mul(self, other), "mul_")

    def __itruediv__(self, other: Any) -> Any:
        return overwrite(self, elementwise.div(self, other), "div_")

    def __ipow__(self, other: Any) -> Any:
        return overwrite(self, elementwise.pow(self, other), "pow_")

    def __imod__(self, other: Any) -> Any:
        return overwrite(self, elementwise.remainder(self, other), "remainder_")

    def __ifloordiv__(self, other: Any) -> Any:
        return overwrite(self, elementwise.floor_divide(self, other), "floor_divide_")

    def __iand__(self, other: Any) -> Any:
        return overwrite(self, elementwise.bitwise_and(self, other), "bitwise_and_")

    def __ior__(self, other: Any) -> Any:
        return overwrite(self, elementwise.bitwise_or(self, other), "bitwise_or_")

    def __ixor__(self, other: Any) -> Any:
        return overwrite(self, elementwise.bitwise_xor(self, other), "bitwise_xor_")

    add_, sub_, mul_, div_ = (_in_place(n) for n in ("add", "sub", "mul", "div"))
    pow_, neg_, abs_, sign_ = (_in_place(n) for n in ("pow", "neg", "abs", "sign"))
    remainder_, fmod_ = _in_place("remainder"), _in_place("fmod")
    floor_divide_ = _in_place("floor_divide")
    exp_, log_, sqrt_, rsqrt_ = (_in_place(n) for n in ("exp", "log", "sqrt", "rsqrt"))
    log1p_, expm1_, square_ = (_in_place(n) for n in ("log1p", "expm1", "square"))
    reciprocal_, tanh_, sigmoid_ = (_in_place(n) for n in ("reciprocal", "tanh", "sigmoid"))
    relu_, erf_, sin_, cos_ = (_in_place(n) for n in ("relu", "erf", "sin", "cos"))
    floor_, ceil_, round_, trunc_ = (_in_place(n) for n in ("floor", "ceil", "round", "trunc"))
    clamp_ = clip_ = _in_place("clamp")
    clamp_min_, clamp_max_ = _in_place("clamp_min"), _in_place("clamp_max")
    lerp_, addcmul_, addcdiv_ = (_in_place(n) for n in ("lerp", "addcmul", "addcdiv"))
    masked_fill_, masked_scatter_ = _in_place("masked_fill"), _in_place("masked_scatter")
    scatter_, scatter_add_ = _in_place("scatter"), _in_place("scatter_add")
    index_add_, index_copy_ = _in_place("index_add"), _in_place("index_copy")
    index_fill_ = _in_place("index_fill")
    tril_, triu_ = _in_place("tril"), _in_place("triu")
    nan_to_num_, logical_not_ = _in_place("nan_to_num"), _in_place("logical_not")
    bitwise_not_ = _in_place("bitwise_not")

    def cumsum_(self, dim: int, *, dtype: Any = None) -> Any:
        """In-place form of `cumsum`."""
        own = self.dtype  # type: ignore[attr-defined]
        if dtype not in (None, own):
            raise DTypeError(sentence("cumsum_", f"the tensor's own dtype {own}", dtype))
        return overwrite(self, self.cumsum(dim, dtype=own), "cumsum_")  # type: ignore[attr-defined]

    def copy_(self, src: Any, non_blocking: bool = False) -> Any:
        """Copy the values of `src`, broadcast and cast to this tensor's dtype and device."""
        if isinstance(src, (bool, int, float)):
            return self.fill_(src)
        if not isinstance(src, Variable):
            number_of("copy_", "src", src)
            src = self._wrap(self.backend.asarray(src), self.backend)  # type: ignore[attr-defined]
        if isinstance(self.array, PackedArray):
            overwrite_parts(self, src)
            return self
        if src.backend is not self.backend:
            src = src.to(self.backend.device)  # type: ignore[attr-defined]
        if src.array.shape != self.array.shape:
            try:
                src = src.expand(self.array.shape)  # type: ignore[attr-defined]
            except ShapeError:
                expected = f"a src that broadcasts to {tuple(self.array.shape)}"
                raise ShapeError(sentence("copy_", expected, tuple(src.array.shape))) from None
        if src.array.dtype != self.array.dtype:
            src = elementwise.astype(src, dtype=self.array.dtype)
        overwrite_at(self, (), src, "copy_")
        return self

    def fill_(self, value: Any) -> Any:
        """Fill with a number (or a 0-d tensor)."""
        refuse("fill_", self)
        if isinstance(value, Variable):
            if value.array.shape:
                got = tuple(value.array.shape)
                raise ShapeError(sentence("fill_", "a number or a 0-d Tensor as value", got))
            return self.copy_(value)
        value = fitting("fill_", "value", number_of("fill_", "value", value), self.dtype)  # type: ignore[attr-defined]
        array = self.backend.full((), value, self.array.dtype)
        overwrite_at(self, (), self._wrap(array, self.backend), "fill_")  # type: ignore[attr-defined]
        return self

    def zero_(self) -> Any:
        """Fill with zeros."""
        return self.fill_(0)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Ask for a gradient in `grad` (or no longer)."""
        self.requires_grad = requires_grad
        return self
