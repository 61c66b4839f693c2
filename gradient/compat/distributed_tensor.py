"""`distributed.tensor` and `device_mesh`: a group of one process divides no tensor, so none is a
`DTensor`, and there is no mesh of devices."""

from __future__ import annotations

from typing import Any, NoReturn

__all__ = [
    "DTensor",
    "DeviceMesh",
    "Partial",
    "Replicate",
    "Shard",
    "distribute_tensor",
    "init_device_mesh",
]


class DTensor:
    """What no tensor here is an instance of."""

    def __init__(self, *args: Any, **options: Any) -> None:
        raise NotImplementedError("there are no DTensors: a group is of one process")

    @classmethod
    def from_local(cls, *args: Any, **options: Any) -> NoReturn:
        raise NotImplementedError("there are no DTensors: a group is of one process")


class DeviceMesh(DTensor):
    """An arrangement of devices."""


class Replicate(DTensor):
    """A tensor that every device has."""


class Shard(DTensor):
    """A tensor of which each device has a part."""


class Partial(DTensor):
    """A tensor that is a sum over devices."""


def distribute_tensor(*args: Any, **options: Any) -> NoReturn:
    raise NotImplementedError("there are no DTensors: a group is of one process")


init_device_mesh = distribute_tensor
