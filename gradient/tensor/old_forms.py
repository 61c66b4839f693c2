"""PyTorch's old constructors `Tensor(...)`, `FloatTensor(...)`, `x.new(...)`, and type names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.autograd.variable import Variable
from gradient.dtypes import (
    DType,
    bfloat16,
    bool_,
    complex64,
    complex128,
    dtype_of,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
)
from gradient.errors import ArgumentError, TypeMismatch, sentence
from gradient.tensor.arguments import Size, size_of, strict_index, tensor_of
from gradient.tensor.creation import empty
from gradient.tensor.from_data import tensor

if TYPE_CHECKING:
    from gradient.tensor import Tensor


OLD_TYPES = {
    "FloatTensor": float32,
    "DoubleTensor": float64,
    "HalfTensor": float16,
    "BFloat16Tensor": bfloat16,
    "LongTensor": int64,
    "IntTensor": int32,
    "ShortTensor": int16,
    "CharTensor": int8,
    "ByteTensor": uint8,
    "BoolTensor": bool_,
}
"""The dtypes of PyTorch's old tensor types."""


def name_of_type(dtype: DType, device: str) -> str:
    """Return the name of the old type, such as "torch.cuda.FloatTensor"; of a dtype that has none,
    the dtype's."""
    names = {kind: name for name, kind in OLD_TYPES.items()}
    names |= {complex64: "ComplexFloatTensor", complex128: "ComplexDoubleTensor"}
    if dtype not in names:
        return repr(dtype)
    return f"torch.{'cuda.' if device.startswith('cuda') else ''}{names[dtype]}"


def old_type(name: str) -> tuple[DType, str]:
    """Return dtype and device of an old type's name, such as "torch.cuda.FloatTensor"."""
    package, _, own = name.rpartition(".")
    if own not in OLD_TYPES or package not in ("torch", "gradient", "torch.cuda", "gradient.cuda"):
        expected = "the name of a type, such as 'torch.FloatTensor'"
        raise ArgumentError(sentence("type", expected, repr(name)))
    return OLD_TYPES[own], "cuda" if package.endswith("cuda") else "cpu"


def constructed(
    name: str, data: Sequence[Any], size: Any, dtype: Any, device: Any, any_dtype: bool = False
) -> Tensor:
    """Make a tensor as the old constructors do: from a Tensor one that shares its memory; from a
    sequence or an array one with these values; from sizes (ints, or one `Size`) or nothing an
    uninitialised one.

    A given Tensor must be of `dtype`, unless `any_dtype` is true.
    """
    if size is not None:
        data = (Size(size), *data)
    (first,) = data if len(data) == 1 else (None,)
    if isinstance(first, Variable):
        x = tensor_of(name, first)
        if not any_dtype and x.dtype is not dtype_of(dtype):
            expected = f"a Tensor of {dtype_of(dtype)}"
            raise TypeMismatch(sentence(name, expected, x.dtype, "convert it by .to(dtype)"))
        return x.view(x.shape)
    if isinstance(first, Size):
        return empty(first, dtype=dtype, device=device)
    if isinstance(first, np.ndarray) or (
        isinstance(first, Sequence) and not isinstance(first, (str, bytes))
    ):
        values = first if isinstance(first, (np.ndarray, tuple)) else list(first)
        return tensor(values, dtype=dtype, device=device)
    try:
        for n in data:
            strict_index(n)
    except TypeError:
        expected = "a sequence, an array, a Tensor, or sizes"
        raise TypeMismatch(sentence(name, expected, ", ".join(map(repr, data)))) from None
    return empty(size_of(data or (0,)), dtype=dtype, device=device)
