"""Base class of layers that exist for one, two and three spatial dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from gradient.nn.module import Module
from gradient.tensor import Tensor


class SpatialModule(Module):
    """A layer with a number of spatial dimensions, and the function that computes it.

    A subclass gives both: `class MaxUnpool2d(_MaxUnpool, spatial=2, op=F.max_unpool2d)`.
    """

    spatial: ClassVar[int]
    _op: ClassVar[Callable[..., Tensor]]

    def __init_subclass__(
        cls, spatial: int | None = None, op: Callable[..., Tensor] | None = None, **keywords: Any
    ) -> None:
        super().__init_subclass__(**keywords)
        if spatial is not None:
            cls.spatial = spatial
        if op is not None:
            cls._op = staticmethod(op)
