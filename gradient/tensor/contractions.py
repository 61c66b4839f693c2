"""Products summed over some dimensions, and the Kronecker and cross products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradient.autograd.autocast import autocasts
from gradient.autograd.forwarding import forwarded
from gradient.dtypes import bool_, result_type
from gradient.errors import ArgumentError, DTypeError, ShapeError, sentence
from gradient.tensor.arguments import axis_of, int_of, number_of, tensor_of
from gradient.tensor.arithmetic import same_dtype
from gradient.tensor.base import TensorBase
from gradient.tensor.products import nothing_of, weighted_sum
from gradient.tensor.views import without_base

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor

__all__ = ["tensordot"]


class Contractions(TensorBase):
    """addbmm, addmv, addr, vdot, kron, cross."""

    __slots__ = ()

    @autocasts("lower_precision")
    def addbmm(
        self: Any, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1
    ) -> Tensor:
        """beta self + alpha times the sum of the products of the batches"""
        product = tensor_of("addbmm", batch1).bmm(tensor_of("addbmm", batch2)).sum(0)
        return _weighted("addbmm", self, product, beta, alpha)

    @autocasts("lower_precision")
    def addmv(self: Any, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """beta self + alpha mat @ vec"""
        product = tensor_of("addmv", mat).mv(tensor_of("addmv", vec))
        return _weighted("addmv", self, product, beta, alpha)

    @autocasts("lower_precision_on_gpu")
    def addr(self: Any, vec1: Tensor, vec2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """beta self + alpha times the outer product"""
        dtype = result_type(self, tensor_of("addr", vec1), tensor_of("addr", vec2))
        if not dtype.is_floating_point and any(isinstance(w, float) for w in (beta, alpha)):
            expected = f"integers as beta and alpha beside {dtype}"
            raise DTypeError(sentence("addr", expected, f"{beta} and {alpha}"))
        product = vec1.to(dtype).outer(vec2.to(dtype))
        return _weighted("addr", self.to(dtype), product, beta, alpha)

    @autocasts("widest_on_gpu")
    def vdot(self: Any, other: Tensor) -> Tensor:
        """The inner product of two vectors, of the conjugate of the first if they are complex."""
        return self.conj().dot(other)

    def kron(self: Any, other: Tensor) -> Tensor:
        """The Kronecker product: every element of self times all of `other`, as blocks."""
        a: Any = self
        b: Any = tensor_of("kron", other)
        n = max(a.ndim, b.ndim)
        a, b = (t.reshape([1] * (n - t.ndim) + list(t.shape)) for t in (a, b))
        size = [i * j for i, j in zip(a.shape, b.shape, strict=True)]
        a = a.reshape([m for i in a.shape for m in (i, 1)])
        b = b.reshape([m for i in b.shape for m in (1, i)])
        return without_base((a * b).reshape(size))

    @autocasts("widest_on_gpu")
    def cross(self: Any, other: Tensor, dim: int | None = None) -> Tensor:
        """The vector product along `dim`, by default the first of size 3."""
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
        return x.roll(-1, axis) * y.roll(1, axis) - x.roll(1, axis) * y.roll(-1, axis)


def _weighted(caller: str, x: Any, product: Any, beta: float, alpha: float) -> Any:
    """beta x + alpha product"""
    beta, alpha = (
        number_of(caller, name, value, takes_complex=True)
        for name, value in (("beta", beta), ("alpha", alpha))
    )
    lead, own = product.ndim - x.ndim, tuple(x.shape)
    size = tuple(product.shape)
    if lead < 0 or any(n not in (1, m) for n, m in zip(own, size[lead:], strict=True)):
        raise ShapeError(sentence(caller, f"an input that broadcasts to {size}", own))
    if product.array.dtype.kind in "biu":
        beta, alpha = int(beta), int(alpha)
    if product.dtype.kind == "bool":
        product, x = (t & bool(w) for t, w in ((product, alpha), (x, beta)))
        return x | product
    # As PyTorch, whose BLAS does not look at what alpha = 0 stands before; `addr` asks none.
    ignored = alpha == 0 and caller != "addr"
    return weighted_sum(x, nothing_of(product) if ignored else product, beta, alpha)


@autocasts("widest_on_gpu")
@forwarded
def tensordot(
    a: Tensor,
    b: Tensor,
    dims: int | Sequence[int] | Sequence[Sequence[int]] | Tensor = 2,
) -> Tensor:
    """The sum of products over dimensions of both: the last `dims` of a with the first of b, or
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
    return without_base((x @ y).reshape(out_size))
