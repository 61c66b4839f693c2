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

_said = {"flash": True, "mem_efficient": True, "math": True, "cudnn": True, "reduction": False}


def enable_flash_sdp(enabled: bool) -> None:
    """Remembered, and no more: the kernel follows from shapes, dtypes and the device."""
    _said["flash"] = bool(enabled)


def enable_mem_efficient_sdp(enabled: bool) -> None:
    """As `enable_flash_sdp`."""
    _said["mem_efficient"] = bool(enabled)


def enable_math_sdp(enabled: bool) -> None:
    """As `enable_flash_sdp`."""
    _said["math"] = bool(enabled)


def enable_cudnn_sdp(enabled: bool) -> None:
    """As `enable_flash_sdp`."""
    _said["cudnn"] = bool(enabled)


def allow_fp16_bf16_reduction_math_sdp(enabled: bool) -> None:
    """As `enable_flash_sdp`: attention adds up in float32."""
    _said["reduction"] = bool(enabled)


def flash_sdp_enabled() -> bool:
    """What `enable_flash_sdp` said last."""
    return _said["flash"]


def mem_efficient_sdp_enabled() -> bool:
    return _said["mem_efficient"]


def math_sdp_enabled() -> bool:
    return _said["math"]


def cudnn_sdp_enabled() -> bool:
    return _said["cudnn"]


def fp16_bf16_reduction_math_sdp_allowed() -> bool:
    return _said["reduction"]


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
