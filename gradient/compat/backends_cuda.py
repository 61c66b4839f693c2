"""`backends.cuda`: which kernels attention may use on a GPU, switches that change nothing here."""

from __future__ import annotations

from typing import Any

from gradient.compat.attention import sdp_kernel
from gradient.cuda import is_available

__all__ = [
    "allow_fp16_bf16_reduction_math_sdp",
    "cudnn_sdp_enabled",
    "enable_cudnn_sdp",
    "enable_flash_sdp",
    "enable_math_sdp",
    "enable_mem_efficient_sdp",
    "flash_sdp_enabled",
    "fp16_bf16_reduction_math_sdp_allowed",
    "is_built",
    "is_flash_attention_available",
    "math_sdp_enabled",
    "mem_efficient_sdp_enabled",
    "preferred_blas_library",
    "preferred_linalg_library",
    "sdp_kernel",
]


class _Switch:
    def __init__(self, on: bool) -> None:
        self._on = on

    def enable(self, enabled: bool) -> None:
        """Remembered, and no more: the kernel follows from shapes, dtypes and the device."""
        self._on = bool(enabled)

    def enabled(self) -> bool:
        """What the switch was set to last."""
        return self._on


_flash, _mem_efficient, _math, _cudnn = (_Switch(True) for _ in range(4))
_half = _Switch(False)  # attention adds up in float32, whatever it says

enable_flash_sdp, flash_sdp_enabled = _flash.enable, _flash.enabled
enable_mem_efficient_sdp, mem_efficient_sdp_enabled = _mem_efficient.enable, _mem_efficient.enabled
enable_math_sdp, math_sdp_enabled = _math.enable, _math.enabled
enable_cudnn_sdp, cudnn_sdp_enabled = _cudnn.enable, _cudnn.enabled
allow_fp16_bf16_reduction_math_sdp = _half.enable
fp16_bf16_reduction_math_sdp_allowed = _half.enabled


def is_flash_attention_available() -> bool:
    """Whether there is a GPU: attention in 16 bits is by tensor cores there."""
    return is_available()


def is_built() -> bool:
    """Whether CUDA can be used: kernels are compiled when they are first called."""
    return is_available()


def preferred_linalg_library(backend: Any = None) -> str:
    """The backend decides; what is asked for changes nothing."""
    return "default"


preferred_blas_library = preferred_linalg_library
