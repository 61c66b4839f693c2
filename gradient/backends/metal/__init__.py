"""The device "metal": a plugin on MLX. On a Mac it computes on the GPU, elsewhere on MLX's CPU
device."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

from gradient.errors import DeviceError

if TYPE_CHECKING:
    from gradient.backends.process.backend import ProcessBackend

COMMAND = (sys.executable, "-m", "gradient.backends.metal.plugin")


def open_backend(index: int = 0) -> ProcessBackend:
    """Start the plugin; return the backend of the device "metal"."""
    from gradient.backends.process.opening import opened

    if index:
        raise DeviceError(f"device 'metal:{index}': there is one Metal device; use 'metal'")
    missing = [name for name in ("mlx", "msgpack") if importlib.util.find_spec(name) is None]
    if missing:
        raise DeviceError(
            f"device 'metal': {' and '.join(missing)} not installed; "
            "pip install 'gradient-dl[metal]'"
        )
    return opened("metal", COMMAND)
