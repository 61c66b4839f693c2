"""The samples of `vmap` as tensors: into a function that sees one sample, out of it, and beside it.

A tensor on a `BatchedBackend` stands for the tensors of all samples. `entered` makes one of a
tensor with a batch dimension, `left` the reverse, and `lifted` one of a tensor that all samples
share. Each is the copy to another backend that the graph records, like that to another device.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from gradient.autograd import numbers
from gradient.autograd.modes import mode, switched
from gradient.autograd.node import Node, make_node
from gradient.autograd.variable import Variable, wrap
from gradient.backends.base import Backend
from gradient.backends.batched.array import BatchedArray
from gradient.backends.batched.backend import BatchedBackend
from gradient.errors import ArgumentError, sentence
from gradient.source_lines import location_of, user_frame
from gradient.tensor import Tensor, generator

Parents = Sequence[Node | None]


class _Running(threading.local):
    """The backends of the `vmap`s that run in a thread, the outermost first."""

    def __init__(self) -> None:
        self.backends: list[BatchedBackend] = []


_running = _Running()


@contextmanager
def samples_on(backend: BatchedBackend) -> Iterator[None]:
    """A context in which functions see one sample of `backend`."""
    _running.backends.append(backend)
    try:
        yield
    finally:
        _running.backends.pop()


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


class _Crossing:
    """An op between the tensors of all samples and those that a function sees."""

    saved_names = ()

    def __init__(
        self, name: str, back: Callable[..., Any], back_of_tensors: Callable[..., Any]
    ) -> None:
        self.name = self.public_name = name
        self.back, self.back_of_tensors = back, back_of_tensors

    def vjp(self, node: Node, g: Any, parents: Parents) -> list[Any]:
        (parent,) = parents
        return [None if parent is None else self.back(g, node, parent)]

    def vjp_tensors(self, node: Node, g: Any, parents: Parents, be: Any, grad: Any) -> list[Any]:
        (parent,) = parents
        return [None if parent is None else self.back_of_tensors(g, node, parent)]


def _crossed(source: Any, op: _Crossing, array: Any, backend: Any, *saved: Any) -> Tensor:
    """Make the tensor of an array that an op made of the tensor `source`."""
    out = wrap(array, backend)
    node = source.node
    if node is not None and (not switched or mode.grad):
        location = location_of(user_frame(2))
        out.node = make_node(op, backend, (node,), saved, array, location)
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
    return _crossed(x, _LIFT, backend.from_beneath(x.array), backend)


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


def _back_from_entering(g: Any, node: Node, parent: Node) -> Any:
    (dim,) = node.saved or ()
    return _array_left(g, node.backend, dim)  # type: ignore[arg-type]


def _back_from_leaving(g: Any, node: Node, parent: Node) -> Any:
    (dim,) = node.saved or ()
    backend: Any = parent.backend
    if dim is None:  # the sum over the samples, which share the result
        return BatchedArray(backend, g / backend.count(), False)
    return _array_entered(g, backend, dim)


def _back_from_lifting(g: Any, node: Node, parent: Node) -> Any:
    backend: Any = node.backend
    value, batched = backend.split(g)
    if batched:
        return backend.inner.sum(value, 0, False)
    return value if backend.size is None else value * backend.size


def _tensor_back_from_entering(g: Any, node: Node, parent: Node) -> Tensor:
    (dim,) = node.saved or ()
    return left(g, dim)


def _tensor_back_from_leaving(g: Any, node: Node, parent: Node) -> Tensor:
    (dim,) = node.saved or ()
    backend: Any = parent.backend
    g = lifted(g, backend.inner)
    if dim is None:
        return lifted(g / backend.count(), backend)
    return entered(g, backend, dim)


def _tensor_back_from_lifting(g: Any, node: Node, parent: Node) -> Tensor:
    backend: Any = node.backend
    if not backend.is_batched(g.array):
        found: Tensor = left(g, None)
        return found if backend.size is None else found * backend.size
    return left(g, 0).sum(0)


_ENTER = _Crossing("vmap_enter", _back_from_entering, _tensor_back_from_entering)
_LEAVE = _Crossing("vmap_leave", _back_from_leaving, _tensor_back_from_leaving)
_LIFT = _Crossing("vmap_share", _back_from_lifting, _tensor_back_from_lifting)


# Tensors from outside -----------------------------------------------------------------------------


def as_seen(x: Any) -> Any:
    """Return a tensor as the innermost `vmap` that runs sees it."""
    running = _running.backends
    if not running or not isinstance(x, Variable) or not _is_beneath(x.backend, running[-1]):
        return x
    return lifted(x, running[-1])


def _is_beneath(backend: Backend, other: Backend) -> bool:
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
    if not all(x.backend is deepest or _is_beneath(x.backend, deepest) for x in tensors):
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
    for be in _running.backends:
        if be.randomness == "error":
            expected = "a function without random numbers, or randomness 'different' or 'same'"
            raise ArgumentError(sentence("vmap", expected, "randomness 'error'"))
        if be.randomness == "different":
            n *= be.size or 1
    return n


numbers.among_samples.append(_among_samples)
generator.drawing_for_samples.append((_drawing_for, _draws))
