"""Tensors of which some elements are kept, and what is computed of them (`gradient.sparse`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradient.autograd.foreign import Operand
from gradient.autograd.variable import Variable
from gradient.compat.sparse_elements import flat, product
from gradient.compat.sparse_products import check_fit, gathered
from gradient.dtypes import DType, float16, float32, float64, int64
from gradient.errors import (
    ArgumentError,
    DTypeError,
    IndexOutOfRange,
    ShapeError,
    TypeMismatch,
    sentence,
)
from gradient.tensor import Tensor
from gradient.tensor.arguments import size_of
from gradient.tensor.creation import zeros
from gradient.tensor.from_data import tensor
from gradient.tensor.joining import cat, stack
from gradient.tensor.layout import sparse_coo

__all__ = ["SparseTensor", "of_dense", "sparse_coo_tensor"]


class SparseTensor(Operand):
    """A tensor of zeros but for `values` (n,) at the places `indices` (dimensions, n).

    The same place may come twice, and counts as the sum, until `coalesce()`.
    """

    is_sparse, is_sparse_csr, is_meta, is_leaf = True, False, False, True
    layout = sparse_coo
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
    is_cuda = property(lambda self: self._numbers.is_cuda)
    ndim = property(lambda self: len(self.shape))

    def ndimension(self) -> int:
        return self.ndim

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

    def element_size(self) -> int:
        return self._numbers.element_size()

    def is_floating_point(self) -> bool:
        return self._numbers.is_floating_point()

    def is_complex(self) -> bool:
        return self._numbers.is_complex()

    def _nnz(self) -> int:
        return int(self._numbers.shape[0])

    def _coalesced_(self, coalesced: bool) -> SparseTensor:
        """Say of it that its places are sorted, each once, or are not."""
        self._coalesced = coalesced
        return self

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

    to_sparse_coo = to_sparse

    to_sparse_csr: Any
    """Its rows one after the other (`sparse_rows`, which sets it)."""

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
        return flat(self._places, self.shape)

    def _with(self, values: Tensor) -> SparseTensor:
        return type(self)(self._places, values, self.shape, self._coalesced)

    def to(self, *args: Any, **named: Any) -> SparseTensor:
        values = self._numbers.to(*args, **named)
        places = self._places.to(values.device)
        return type(self)(places, values, self.shape, self._coalesced)

    def cpu(self) -> SparseTensor:
        return self.to("cpu")

    def cuda(self, device: Any = None) -> SparseTensor:
        return self.to("cuda" if device is None else device)

    def type(self, dtype: Any) -> SparseTensor:
        return self.to(dtype)

    def half(self) -> SparseTensor:
        return self.to(float16)

    def float(self) -> SparseTensor:
        return self.to(float32)

    def double(self) -> SparseTensor:
        return self.to(float64)

    def long(self) -> SparseTensor:
        return self.to(int64)

    def detach(self) -> SparseTensor:
        return self._with(self._numbers.detach())

    def clone(self) -> SparseTensor:
        return self._with(self._numbers.clone())

    def copy_(self, src: SparseTensor, non_blocking: bool = False) -> SparseTensor:
        """Become what `src`, of the same shape, is, in the own dtype."""
        if not isinstance(src, SparseTensor) or src.shape != self.shape:
            got = tuple(getattr(src, "shape", ())) if hasattr(src, "shape") else type(src).__name__
            raise ShapeError(sentence("copy_", f"a sparse tensor {tuple(self.shape)}", got))
        self._places = src._places.to(self.device).clone()
        self._numbers = src._numbers.to(self._numbers).clone()
        self._coalesced = src._coalesced
        return self

    def zero_(self) -> SparseTensor:
        self._places, self._numbers = self._places[:, :0], self._numbers[:0]
        self._coalesced = True
        return self

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

    T = mT = property(t)

    def index_select(self, dim: int, index: Tensor) -> SparseTensor:
        """Slices of `dim`, the first index's first."""
        dim %= self.ndim
        kept = self._places[dim] == index.unsqueeze(1)  # (indices, n)
        rank, at = kept.nonzero(as_tuple=True)
        places = list(self._places[:, at])
        places[dim] = rank
        shape = [index.shape[0] if i == dim else n for i, n in enumerate(self.shape)]
        return SparseTensor(stack(places), self._numbers[at], shape)

    def __getitem__(self, index: int) -> SparseTensor:
        """What is at one index of the first dimension."""
        if not isinstance(index, int):
            raise TypeMismatch(
                sentence("getitem", "an int", type(index).__name__, "call to_dense() first")
            )
        if not -self.shape[0] <= index < self.shape[0]:
            raise IndexOutOfRange(f"index {index} is out of bounds for size {self.shape[0]}")
        at = (self._places[0] == index % self.shape[0]).nonzero(as_tuple=True)[0]
        return SparseTensor(self._places[1:, at], self._numbers[at], self.shape[1:])

    # What is computed of it ----------------------------------------------------------------------

    def __neg__(self) -> SparseTensor:
        return self._with(-self._numbers)

    def __mul__(self, other: Any) -> SparseTensor:
        """By a number, or elementwise by a tensor of its shape, sparse or dense."""
        if isinstance(other, SparseTensor):
            return product(self, other)
        if isinstance(other, Variable) and other.array.shape:
            if tuple(other.array.shape) != tuple(self.shape):
                got = f"{tuple(self.shape)} and {tuple(other.array.shape)}"
                raise ShapeError(sentence("mul", "a sparse tensor and one of its shape", got))
            at: Any = other
            return self._with(self._numbers * at[tuple(self._places)])
        return self._with(self._numbers * other)

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
            check_fit(self.shape, other.shape)
            return of_dense(self @ other.to_dense())
        if not isinstance(other, Variable):
            raise TypeMismatch(sentence("matmul", "a Tensor as other", type(other).__name__))
        dense: Any = other
        check_fit(self.shape, dense.shape)
        return gathered(self._numbers, dense, self._places, self.shape[0])

    def __rmatmul__(self, other: Any) -> Tensor:
        if other.ndim not in (1, 2):
            raise ShapeError(sentence("matmul", "a matrix or a vector", tuple(other.shape)))
        product: Tensor = (self.t() @ other.T).T
        return product

    mm = matmul = spmm = mv = __matmul__

    def __pow__(self, exponent: Any) -> SparseTensor:
        """Each element to the power of a positive number."""
        if not isinstance(exponent, (int, float)) or exponent <= 0:
            raise ArgumentError(sentence("pow", "a number above 0", exponent))
        whole = self.coalesce()
        return whole._with(whole._numbers**exponent)

    pow = __pow__

    def norm(self, p: Any = 2) -> Tensor:
        """The norm of all elements."""
        return self.coalesce()._numbers.norm(p)

    def sum(self, dim: int | None = None) -> Any:
        """Of all elements; or along one dimension, sparse."""
        if dim is None:
            return self._numbers.sum()
        kept = [i for i in range(self.ndim) if i != dim % self.ndim]
        shape = [self.shape[i] for i in kept]
        if not kept:
            return self._numbers.sum()
        return SparseTensor(self._places[kept], self._numbers, shape).coalesce()


def _each(name: str) -> Any:
    """A method that changes each element, and keeps zeros zeros."""

    def method(self: SparseTensor) -> SparseTensor:
        whole = self.coalesce()
        return whole._with(getattr(whole._numbers, name)())

    method.__name__ = name
    method.__doc__ = f"`{name}` of each element."
    return method


EACH = (
    "abs", "asin", "atan", "ceil", "deg2rad", "erf", "expm1", "floor", "isinf", "isnan", "log1p",
    "neg", "relu", "round", "sgn", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc",
)  # fmt: skip
for _name in EACH:
    setattr(SparseTensor, _name, _each(_name))


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
