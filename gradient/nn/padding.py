"""Padding layers. The widths are in the order of `functional.pad`, or one number for all sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from gradient import functional as F
from gradient.functional.conv import Size, sizes
from gradient.nn.spatial import SpatialModule
from gradient.tensor import Tensor

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]


class _Pad(SpatialModule):
    _shown: ClassVar[Sequence[str]] = ("=padding",)
    mode = "constant"
    value = 0.0

    def __init_subclass__(cls, mode: str | None = None, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if mode is not None:
            cls.mode = mode

    def __init__(self, padding: Size) -> None:
        super().__init__()
        self.padding = sizes(type(self).__name__, "padding", padding, 2 * self.spatial)

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode, self.value)


class _ConstantPad(_Pad):
    _shown = ("padding", "value")

    def __init__(self, padding: Size, value: float) -> None:
        super().__init__(padding)
        self.value = value


class ConstantPad1d(_ConstantPad, spatial=1):
    """Pads the last dimension with `value`: (..., L) to (..., L')."""


class ConstantPad2d(_ConstantPad, spatial=2):
    """Pads the last two dimensions with `value`: (..., H, W) to (..., H', W')."""


class ConstantPad3d(_ConstantPad, spatial=3):
    """Pads the last three dimensions with `value`: (..., D, H, W) to (..., D', H', W')."""


class ZeroPad1d(_Pad, spatial=1):
    """Pads the last dimension with zeros."""


class ZeroPad2d(_Pad, spatial=2):
    """Pads the last two dimensions with zeros."""


class ZeroPad3d(_Pad, spatial=3):
    """Pads the last three dimensions with zeros."""


class ReflectionPad1d(_Pad, spatial=1, mode="reflect"):
    """Pads the last dimension with its mirror image; the edge element is not repeated."""


class ReflectionPad2d(_Pad, spatial=2, mode="reflect"):
    """Pads the last two dimensions with mirror images; edge elements are not repeated."""


class ReflectionPad3d(_Pad, spatial=3, mode="reflect"):
    """Pads the last three dimensions with mirror images; edge elements are not repeated."""


class ReplicationPad1d(_Pad, spatial=1, mode="replicate"):
    """Pads the last dimension with its edge elements."""


class ReplicationPad2d(_Pad, spatial=2, mode="replicate"):
    """Pads the last two dimensions with their edge elements."""


class ReplicationPad3d(_Pad, spatial=3, mode="replicate"):
    """Pads the last three dimensions with their edge elements."""


class CircularPad1d(_Pad, spatial=1, mode="circular"):
    """Pads the last dimension with elements of its other side."""


class CircularPad2d(_Pad, spatial=2, mode="circular"):
    """Pads the last two dimensions with elements of their other sides."""


class CircularPad3d(_Pad, spatial=3, mode="circular"):
    """Pads the last three dimensions with elements of their other sides."""
