"""`distributed`, of one process: a script that `torchrun` may start runs alone as well."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta

from gradient.errors import ArgumentError, BackendError, sentence
from gradient.tensor import Tensor

__all__ = [
    "ReduceOp",
    "all_gather",
    "all_reduce",
    "barrier",
    "broadcast",
    "destroy_process_group",
    "get_backend",
    "get_rank",
    "get_world_size",
    "init_process_group",
    "is_available",
    "is_initialized",
    "reduce",
]

_backend: str | None = None
"""The name that `init_process_group` was given, until `destroy_process_group`."""


class ReduceOp:
    """How `all_reduce` puts tensors together; of one tensor, all of them are that tensor."""

    SUM, AVG, PRODUCT, MIN, MAX = "sum", "avg", "product", "min", "max"


class Work:
    """What a call with `async_op` returns: it is done."""

    def wait(self, timeout: timedelta | None = None) -> bool:
        return True

    def is_completed(self) -> bool:
        return True


def is_available() -> bool:
    """Always False: there are no groups of several processes."""
    return False


def is_initialized() -> bool:
    return _backend is not None


def init_process_group(
    backend: str | None = None,
    init_method: str | None = None,
    timeout: timedelta | None = None,
    world_size: int = -1,
    rank: int = -1,
    store: object = None,
    group_name: str = "",
    pg_options: object = None,
    device_id: object = None,
) -> None:
    """Begin a group of this process alone.

    Raises:
        BackendError: it shall have more processes, by `world_size` or by torchrun's WORLD_SIZE.
    """
    global _backend
    if _backend is not None:
        raise BackendError("init_process_group: the process group exists already")
    size = int(os.environ.get("WORLD_SIZE", "1")) if world_size < 0 else world_size
    if size != 1:
        raise BackendError(
            f"init_process_group: expected a group of 1 process, got {size}; "
            "start the script without torchrun"
        )
    _backend = backend or "gloo"


def destroy_process_group(group: object = None) -> None:
    global _backend
    _begun("destroy_process_group")
    _backend = None


def get_backend(group: object = None) -> str:
    return _begun("get_backend")


def get_rank(group: object = None) -> int:
    return 0


def get_world_size(group: object = None) -> int:
    return 1


def barrier(group: object = None, async_op: bool = False, device_ids: object = None) -> Work | None:
    """Wait for the others, of whom there are none."""
    return _done("barrier", async_op)


def all_reduce(
    tensor: Tensor, op: str = ReduceOp.SUM, group: object = None, async_op: bool = False
) -> Work | None:
    """The sum, mean, ... over all processes: the tensor as it is."""
    return _done("all_reduce", async_op)


def reduce(
    tensor: Tensor,
    dst: int = 0,
    op: str = ReduceOp.SUM,
    group: object = None,
    async_op: bool = False,
) -> Work | None:
    """As `all_reduce`, for the process `dst`."""
    _this("reduce", "dst", dst)
    return _done("reduce", async_op)


def broadcast(
    tensor: Tensor, src: int = 0, group: object = None, async_op: bool = False
) -> Work | None:
    """Give all processes the tensor of the process `src`."""
    _this("broadcast", "src", src)
    return _done("broadcast", async_op)


def all_gather(
    tensor_list: Sequence[Tensor], tensor: Tensor, group: object = None, async_op: bool = False
) -> Work | None:
    """Copy the tensor of each process into a list of as many tensors."""
    if len(tensor_list) != 1:
        raise ArgumentError(sentence("all_gather", "a list of 1 tensor", len(tensor_list)))
    done = _done("all_gather", async_op)
    tensor_list[0].detach().copy_(tensor)
    return done


def _begun(function: str) -> str:
    if _backend is None:
        raise BackendError(f"{function}: there is no process group; call init_process_group first")
    return _backend


def _done(function: str, async_op: bool) -> Work | None:
    _begun(function)
    return Work() if async_op else None


def _this(function: str, name: str, rank: int) -> None:
    if rank != 0:
        raise ArgumentError(sentence(function, f"{name} = 0, the only process", rank))
