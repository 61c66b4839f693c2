"""Parameters and buffers of a lazy layer, which have no shape yet."""

from __future__ import annotations

from typing import Any, NoReturn, Self, TypeGuard

from gradient.dtypes import DType
from gradient.errors import ArgumentError
from gradient.nn.parameter import Buffer, Parameter
from gradient.tensor import Tensor
from gradient.tensor.creation import empty
from gradient.tensor.device import DeviceLike

__all__ = [
    "UninitializedBuffer",
    "UninitializedParameter",
    "is_uninitialized",
]


class _Uninitialized(Tensor):
    """A tensor that `materialize` gives a shape, and then is one as any other."""

    cls_to_become: type[Tensor]

    @property
    def shape(self) -> NoReturn:
        raise ArgumentError(
            "this parameter or buffer of a lazy layer has no shape yet: call the layer once "
            "before you use it"
        )

    def materialize(
        self, shape: tuple[int, ...], device: DeviceLike = None, dtype: DType | None = None
    ) -> None:
        """Become a tensor of a shape, with any values, in place."""
        made = empty(shape, device=device or self.device, dtype=dtype or self.dtype)
        self.__class__ = self.cls_to_become  # type: ignore[assignment]
        self.data = made

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class UninitializedParameter(_Uninitialized, Parameter):
    """A parameter without a shape: `.materialize(shape)` gives it one."""

    cls_to_become = Parameter

    def __new__(
        cls, requires_grad: bool = True, device: DeviceLike = None, dtype: DType | None = None
    ) -> Self:
        return super().__new__(cls, empty(0, device=device, dtype=dtype), requires_grad)


class UninitializedBuffer(_Uninitialized, Buffer):
    """A buffer without a shape: `.materialize(shape)` gives it one."""

    cls_to_become = Buffer

    def __new__(
        cls,
        requires_grad: bool = False,
        device: DeviceLike = None,
        dtype: DType | None = None,
        persistent: bool = True,
    ) -> Self:
        value = empty(0, device=device, dtype=dtype)
        return super().__new__(cls, value, persistent=persistent)


def is_uninitialized(value: Any) -> TypeGuard[_Uninitialized]:
    """Whether `value` is a tensor that has no shape yet."""
    return isinstance(value, _Uninitialized)
