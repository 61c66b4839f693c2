"""Ops with several results: one node for the call, and a small one for each result.

Only the node of the call has the line of the user's program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradient.autograd import variable
from gradient.autograd.modes import inference_used, mode
from gradient.autograd.node import Node, next_sequence_nr


class _Output:
    """The op between a node with several results and one of them."""

    name = public_name = "output"
    saved_names = ()

    def vjp(self, node: Node, g: Any, parents: Any, *_: Any) -> Sequence[Any]:
        (index,) = node.saved or ()
        return [OutputGrad(index, g)]

    vjp_tensors = vjp


class OutputGrad:
    """The gradient of one of a node's several results."""

    __slots__ = ("g", "index")

    def __init__(self, index: int, g: Any):
        self.index, self.g = index, g


OUTPUT = _Output()


def outputs(arrays: list[Any], backend: Any, node: Node | None) -> list[Any]:
    """Make the tensors for the results of one node; results of integers or bools have no node."""
    outs, parents = [], (node,)
    marked = inference_used and mode.inference
    for i, array in enumerate(arrays):
        out = variable.new_tensor()  # as `wrap` and `output_node`
        out.array = array
        out.backend = backend
        out._grad = out.view_info = out.views = None
        if marked:
            out.inference = True
        if node is None or array.dtype.kind in "biu":
            out.node = None
        else:
            out.node = made = Node()
            made.op = OUTPUT
            made.backend = node.backend
            made.parents = parents
            made.saved = (i,)
            made.sequence_nr = next_sequence_nr()
            made.shape = array.shape
            made.dtype = array.dtype
        outs.append(out)
    return outs


def output_node(node: Node, index: int, array: Any) -> Node:
    """Make the node of result `index` of `node`."""
    made = Node()
    made.op, made.backend, made.parents, made.saved = OUTPUT, node.backend, (node,), (index,)
    made.sequence_nr = next_sequence_nr()
    made.shape, made.dtype = array.shape, array.dtype
    return made


def with_zeros(node: Node, grads: list[Any], backend: Any) -> list[Any]:
    """Return the gradients of all results of a node, with zeros for results without one."""
    return [
        backend.zeros(shape, dtype) if g is None else g
        for g, shape, dtype in zip(grads, node.shape, node.dtype, strict=True)
    ]
