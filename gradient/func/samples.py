"""The samples of `vmap` as tensors: into a function that sees one sample, out of it, and beside it.

A tensor on a `BatchedBackend` stands for the tensors of all samples. `entered` makes one of a
tensor with a batch dimension, `left` the reverse, and `lifted` one of a tensor that all samples
share. Each is the copy to another backend that the graph records, like that to another device.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from gradient.autograd import numbers
from gradient.autograd.modes import mode, switched
from gradient.autograd.node import Node, make_node
from gradient.autograd.variable import Variable, wrap
from gradient.backends.base import Backend
from gradient.backends.batched.array import BatchedArray
from gradient.backends.batched.backend import BatchedBackend
from gradient.backends.batched.elementwise import no_random_numbers
from gradient.errors import BackendError, DeviceError, sentence
from gradient.source_lines import location_of, user_frame
from gradient.tensor import Tensor, generator
from gradient.tensor.views import note

if TYPE_CHECKING:
    from gradient.autograd.op import Op

Parents = Sequence[Node | None]


RANDOMNESS = ("error", "different", "same")
"""What `vmap` can do if its function draws random numbers."""


ESCAPED = (
    "vmap: a tensor of another vmap, which has ended or does not contain this one, cannot be used "
    "here; return it from its function"
)


class _Running(threading.local):
    """What runs in a thread.

    backends  those of the `vmap`s, the outermost first
    refusing  how many functions must not draw random numbers, those of `vmap`s aside
    """

    def __init__(self) -> None:
        self.backends: list[BatchedBackend] = []
        self.refusing = 0


_running = _Running()


@contextmanager
def samples_on(backend: BatchedBackend) -> Iterator[None]:
    """A context in which functions see one sample of `backend`."""
    _running.backends.append(backend)
    try:
        yield
    finally:
        _running.backends.pop()


@contextmanager
def drawing(backend: BatchedBackend) -> Iterator[None]:
    """A context for a function that is called once for samples of which only the derivatives
    differ: it sees them only if they draw "different" numbers."""
    if backend.randomness == "different":
        with samples_on(backend):
            yield
        return
    _running.refusing += backend.randomness == "error"
    try:
        yield
    finally:
        _running.refusing -= backend.randomness == "error"


def beneath(backend: Backend) -> Backend:
    """The backend on which a new `vmap` of tensors of `backend` builds: that of the innermost one
    that runs, if it is of the same device."""
    running = _running.backends
    if running and _base(running[-1]) is _base(backend):
        return running[-1]
    return backend


def _base(backend: Backend) -> Backend:
    while isinstance(backend, BatchedBackend):
        backend = backend.inner
    return backend


# Into and out of the function ---------------------------------------------------------------------


class Crossing:
    """An op between the tensors of all samples and those that a function sees.

    The tensors that a function is given show the memory of the caller's: they are views of these by
    such an op, which so has what `gradient.tensor.views` needs of one, `function` and so on.
    """

    saved_names = ()
    defaults: dict[str, Any] = {}
    needs = (("backend", "dim"),)

    def __init__(self, name: str, there: Callable[..., Any], back: Callable[..., Any]) -> None:
        self.name = self.public_name = name
        self.function: Callable[..., Any] = lambda be, g, backend, dim: there(g, backend, dim)
        self.rules = (back,)
        self.back = back

    def vjp(self, node: Node, g: Any, parents: Parents, *_: Any) -> list[Any]:
        (parent,) = parents
        if parent is None:
            return [None]
        samples = parent.backend if self is _LEAVE else node.backend
        return [self.back(g, samples, node.options["dim"])]

    vjp_tensors = vjp

    def record(
        self, backend: Any, arrays: Any, nodes: Any, y: Any, extras: Any, options: dict[str, Any]
    ) -> Node:
        """Make the node of a view of a tensor that was overwritten, like `Op.record`."""
        node = make_node(self, options["backend"], nodes, (), y, location_of(user_frame()))
        node.options = options
        return node


def _crossed(source: Any, op: Crossing, array: Any, backend: Any, dim: int | None) -> Tensor:
    """Make the tensor of an array that an op made of the tensor `source`."""
    out = wrap(array, backend)
    node = source.node
    if node is not None and (not switched or mode.grad):
        location = location_of(user_frame(2))
        out.node = made = make_node(op, backend, (node,), (), array, location)
        made.options = {"dim": dim}
    return out


def entered(x: Any, backend: BatchedBackend, dim: int) -> Tensor:
    """Make the tensor of one sample, of one of the inner backend with the batch along `dim`."""
    return _crossed(x, _ENTER, _array_entered(x.array, backend, dim), backend, dim)


def left(x: Any, dim: int | None) -> Tensor:
    """Make the tensor of all samples, with the batch along `dim`; without it if `dim` is None."""
    backend = x.backend
    return _crossed(x, _LEAVE, _array_left(x.array, backend, dim), backend.inner, dim)


def lifted(x: Any, backend: Backend) -> Tensor:
    """Make a tensor of `backend` of one of a backend beneath it, which all samples share."""
    if x.backend is backend or not isinstance(backend, BatchedBackend):
        same: Tensor = x
        return same
    x = lifted(x, backend.inner)
    return _crossed(x, _LIFT, backend.from_beneath(x.array), backend, None)


# The nodes that these tensors have, given the tensor's own, and the batch along the first axis.


def entered_node(node: Node, backend: Backend) -> Node:
    return _crossing_node(_ENTER, backend, node, node.shape[1:], 0)


def left_node(node: Node) -> Node:
    backend: Any = node.backend
    return _crossing_node(_LEAVE, backend.inner, node, (backend.size, *node.shape), 0)


def lifted_node(node: Node, backend: Backend) -> Node:
    if node.backend is backend or not isinstance(backend, BatchedBackend):
        return node
    below = lifted_node(node, backend.inner)
    return _crossing_node(_LIFT, backend, below, node.shape, None)


def _crossing_node(
    op: Crossing, backend: Backend, parent: Node, shape: tuple[int, ...], dim: int | None
) -> Node:
    node = make_node(op, backend, (parent,), (), parent)
    node.shape, node.options = shape, {"dim": dim}
    return node


def shown(x: Any, backend: BatchedBackend, dim: int | None) -> Tensor:
    """Make the tensor that a function is given for an argument: by `entered`, or by `lifted` if
    `dim` is None. What the function writes to it, it writes to the caller's tensor `x`."""
    if x.backend is backend:
        return x
    if x.backend is not backend.inner and is_beneath(x.backend, backend):
        x = shown(x, backend.inner, None)
    if x.backend is not backend.inner:  # of another device
        if dim is None:
            return x
        expected = f"batched arguments on one device, {backend.device}"
        raise DeviceError(sentence("vmap", expected, x.backend.device, "move one with .to()"))
    if dim is None:
        out, op = lifted(x, backend), _LIFT
    else:
        out, op = entered(x, backend, dim), _ENTER
        if backend.storage(out.array) is not backend.inner.storage(x.array):
            return out
    note(x, out, cast("Op", op), {"backend": backend, "dim": dim})
    return out


def _moved(backend: Backend, value: Any, start: int, to: int) -> Any:
    if start == to:
        return value
    order = list(range(len(value.shape)))
    order.insert(to, order.pop(start))
    return backend.permute(value, tuple(order))


def _array_entered(array: Any, backend: BatchedBackend, dim: int) -> BatchedArray:
    return BatchedArray(backend, _moved(backend.inner, array, dim % len(array.shape), 0), True)


def _array_left(array: Any, backend: BatchedBackend, dim: int | None) -> Any:
    if dim is None:
        return array.value
    return _moved(backend.inner, backend.whole(array), 0, dim % (len(array.shape) + 1))


# Of arrays, and of tensors for derivatives of any order. What the samples share is used once, but
# its gradients are summed over the samples: each has its part of them.


def _enter(x: Any, backend: BatchedBackend, dim: int | None) -> Any:
    if isinstance(x, Variable):
        x = lifted(x, backend.inner)
        return lifted(x / backend.sharing, backend) if dim is None else entered(x, backend, dim)
    if dim is None:
        return BatchedArray(backend, x / backend.sharing, False)
    return _array_entered(x, backend, dim)


def _leave(x: Any, backend: BatchedBackend, dim: int | None) -> Any:
    return left(x, dim) if isinstance(x, Variable) else _array_left(x, backend, dim)


def _summed(g: Any, backend: BatchedBackend, dim: None) -> Any:
    """The sum of a gradient over the samples."""
    if isinstance(g, Variable):
        batched = backend.is_batched(g.array)
        return left(g, 0).sum(0) if batched else left(g, None) * backend.sharing
    value, batched = backend.split(g)
    return backend.inner.sum(value, 0, False) if batched else value * backend.sharing


_ENTER = Crossing("vmap_enter", _enter, _leave)
_LEAVE = Crossing("vmap_leave", _leave, _enter)
_LIFT = Crossing("vmap_share", _enter, _summed)


# Tensors from outside -----------------------------------------------------------------------------


def as_seen(x: Any) -> Any:
    """Return a tensor as the innermost `vmap` that runs sees it."""
    running = _running.backends
    if not running or not isinstance(x, Variable) or not is_beneath(x.backend, running[-1]):
        return x
    return lifted(x, running[-1])


def is_beneath(backend: Backend, other: Backend) -> bool:
    """Whether a chain of `vmap`s leads from `other` to `backend`."""
    while isinstance(other, BatchedBackend):
        other = other.inner
        if other is backend:
            return True
    return False


def _among_samples(inputs: Sequence[Any], options: Any) -> list[Any] | None:
    """See `numbers.among_samples`."""
    found: list[BatchedBackend] = []
    _collect(inputs, found)
    if options:
        _collect(list(options.values()), found)
    if not found:
        return None
    deepest = max(found, key=lambda be: be.depth)
    tensors = [x for x in inputs if isinstance(x, Variable)]
    if not any(x.backend is not deepest for x in tensors):
        return None
    for be in {x.backend for x in tensors} - {deepest}:
        if not is_beneath(be, deepest):
            if isinstance(be, BatchedBackend):
                raise BackendError(ESCAPED)
            return None
    return [lifted(x, deepest) if isinstance(x, Variable) else x for x in inputs]


def _collect(values: Sequence[Any], found: list[BatchedBackend]) -> None:
    """Collect the backends of `vmap`s of tensors and arrays."""
    for value in values:
        if isinstance(value, Variable):
            if isinstance(value.backend, BatchedBackend):
                found.append(value.backend)
        elif type(value) is BatchedArray:
            found.append(value.be)  # type: ignore[arg-type]
        elif isinstance(value, (tuple, list)):
            _collect(value, found)


# Random numbers -----------------------------------------------------------------------------------


def _drawing_for(backend: Backend) -> Backend:
    """The backend that draws new random tensors of `backend`: that of the innermost `vmap`, if the
    samples of any differ."""
    running = _running.backends
    if not any(be.randomness == "different" for be in running) or _base(running[-1]) is not backend:
        return backend
    return running[-1]


def _draws() -> int:
    """How many samples draw numbers of their own; raise if `vmap` allows none."""
    n = 1
    if _running.refusing:
        raise no_random_numbers()
    for be in _running.backends:
        if be.randomness == "error":
            raise no_random_numbers()
        if be.randomness == "different":
            n *= be.sharing
    return n


numbers.among_samples.append(_among_samples)
generator.drawing_for_samples.append((_drawing_for, _draws))
