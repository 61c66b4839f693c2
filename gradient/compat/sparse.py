"""`sparse`: matrices of which only some elements are kept, for scripts of graphs.

    adjacency = gradient.sparse_coo_tensor(edges, weights, (nodes, nodes))
    adjacency @ features        # also gradient.spmm, gradient.sparse.mm

What is computed of them is made of gathers and sums of rows, with gradients for the values and for
the dense factor; what is not here is done after `to_dense()`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradient.autograd.autocast import autocasts
from gradient.autograd.foreign import Operand
from gradient.autograd.forwarding import forwarded
from gradient.autograd.variable import Variable
from gradient.dtypes import DType, bfloat16, float16, float32, float64, int64
from gradient.errors import ArgumentError, DTypeError, ShapeError, TypeMismatch, sentence
from gradient.tensor import Tensor
from gradient.tensor.arguments import size_of
from gradient.tensor.creation import zeros
from gradient.tensor.from_data import tensor
from gradient.tensor.joining import cat, stack

__all__ = [
    "DoubleTensor",
    "FloatTensor",
    "LongTensor",
    "SparseTensor",
    "addmm",
    "mm",
    "sparse_coo_tensor",
    "sum",
]


class SparseTensor(Operand):
    """A tensor of zeros but for `values` (n,) at the places `indices` (dimensions, n).

    The same place may come twice, and counts as the sum, until `coalesce()`.
    """

    is_sparse = True
    __array_ufunc__ = None  # NumPy leaves operators to this class

    def __init__(
        self, indices: Tensor, values: Tensor, shape: Sequence[int], coalesced: bool = False
    ) -> None:
        self._places, self._numbers, self._coalesced = indices, values, coalesced
        self.shape = zeros(0).new_empty((0, *shape)).shape[1:]

    # What it is ----------------------------------------------------------------------------------

    dtype = property(lambda self: self._numbers.dtype)
    device = property(lambda self: self._numbers.device)
    requires_grad = property(lambda self: self._numbers.requires_grad)
    ndim = property(lambda self: len(self.shape))

    def dim(self) -> int:
        return len(self.shape)

    sparse_dim = dim

    def dense_dim(self) -> int:
        """0: every dimension is sparse."""
        return 0

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> int:
        return math.prod(self.shape)

    def _nnz(self) -> int:
        return int(self._numbers.shape[0])

    def is_coalesced(self) -> bool:
        return self._coalesced

    def _indices(self) -> Tensor:
        return self._places

    def _values(self) -> Tensor:
        return self._numbers

    def indices(self) -> Tensor:
        """(dimensions, n) int64, in order."""
        return self._kept("indices", self._places)

    def values(self) -> Tensor:
        """(n,), in the order of `indices()`."""
        return self._kept("values", self._numbers)

    def _kept(self, caller: str, kept: Tensor) -> Tensor:
        if not self._coalesced:
            raise ArgumentError(f"{caller}: the tensor is not coalesced, call .coalesce() first")
        return kept

    def __eq__(self, other: object) -> Any:
        """Refused: Python's own answer would be whether the two are one object."""
        if not isinstance(other, (SparseTensor, Variable, int, float, complex)):
            return NotImplemented
        raise DTypeError("eq: not defined for sparse tensors; compare what to_dense() gives")

    __hash__ = Operand.__hash__

    def __bool__(self) -> bool:
        if self.numel() != 1:
            got = tuple(self.shape)
            raise ArgumentError(sentence("bool", "a tensor of one element", got))
        return bool(self.to_dense())

    def __len__(self) -> int:
        return int(self.shape[0])

    def __repr__(self) -> str:
        return (
            f"sparse_coo_tensor(indices={self._places},\n  values={self._numbers},\n  "
            f"size={tuple(self.shape)}, nnz={self._nnz()})"
        )

    # The same in another form --------------------------------------------------------------------

    def to_dense(self, dtype: Any = None, *, masked_grad: bool | None = None) -> Tensor:
        """All elements, zeros too."""
        values = self._numbers if dtype is None else self._numbers.to(dtype=dtype)
        dense = zeros(self.shape, dtype=values.dtype, device=values.device)
        return dense.index_put(tuple(self._places), values, accumulate=True)

    def to_sparse(self) -> SparseTensor:
        return self

    def coalesce(self) -> SparseTensor:
        """Its places in order, each once."""
        if self._coalesced:
            return self
        flat = self._flat()
        places, at = flat.unique(return_inverse=True)
        values = self._numbers.new_zeros(places.shape).index_add(0, at, self._numbers)
        indices: list[Tensor] = []
        for size in reversed(self.shape):
            indices.insert(0, places % max(size, 1))
            places = places // max(size, 1)
        return SparseTensor(stack(indices), values, self.shape, True)

    def _flat(self) -> Tensor:
        """Where each element would lie in the dense tensor."""
        flat = self._places.new_zeros(self._nnz())
        for size, index in zip(self.shape, self._places, strict=True):
            flat = flat * size + index
        return flat

    def _with(self, values: Tensor) -> SparseTensor:
        return SparseTensor(self._places, values, self.shape, self._coalesced)

    def to(self, *args: Any, **named: Any) -> SparseTensor:
        values = self._numbers.to(*args, **named)
        places = self._places.to(values.device)
        return SparseTensor(places, values, self.shape, self._coalesced)

    def cpu(self) -> SparseTensor:
        return self.to("cpu")

    def cuda(self, device: Any = None) -> SparseTensor:
        return self.to("cuda" if device is None else device)

    def float(self) -> SparseTensor:
        return self.to(float32)

    def double(self) -> SparseTensor:
        return self.to(float64)

    def detach(self) -> SparseTensor:
        return self._with(self._numbers.detach())

    def clone(self) -> SparseTensor:
        return self._with(self._numbers.clone())

    def requires_grad_(self, requires_grad: bool = True) -> SparseTensor:
        self._numbers.requires_grad_(requires_grad)
        return self

    def transpose(self, dim0: int, dim1: int) -> SparseTensor:
        order = list(range(self.ndim))
        order[dim0], order[dim1] = order[dim1], order[dim0]
        shape = [self.shape[i] for i in order]
        return SparseTensor(self._places[order], self._numbers, shape)

    def t(self) -> SparseTensor:
        """The transposed matrix."""
        return self.transpose(0, 1)

    T = property(t)

    # What is computed of it ----------------------------------------------------------------------

    def __neg__(self) -> SparseTensor:
        return self._with(-self._numbers)

    def __mul__(self, other: Any) -> SparseTensor:
        """By a number, or elementwise by a tensor of its shape."""
        if isinstance(other, Variable) and other.array.shape:
            if tuple(other.array.shape) != tuple(self.shape):
                got = f"{tuple(self.shape)} and {tuple(other.array.shape)}"
                raise ShapeError(sentence("mul", "a sparse tensor and one of its shape", got))
            at: Any = other
            return self._with(self._numbers * at[tuple(self._places)])
        return (
            NotImplemented if isinstance(other, SparseTensor) else self._with(self._numbers * other)
        )

    __rmul__ = mul = __mul__

    def __truediv__(self, other: Any) -> SparseTensor:
        return self._with(self._numbers / other)

    div = __truediv__

    def __add__(self, other: Any) -> Any:
        """Sparse with a sparse tensor, dense with a dense one."""
        if isinstance(other, SparseTensor):
            if other.shape != self.shape:
                got = f"{tuple(self.shape)} and {tuple(other.shape)}"
                raise ShapeError(sentence("add", "two sparse tensors of one shape", got))
            places = cat([self._places, other._places], 1)
            return SparseTensor(places, cat([self._numbers, other._numbers]), self.shape).coalesce()
        return self.to_dense() + other if isinstance(other, Variable) else NotImplemented

    __radd__ = add = __add__

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __matmul__(self, other: Any) -> Any:
        """(m, n) @ (n, k), or @ (n,): dense, or sparse where both are."""
        if isinstance(other, SparseTensor):
            _fit(self.shape, other.shape)
            return of_dense(self @ other.to_dense())
        if not isinstance(other, Variable):
            raise TypeMismatch(sentence("matmul", "a Tensor as other", type(other).__name__))
        dense: Any = other
        _fit(self.shape, dense.shape)
        return _gathered(self._numbers, dense, self._places, self.shape[0])

    def __rmatmul__(self, other: Any) -> Tensor:
        if other.ndim not in (1, 2):
            raise ShapeError(sentence("matmul", "a matrix or a vector", tuple(other.shape)))
        product: Tensor = (self.t() @ other.T).T
        return product

    mm = matmul = spmm = __matmul__

    def sum(self, dim: int | None = None) -> Any:
        """Of all elements; or along one dimension, sparse."""
        if dim is None:
            return self._numbers.sum()
        kept = [i for i in range(self.ndim) if i != dim % self.ndim]
        shape = [self.shape[i] for i in kept]
        if not kept:
            return self._numbers.sum()
        return SparseTensor(self._places[kept], self._numbers, shape).coalesce()


def _fit(left: Sequence[int], right: Sequence[int]) -> None:
    if len(left) != 2 or len(right) not in (1, 2) or left[1] != right[0]:
        got = f"{tuple(left)} and {tuple(right)}"
        raise ShapeError(sentence("matmul", "matrices (m, n) and (n, k)", got))


@autocasts("lower_precision")
def _gathered(values: Tensor, dense: Tensor, places: Tensor, m: int) -> Tensor:
    """values (nnz,) at places (2, nnz), times dense (n,) or (n, k): (m,) or (m, k)."""
    if values.dtype is not dense.dtype:
        got = f"{values.dtype} and {dense.dtype}"
        raise DTypeError(sentence("matmul", "factors of one dtype", got, "cast one with .to()"))
    rows, columns = places
    parts = (values if dense.ndim == 1 else values.unsqueeze(1)) * dense[columns]
    dtype = float32 if parts.dtype in (bfloat16, float16) else parts.dtype  # in which to add up
    out = parts.new_zeros((m, *dense.shape[1:]), dtype=dtype)
    return out.index_add(0, rows, parts.to(dtype=dtype)).to(dtype=parts.dtype)


def of_dense(dense: Tensor) -> SparseTensor:
    """The elements of a dense tensor that are not 0."""
    places = dense.detach().nonzero().T
    return SparseTensor(places, dense[tuple(places)], dense.shape, True)


def sparse_coo_tensor(
    indices: Any,
    values: Any = None,
    size: Sequence[int] | None = None,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    check_invariants: bool | None = None,
    is_coalesced: bool | None = None,
) -> SparseTensor:
    """Zeros but for `values` (n,) at `indices` (dimensions, n); by default just large enough."""
    if values is None and size is None:  # sparse_coo_tensor(size)
        indices, values, size = zeros((len(indices), 0), dtype=int64), [], indices
    places = indices if isinstance(indices, Tensor) else tensor(indices)
    numbers = values if isinstance(values, Tensor) else tensor(values, device=device)
    numbers = numbers.to(dtype=dtype, device=device)
    places = places.to(dtype=int64, device=numbers.device)
    if places.ndim != 2:
        wanted = "indices (dimensions, n)"
        raise ShapeError(sentence("sparse_coo_tensor", wanted, tuple(places.shape)))
    if numbers.ndim == 0:
        numbers = numbers.expand(places.shape[1]).clone()
    if tuple(numbers.shape) != (places.shape[1],):
        wanted = f"values ({places.shape[1]},), one for each index"
        raise ShapeError(sentence("sparse_coo_tensor", wanted, tuple(numbers.shape)))
    largest = places.amax(1).tolist() if numbers.numel() else [-1] * places.shape[0]
    shape = [n + 1 for n in largest] if size is None else list(size_of((size,), None))
    if len(shape) != len(largest):
        wanted = f"a size of {len(largest)} dimensions"
        raise ShapeError(sentence("sparse_coo_tensor", wanted, tuple(shape)))
    least = int(places.min()) if numbers.numel() else 0
    if least < 0 or any(n >= limit for n, limit in zip(largest, shape, strict=True)):
        got = f"indices from {least} to {tuple(largest)}"
        raise ArgumentError(sentence("sparse_coo_tensor", f"indices within {tuple(shape)}", got))
    if requires_grad:
        numbers = numbers.detach().requires_grad_()
    return SparseTensor(places, numbers, shape, bool(is_coalesced))


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
    "matmul": mm,
    "mm": mm,
    "mul": lambda input, other: input * other,
    "sum": lambda input, dim=None, keepdim=False, dtype=None: sum(input, dim, dtype),
    "t": SparseTensor.t,
    "transpose": SparseTensor.transpose,
}
