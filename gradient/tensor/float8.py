"""Tensors of 8-bit floats: casts to and from them, which are all that is computed of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradient.autograd.explain import packed_refused
from gradient.autograd.modes import mode
from gradient.autograd.variable import Variable, wrap
from gradient.backends.packed import PackedArray, is_packed
from gradient.dtypes import BY_NUMPY, DType, float32, uint8
from gradient.dtypes.float8 import Float8
from gradient.errors import AutogradError, DTypeError

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor


def converted(tensor: Variable, dtype: DType) -> Tensor:
    """`tensor` as one of `dtype`, where one of the two dtypes is an 8-bit float, or packed."""
    be, array = tensor.backend, tensor.array
    if is_packed(array):
        if not array.dtype.elementwise:
            raise packed_refused("to", array)
        plain: Any = wrap(be.unpack(array), be)
        return plain.to(dtype=dtype)  # type: ignore[no-any-return]
    if not isinstance(dtype, Float8):
        raise DTypeError(
            f"to: {dtype} is a packed dtype; make such a tensor by gradient.quantization."
            f"quantize(tensor, {dtype.name!r})"
        )
    if tensor.node is not None and mode.grad:
        raise AutogradError(
            f"to: 8-bit floats carry no gradient, and this tensor requires one; cast x.detach() to "
            f"{dtype}, or do it in an autograd.Function"
        )
    array = array.real if array.dtype.kind == "c" else array
    return wrap(encoded(be, be.astype(array, float32.numpy), dtype), be)


def view_as_bits(tensor: Variable, dtype: DType) -> Tensor:
    """`tensor.view(dtype)`, where one of the two dtypes is an 8-bit float, or packed."""
    array: Any = tensor.array
    for each in (BY_NUMPY[array.dtype], dtype):
        if not each.elementwise:
            raise DTypeError(f"view: {each} is a packed dtype, whose elements share blocks")
    codes: Any = tensor
    if is_packed(array):
        codes = wrap(array.parts[0], tensor.backend)
        codes.view_info = (tensor, None, {})
    if not isinstance(dtype, Float8):
        return codes.view(dtype)  # type: ignore[no-any-return]
    codes = codes.view(uint8)
    out = wrap(PackedArray(dtype, array.shape, (codes.array,)), tensor.backend)
    out.view_info = (tensor, None, {})
    return out


def encoded(be: Any, values: Any, dtype: Float8) -> PackedArray:
    """float32 numbers, rounded to 8-bit floats."""
    return PackedArray(dtype, tuple(values.shape), (dtype.encode(be, values),))
