"""Sparse matrices by rows (CSR): where each row begins, the columns and the values.

They are the matrices of `gradient.sparse` in the order of their rows, and compute as those do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradient.compat.sparse_tensor import SparseTensor
from gradient.dtypes import DType, int32, int64
from gradient.errors import ShapeError, sentence
from gradient.tensor import Tensor
from gradient.tensor.creation import arange
from gradient.tensor.from_data import tensor
from gradient.tensor.joining import stack
from gradient.tensor.layout import sparse_csr

__all__ = ["SparseRows", "sparse_csr_tensor"]


class SparseRows(SparseTensor):
    """A sparse matrix that says where its rows begin."""

    is_sparse, is_sparse_csr = False, True
    layout = sparse_csr

    def crow_indices(self) -> Tensor:
        """(rows + 1,) int64: how many values there are before each row, and in all."""
        counts = self._places[0].bincount(minlength=self.shape[0])
        return counts.new_zeros(self.shape[0] + 1).index_add(
            0, arange(1, self.shape[0] + 1, device=counts.device), counts.cumsum(0)
        )

    def col_indices(self) -> Tensor:
        """(n,) int64"""
        return self._places[1]

    def values(self) -> Tensor:
        """(n,)"""
        return self._numbers

    def to_sparse(self) -> SparseTensor:
        return SparseTensor(self._places, self._numbers, self.shape, True)

    to_sparse_coo = to_sparse

    def to_sparse_csr(self, dense_dim: int | None = None) -> SparseRows:
        return self

    def __repr__(self) -> str:
        return (
            f"sparse_csr_tensor(crow_indices={self.crow_indices()},\n  "
            f"col_indices={self.col_indices()},\n  values={self._numbers},\n  "
            f"size={tuple(self.shape)}, nnz={self._nnz()})"
        )


def rows_of(matrix: SparseTensor, dense_dim: int | None = None) -> SparseRows:
    """A sparse matrix by its rows. `dense_dim` is 0: every dimension is sparse."""
    if matrix.ndim != 2:
        raise ShapeError(sentence("to_sparse_csr", "a matrix", tuple(matrix.shape)))
    whole = matrix.coalesce()
    return SparseRows(whole._places, whole._numbers, whole.shape, True)


SparseTensor.to_sparse_csr = rows_of


def sparse_csr_tensor(
    crow_indices: Any,
    col_indices: Any,
    values: Any,
    size: Sequence[int] | None = None,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    check_invariants: bool | None = None,
) -> SparseRows:
    """A matrix of `values` (n,) in columns `col_indices` (n,), of which row i has those from
    crow_indices[i] to crow_indices[i + 1]."""
    numbers = (values if isinstance(values, Tensor) else tensor(values)).to(
        dtype=dtype, device=device
    )
    starts, columns = (
        (x if isinstance(x, Tensor) else tensor(x)).to(dtype=int64, device=numbers.device)
        for x in (crow_indices, col_indices)
    )
    if columns.shape != numbers.shape or columns.ndim != 1 or int(starts[-1]) != columns.shape[0]:
        wanted = f"as many columns and values as crow_indices ends with, {int(starts[-1])}"
        got = f"{tuple(columns.shape)} and {tuple(numbers.shape)}"
        raise ShapeError(sentence("sparse_csr_tensor", wanted, got))
    n = starts.shape[0] - 1
    rows = arange(n, device=numbers.device).repeat_interleave(starts.diff())
    least, largest = (int(x) for x in columns.aminmax()) if columns.numel() else (0, -1)
    shape = size or (n, largest + 1)
    if shape[0] != n or least < 0 or largest >= shape[1]:
        wanted = f"{n} rows and columns within {tuple(shape)}"
        raise ShapeError(sentence("sparse_csr_tensor", wanted, f"columns {columns.tolist()}"))
    if requires_grad:
        numbers = numbers.detach().requires_grad_()
    return SparseRows(stack([rows, columns]), numbers, shape, True)


def row_pointers(input: Tensor, size: int, *, out_int32: bool = False) -> Tensor:
    """Where each of `size` rows begins among sorted row indices, and the end: (size + 1,)."""
    counts = input.bincount(minlength=size)
    found = counts.new_zeros(size + 1)
    found[1:] = counts.cumsum(0)
    return found.to(int32 if out_int32 else int64)


def indices_of_rows(
    crow_indices: Tensor, col_indices: Tensor, *, out_int32: bool = False, transpose: bool = False
) -> Tensor:
    """The (2, nnz) indices of the elements of a matrix of compressed rows: rows, columns."""
    counts = crow_indices.diff()
    rows = arange(len(counts), device=counts.device).repeat_interleave(counts)
    places = stack([col_indices.to(rows.dtype), rows] if transpose else [rows, col_indices])
    return places.to(int32 if out_int32 else int64)
