"""What layers of one, two and three dimensions differ by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from gradient.nn.module import Module
from gradient.tensor import Tensor


class SpatialModule(Module):
    """A layer of some number of dimensions, by a function of that many.

    `class MaxUnpool2d(_MaxUnpool, spatial=2, op=F.max_unpool2d)` tells both to a subclass.
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
