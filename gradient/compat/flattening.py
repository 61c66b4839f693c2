"""`_utils`: many tensors as one flat one, as training in 16 bits keeps its parameters."""

from __future__ import annotations

from collections.abc import Sequence

from gradient.dtypes import DType
from gradient.tensor import Tensor
from gradient.tensor.joining import cat


def _flatten_dense_tensors(tensors: Sequence[Tensor]) -> Tensor:
    """The elements of all, one after another."""
    return cat([t.reshape(-1) for t in tensors])


def _element_size(dtype: DType) -> int:
    """Bytes of an element."""
    return dtype.itemsize


def _unflatten_dense_tensors(flat: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Parts of a flat tensor in the shapes of others, as views."""
    parts = flat.split([t.numel() for t in tensors])
    return tuple(part.view(t.shape) for part, t in zip(parts, tensors, strict=True))
