"""Padding layers: widths in `functional.pad`'s order, or one for all sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from gradient import functional as F
from gradient.functional.conv import Size, sizes
from gradient.nn.module import Module
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


class _Pad(Module):
    _shown: ClassVar[Sequence[str]] = ("=padding",)
    spatial: int
    mode: str
    value = 0.0

    def __init__(self, padding: Size) -> None:
        super().__init__()
        self.padding = sizes(type(self).__name__, "padding", padding, 2 * self.spatial)

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode, self.value)


class _ConstantPad(_Pad):
    _shown = ("padding", "value")
    mode = "constant"

    def __init__(self, padding: Size, value: float) -> None:
        super().__init__(padding)
        self.value = value


class ConstantPad1d(_ConstantPad):
    """`value` around the last dimension."""

    spatial = 1


class ConstantPad2d(_ConstantPad):
    """`value` around the last two dimensions."""

    spatial = 2


class ConstantPad3d(_ConstantPad):
    """`value` around the last three dimensions."""

    spatial = 3


class ZeroPad1d(_Pad):
    """Zeros around the last dimension."""

    spatial, mode = 1, "constant"


class ZeroPad2d(_Pad):
    """Zeros around the last two dimensions."""

    spatial, mode = 2, "constant"


class ZeroPad3d(_Pad):
    """Zeros around the last three dimensions."""

    spatial, mode = 3, "constant"


class ReflectionPad1d(_Pad):
    """The last dimension mirrored at its edge elements."""

    spatial, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """The last two dimensions mirrored at their edge elements."""

    spatial, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """The last three dimensions mirrored at their edge elements."""

    spatial, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """The edge elements of the last dimension repeated."""

    spatial, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """The edge elements of the last two dimensions repeated."""

    spatial, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """The edge elements of the last three dimensions repeated."""

    spatial, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """The last dimension continued from its other side."""

    spatial, mode = 1, "circular"


class CircularPad2d(_Pad):
    """The last two dimensions continued from their other sides."""

    spatial, mode = 2, "circular"


class CircularPad3d(_Pad):
    """The last three dimensions continued from their other sides."""

    spatial, mode = 3, "circular"
