"""Devices implemented by another process, in any language: see docs/plugin-protocol.md.

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
"""The command of the plugin on NumPy: an example, with which the protocol is tested."""


def register(device: str, command: Sequence[str], timeout: float = TIMEOUT) -> None:
    """Register `command` as the plugin of a device type; it is started at the device's first use.

    Args:
        device: the device type, such as "mine", for devices "mine", "mine:0", "mine:1".
        command: the program and its arguments, as for `subprocess`.
        timeout: the longest time to wait for an answer, in seconds; after it, an error is raised.
    """
    from gradient.backends import registry

    def make(index: int) -> ProcessBackend:
        return open_backend(f"{device}:{index}" if index else device, command, timeout)

    registry.register(device, make)


def open_backend(device: str, command: Sequence[str], timeout: float = TIMEOUT) -> ProcessBackend:
    """Start a plugin; return a backend whose arrays live in it."""
    from gradient.backends.process.opening import opened

    return opened(device, command, timeout)


__all__ = ["NUMPY_PLUGIN", "TIMEOUT", "PluginError", "open_backend", "register"]
