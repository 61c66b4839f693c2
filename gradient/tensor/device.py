"""Devices, and the default device."""

from __future__ import annotations

import functools
import threading
from typing import Any, NoReturn, Self

from gradient.backends.registry import canonical, check
from gradient.errors import DeviceError, TypeMismatch, sentence


class Device:
    """A device, such as "cpu" or "cuda:0"; equal to its string.

    As a context manager it sets the default device of new tensors:

    >>> with gradient.device("cuda"):
    ...     model = nn.Linear(4, 3)
    """

    __slots__ = ("index", "type")

    type: str
    index: int | None

    def __init__(self, device: Any = "cpu", index: int | None = None) -> None:
        if isinstance(device, Device):
            device = str(device)
        if isinstance(device, int):
            device = f"cuda:{device}"
        if not isinstance(device, str):
            raise TypeMismatch(
                f"device: expected a string such as 'cpu' or 'cuda:0', got {device!r}"
            )
        if index is not None:
            if type(index) is not int:
                raise TypeMismatch(sentence("device", "an int as index", repr(index)))
            if index < 0 or ":" in device:
                raise DeviceError(
                    f"device: expected a type such as 'cuda' and an index of at least 0, got "
                    f"{device!r} and {index}"
                )
            device = f"{device}:{index}"
        check(device)
        name = canonical(device)
        kind, _, number = name.partition(":")
        object.__setattr__(self, "type", kind)
        object.__setattr__(self, "index", int(number) if number.isdigit() else None)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Raise AttributeError: all tensors on a device share one object."""
        raise AttributeError(f"device: {name} cannot be changed; make another device")

    def __setstate__(self, state: tuple[None, dict[str, Any]]) -> None:
        for name, value in state[1].items():  # when it is unpickled or copied
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (str, Device)):
            return canonical(str(other)) == str(self)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def __enter__(self) -> Self:
        default_changed[:] = (True,)
        _default.entered.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        _default.entered.pop()


known_device = functools.lru_cache(Device)
"""Returns the Device for a backend's device name: the same object for all its tensors."""

#: The type of an argument `device`; an int is the number of a GPU, None the default device.
DeviceLike = Device | str | int | None


class _Default(threading.local):
    """The default device of a thread: that of the innermost `with` block, else the one set."""

    def __init__(self) -> None:
        self.device: Device | None = None
        self.entered: list[Device] = []


_default = _Default()
default_changed: list[bool] = []
"""Empty until a thread changes the default: to read a thread's own costs 100 ns."""


def default_device() -> str:
    """Return the name of this thread's default device."""
    if not default_changed:
        return "cpu"
    if _default.entered:
        return str(_default.entered[-1])
    return "cpu" if _default.device is None else str(_default.device)


def get_default_device() -> Device:
    """Return the device of new tensors without `device=` in this thread."""
    return Device(default_device())


def set_default_device(device: DeviceLike) -> None:
    """Set the device of new tensors without `device=` in this thread; None means the CPU.

    Results of ops stay on the device of their inputs; `from_numpy` and files are not affected.
    """
    default_changed[:] = (True,)
    _default.device = None if device is None else Device(device)
