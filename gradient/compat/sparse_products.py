"""The product of a sparse matrix with a dense one: rows gathered, weighted and added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradient.autograd.autocast import autocasts
from gradient.dtypes import bfloat16, float16, float32
from gradient.errors import DTypeError, ShapeError, sentence

if TYPE_CHECKING:
    from gradient.tensor import Tensor

__all__ = ["check_fit", "gathered"]


def check_fit(left: Sequence[int], right: Sequence[int]) -> None:
    """Raise if matrices of these shapes have no product."""
    if len(left) != 2 or len(right) not in (1, 2) or left[1] != right[0]:
        got = f"{tuple(left)} and {tuple(right)}"
        raise ShapeError(sentence("matmul", "matrices (m, n) and (n, k)", got))


@autocasts("lower_precision")
def gathered(values: Tensor, dense: Tensor, places: Tensor, m: int) -> Tensor:
    """values (nnz,) at places (2, nnz), times dense (n,) or (n, k): (m,) or (m, k)."""
    if values.dtype is not dense.dtype:
        got = f"{values.dtype} and {dense.dtype}"
        raise DTypeError(sentence("matmul", "factors of one dtype", got, "cast one with .to()"))
    rows, columns = places
    parts = (values if dense.ndim == 1 else values.unsqueeze(1)) * dense[columns]
    dtype = float32 if parts.dtype in (bfloat16, float16) else parts.dtype  # in which to add up
    out = parts.new_zeros((m, *dense.shape[1:]), dtype=dtype)
    return out.index_add(0, rows, parts.to(dtype=dtype)).to(dtype=parts.dtype)
