"""What a packed tensor can do beside being a weight: be unpacked, moved, copied, shown.

Rows can be picked of it. All other ops refuse it by name, as its elements share blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.autograd.explain import packed_refused
from gradient.autograd.inference import refuse_write
from gradient.autograd.inplace import mark_overwritten
from gradient.autograd.variable import Variable, wrap
from gradient.backends.packed import PackedArray
from gradient.dtypes import dtype_of, float32
from gradient.errors import AutogradError, DTypeError
from gradient.tensor.arithmetic import Arithmetic

if TYPE_CHECKING:
    from gradient.backends import Backend
    from gradient.tensor.arguments import DTypeLike
    from gradient.tensor.core import Tensor


class Unpacking(Arithmetic):
    """Methods of Tensor about packed dtypes."""

    __slots__ = ()

    def dequantize(self, dtype: DTypeLike = float32) -> Tensor:
        """The numbers that a packed tensor stands for, as a plain tensor of that float dtype.

        A plain tensor of floats is only cast.
        """
        dtype = dtype_of(dtype)
        if dtype.is_packed or not dtype.is_floating_point:
            raise DTypeError(f"dequantize: expected a plain floating-point dtype, got {dtype}")
        if not isinstance(self.array, PackedArray):
            return self.to(dtype=dtype)
        return wrap(self.backend.unpack(self.array, dtype.numpy), self.backend)


def picked(tensor: Variable, index: tuple[Any, ...]) -> Tensor:
    """Rows or experts of a packed tensor, by an index of its leading dimensions."""
    return wrap(tensor.array.rows(tensor.backend, index), tensor.backend)


def carried(array: Any, source: Backend, target: Backend) -> Any:
    """An array, packed or plain, of backend `source` as one of `target`."""
    if isinstance(array, PackedArray):
        return array.map(lambda part: target.asarray(source.to_numpy(part)))
    return target.asarray(source.to_numpy(array))


def on_host(array: Any, backend: Backend) -> Any:
    """An array, packed or plain, with its numbers in NumPy arrays."""
    if isinstance(array, PackedArray):
        return array.map(backend.to_numpy)
    return backend.to_numpy(array)


def copied(array: Any, backend: Backend) -> Any:
    """A copy of an array, packed or plain."""
    return array.map(backend.copy) if isinstance(array, PackedArray) else backend.copy(array)


def overwrite_parts(tensor: Variable, src: Variable) -> None:
    """Copy the parts of the packed tensor `src` into those of `tensor`, in place."""
    refuse_write(tensor, "copy_")
    own, given = tensor.array, src.array
    if (own.dtype, own.shape) != (given.dtype, given.shape):
        raise DTypeError(
            f"copy_: expected a tensor of the same packed dtype and shape, {own.dtype.name} "
            f"{own.shape}; got {given.dtype.name} {tuple(given.shape)}"
        )
    given = carried(given, src.backend, tensor.backend)
    for part, value in zip(own.parts, given.parts, strict=True):
        tensor.backend.assign(part, ..., value)
        mark_overwritten(tensor.backend, part, "copy_")
    own.repacked = None


def refuse(op: str, tensor: Variable) -> None:
    """Raise the error of an op that reads a tensor's elements, if it is packed."""
    if isinstance(tensor.array, PackedArray):
        raise packed_refused(op, tensor.array)


def untrainable(op: str, tensor: Tensor) -> AutogradError:
    """The error of asking for the gradient of a packed tensor."""
    return AutogradError(
        f"{op}: a packed tensor ({tensor.dtype.name}) cannot be trained, as its codes are "
        "integers; train weights beside it, or dequantize() it"
    )


def widened(tensor: Tensor, dtype: DTypeLike) -> Tensor:
    """A packed tensor whose looked-up rows (`F.embedding`) come in this float dtype."""
    return wrap(tensor.array.with_float_dtype(dtype_of(dtype).numpy), tensor.backend)


def float_dtype_of(tensor: Tensor) -> Any:
    """The float dtype in which `F.embedding` gives rows of a tensor of floats, packed or plain."""
    array = tensor.array
    return array.float_dtype if isinstance(array, PackedArray) else array.dtype


def same(a: Variable, b: Variable) -> bool:
    """Whether two packed tensors have the same dtype, shape and parts."""
    if a.array.dtype is not b.array.dtype or a.array.shape != b.array.shape:
        return False
    pairs = zip(on_host(a.array, a.backend).parts, on_host(b.array, b.backend).parts, strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


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
