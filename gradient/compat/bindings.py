"""`_C`: names of PyTorch's extension that programs say: an error, and switches of its compilers."""

from __future__ import annotations

from typing import Any

from gradient.errors import LinAlgError, OutOfMemoryError

__all__ = [
    "_LinAlgError",
    "_OutOfMemoryError",
    "_jit_override_can_fuse_on_cpu",
    "_jit_override_can_fuse_on_gpu",
    "_jit_set_profiling_executor",
    "_jit_set_profiling_mode",
    "_jit_set_texpr_fuser_enabled",
    "_log_api_usage_once",
]

_LinAlgError, _OutOfMemoryError = LinAlgError, OutOfMemoryError


def _nothing(value: Any) -> None:
    """Nothing is compiled here, and nothing is reported."""


_jit_override_can_fuse_on_cpu = _jit_override_can_fuse_on_gpu = _nothing
_jit_set_profiling_executor = _jit_set_profiling_mode = _jit_set_texpr_fuser_enabled = _nothing
_log_api_usage_once = _nothing
