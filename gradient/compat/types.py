"""The types of tensors of old, such as `FloatTensor`: constructors, and for `isinstance`."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient import dtypes
from gradient.errors import TypeMismatch, sentence
from gradient.tensor import Tensor
from gradient.tensor.creation import empty
from gradient.tensor.from_data import tensor

__all__ = [
    "BFloat16Tensor",
    "BoolTensor",
    "ByteTensor",
    "CharTensor",
    "DoubleTensor",
    "FloatTensor",
    "HalfTensor",
    "IntTensor",
    "LongTensor",
    "ShortTensor",
]


class TensorOf(type):
    """The class of these types, each of a dtype (a NumPy one, which `Tensor.type` takes)."""

    dtype: np.dtype
    device: str

    def __new__(cls, name: str, dtype: dtypes.DType, device: str = "cpu") -> Any:
        return super().__new__(cls, name, (), {"dtype": dtype.numpy, "device": device})

    def __init__(cls, name: str, dtype: dtypes.DType, device: str = "cpu") -> None:
        super().__init__(name, (), {})

    def __call__(cls, *data: Any) -> Tensor:
        """Of a sequence or an array its values; of sizes, or of none, what is not defined."""
        if len(data) == 1 and isinstance(data[0], (list, tuple, np.ndarray, Tensor)):
            return tensor(data[0], dtype=cls.dtype, device=cls.device)
        if any(type(n) is not int for n in data):
            expected = "a sequence, an array, a Tensor, or sizes"
            raise TypeMismatch(sentence(cls.__name__, expected, ", ".join(map(repr, data))))
        return empty(data or (0,), dtype=cls.dtype, device=cls.device)

    def __instancecheck__(cls, value: Any) -> bool:
        if not isinstance(value, Tensor) or value.dtype.is_packed:
            return False
        return value.array.dtype == cls.dtype and value.is_cuda == (cls.device == "cuda")


FloatTensor = TensorOf("FloatTensor", dtypes.float32)
DoubleTensor = TensorOf("DoubleTensor", dtypes.float64)
HalfTensor = TensorOf("HalfTensor", dtypes.float16)
BFloat16Tensor = TensorOf("BFloat16Tensor", dtypes.bfloat16)
LongTensor = TensorOf("LongTensor", dtypes.int64)
IntTensor = TensorOf("IntTensor", dtypes.int32)
ShortTensor = TensorOf("ShortTensor", dtypes.int16)
CharTensor = TensorOf("CharTensor", dtypes.int8)
ByteTensor = TensorOf("ByteTensor", dtypes.uint8)
BoolTensor = TensorOf("BoolTensor", dtypes.bool_)
