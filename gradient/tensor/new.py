"""Tensors like another: methods of Tensor."""

from __future__ import annotations

from typing import Any

from gradient.tensor.creation import empty, full, ones, tensor, zeros


class NewLike:
    """Methods of Tensor that make another one, of its dtype and device unless others are given."""

    __slots__ = ()

    dtype: Any
    device: Any

    def new_tensor(
        self, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
    ) -> Any:
        return tensor(data, **self._like(dtype, device), requires_grad=requires_grad)

    def new_empty(
        self,
        *sizes: Any,
        size: Any = None,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
    ) -> Any:
        like = self._like(dtype, device)
        return empty(*sizes, size=size, **like, requires_grad=requires_grad)

    def new_zeros(
        self,
        *sizes: Any,
        size: Any = None,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
    ) -> Any:
        like = self._like(dtype, device)
        return zeros(*sizes, size=size, **like, requires_grad=requires_grad)

    def new_ones(
        self,
        *sizes: Any,
        size: Any = None,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
    ) -> Any:
        like = self._like(dtype, device)
        return ones(*sizes, size=size, **like, requires_grad=requires_grad)

    def new_full(
        self,
        size: Any,
        fill_value: Any,
        *,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
    ) -> Any:
        return full(size, fill_value, **self._like(dtype, device), requires_grad=requires_grad)

    def _like(self, dtype: Any, device: Any) -> dict[str, Any]:
        return {
            "dtype": self.dtype if dtype is None else dtype,
            "device": self.device if device is None else device,
        }
