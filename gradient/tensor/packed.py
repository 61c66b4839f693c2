"""Operations on packed tensors, besides their use as weights: they can be dequantized, moved,
copied and printed, and rows can be selected. Other ops raise an error with the op's name, because
the elements share blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.autograd.explain import packed_refused
from gradient.autograd.inference import refuse_write
from gradient.autograd.inplace import mark_overwritten
from gradient.autograd.variable import Variable, wrap
from gradient.backends.packed import arranged_for, count_write, is_packed
from gradient.dtypes import dtype_of, float32
from gradient.errors import AutogradError, DTypeError
from gradient.tensor.arithmetic import Arithmetic

if TYPE_CHECKING:
    from gradient.tensor.arguments import DTypeLike
    from gradient.tensor.core import Tensor


class Unpacking(Arithmetic):
    """Methods of Tensor for packed dtypes."""

    __slots__ = ()

    def dequantize(self, dtype: DTypeLike = float32) -> Tensor:
        """Convert a packed tensor to an unpacked one of a float dtype. A float tensor is only
        cast. Raises DTypeError for another dtype."""
        dtype = dtype_of(dtype)
        if dtype.is_packed or not dtype.is_floating_point:
            raise DTypeError(f"dequantize: expected an unpacked floating-point dtype, got {dtype}")
        if not is_packed(self.array):
            return self.to(dtype=dtype)
        return wrap(self.backend.unpack(self.array, dtype.numpy), self.backend)


def select_rows(tensor: Variable, index: tuple[Any, ...]) -> Tensor:
    """Select rows or experts of a packed tensor by an index of its leading dimensions."""
    return wrap(tensor.array.rows(tensor.backend, index), tensor.backend)


def overwrite_parts(tensor: Variable, src: Variable) -> None:
    """Copy the parts of the packed tensor `src` into those of `tensor`, in place."""
    refuse_write(tensor, "copy_")
    own, given = tensor.array, src.array
    if (own.dtype, own.shape) != (given.dtype, given.shape):
        raise DTypeError(
            f"copy_: expected a tensor of the same packed dtype and shape, {own.dtype.name} "
            f"{own.shape}; got {given.dtype.name} {tuple(given.shape)}"
        )
    be = tensor.backend
    given = given.as_stored(src.backend).map(lambda part: be.asarray(src.backend.to_numpy(part)))
    if own.layout is not None:
        given = arranged_for(be, given)
    for part, value in zip(own.parts, given.parts, strict=True):
        be.assign(part, ..., value)
        count_write(part)
        mark_overwritten(be, part, "copy_")


def refuse(op: str, tensor: Variable) -> None:
    """Raise if a tensor is packed, for an op that reads elements."""
    if is_packed(tensor.array):
        raise packed_refused(op, tensor.array)


def numbers_of(op: str, tensor: Variable) -> Tensor:
    """Convert 8-bit floats to float32; raise the error of `refuse` for other packed dtypes."""
    if not tensor.array.dtype.elementwise:
        refuse(op, tensor)
    return wrap(tensor.backend.unpack(tensor.array), tensor.backend)


def untrainable(op: str, tensor: Tensor) -> AutogradError:
    """Return the error for a packed tensor that is set to require a gradient."""
    if tensor.dtype.elementwise:
        return AutogradError(
            f"{op}: 8-bit floats ({tensor.dtype.name}) carry no gradient; train float32 weights "
            "and cast them"
        )
    return AutogradError(
        f"{op}: a packed tensor ({tensor.dtype.name}) cannot be trained, as its codes are "
        "integers; train weights beside it, or dequantize() it"
    )


def with_float_dtype(tensor: Tensor, dtype: DTypeLike) -> Tensor:
    """Return the packed tensor with another float dtype for its rows in `F.embedding`."""
    return wrap(tensor.array.with_float_dtype(dtype_of(dtype).numpy), tensor.backend)


def float_dtype_of(tensor: Tensor) -> np.dtype:
    """Return the float dtype of the rows that `F.embedding` returns for a tensor, packed or not."""
    array = tensor.array
    return array.float_dtype if is_packed(array) else array.dtype


def same(a: Variable, b: Variable) -> bool:
    """Whether two packed tensors have the same dtype, shape and parts."""
    if a.array.dtype is not b.array.dtype or a.array.shape != b.array.shape:
        return False
    if a.array.dtype.elementwise and a.backend is b.backend:  # NaN equals nothing
        return bool(np.all(a.backend.to_numpy(a.array == b.array)))
    return all(
        np.array_equal(a.backend.to_numpy(x), b.backend.to_numpy(y))
        for x, y in zip(*(t.array.as_stored(t.backend).parts for t in (a, b)), strict=True)
    )


def represent(tensor: Tensor) -> str:
    """`tensor(..., size=(64, 256), dtype=gradient.q4_k, bits_per_weight=4.5)`"""
    array = tensor.array
    device = tensor.backend.device
    notes = [
        "...",
        f"size={tuple(array.shape)}",
        *([f"device='{device}'"] if device != "cpu" else []),
        f"dtype={array.dtype!r}",
        f"bits_per_weight={array.dtype.bits_per_weight(array.shape):.4g}",
    ]
    return f"tensor({', '.join(notes)})"
