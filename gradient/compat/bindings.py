"""`_C`: names of PyTorch's extension that programs say: an error, and switches of its compilers."""

from __future__ import annotations

import contextlib
from typing import Any

from gradient.dtypes import DType
from gradient.errors import LinAlgError, OutOfMemoryError
from gradient.nn.module import destination
from gradient.tensor import Device, Tensor
from gradient.tensor.overriding import DisableTorchFunctionSubclass
from gradient.tensor.overriding import disabled as _disabled_torch_function_impl

__all__ = [
    "DispatchKey",
    "DispatchKeySet",
    "DisableTorchFunction",
    "DisableTorchFunctionSubclass",
    "_ExcludeDispatchKeyGuard",
    "_LinAlgError",
    "_OutOfMemoryError",
    "_disabled_torch_function_impl",
    "_TensorMeta",
    "_are_functorch_transforms_active",
    "_get_tracing_state",
    "_jit_override_can_fuse_on_cpu",
    "_jit_override_can_fuse_on_gpu",
    "_jit_set_profiling_executor",
    "_jit_set_profiling_mode",
    "_jit_set_nvfuser_enabled",
    "_jit_set_texpr_fuser_enabled",
    "_log_api_usage_once",
    "_parse_to",
]

_TensorMeta = type(Tensor)
"""The type of the class Tensor."""

DisableTorchFunction = DisableTorchFunctionSubclass
_LinAlgError, _OutOfMemoryError = LinAlgError, OutOfMemoryError


def _nothing(value: Any) -> None:
    """Nothing is compiled here, and nothing is reported."""


_jit_override_can_fuse_on_cpu = _jit_override_can_fuse_on_gpu = _nothing
_jit_set_profiling_executor = _jit_set_profiling_mode = _jit_set_texpr_fuser_enabled = _nothing
_jit_set_nvfuser_enabled = _log_api_usage_once = _nothing


def _parse_to(*args: Any, **kwargs: Any) -> tuple[Device | None, DType | None, bool, Any]:
    """The device, dtype, `non_blocking` and `memory_format` that arguments of `to` mean."""
    given = {key: kwargs[key] for key in ("device", "dtype", "non_blocking") if key in kwargs}
    device, dtype, non_blocking = destination(args, **given)
    where = None if device is None else Device(device)
    return where, dtype, non_blocking, kwargs.get("memory_format")


def _get_tracing_state() -> None:
    """None: nothing is traced."""


def _are_functorch_transforms_active() -> bool:
    """Whether a transform of `func` is running; False, as these wrap no tensors."""
    return False


class _Keys(type):
    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class DispatchKey(metaclass=_Keys):
    """Names of PyTorch's kinds of kernels: `DispatchKey.CPU` is "CPU"."""


class DispatchKeySet(frozenset[str]):
    """Kinds of kernels, to be left out by `_ExcludeDispatchKeyGuard`."""

    def __new__(cls, key: Any = ()) -> DispatchKeySet:
        return super().__new__(cls, [key] if isinstance(key, str) else key)


class _ExcludeDispatchKeyGuard(contextlib.nullcontext[None]):
    """A block that changes nothing: there is no dispatcher."""

    def __init__(self, keys: DispatchKeySet) -> None:
        super().__init__()
