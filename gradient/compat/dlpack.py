"""`utils.dlpack`: `gradient.from_dlpack`, and capsules, which it does not take."""

from __future__ import annotations

from typing import Any

from gradient.tensor import Tensor, interop

__all__ = ["from_dlpack", "to_dlpack"]


class _Held:
    """What gives a capsule of the CPU's memory away."""

    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack__(self, stream: Any = None) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A tensor that shares the memory of another library's, or of a capsule of the CPU's."""
    given: Any = _Held(ext_tensor) if type(ext_tensor).__name__ == "PyCapsule" else ext_tensor
    return interop.from_dlpack(given)


def to_dlpack(tensor: Tensor) -> Any:
    """`tensor.__dlpack__()`: a capsule, which one library may take."""
    return tensor.__dlpack__()
