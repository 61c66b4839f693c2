"""`__config__`: how the package was built. Nothing is built."""

from __future__ import annotations

import os

from gradient.backends.numpy.cpu_count import usable_cpus

__all__ = ["parallel_info", "show"]


def show() -> str:
    return "gradient: kernels are compiled by numba (CPU) and NVRTC (CUDA); USE_MKL=OFF"


def parallel_info() -> str:
    return f"{usable_cpus()} threads of {os.cpu_count()} processors"
