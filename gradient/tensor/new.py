"""Tensors like another: methods of Tensor."""

from __future__ import annotations

from typing import Any

from gradient.tensor.creation import empty, full, ones, tensor, zeros


class NewLike:
    """Methods of Tensor that make another tensor of its dtype and device."""

    __slots__ = ()

    def new_tensor(self, data: Any, **options: Any) -> Any:
        options = {"dtype": self.dtype, "device": self.device, **options}  # type: ignore[attr-defined]
        return tensor(data, **options)

    def new_empty(self, *size: Any, **options: Any) -> Any:
        return empty(*size, **{"dtype": self.dtype, "device": self.device, **options})  # type: ignore[attr-defined]

    def new_zeros(self, *size: Any, **options: Any) -> Any:
        return zeros(*size, **{"dtype": self.dtype, "device": self.device, **options})  # type: ignore[attr-defined]

    def new_ones(self, *size: Any, **options: Any) -> Any:
        return ones(*size, **{"dtype": self.dtype, "device": self.device, **options})  # type: ignore[attr-defined]

    def new_full(self, size: Any, fill_value: Any, **options: Any) -> Any:
        return full(size, fill_value, **{"dtype": self.dtype, "device": self.device, **options})  # type: ignore[attr-defined]
