"""`x.view(dtype)`: reinterpret the bytes of a tensor as another dtype."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradient.autograd.inference import alias
from gradient.backends.packed import is_packed
from gradient.dtypes import DType
from gradient.errors import ShapeError, sentence

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor


def view_as_dtype(x: Any, dtype: DType) -> Tensor:
    """View (..., n) elements of w bytes as (..., n w / v) elements of v bytes, in the same memory.

    Raises:
        ShapeError: the sizes w and v differ, and the last dimension is not contiguous, or its bytes
            are no multiple of v.
    """
    own = x.array.dtype
    if dtype.is_packed or is_packed(x.array):
        from gradient.tensor.float8 import view_as_bits

        return view_as_bits(x, dtype)
    if own == dtype.numpy:
        return x.view(x.array.shape)
    if own.itemsize != dtype.numpy.itemsize:
        _check(x, dtype)
    x.array = x.backend.writable(x.array)
    out = alias(x, x.backend.bitcast(x.array, dtype.numpy))
    out.view_info = (x, None, {})
    return out


def _check(x: Any, dtype: DType) -> None:
    own, width = x.array.dtype, dtype.numpy.itemsize
    asked = f"to read {own} as {dtype}"
    if not x.array.shape:
        raise ShapeError(sentence("view", f"a tensor of a dimension or more {asked}", "one of 0"))
    if not x.is_contiguous():
        got = f"strides {x.stride()}"
        raise ShapeError(
            sentence("view", f"a contiguous tensor {asked}", got, "call .contiguous() first")
        )
    nbytes, start = x.array.shape[-1] * own.itemsize, x.storage_offset() * own.itemsize
    if nbytes % width:
        got = f"{x.array.shape[-1]} elements in the last dimension"
        raise ShapeError(sentence("view", f"a multiple of {width} bytes {asked}", got))
    if start % width:
        got = f"an offset of {start} bytes"
        raise ShapeError(sentence("view", f"an offset of a multiple of {width} bytes {asked}", got))
