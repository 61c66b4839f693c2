"""`cuda.device` and `cuda.set_device`: which GPU "cuda" means in a thread, the first at first."""

from __future__ import annotations

import contextlib
from typing import Any

from gradient import backends
from gradient.backends.registry import current
from gradient.errors import DeviceError, sentence
from gradient.tensor.device import Device

__all__ = ["device", "device_of", "runtime_of", "set_device"]


class device:  # noqa: N801 (PyTorch's name)
    """A block in which "cuda" means this GPU, and CuPy's current one is it.

    Args:
        device: Its number or its name; None or a negative number changes nothing.

    Raises:
        DeviceError: It is no GPU, or not there, when the block begins.

    >>> with gradient.cuda.device(1):
    ...     x = gradient.ones(3, device="cuda")     # on cuda:1
    """

    def __init__(self, device: Any):
        self.idx = _index_of("cuda.device", device)
        self._left: list[tuple[int, contextlib.ExitStack]] = []

    def __enter__(self) -> None:
        cupys = contextlib.ExitStack()
        if self.idx >= 0 and self.idx != current.index:
            cupys.enter_context(runtime_of(self.idx).on_device())
        self._left.append((current.index, cupys))
        if self.idx >= 0:
            current.index = self.idx

    def __exit__(self, *error: object) -> None:
        current.index, cupys = self._left.pop()
        cupys.close()


class device_of(device):  # noqa: N801 (PyTorch's name)
    """A block in which "cuda" means the GPU of a tensor; of one elsewhere, nothing changes."""

    def __init__(self, obj: Any):
        super().__init__(obj.device if obj.is_cuda else None)


def set_device(device: Any) -> None:
    """Have "cuda" mean this GPU, a number or a name, in this thread, and make it CuPy's current
    one. A negative number changes nothing.

    Raises:
        DeviceError: It is no GPU, or not there.
    """
    index = _index_of("cuda.set_device", device)
    if index >= 0 and index != current.index:
        runtime_of(index).use()
        current.index = index


def runtime_of(device: Any) -> Any:
    """What asks CuPy for a GPU: its number, its name, or None for the current one."""
    backend: Any = backends.get(str(Device("cuda" if device is None else device)))
    if backend.name != "cuda":
        raise DeviceError(sentence("cuda", "a device of type cuda", device))
    return backend.runtime


def _index_of(caller: str, device: Any) -> int:
    """The number of a GPU, negative for none."""
    if device is None or type(device) is int:
        return -1 if device is None else device
    found = Device(device)
    if found.type != "cuda" or found.index is None:
        raise DeviceError(sentence(caller, "a device of type cuda, or its number", device))
    return found.index
