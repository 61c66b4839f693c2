"""Layers that differ by the function of `gradient.functional` that they call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from gradient.nn.module import Module
from gradient.tensor import Tensor


class FunctionLayer(Module):
    """A layer that calls one function: `class ReLU(_InPlace, op=F.relu)` tells which."""

    _op: ClassVar[Callable[..., Tensor]]

    def __init_subclass__(cls, op: Callable[..., Tensor] | None = None, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if op is not None:
            cls._op = staticmethod(op)


class SpatialLayer(FunctionLayer):
    """One of some number of dimensions: `class Conv2d(_ForwardConv, spatial=2, op=F.conv2d)`."""

    spatial: ClassVar[int]

    def __init_subclass__(cls, spatial: int | None = None, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if spatial is not None:
            cls.spatial = spatial
