"""The roots of a backward pass: the tensors that it starts from, and their initial gradients."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from gradient.autograd.node import GradientEdge, Node
from gradient.autograd.variable import Variable, wrap
from gradient.errors import AutogradError, ShapeError, TypeMismatch, sentence

if TYPE_CHECKING:
    from gradient.backends import Backend


def backend_of_tensors(backend: Backend) -> Backend:
    """Return the backend whose arrays are Tensors of `backend`. It is on a higher rung, above the
    ops, and few programs need it, so it is imported late."""
    found: Backend | None = backend.on_tensors
    if found is None:
        found = importlib.import_module("gradient.tensor_backend").tensor_backend(backend)
    return found


def tensors_of(caller: str, name: str, value: Any, absent: bool = False) -> Sequence[Any]:
    """Return the Tensors of an argument that is a Tensor or a sequence of them; some may be None if
    `absent` is true."""
    if isinstance(value, Variable):
        return (value,)
    if isinstance(value, GradientEdge):  # a tuple, too
        value = (value,)
    if type(value) is tuple:  # isinstance with an abstract class takes ten times as long
        given = value
    else:
        given = tuple(value) if isinstance(value, Iterable) else (value,)
    for each in given:
        if not isinstance(each, Variable) and not (absent and each is None):
            if isinstance(each, GradientEdge):
                return tensors_of(caller, name, [_end_of(caller, e) for e in given], absent)
            expected = f"a Tensor or a sequence of Tensors as {name}"
            raise TypeMismatch(sentence(caller, expected, type(each).__name__))
    return given


class _Kind:
    """Shape and dtype of a tensor of which only the edge is known, in place of its array."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape, self.dtype = shape, dtype


def _end_of(caller: str, edge: Any) -> Any:
    """Return an object with the node, shape and dtype of the edge's tensor; return a value that is
    not an edge unchanged."""
    if not isinstance(edge, GradientEdge):
        return edge
    node = edge.ownership_token or edge.node
    if not isinstance(node, Node) or node.n_outputs:
        expected = "edges as autograd.graph.get_gradient_edge gives them"
        raise AutogradError(sentence(caller, expected, f"one of {node!r} without ownership_token"))
    leaf = node.leaf() if node.leaf is not None else None
    return wrap(_Kind(tuple(node.shape), node.dtype), node.backend, node) if leaf is None else leaf


def root_grads(
    caller: str, name: str, tensors: Any, grads: Any, create_graph: bool
) -> list[tuple[Node, Any]]:
    """Return each root node with its initial gradient: a raw array, or with `create_graph` a
    Tensor."""
    tensors = tensors_of(caller, name, tensors)
    grads = () if grads is None else tensors_of(caller, f"grad_{name}", grads, absent=True)
    if grads and len(grads) != len(tensors):
        raise AutogradError(f"{caller}: got {len(tensors)} tensors but {len(grads)} gradients")
    roots = []
    for i, tensor in enumerate(tensors):
        if tensor.node is None:
            raise AutogradError(
                f"{caller}: tensor {i} does not require grad and does not have a grad_fn"
            )
        g = grads[i] if grads else None
        shape, is_complex = tuple(tensor.array.shape), tensor.array.dtype.kind == "c"
        if g is None:
            if math.prod(shape) != 1:
                raise AutogradError(
                    f"{caller}: grad can be implicitly created only for scalar outputs, got shape "
                    f"{shape}; pass a gradient of that shape"
                )
            if is_complex:
                raise AutogradError(
                    f"{caller}: grad can be implicitly created only for real scalar outputs, got "
                    f"{tensor.dtype}; pass a gradient"
                )
            g = tensor.backend.ones(shape, tensor.array.dtype)
        elif tuple(g.shape) != shape:
            raise ShapeError(
                f"{caller}: gradient {i} has shape {tuple(g.shape)} but its tensor has shape "
                f"{shape}"
            )
        elif (g.array.dtype.kind == "c") is not is_complex:
            raise AutogradError(
                f"{caller}: gradient {i} has dtype {g.dtype} but its tensor has dtype "
                f"{tensor.dtype}; both or neither must be complex: take .real of it or cast it"
            )
        if create_graph:
            g = g if isinstance(g, Variable) else wrap(g, tensor.backend)
        elif isinstance(g, Variable):
            g = g.array
        if is_complex:
            g = conjugate(tensor.node, g, create_graph)
        roots.append((tensor.node, g))
    return roots


def conjugate(node: Node, g: Any, on_tensors: bool) -> Any:
    """Convert between a gradient for users and one that nodes pass on: conjugate complex ones."""
    if node.n_outputs or node.dtype.kind != "c":
        return g
    return (backend_of_tensors(node.backend) if on_tensors else node.backend).conj(g)
