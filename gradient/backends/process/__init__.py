"""Devices that another process serves, in any language: docs/plugin-protocol.md has the protocol.

>>> from gradient.backends import process
>>> process.register("mine", ["./my-plugin"])       # from now on, tensors go to device="mine"
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gradient.backends.process.protocol import TIMEOUT, PluginError

if TYPE_CHECKING:
    from gradient.backends.process.backend import ProcessBackend

NUMPY_PLUGIN = (sys.executable, "-P", str(Path(__file__).with_name("numpy_plugin.py")))
"""The command of the plugin on NumPy, which is an example, and what the protocol is tested by."""


def register(device: str, command: Sequence[str], timeout: float = TIMEOUT) -> None:
    """Have `command` serve a device type: it is started when the device is first used.

    Args:
        device: the name, such as "mine": of the devices "mine", "mine:0", "mine:1".
        command: the program and its arguments, as for `subprocess`.
        timeout: seconds that it may take to answer; longer is an error.
    """
    from gradient.backends import registry

    def make(index: int) -> ProcessBackend:
        return open_backend(f"{device}:{index}" if index else device, command, timeout)

    registry.register(device, make)


def open_backend(device: str, command: Sequence[str], timeout: float = TIMEOUT) -> ProcessBackend:
    """A backend whose arrays are those of a new process."""
    from gradient.backends.process.opening import opened

    return opened(device, command, timeout)


__all__ = ["NUMPY_PLUGIN", "TIMEOUT", "PluginError", "open_backend", "register"]
