"""The types of tensors of old, such as `FloatTensor`: constructors, and for `isinstance`."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.tensor import Tensor
from gradient.tensor.old_forms import OLD_TYPES, constructed

__all__ = sorted(OLD_TYPES)


class TensorOf(type):
    """The class of these types, each of a dtype (a NumPy one, which `Tensor.type` takes)."""

    dtype: np.dtype
    device: str

    def __new__(cls, name: str, device: str = "cpu") -> Any:
        return super().__new__(cls, name, (), {"dtype": OLD_TYPES[name].numpy, "device": device})

    def __init__(cls, name: str, device: str = "cpu") -> None:
        super().__init__(name, (), {})

    def __call__(cls, *data: Any, size: Any = None, device: Any = None) -> Tensor:
        return constructed(cls.__name__, data, size, cls.dtype, device or cls.device)

    def __instancecheck__(cls, value: Any) -> bool:
        if not isinstance(value, Tensor) or value.dtype.is_packed:
            return False
        return value.array.dtype == cls.dtype and value.is_cuda == (cls.device == "cuda")


FloatTensor = TensorOf("FloatTensor")
DoubleTensor = TensorOf("DoubleTensor")
HalfTensor = TensorOf("HalfTensor")
BFloat16Tensor = TensorOf("BFloat16Tensor")
LongTensor = TensorOf("LongTensor")
IntTensor = TensorOf("IntTensor")
ShortTensor = TensorOf("ShortTensor")
CharTensor = TensorOf("CharTensor")
ByteTensor = TensorOf("ByteTensor")
BoolTensor = TensorOf("BoolTensor")
