"""Record the copy of a tensor to another device in the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradient.autograd.node import Node, make_node
from gradient.backends.placement import carrier
from gradient.source_lines import location_of, user_frame

if TYPE_CHECKING:
    from gradient.backends.operators import ArrayOperators
    from gradient.tensor.core import Tensor

Parents = Sequence[Node | None]


class _Move:
    """The op of a copy to another device: its gradient is copied back."""

    name = public_name = "to_device"
    saved_names = ()

    def vjp(self, node: Node, g: Any, parents: Parents) -> list[ArrayOperators | None]:
        return [None if p is None else carrier(node.backend, p.backend)(g) for p in parents]

    def vjp_tensors(
        self, node: Node, g: Any, parents: Parents, be: Any, grad: Any
    ) -> list[Tensor | None]:
        return [None if parent is None else g.to(parent.backend.device) for parent in parents]


_MOVE = _Move()


def record_move(source: Any, result: Any) -> None:
    """Give `result` the node of a copy from `source`."""
    location = location_of(user_frame())
    result.node = make_node(_MOVE, result.backend, (source.node,), (), result.array, location)
