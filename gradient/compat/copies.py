"""PyTorch's functions that end in `_copy`: what a view shows, as memory of its own; and those that
begin with `unsafe_`, which are no less safe here."""

from __future__ import annotations

from collections.abc import Sequence

from gradient.autograd.forwarding import forwarded
from gradient.dtypes import DType
from gradient.tensor import Tensor
from gradient.tensor.arguments import tensor_of


def _copies(views: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(view.clone() for view in views)


@forwarded
def alias_copy(input: Tensor) -> Tensor:
    """`input.clone()`"""
    return tensor_of("alias_copy", input).clone()


@forwarded
def as_strided_copy(
    input: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    return tensor_of("as_strided_copy", input).as_strided(size, stride, storage_offset).clone()


@forwarded
def detach_copy(input: Tensor) -> Tensor:
    return tensor_of("detach_copy", input).detach().clone()


@forwarded
def diagonal_copy(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    return tensor_of("diagonal_copy", input).diagonal(offset, dim1, dim2).clone()


@forwarded
def expand_copy(input: Tensor, size: Sequence[int], *, implicit: bool = False) -> Tensor:
    return tensor_of("expand_copy", input).expand(size).contiguous().clone()


@forwarded
def narrow_copy(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    return tensor_of("narrow_copy", input).narrow(dim, start, length).clone()


@forwarded
def permute_copy(input: Tensor, dims: Sequence[int]) -> Tensor:
    return tensor_of("permute_copy", input).permute(tuple(dims)).clone()


@forwarded
def select_copy(input: Tensor, dim: int, index: int) -> Tensor:
    return tensor_of("select_copy", input).select(dim, index).clone()


@forwarded
def slice_copy(
    input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    at = (slice(None),) * (dim % tensor_of("slice_copy", input).ndim)
    return input[(*at, slice(start, end, step))].clone()


@forwarded
def split_copy(input: Tensor, split_size: int, dim: int = 0) -> tuple[Tensor, ...]:
    return _copies(tensor_of("split_copy", input).split(split_size, dim))


@forwarded
def split_with_sizes_copy(
    input: Tensor, split_sizes: Sequence[int], dim: int = 0
) -> tuple[Tensor, ...]:
    return _copies(tensor_of("split_with_sizes_copy", input).split_with_sizes(split_sizes, dim))


@forwarded
def squeeze_copy(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    return tensor_of("squeeze_copy", input).squeeze(dim).clone()


@forwarded
def t_copy(input: Tensor) -> Tensor:
    return tensor_of("t_copy", input).t().clone()


@forwarded
def transpose_copy(input: Tensor, dim0: int, dim1: int) -> Tensor:
    return tensor_of("transpose_copy", input).transpose(dim0, dim1).clone()


@forwarded
def unbind_copy(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    return _copies(tensor_of("unbind_copy", input).unbind(dim))


@forwarded
def unfold_copy(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    return tensor_of("unfold_copy", input).unfold(dimension, size, step).clone()


@forwarded
def unsafe_chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """`input.chunk(chunks, dim)`: here what views share is looked after."""
    return tensor_of("unsafe_chunk", input).chunk(chunks, dim)


@forwarded
def unsafe_split_with_sizes(
    input: Tensor, split_sizes: Sequence[int], dim: int = 0
) -> tuple[Tensor, ...]:
    """`split_with_sizes`, as `unsafe_chunk`."""
    return tensor_of("unsafe_split_with_sizes", input).split_with_sizes(split_sizes, dim)


@forwarded
def unsqueeze_copy(input: Tensor, dim: int) -> Tensor:
    return tensor_of("unsqueeze_copy", input).unsqueeze(dim).clone()


@forwarded
def view_copy(
    input: Tensor, size: Sequence[int] | DType | None = None, *, dtype: DType | None = None
) -> Tensor:
    x = tensor_of("view_copy", input)
    if isinstance(size, DType) or size is None:
        return x.view(size or dtype or ()).clone()
    return x.view(tuple(size)).clone()
