"""The registry of backends by device string."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from gradient._exports import load
from gradient.errors import DeviceError

if TYPE_CHECKING:
    from gradient.backends.base import Backend

__all__ = ["available", "get", "register"]

Factory = Callable[[int], "Backend"]
"""Makes the backend of a device type for a device number; raises DeviceError where it cannot."""

_factories: dict[str, Factory] = {}


_made: dict[str, Backend] = {}
"""The backends that were asked for, by the canonical name of their device."""


class _Current(threading.local):
    index = 0


current = _Current()
"""Whose `index` is the number of the GPU that "cuda" means in a thread: `cuda.set_device`."""


frees_memory: list[Callable[[Backend], None]] = []
"""Each frees what it has kept of a backend's memory for later use."""


def free_kept_memory(backend: Backend) -> None:
    """Free what the package keeps of a backend's memory for later use, but for caches of libraries
    themselves."""
    for free in frees_memory:
        free(backend)


def register(device_type: str, factory: Factory) -> None:
    """Register `factory(index)` as the constructor of backends "device_type" and
    "device_type:index"."""
    forget(device_type)
    _factories[device_type] = factory


def forget(device_type: str) -> None:
    """Drop the backends of a type; `get` makes new ones."""
    for device in [device for device in _made if device.partition(":")[0] == device_type]:
        del _made[device]  # other types stay, as tensors refer to them


_inherited: list[Backend] = []
"""Those of GPUs that a forked process finds. It can use none of them, nor free what they hold."""


def _leave_gpus() -> None:
    """So a child that asks for a GPU is told that it cannot have one (`cuda.driver.is_forked`)."""
    _inherited.extend(made("cuda"))
    forget("cuda")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_gpus)


def get(device: str = "cpu") -> Backend:
    """Return the backend of a device: always the same object for the same device."""
    try:
        return _made[device]
    except KeyError:
        pass
    return _make(device)


def _make(device: str) -> Backend:
    """Make the backend of a device, or find it under its canonical name."""
    check(device)
    name = canonical(device)
    if name not in _made:
        kind, _, number = name.partition(":")
        new = _factories[kind](int(number or 0))
        return _made.setdefault(name, new)  # another thread may have made it meanwhile
    return _made[name]


def made(device_type: str) -> list[Backend]:
    """Return the backends of a type that have been made already."""
    return [be for name, be in _made.items() if name.partition(":")[0] == device_type]


_OTHER_NAMES = {"mps": "metal"}
"""PyTorch's name of a device that has another one here."""


def check(device: str) -> None:
    """Raise an error if the string is not a device: the type is unknown, or the index is not a
    number. Whether the machine has the device is not checked."""
    kind, colon, number = device.partition(":")
    if _OTHER_NAMES.get(kind, kind) not in _factories or (
        colon and not (number.isdecimal() and str(int(number)) == number)
    ):
        known = ", ".join(sorted(_factories))
        raise DeviceError(
            f"device {device!r} is not known; expected one of {known}, or e.g. 'cuda:0'"
        )


def canonical(device: str) -> str:
    """Return the canonical name of a device: "cpu:0" is "cpu", and "cuda" is the current GPU, at
    first "cuda:0"."""
    kind, _, number = device.partition(":")
    kind = _OTHER_NAMES.get(kind, kind)
    if kind == "cuda":
        return f"cuda:{number or current.index}"
    return f"{kind}:{number}" if number.strip("0") else kind


def available() -> list[str]:
    """Return the device types that work on this machine."""
    return [kind for kind in sorted(_factories) if _works(kind)]


def _works(kind: str) -> bool:
    try:
        get(kind)
    except DeviceError:
        return False
    return True


def _cpu(index: int) -> Backend:
    if index:
        raise DeviceError(f"device 'cpu:{index}': there is one CPU device; use 'cpu'")
    backend: Backend = load("gradient.backends.numpy").NumpyBackend()
    return backend


def _cuda(index: int) -> Backend:
    from gradient.backends.cuda.multi_gpu import open_backend

    return open_backend(index)


def _metal(index: int) -> Backend:
    from gradient.backends import metal

    return metal.open_backend(index)


def _meta(index: int) -> Backend:
    from gradient.backends import meta

    return meta.open_backend()


register("cpu", _cpu)
register("cuda", _cuda)
register("meta", _meta)
register("metal", _metal)
