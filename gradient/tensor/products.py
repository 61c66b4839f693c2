"""Matrix products, tensor contractions and linear algebra: methods of Tensor."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.autograd.autocast import autocasts
from gradient.autograd.explain import listed
from gradient.autograd.foreign import by_operand
from gradient.autograd.forwarding import forwarded
from gradient.autograd.modes import mode
from gradient.autograd.variable import Variable, wrap
from gradient.dtypes import bool_, result_type
from gradient.errors import ArgumentError, DTypeError, ShapeError, TypeMismatch, sentence
from gradient.ops import linalg, shape
from gradient.tensor.arguments import axis_of, int_of, number_of, tensor_of
from gradient.tensor.arithmetic import Arithmetic, same_dtype
from gradient.tensor.base import TensorBase
from gradient.tensor.views import without_base

if TYPE_CHECKING:
    from gradient.autograd.variable import Number
    from gradient.linalg.decompositions import QR
    from gradient.linalg.older import SVD
    from gradient.linalg.solving import LogDeterminant
    from gradient.tensor.core import Tensor

LARGE = 1 << 14
"""Elements from which vectors of a cross product are put in row-major order of components."""

__all__ = ["tensordot"]


class Products(Arithmetic):
    """matmul and its special cases."""

    __slots__ = ()

    def matmul(self, other: Tensor | Number) -> Tensor:
        """The matrix product, with PyTorch's rules for vectors: (..., M, K) @ (..., K, N) gives
        (..., M, N); batch dimensions broadcast."""
        return matmul(self, other)

    __matmul__ = matmul

    def __rmatmul__(self, other: Tensor | Number) -> Tensor:
        if not isinstance(other, np.ndarray):
            return matmul(other, self)
        return matmul(wrap(self.backend.asarray(other), self.backend), self)

    def mm(self, mat2: Tensor) -> Tensor:
        """The matrix product of two matrices: (M, K) @ (K, N) gives (M, N)."""
        _expect("mm", (self, 2), (mat2, 2))
        return linalg.matmul(self, mat2)

    def bmm(self, mat2: Tensor) -> Tensor:
        """The matrix products of two batches: (B, M, K) @ (B, K, N) gives (B, M, N)."""
        a, b = self.array.shape, tensor_of("bmm", mat2).array.shape
        if len(a) != 3 or len(b) != 3 or a[0] != b[0]:
            _expect("bmm", (self, 3), (mat2, 3))
            _expect_one_batch("bmm", self, mat2)
        return linalg.matmul(self, mat2)

    @autocasts("widest_on_cpu")
    def mv(self, vec: Tensor) -> Tensor:
        """A matrix times a vector: (M, K) @ (K,) gives (M,)."""
        _expect("mv", (self, 2), (vec, 1))
        return matmul(self, vec)

    @autocasts("widest")
    def dot(self, tensor: Tensor) -> Tensor:
        """The inner product of two vectors."""
        _expect("dot", (self, 1), (tensor, 1))
        if self.array.shape != tensor.array.shape:
            got = f"{self.array.shape[0]} and {tensor.array.shape[0]} elements"
            raise ShapeError(sentence("dot", "vectors of one size", got))
        return matmul(self, tensor)

    def inner(self, other: Tensor) -> Tensor:
        """The sum over the last dimension of both: (..., K) and (___, K) -> (..., ___)."""
        if not self.array.shape or not tensor_of("inner", other).array.shape:
            return self * other
        size = (*self.array.shape[:-1], *other.array.shape[:-1])
        if not size and mode.autocast is not None:
            return self.dot(other)  # autocast on the CPU does not cast `dot`
        if self.array.shape[-1] != other.array.shape[-1]:
            raise ShapeError(
                "inner: expected last dimensions of one size, got shapes "
                f"{tuple(self.array.shape)} and {tuple(other.array.shape)}"
            )
        return shape.reshape(linalg.matmul(_rows(self), _rows(other).mT), shape=size)

    def outer(self, vec2: Tensor) -> Tensor:
        """The outer product of two vectors: (M,) and (N,) -> (M, N)."""
        _expect("outer", (self, 1), (vec2, 1))
        if 0 < self.backend.one_pass_from <= self.numel() * vec2.numel():
            # An operator asks for one pass by the sizes of its operands.
            return self.unsqueeze(1).expand(-1, vec2.numel()) * vec2
        return self.unsqueeze(1) * vec2.unsqueeze(0)

    ger = outer

    @autocasts("lower_precision")
    def addmm(self, mat1: Tensor, mat2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
        """beta self + alpha mat1 @ mat2"""
        return _added("addmm", self, mat1, mat2, 2, beta, alpha)

    @autocasts("lower_precision")
    def baddbmm(
        self, batch1: Tensor, batch2: Tensor, *, beta: Number = 1, alpha: Number = 1
    ) -> Tensor:
        """beta self + alpha batch1 @ batch2"""
        return _added("baddbmm", self, batch1, batch2, 3, beta, alpha)


def matmul(a: Any, b: Any) -> Tensor:
    """The matrix product with PyTorch's rules for vectors and batches."""
    if not (isinstance(a, TensorBase) and isinstance(b, TensorBase)):
        out: Any = by_operand("matmul", "__rmatmul__", a, b)
        if out is not NotImplemented:
            return out
        name, value = ("other", b) if isinstance(a, Variable) else ("input", a)
        raise TypeMismatch(sentence("matmul", f"a Tensor as {name}", type(value).__name__))
    m, n = len(a.array.shape), len(b.array.shape)
    if m == 2 and n == 2:
        return linalg.matmul(a, b)
    if m == 0 or n == 0:
        raise ShapeError(
            f"matmul: both arguments need to be at least 1D, but they are {m}D and {n}D"
        )
    if m > 2 and n == 2:  # one product over all rows, and one for the gradient of b
        size = (*a.array.shape[:-1], b.array.shape[-1])
        return shape.reshape(linalg.matmul(_rows(a), b), shape=size)
    if m > 1 and n > 1:
        return linalg.matmul(a, b)
    k, of_b = a.array.shape[-1], b.array.shape[0 if n == 1 else -2]
    if k != of_b:  # checked here, before vectors are reshaped
        inputs = listed(["input", "other"], (a, b))
        raise ShapeError(
            f"matmul: the dimensions to be summed over differ, {k} and {of_b} ({inputs})"
        )
    out = linalg.matmul(a.unsqueeze(0) if m == 1 else a, b.unsqueeze(1) if n == 1 else b)
    size = out.array.shape
    size = (*size[:-2], *size[-2:][m == 1 : 2 - (n == 1)])
    return shape.reshape(out, shape=size)  # not the method, which would record a view


def _rows(tensor: TensorBase) -> Tensor:
    """Reshape (..., K) to a matrix of all rows; no size is inferred by -1, as K may be 0."""
    *lead, k = tensor.array.shape
    return tensor.reshape(math.prod(lead), k)


def _added(caller: str, x: Any, a: Any, b: Any, ndim: int, beta: Number, alpha: Number) -> Tensor:
    """beta x + alpha a @ b"""
    _expect(caller, (a, ndim), (b, ndim))
    if ndim == 3:
        _expect_one_batch(caller, a, b)
    same_dtype(caller, "input", a, x)
    return _weighted(caller, x, linalg.matmul(a, b), beta, alpha)


def _expect(caller: str, *operands: tuple[Variable, int]) -> None:
    """Raise if an operand is not a tensor, or has another number of dimensions."""
    sizes = [tensor_of(caller, tensor).array.shape for tensor, _ in operands]
    for size, (_, ndim) in zip(sizes, operands, strict=True):
        if len(size) != ndim:
            expected = f"a tensor of {ndim} dimensions"
            raise ShapeError(sentence(caller, expected, f"shape {tuple(size)}"))


def _expect_one_batch(caller: str, a: Variable, b: Variable) -> None:
    """Raise for batches of different sizes, which matmul would broadcast."""
    sizes = a.array.shape[0], b.array.shape[0]
    if sizes[0] != sizes[1]:
        raise ShapeError(sentence(caller, "batches of one size", f"{sizes[0]} and {sizes[1]}"))


def _linalg() -> ModuleType:
    """Import `gradient.linalg`, whose functions are methods too. It is on a higher rung than
    `tensor`, so it is imported at the first use."""
    return importlib.import_module("gradient.linalg.older")


class LinearAlgebra(TensorBase):
    """Functions of `gradient.linalg` as methods, with PyTorch's older names."""

    __slots__ = ()

    def cholesky(self: Any, upper: bool = False) -> Tensor:
        """`linalg.cholesky`"""
        return _linalg().cholesky(self, upper)

    def cholesky_inverse(self: Any, upper: bool = False) -> Tensor:
        """The inverse of the matrix with self as Cholesky factor (see `cholesky`)."""
        return _linalg().cholesky_inverse(self, upper)

    def cholesky_solve(self: Any, input2: Tensor, upper: bool = False) -> Tensor:
        """Solve A x = self for x, where `input2` is the Cholesky factor of A."""
        return _linalg().cholesky_solve(self, input2, upper)

    def det(self: Any) -> Tensor:
        """`linalg.det`"""
        return _linalg().det(self)

    def inverse(self: Any) -> Tensor:
        """`linalg.inv`"""
        return _linalg().inverse(self)

    def logdet(self: Any) -> Tensor:
        """The logarithm of the determinant."""
        return _linalg().logdet(self)

    def matrix_exp(self: Any) -> Tensor:
        """`linalg.matrix_exp`"""
        return _linalg().matrix_exp(self)

    def matrix_power(self: Any, n: int) -> Tensor:
        """`linalg.matrix_power`"""
        return _linalg().matrix_power(self, n)

    def pinverse(self: Any, rcond: float = 1e-15) -> Tensor:
        """`linalg.pinv`"""
        return _linalg().pinverse(self, rcond)

    def qr(self: Any, some: bool = True) -> QR:
        """`linalg.qr`, reduced if `some`."""
        return _linalg().qr(self, some)

    def slogdet(self: Any) -> LogDeterminant:
        """`linalg.slogdet`"""
        return _linalg().slogdet(self)

    def svd(self: Any, some: bool = True, compute_uv: bool = True) -> SVD:
        """`linalg.svd` with V instead of V^T, reduced if `some`."""
        return _linalg().svd(self, some, compute_uv)


class Contractions(TensorBase):
    """addbmm, addmv, addr, vdot, kron, cross."""

    __slots__ = ()

    @autocasts("lower_precision")
    def addbmm(
        self: Any, batch1: Tensor, batch2: Tensor, *, beta: Number = 1, alpha: Number = 1
    ) -> Tensor:
        """beta self + alpha sum_b batch1[b] @ batch2[b]"""
        product = tensor_of("addbmm", batch1).bmm(tensor_of("addbmm", batch2)).sum(0)
        return _weighted("addbmm", self, product, beta, alpha)

    @autocasts("lower_precision_on_gpu", "widest_on_cpu")
    def addmv(
        self: Any, mat: Tensor, vec: Tensor, *, beta: Number = 1, alpha: Number = 1
    ) -> Tensor:
        """beta self + alpha mat @ vec"""
        product = tensor_of("addmv", mat).mv(tensor_of("addmv", vec))
        return _weighted("addmv", self, product, beta, alpha)

    @autocasts("lower_precision_on_gpu")
    def addr(
        self: Any, vec1: Tensor, vec2: Tensor, *, beta: Number = 1, alpha: Number = 1
    ) -> Tensor:
        """beta self + alpha vec1 vec2^T (the outer product)"""
        dtype = result_type(self, tensor_of("addr", vec1), tensor_of("addr", vec2))
        if not dtype.is_floating_point and any(isinstance(w, float) for w in (beta, alpha)):
            expected = f"integers as beta and alpha beside {dtype}"
            raise DTypeError(sentence("addr", expected, f"{beta} and {alpha}"))
        product = vec1.to(dtype).outer(vec2.to(dtype))
        return _weighted("addr", self.to(dtype), product, beta, alpha)

    @autocasts("widest")
    def vdot(self: Any, other: Tensor) -> Tensor:
        """The inner product of two vectors; a complex self is conjugated first."""
        return self.conj().dot(other)

    def kron(self: Any, other: Tensor) -> Tensor:
        """The Kronecker product: every element of self times all of `other`, as blocks."""
        a: Any = self
        b: Any = tensor_of("kron", other)
        n = max(a.ndim, b.ndim)
        a, b = (t.reshape([1] * (n - t.ndim) + list(t.shape)) for t in (a, b))
        size = [i * j for i, j in zip(a.shape, b.shape, strict=True)]
        if n > 1 and math.prod(size) >= LARGE:  # one long row for both of the last dimensions
            repeated = [*a.shape, b.shape[-1]], [*b.shape[:-1], a.shape[-1], b.shape[-1]]
            a = a.unsqueeze(-1).expand(repeated[0]).reshape([*a.shape[:-1], size[-1]])
            b = b.unsqueeze(-2).expand(repeated[1]).reshape([*b.shape[:-1], size[-1]])
            a = a.reshape([m for i in a.shape[:-1] for m in (i, 1)] + size[-1:])
            b = b.reshape([m for i in b.shape[:-1] for m in (1, i)] + size[-1:])
            return without_base((a * b).reshape(size))
        a = a.reshape([m for i in a.shape for m in (i, 1)])
        b = b.reshape([m for i in b.shape for m in (1, i)])
        return without_base((a * b).reshape(size))

    @autocasts("widest_on_gpu")
    def cross(self: Any, other: Tensor, dim: int | None = None) -> Tensor:
        """The cross product along `dim`, by default the first dimension of size 3."""
        x, y = self, tensor_of("cross", other)
        same_dtype("cross", "other", x, y)
        if x.dtype is bool_:
            raise DTypeError(sentence("cross", "numbers", "bool", "cast with .to()"))
        if x.ndim != y.ndim:
            expected = f"an other of {x.ndim} dimensions"
            raise ShapeError(sentence("cross", expected, y.ndim))
        if dim is None:
            if 3 not in x.shape:
                raise ShapeError(sentence("cross", "a dimension of size 3", tuple(x.shape)))
            dim = tuple(x.shape).index(3)
        axis = axis_of(dim, x.ndim)
        if x.shape[axis] != 3 or y.shape[axis] != 3:
            got = f"{tuple(x.shape)} and {tuple(y.shape)}"
            raise ShapeError(sentence("cross", f"size 3 along dim {dim}", got))
        if axis != 0 and x.numel() >= LARGE:  # components that follow each other are quicker
            x, y = (t.movedim(axis, 0).contiguous() for t in (x, y))
            return without_base(_crossed(x, y, 0).movedim(0, axis).contiguous())
        return _crossed(x, y, axis)


def _crossed(x: Any, y: Any, axis: int) -> Tensor:
    return x.roll(-1, axis) * y.roll(1, axis) - x.roll(1, axis) * y.roll(-1, axis)


def _weighted(caller: str, x: Any, product: Any, beta: Number, alpha: Number) -> Tensor:
    """beta x + alpha product"""
    beta, alpha = (
        number_of(caller, name, value, takes_complex=True)
        for name, value in (("beta", beta), ("alpha", alpha))
    )
    lead, own = product.ndim - x.ndim, tuple(x.shape)
    size = tuple(product.shape)
    if lead < 0 or any(n not in (1, m) for n, m in zip(own, size[lead:], strict=True)):
        raise ShapeError(sentence(caller, f"an input that broadcasts to {size}", own))
    if product.array.dtype.kind in "biu":  # integers stay integers, as in PyTorch
        beta, alpha = int(beta.real), int(alpha.real)
    if product.dtype.kind == "bool":
        product, x = (t & bool(w) for t, w in ((product, alpha), (x, beta)))
        return x | product
    # As in PyTorch: with alpha = 0, BLAS ignores the product, even NaN; `addr` does not use BLAS.
    if alpha == 0 and caller != "addr":
        product = _nothing_of(product)
    product = product if alpha == 1 else product * alpha
    if beta == 0:  # x is ignored, even NaN and infinities; its gradient is 0
        return product if x.node is None else product + _nothing_of(x)
    return product + (x if beta == 1 else x * beta)


def _nothing_of(x: Any) -> Tensor:
    """Return zeros instead of x, also for NaN; their gradient is that of 0 * x."""
    return x.masked_fill(x.new_ones((), dtype=bool_), 0)


@autocasts("widest_on_gpu")
@forwarded
def tensordot(
    a: Tensor,
    b: Tensor,
    dims: int | Sequence[int] | Sequence[Sequence[int]] | Tensor = 2,
) -> Tensor:
    """The sum of products over some dimensions: the last `dims` of a and the first `dims` of b, or
    those in two lists. Raises ShapeError for different sizes."""
    x: Any = tensor_of("tensordot", a)
    y: Any = tensor_of("tensordot", b)
    summed: Any = dims.tolist() if isinstance(dims, TensorBase) else dims
    if isinstance(summed, int):
        if not 0 <= summed <= min(x.ndim, y.ndim):
            expected = f"dims from 0 to {min(x.ndim, y.ndim)}"
            raise ArgumentError(sentence("tensordot", expected, summed))
        summed = [list(range(x.ndim - summed, x.ndim)), list(range(summed))]
    left, right = (
        [axis_of(int_of("tensordot", "dims", d), t.ndim)
         for d in ([each] if isinstance(each, int) else each)]
        for each, t in zip(summed, (x, y), strict=True)
    )  # fmt: skip
    sizes = [x.shape[i] for i in left], [y.shape[i] for i in right]
    if len(left) != len(right) or any(
        m != n and 1 not in (m, n) for m, n in zip(*sizes, strict=True)
    ):
        expected = "dims of equal sizes"
        raise ShapeError(sentence("tensordot", expected, f"{sizes[0]} and {sizes[1]}"))
    rows = [i for i in range(x.ndim) if i not in left]
    columns = [i for i in range(y.ndim) if i not in right]
    for i, j in zip(left, right, strict=True):  # a size of 1 broadcasts, as in PyTorch
        if x.shape[i] != y.shape[j]:
            x, y = (t.sum(d, True) if t.shape[d] != 1 else t for t, d in ((x, i), (y, j)))
    k = math.prod(x.shape[i] for i in left)
    out_size = [x.shape[i] for i in rows] + [y.shape[i] for i in columns]
    m, n = (math.prod(t.shape[i] for i in kept) for t, kept in ((x, rows), (y, columns)))
    x = x.permute([*rows, *left]).reshape(m, k)
    y = y.permute([*right, *columns]).reshape(k, n)
    if not out_size and mode.autocast is not None:
        return without_base(x.reshape(k).dot(y.reshape(k)))
    return without_base((x @ y).reshape(out_size))
