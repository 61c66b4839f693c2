"""The gradients of recorded graphs, also of many samples at once.

`jacrev` and `jacfwd` call their function once, on the tensors that they were given, and then
compute the gradients of all elements as samples of a `BatchedBackend`. So does `vmap` of the
function that `vjp` returns. But nodes compute gradients on the backend on which they were recorded.
So the graph is copied: the same ops and saved values, on the backend of the samples.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from gradient.autograd import engine, inplace
from gradient.autograd.checkpoint import outer_nodes
from gradient.autograd.function import FunctionOp
from gradient.autograd.node import Node, NodeHooks, next_sequence_nr
from gradient.autograd.op import Op
from gradient.autograd.outputs import OUTPUT
from gradient.autograd.roots import backend_of_tensors
from gradient.autograd.variable import Variable, wrap
from gradient.backends.base import Backend
from gradient.backends.batched.array import BatchedArray
from gradient.backends.batched.backend import BatchedBackend
from gradient.func.samples import (
    Crossing,
    entered,
    entered_node,
    is_beneath,
    left,
    left_node,
    lifted,
    lifted_node,
)
from gradient.tensor import Tensor
from gradient.tensor.creation_like import zeros_like
from gradient.tensor.joining import stack

Parents = Sequence[Node | None]


def gradients(
    own: Collection[Node | None],
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    again: bool = True,
) -> list[Tensor]:
    """Return the gradients of the weighted sum of outputs; zeros for unused inputs.

    They are in a graph if one of the caller's needs it: if the outputs depend on leaves that are
    not in `own`, or the weights on any. `again`: the outputs' graph is still needed. The weights
    may be those of samples, of a `vmap` that began after the outputs were computed; then so are
    the gradients.
    """
    backend = max((each.backend for each in (*inputs, *weights)), key=_depth)
    pairs = [(o, w) for o, w in zip(outputs, weights, strict=True) if o.requires_grad]
    found: Sequence[Tensor | None] = [None] * len(inputs)
    if pairs:
        roots: Sequence[Tensor] = [lifted(o, inputs[0].backend) for o, _ in pairs]
        graph = any(w.requires_grad for _, w in pairs) or not leads_only_to(own, roots)
        at = inputs
        for each in levels(inputs[0].backend, backend):
            roots, at = on_samples(each, roots, at)
        found = engine.grad(
            roots, at, [lifted(w, o.backend) for o, (_, w) in zip(roots, pairs, strict=True)],
            retain_graph=again or graph, create_graph=graph, allow_unused=True,
        )  # fmt: skip
    return [
        zeros_like(lifted(x.detach(), backend)) if g is None else g
        for g, x in zip(found, inputs, strict=True)
    ]


def _depth(backend: Backend) -> int:
    return backend.depth if isinstance(backend, BatchedBackend) else 0


def leads_only_to(own: Collection[Node | None], outputs: Sequence[Tensor]) -> bool:
    """Whether all leaves of the outputs' graph are in `own`."""
    nodes = {o.node for o in outputs if o.node is not None}
    return all(leaf in own for leaf in outer_nodes(nodes, 0))


# A graph of one sample as a graph of all ----------------------------------------------------------


def levels(base: Backend, backend: Backend) -> list[BatchedBackend]:
    """The backends of the `vmap`s from that above `base` to `backend`, if that is above it."""
    found: list[BatchedBackend] = []
    while isinstance(backend, BatchedBackend) and backend is not base:
        found.insert(0, backend)
        backend = backend.inner
    return found if backend is base else []


def on_samples(
    backend: BatchedBackend, outputs: Sequence[Tensor], inputs: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return outputs and inputs, which are of the inner backend, as tensors of `backend`, whose
    samples share them, with a copy of the graph between them."""
    copies = _Copies(backend, [x.node for x in inputs])
    copies.add([o.node for o in outputs])
    return [copies.tensor(o) for o in outputs], [copies.tensor(x) for x in inputs]


class _Copies:
    """Copies of the nodes of a graph, on the backend of samples.

    The copied part ends at the inputs, at leaves, at nodes older than the inputs, and at those of
    backends below; these are shared by the samples, so the gradients can be differentiated with
    respect to them.
    """

    def __init__(self, backend: BatchedBackend, inputs: Sequence[Any]) -> None:
        self.backend, self.base = backend, backend.inner
        self.inputs = set(inputs)
        self.oldest: int = min(node.sequence_nr for node in inputs)
        self.nodes: dict[Node, Node] = {}
        self.backends: dict[Backend, BatchedBackend] = {self.base: backend}

    def of(self, backend: Backend) -> BatchedBackend:
        """The backend of the samples for that of a node: that of a `vmap` in the function has one
        of its own, and so has another device."""
        if backend not in self.backends:
            inner = self.of(backend.inner) if isinstance(backend, BatchedBackend) else backend
            size = backend.size if isinstance(backend, BatchedBackend) else self.backend.size
            self.backends[backend] = BatchedBackend(inner, size, "same")
        return self.backends[backend]

    def add(self, roots: Sequence[Any]) -> None:
        """Copy the nodes of the graph beneath `roots`."""
        seen = set(roots)
        waiting = list(seen)
        while waiting:
            node = waiting.pop()
            for parent in () if self._ends_at(node) else node.parents:
                if parent is not None and parent not in seen:
                    seen.add(parent)
                    waiting.append(parent)
        for node in sorted(seen, key=engine.by_sequence_nr):  # the copies are newer, in this order
            shared = self._ends_at(node)
            self.nodes[node] = self._lifted(node) if shared else self._copy(node)

    def _ends_at(self, node: Node) -> bool:
        return (
            node in self.inputs
            or node.op is None
            or node.sequence_nr < self.oldest
            or any(p is not None and is_beneath(p.backend, self.base) for p in node.parents)
        )

    def _copy(self, node: Node) -> Node:
        if node.saved and node.unpack is None:
            inplace.check_saved(node)  # the copy is newer than the write that it looks for
        made = Node()
        made.sequence_nr = next_sequence_nr()
        made.__dict__.update(node.__dict__)
        made.retained = None  # the tensor keeps the gradient of one sample
        made.op = node.op if _of_any_backend(node.op) else _OneByOne(node, self)
        made.backend = self.of(node.backend)
        made.parents = tuple([None if p is None else self.nodes[p] for p in node.parents])
        made.saved = node.saved
        if node.unpack is not None:
            unpack = node.unpack
            made.unpack = lambda _: self.value(unpack(node), node.backend)
        elif node.saved:
            made.saved = self.value(node.saved, node.backend)
        for name in ("shape", "dtype", "location"):
            if hasattr(node, name):
                setattr(made, name, getattr(node, name))
        if hasattr(node, "options"):
            made.options = self.value(node.options, node.backend)
        return made

    def _lifted(self, node: Node) -> Node:
        """The node of the same value, shared by the samples."""
        backend = node.backend
        if backend is self.base or not isinstance(backend, BatchedBackend):
            return lifted_node(node, self.of(backend))
        # Of a `vmap` in the function: by way of the tensor of all its samples.
        return entered_node(self._lifted(left_node(node)), self.of(backend))

    def tensor(self, x: Any) -> Tensor:
        """A tensor with the value and the node of x, of all samples."""
        if is_beneath(x.backend, self.base):
            same: Tensor = x
            return same
        node = x.node
        if node is not None:
            node = self.nodes[node] if node in self.nodes else self._lifted(node)
        return wrap(self.value(x.array, x.backend), self.of(x.backend), node)

    def value(self, value: Any, backend: Backend) -> Any:
        """What a node of `backend` saved, for its copy."""
        kind = type(value)
        if kind is BatchedArray:
            if value.be is self.base or is_beneath(value.be, self.base):
                return self.backend.from_beneath(value)
            inner = self.value(value.value, value.be.inner)
            return BatchedArray(self.of(value.be), inner, value.batched)
        if kind is tuple or kind is list:
            return kind([self.value(each, backend) for each in value])
        if kind is dict:
            return {name: self.value(each, backend) for name, each in value.items()}
        if isinstance(value, BatchedBackend):
            return self.of(value)
        if isinstance(value, Variable):
            return self.tensor(value)
        if hasattr(value, "dtype") and hasattr(value, "shape"):
            if isinstance(backend, BatchedBackend) and backend is not self.base:
                return value  # of a backend below: all samples share it
            return self.of(backend).from_beneath(value)
        return value


def _of_any_backend(op: Any) -> bool:
    """Whether an op computes its gradients on the backend of its node, whichever it is."""
    while isinstance(op, NodeHooks):
        op = op.op
    return isinstance(op, (Op, Crossing, FunctionOp)) or op is OUTPUT


class _OneByOne:
    """The op of the copy of a node whose gradients are computed for one sample after another: that
    of a checkpoint, of a compiled function, or of a copy to another device."""

    saved_names = ()

    def __init__(self, node: Node, copies: _Copies) -> None:
        self.node, self.copies = node, copies
        self.name, self.public_name = node.op.name, node.op.public_name

    def vjp(self, node: Node, g: Any, parents: Parents) -> list[Any]:
        found = self._each(_mapped(lambda each: wrap(each, node.backend), g), parents, self._arrays)
        return [None if each is None else each.array for each in found]

    def vjp_tensors(self, node: Node, g: Any, parents: Parents, be: Any, grad: Any) -> list[Any]:
        on_tensors = backend_of_tensors(self.node.backend)
        return self._each(
            g, parents, lambda g, wanted: self.node.op.vjp_tensors(
                self.node, g, wanted, on_tensors, grad
            ),
        )  # fmt: skip

    def _arrays(self, g: Any, wanted: Parents) -> list[Any]:
        found = self.node.op.vjp(self.node, _mapped(lambda each: each.array, g), wanted)
        return [
            None if each is None or p is None else wrap(each, p.backend)
            for each, p in zip(found, wanted, strict=False)
        ]

    def _each(self, g: Any, parents: Parents, vjp: Any) -> list[Any]:
        """Call `vjp` with the gradients of each sample, and join its results, as tensors."""
        pairs = zip(self.node.parents, parents, strict=True)
        wanted = [None if p is None else original for original, p in pairs]
        if not self.copies.backend.size:
            return [None if p is None else self._zeros(p) for p in wanted]
        found = [
            vjp(_mapped(lambda each, i=i: self._sample(each, self.node.backend, i), g), wanted)
            for i in range(self.copies.backend.size)
        ]
        return [
            None if p is None or column[0] is None else self._joined(column, p.backend)
            for p, column in zip(wanted, zip(*found, strict=True), strict=True)
        ]

    def _zeros(self, node: Node) -> Tensor:
        backend = self.copies.of(node.backend)
        return wrap(backend.zeros(node.shape, node.dtype), backend)

    def _sample(self, x: Tensor, backend: Any, i: int) -> Tensor:
        """The tensor on `backend` of sample i, of one on the copy of that backend."""
        if self._is_of_samples(backend):
            return entered(self._sample(left(x, 0), backend.inner, i), backend, 0)
        return left(x, 0)[i]

    def _joined(self, samples: Sequence[Tensor], backend: Any) -> Tensor:
        """The inverse of `_sample`, for all samples."""
        made = self.copies.of(backend)
        if self._is_of_samples(backend):
            return entered(self._joined([left(x, 0) for x in samples], backend.inner), made, 0)
        return entered(stack(list(samples)), made, 0)

    def _is_of_samples(self, backend: Backend) -> bool:
        """Whether a backend is that of a `vmap` in the function."""
        return isinstance(backend, BatchedBackend) and backend is not self.copies.base


def _mapped(function: Any, g: Any) -> Any:
    """Apply a function to a gradient, or to each of those of several results."""
    if isinstance(g, list):
        return [None if each is None else function(each) for each in g]
    return function(g)
