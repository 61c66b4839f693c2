"""Autocast's switches and that of anomaly detection, one by one: `set_autocast_enabled(True)`.

`amp.autocast` and `autograd.detect_anomaly` turn them for a block, and back.
"""

from __future__ import annotations

from typing import Any

from gradient.amp import get_autocast_dtype
from gradient.autograd.anomaly import set_detect_anomaly
from gradient.autograd.autocast import set_autocast
from gradient.autograd.modes import mode
from gradient.dtypes import DType

_dtypes: dict[str, DType] = {}
"""Chosen for types of devices on which autocast is off."""


def set_autocast_enabled(device_type: str | bool, enabled: bool | None = None) -> None:
    """Turn autocast on or off for a type of device, of old for GPUs alone:
    `set_autocast_enabled(True)`."""
    kind, on = ("cuda", device_type) if enabled is None else (str(device_type), enabled)
    dtypes = dict(mode.autocast or {})
    if on:
        dtypes[kind] = _dtypes.get(kind) or get_autocast_dtype(kind)
    else:
        dtypes.pop(kind, None)
    set_autocast(dtypes or None)


def set_autocast_dtype(device_type: str, dtype: DType) -> None:
    """The dtype in which autocast computes on a type of device, while it is on there."""
    _dtypes[device_type] = dtype
    if device_type in (mode.autocast or {}):
        set_autocast_enabled(device_type, True)


def set_autocast_cpu_enabled(enabled: bool) -> None:
    set_autocast_enabled("cpu", enabled)


def set_autocast_cpu_dtype(dtype: DType) -> None:
    set_autocast_dtype("cpu", dtype)


def set_autocast_gpu_dtype(dtype: DType) -> None:
    set_autocast_dtype("cuda", dtype)


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Nothing to switch: autocast keeps no casts."""


def autocast_increment_nesting() -> int:
    """Nothing to count: 1."""
    return 1


def autocast_decrement_nesting() -> int:
    """Nothing to count: 0."""
    return 0


def set_anomaly_enabled(enabled: bool, check_nan: bool = True) -> Any:
    """`autograd.set_detect_anomaly`, from now on."""
    set_detect_anomaly(enabled, check_nan)
