"""`sparse`: matrices of which only some elements are kept, for scripts of graphs.

    adjacency = gradient.sparse_coo_tensor(edges, weights, (nodes, nodes))
    adjacency @ features        # also gradient.spmm, gradient.sparse.mm

What is computed of them is made of gathers and sums of rows, with gradients for the values and for
the dense factor; what is not here is done after `to_dense()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradient.autograd.forwarding import forwarded
from gradient.compat import sparse_joining, sparse_tensor
from gradient.compat.sparse_elements import log_softmax, softmax
from gradient.compat.sparse_rows import sparse_csr_tensor
from gradient.compat.sparse_tensor import *  # noqa: F403
from gradient.compat.sparse_tensor import EACH, SparseTensor, sparse_coo_tensor
from gradient.dtypes import DType, float32, float64, int64

__all__ = [
    "DoubleTensor",
    "FloatTensor",
    "LongTensor",
    "addmm",
    "log_softmax",
    "mm",
    "softmax",
    "sparse_csr_tensor",
    "sum",
]
__all__ += sparse_tensor.__all__


def mm(mat1: Any, mat2: Any) -> Any:
    """The product of two matrices, one of them sparse."""
    return mat1 @ mat2


@forwarded
def spmm(input: Any, mat2: Any) -> Any:
    """`mm`, of old"""
    return mm(input, mat2)


def addmm(input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """beta * input + alpha * (mat1 @ mat2)"""
    return mm(mat1, mat2) * alpha + input * beta


def sum(input: SparseTensor, dim: int | None = None, dtype: DType | None = None) -> Any:
    """Of all elements; or along one dimension, sparse."""
    return (input if dtype is None else input.to(dtype)).sum(dim)


def _of(dtype: DType) -> Any:
    def make(indices: Any, values: Any, size: Sequence[int] | None = None) -> SparseTensor:
        return sparse_coo_tensor(indices, values, size, dtype=dtype)

    return make


FloatTensor, DoubleTensor, LongTensor = _of(float32), _of(float64), _of(int64)

SparseTensor.functions = {
    "add": lambda input, other: input + other,
    "addmm": addmm,
    **{name: getattr(sparse_joining, name) for name in sparse_joining.__all__},
    "concat": sparse_joining.cat,
    "concatenate": sparse_joining.cat,
    "matmul": mm,
    "mm": mm,
    **{name: getattr(SparseTensor, name) for name in EACH},
    "index_select": SparseTensor.index_select,
    "mv": mm,
    "pow": SparseTensor.pow,
    "mul": lambda input, other: input * other,
    "sum": lambda input, dim=None, keepdim=False, dtype=None: sum(input, dim, dtype),
    "t": SparseTensor.t,
    "transpose": SparseTensor.transpose,
}
