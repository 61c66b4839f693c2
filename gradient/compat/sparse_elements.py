"""Sparse tensors element by element: products of two of them, softmax of lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gradient.errors import ShapeError, sentence
from gradient.tensor.searching import searchsorted

if TYPE_CHECKING:
    from gradient.compat.sparse_tensor import SparseTensor
    from gradient.dtypes import DType
    from gradient.tensor import Tensor

__all__ = ["flat", "log_softmax", "product", "softmax"]


def flat(places: Any, shape: Sequence[int]) -> Tensor:
    """Where the elements at `places` (dimensions, n) would lie in a dense tensor: (n,)."""
    found: Tensor = places.new_zeros(places.shape[1])
    for size, index in zip(shape, places, strict=True):
        found = found * size + index
    return found


def product(a: SparseTensor, b: SparseTensor) -> SparseTensor:
    """The products at the places that both have."""
    if a.shape != b.shape:
        got = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ShapeError(sentence("mul", "two sparse tensors of one shape", got))
    a, b = a.coalesce(), b.coalesce()
    mine, theirs = flat(a.indices(), a.shape), flat(b.indices(), b.shape)
    if not b._nnz():
        return b
    at = searchsorted(theirs, mine).clamp(max=b._nnz() - 1)
    kept = (theirs[at] == mine).nonzero(as_tuple=True)[0]
    numbers = a.values()[kept] * b.values()[at[kept]]
    return type(a)(a.indices()[:, kept], numbers, a.shape, True)


def softmax(input: SparseTensor, dim: int, dtype: DType | None = None) -> SparseTensor:
    """e^x / sum(e^x) along `dim` of the elements that are kept: the others count as -inf."""
    return _softmax(input, dim, dtype, lambda x, total: x.exp() / total)


def log_softmax(input: SparseTensor, dim: int, dtype: DType | None = None) -> SparseTensor:
    """log(softmax(x))"""
    return _softmax(input, dim, dtype, lambda x, total: x - total.log())


def _softmax(
    input: SparseTensor, dim: int, dtype: DType | None, of: Callable[[Tensor, Tensor], Tensor]
) -> SparseTensor:
    whole = (input if dtype is None else input.to(dtype)).coalesce()
    rest = [i for i in range(whole.ndim) if i != dim % whole.ndim]
    places = whole.indices()[rest]
    _, line = flat(places, [whole.shape[i] for i in rest]).unique(return_inverse=True)
    n = int(line.max()) + 1 if whole._nnz() else 0
    largest = whole.values().detach().new_zeros(n)
    largest = largest.scatter_reduce(0, line, whole.values().detach(), "amax", include_self=False)
    x = whole.values() - largest[line]
    total = x.new_zeros(n).index_add(0, line, x.exp())
    return whole._with(of(x, total[line]))
