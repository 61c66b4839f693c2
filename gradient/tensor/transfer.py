"""Moving a tensor to another device inside a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradient.autograd.modes import mode
from gradient.autograd.node import Node, location_of, next_sequence_nr, user_frame


class _Move:
    """The op of a move, to the engine: its gradient is moved back."""

    name, saved_names = "to_device", ()

    def vjp(self, node: Node, g: Any, parents: Sequence[Any]) -> list[Any]:
        (parent,) = node.parents
        return [parent.backend.asarray(node.backend.to_numpy(g))]  # type: ignore[union-attr]

    def vjp_tensors(self, node: Node, g: Any, parents: Any, be: Any, grad: Any) -> list[Any]:
        return [g.to(device=node.parents[0].backend.device)]  # type: ignore[union-attr]


_MOVE = _Move()


def record_move(source: Any, result: Any) -> None:
    """Give `result` the node of a move from `source`."""
    if not mode.grad:
        return
    node = Node()
    node.op, node.parents, node.saved, node.options = _MOVE, (source.node,), (), {}
    node.shape, node.dtype = result.array.shape, result.array.dtype
    node.backend, node.sequence_nr = result.backend, next_sequence_nr()
    node.location = location_of(user_frame())
    result.node = node
