"""Names of the package itself: numbers, the types of old, and switches that change nothing here."""

from __future__ import annotations

import importlib
import math
from types import ModuleType
from typing import Any

from gradient.amp import get_autocast_dtype, is_autocast_enabled
from gradient.autograd.forwarding import forwarded
from gradient.autograd.modes import mode as running
from gradient.backends.matmul_precision import (
    get_float32_matmul_precision,
    set_float32_matmul_precision,
)
from gradient.compat import storage, types
from gradient.compat.storage import TypedStorage, UntypedStorage
from gradient.compat.types import *  # noqa: F403
from gradient.compat.types import TensorOf
from gradient.cuda import is_available
from gradient.dtypes import DType as dtype
from gradient.dtypes import dtype_of, set_default_dtype
from gradient.errors import DeviceError, TypeMismatch, sentence
from gradient.tensor import Device, Tensor
from gradient.tensor.arguments import tensor_of

__all__ = [
    "are_deterministic_algorithms_enabled",
    "clear_autocast_cache",
    "dtype",
    "e",
    "get_autocast_cpu_dtype",
    "get_autocast_gpu_dtype",
    "get_deterministic_debug_mode",
    "get_device_module",
    "get_float32_matmul_precision",
    "get_num_interop_threads",
    "inf",
    "is_anomaly_check_nan_enabled",
    "is_anomaly_enabled",
    "is_autocast_cache_enabled",
    "is_autocast_cpu_enabled",
    "is_deterministic_algorithms_warn_only_enabled",
    "is_inference",
    "is_storage",
    "is_warn_always_enabled",
    "nan",
    "newaxis",
    "pi",
    "set_default_tensor_type",
    "set_deterministic_debug_mode",
    "set_float32_matmul_precision",
    "set_flush_denormal",
    "set_num_interop_threads",
    "set_warn_always",
    "typename",
    "use_deterministic_algorithms",
]
__all__ += storage.__all__
__all__ += types.__all__

inf, nan, pi, e, newaxis = math.inf, math.nan, math.pi, math.e, None


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Nothing to switch: on the CPU results are the same to the bit, for any number of threads."""


def are_deterministic_algorithms_enabled() -> bool:
    return True


def set_num_interop_threads(num: int) -> None:
    """Nothing to switch: ops run one after another."""


def get_num_interop_threads() -> int:
    return 1


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    return False


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """Nothing to switch, as `use_deterministic_algorithms`."""


def get_deterministic_debug_mode() -> int:
    return 0


def set_warn_always(b: bool) -> None:
    """Nothing to switch: Python's `warnings` decide how often one is shown."""


def is_warn_always_enabled() -> bool:
    return False


def is_anomaly_enabled() -> bool:
    """Whether `autograd.set_detect_anomaly` is on."""
    return running.anomaly


def is_anomaly_check_nan_enabled() -> bool:
    return running.check_nan


def clear_autocast_cache() -> None:
    """Nothing to clear: autocast keeps no casts."""


def is_autocast_cache_enabled() -> bool:
    return False


def is_storage(obj: Any) -> bool:
    """Whether it is the memory of a tensor, as `untyped_storage()` and `storage()` give it."""
    return isinstance(obj, (TypedStorage, UntypedStorage))


def get_device_module(device: Any = None) -> ModuleType:
    """The module of a type of device: `gradient.cuda`, or `gradient.cpu`.

    Raises:
        DeviceError: there is none of such a device.
    """
    kind = Device(device if device is not None else "cuda" if is_available() else "cpu").type
    if kind not in ("cpu", "cuda"):
        raise DeviceError(sentence("get_device_module", "the device 'cpu' or 'cuda'", repr(kind)))
    return importlib.import_module(f"gradient.{kind}")


def set_flush_denormal(mode: bool) -> bool:
    """Nothing to switch, as False says: denormal numbers are kept."""
    return False


@forwarded
def is_inference(input: Tensor) -> bool:
    """`input.is_inference()`"""
    return tensor_of("is_inference", input).is_inference()


def typename(obj: Any) -> str:
    """The name of a value's type, of a tensor that of old: `gradient.FloatTensor`."""
    if isinstance(obj, Tensor):
        return obj.type()
    kind = obj if isinstance(obj, type) else type(obj)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return module + kind.__qualname__


def is_autocast_cpu_enabled() -> bool:
    return is_autocast_enabled("cpu")


def get_autocast_cpu_dtype() -> dtype:
    return get_autocast_dtype("cpu")


def get_autocast_gpu_dtype() -> dtype:
    return get_autocast_dtype("cuda")


def set_default_tensor_type(t: Any) -> None:
    """`set_default_dtype` by one of the old types, or its name."""
    if isinstance(t, str):
        t = globals().get(t.rpartition(".")[2])
    if not isinstance(t, TensorOf):
        raise TypeMismatch(sentence("set_default_tensor_type", "a type such as FloatTensor", t))
    set_default_dtype(dtype_of(t.dtype))
