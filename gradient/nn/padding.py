"""Padding layers: widths in `functional.pad`'s order, or one for all sides."""

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
    """`value` around the last dimension."""


class ConstantPad2d(_ConstantPad, spatial=2):
    """`value` around the last two dimensions."""


class ConstantPad3d(_ConstantPad, spatial=3):
    """`value` around the last three dimensions."""


class ZeroPad1d(_Pad, spatial=1):
    """Zeros around the last dimension."""


class ZeroPad2d(_Pad, spatial=2):
    """Zeros around the last two dimensions."""


class ZeroPad3d(_Pad, spatial=3):
    """Zeros around the last three dimensions."""


class ReflectionPad1d(_Pad, spatial=1, mode="reflect"):
    """The last dimension mirrored at its edge elements."""


class ReflectionPad2d(_Pad, spatial=2, mode="reflect"):
    """The last two dimensions mirrored at their edge elements."""


class ReflectionPad3d(_Pad, spatial=3, mode="reflect"):
    """The last three dimensions mirrored at their edge elements."""


class ReplicationPad1d(_Pad, spatial=1, mode="replicate"):
    """The edge elements of the last dimension repeated."""


class ReplicationPad2d(_Pad, spatial=2, mode="replicate"):
    """The edge elements of the last two dimensions repeated."""


class ReplicationPad3d(_Pad, spatial=3, mode="replicate"):
    """The edge elements of the last three dimensions repeated."""


class CircularPad1d(_Pad, spatial=1, mode="circular"):
    """The last dimension continued from its other side."""


class CircularPad2d(_Pad, spatial=2, mode="circular"):
    """The last two dimensions continued from their other sides."""


class CircularPad3d(_Pad, spatial=3, mode="circular"):
    """The last three dimensions continued from their other sides."""
