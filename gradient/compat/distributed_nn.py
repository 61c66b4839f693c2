"""`distributed.nn`: what processes give each other, with gradients, of one process."""

from __future__ import annotations

from gradient.compat import distributed
from gradient.compat.distributed import ReduceOp
from gradient.tensor import Tensor

__all__ = ["all_gather", "all_reduce", "broadcast"]


def all_reduce(tensor: Tensor, op: str = ReduceOp.SUM, group: object = None) -> Tensor:
    """The sum, mean, ... over all processes."""
    distributed.all_reduce(tensor, op, group)
    return tensor.clone()


def all_gather(tensor: Tensor, group: object = None) -> tuple[Tensor, ...]:
    """The tensors of all processes."""
    distributed.barrier(group)
    return (tensor.clone(),)


def broadcast(tensor: Tensor, src: int, group: object = None) -> Tensor:
    """The tensor of the process `src`."""
    distributed.broadcast(tensor, src, group)
    return tensor.clone()
