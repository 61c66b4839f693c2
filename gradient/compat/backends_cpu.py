"""`backends.cpu`: which vectors the processor has."""

from __future__ import annotations

__all__ = ["get_cpu_capability"]


def get_cpu_capability() -> str:
    """Return "AVX512", "AVX2" or "DEFAULT": the widest vectors that kernels use."""
    from gradient.backends.numpy.kernels.cpu import ARM, BYTES

    return "DEFAULT" if ARM else {64: "AVX512", 32: "AVX2"}.get(BYTES, "DEFAULT")
