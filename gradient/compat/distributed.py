"""`distributed`, of one process: a script that `torchrun` may start runs alone as well."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from gradient.errors import ArgumentError, BackendError, sentence
from gradient.tensor import Tensor

__all__ = [
    "Backend",
    "ProcessGroup",
    "ReduceOp",
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_reduce",
    "barrier",
    "broadcast",
    "broadcast_object_list",
    "destroy_process_group",
    "gather",
    "get_backend",
    "get_process_group_ranks",
    "get_rank",
    "get_world_size",
    "group",
    "init_process_group",
    "is_available",
    "is_gloo_available",
    "is_initialized",
    "is_mpi_available",
    "is_nccl_available",
    "new_group",
    "reduce",
    "reduce_scatter_tensor",
    "scatter",
]

_backend: str | None = None
"""The name that `init_process_group` was given, until `destroy_process_group`."""


class ReduceOp:
    """How `all_reduce` puts tensors together; of one tensor, all of them are that tensor."""

    SUM, AVG, PRODUCT, MIN, MAX = "sum", "avg", "product", "min", "max"


class Backend:
    """Names of what carries data between processes."""

    GLOO, NCCL, MPI, UNDEFINED = "gloo", "nccl", "mpi", "undefined"


class ProcessGroup:
    """A group of processes: of this one alone."""

    def rank(self) -> int:
        return 0

    def size(self) -> int:
        return 1


class group:  # noqa: N801 (PyTorch's name)
    """`group.WORLD`, all processes."""

    WORLD = ProcessGroup()


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


def is_gloo_available() -> bool:
    return False


is_nccl_available: Callable[[], bool] = is_gloo_available
is_mpi_available: Callable[[], bool] = is_gloo_available


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


def get_process_group_ranks(group: object = None) -> list[int]:
    return [0]


def new_group(
    ranks: Sequence[int] | None = None,
    timeout: timedelta | None = None,
    backend: str | None = None,
    pg_options: object = None,
    use_local_synchronization: bool = False,
    group_desc: str | None = None,
    device_id: object = None,
) -> ProcessGroup:
    """A group of some of the processes: of this one.

    Raises:
        ArgumentError: `ranks` has others.
    """
    _begun("new_group")
    if ranks is not None and list(ranks) != [0]:
        raise ArgumentError(sentence("new_group", "ranks = [0], the only process", ranks))
    return ProcessGroup()


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


def all_gather_into_tensor(
    output_tensor: Tensor, input_tensor: Tensor, group: object = None, async_op: bool = False
) -> Work | None:
    """Copy the tensors of all processes into one, along its first dimension."""
    done = _done("all_gather_into_tensor", async_op)
    output_tensor.detach().copy_(input_tensor.reshape(output_tensor.shape))
    return done


def reduce_scatter_tensor(
    output: Tensor,
    input: Tensor,
    op: str = ReduceOp.SUM,
    group: object = None,
    async_op: bool = False,
) -> Work | None:
    """Copy this process's part of the sum, mean, ... over all processes."""
    done = _done("reduce_scatter_tensor", async_op)
    output.detach().copy_(input.reshape(output.shape))
    return done


def gather(
    tensor: Tensor,
    gather_list: Sequence[Tensor] | None = None,
    dst: int = 0,
    group: object = None,
    async_op: bool = False,
) -> Work | None:
    """As `all_gather`, for the process `dst`."""
    _this("gather", "dst", dst)
    return all_gather([] if gather_list is None else gather_list, tensor, group, async_op)


def scatter(
    tensor: Tensor,
    scatter_list: Sequence[Tensor] | None = None,
    src: int = 0,
    group: object = None,
    async_op: bool = False,
) -> Work | None:
    """Copy this process's tensor of a list that the process `src` has."""
    _this("scatter", "src", src)
    if scatter_list is None or len(scatter_list) != 1:
        got = None if scatter_list is None else len(scatter_list)
        raise ArgumentError(sentence("scatter", "a list of 1 tensor", got))
    done = _done("scatter", async_op)
    tensor.detach().copy_(scatter_list[0])
    return done


def all_gather_object(object_list: list[Any], obj: Any, group: object = None) -> None:
    """Put the object of each process into a list."""
    _begun("all_gather_object")
    object_list[0] = obj


def broadcast_object_list(
    object_list: list[Any], src: int = 0, group: object = None, device: object = None
) -> None:
    """Give all processes the objects of the process `src`."""
    _begun("broadcast_object_list")
    _this("broadcast_object_list", "src", src)


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
