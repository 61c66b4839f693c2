"""Methods of Tensor that few programs call: `gradient.absent.Method` finds them here when one is
named, and nothing of it is loaded before. Some stand for functions of other packages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient import functional, signal
from gradient.autograd.forwarding import forwarded, parameters
from gradient.autograd.modes import mode
from gradient.autograd.variable import Variable, wrap
from gradient.backends.memory_order import row_major
from gradient.compat import creation, histograms, native, sparse, storage
from gradient.compat import functional as compat_functional
from gradient.compat.storage import TypedStorage, UntypedStorage
from gradient.errors import (
    ArgumentError,
    AutogradError,
    DTypeError,
    ShapeError,
    TypeMismatch,
    sentence,
)
from gradient.linalg import householder, older
from gradient.tensor import searching
from gradient.tensor.arguments import fitting, int_of, tensor_of
from gradient.tensor.joining import cat
from gradient.tensor.views import with_bases

if TYPE_CHECKING:
    from gradient.compat.sparse import SparseTensor
    from gradient.tensor.arguments import DTypeLike
    from gradient.tensor.core import Tensor
    from gradient.tensor.device import DeviceLike


class RareMethods:
    """apply_, map_, set_, histogram, stft and their like: for type checkers bases of `Tensor`."""

    # By functions of Python's --------------------------------------------------------------------

    def apply_(self: Any, callable: Callable[[Any], Any]) -> Tensor:
        """Have each element be what a function of Python gives for it: slow, and without
        gradient."""
        return _mapped("apply_", self, [], callable)

    def map_(self: Any, other: Tensor, callable: Callable[[Any, Any], Any]) -> Tensor:
        """Have each element be what a function of Python gives for it and that of `other`, which
        broadcasts."""
        return _mapped("map_", self, [other], callable)

    def map2_(self: Any, x: Tensor, y: Tensor, callable: Callable[[Any, Any, Any], Any]) -> Tensor:
        """As `map_`, of two others."""
        return _mapped("map2_", self, [x, y], callable)

    # Other memory --------------------------------------------------------------------------------

    def set_(
        self: Any,
        source: Tensor | UntypedStorage | TypedStorage | None = None,
        storage_offset: int = 0,
        size: Sequence[int] | None = None,
        stride: Sequence[int] | None = None,
    ) -> Tensor:
        """Show the memory of `source`, a tensor or a storage; with a size, that part of it. Without
        a source, nothing.

        Raises:
            DTypeError: the source has another dtype.
            AutogradError: the tensor requires a gradient, and operations are recorded.
        """
        if mode.grad and self.requires_grad:
            got = "one that requires a gradient"
            raise AutogradError(sentence("set_", "a tensor outside of the graph", got))
        if isinstance(source, (UntypedStorage, TypedStorage)):
            source = source.untyped().tensor.view(self.dtype)
        whole = None
        if source is None:
            shown = self.detach().new_empty(0)
        else:
            *_, owner = with_bases(tensor_of("set_", source))
            whole, shown = owner.detach(), source.detach()
            if shown.dtype is not self.dtype:
                raise DTypeError(sentence("set_", f"a source of {self.dtype}", shown.dtype))
            if size is not None:
                steps = row_major(size) if stride is None else stride
                shown = shown.as_strided(size, steps, storage_offset)
        changed: Any = self
        changed.data = shown
        # In whose memory `storage_offset` counts.
        changed.view_info = None if whole is None else (whole, None, {})
        same: Tensor = changed
        return same

    def untyped_storage(self: Any) -> UntypedStorage:
        """The bytes of the memory that the tensor lies in, all of it."""
        return storage.storage_of(self)

    def storage(self: Any) -> TypedStorage:
        """As `untyped_storage`, by elements."""
        return storage.TypedStorage(wrap_storage=self.untyped_storage(), dtype=self.dtype)

    def is_set_to(self: Any, tensor: Tensor) -> bool:
        """Whether both show the same elements of memory in the same order."""
        other: Any = tensor_of("is_set_to", tensor)
        mine, theirs = ((t.data_ptr(), tuple(t.shape), t.stride()) for t in (self, other))
        return mine == theirs

    def const_data_ptr(self: Any) -> int:
        """`data_ptr()`"""
        address: int = self.data_ptr()
        return address

    def new_empty_strided(
        self: Any,
        size: Sequence[int],
        stride: Sequence[int],
        dtype: DTypeLike | None = None,
        device: DeviceLike = None,
        requires_grad: bool = False,
    ) -> Tensor:
        """A tensor of that size and stride, and the dtype and device of self, whose values are not
        defined."""
        return creation.empty_strided(
            size, stride, dtype=self.dtype if dtype is None else dtype,
            device=self.device if device is None else device, requires_grad=requires_grad,
        )  # fmt: skip

    def narrow_copy(self: Any, dim: int, start: int, length: int) -> Tensor:
        """`narrow`, as memory of its own."""
        copied: Tensor = self.narrow(dim, start, length).clone()
        return copied

    def nonzero_static(self: Any, *, size: int, fill_value: int = -1) -> Tensor:
        """The first `size` indices (size, ndim) of elements that are not zero, and rows of
        `fill_value` after them."""
        count = int_of("nonzero_static", "size", size)
        if count < 0:
            raise ArgumentError(sentence("nonzero_static", "a size of at least 0", size))
        filling = int_of("nonzero_static", "fill_value", fill_value)
        found = self.nonzero()[:count]
        rest = found.new_full((count - found.shape[0], found.shape[1]), filling)
        return cat([found, rest])

    def fix_(self: Any) -> Tensor:
        """`trunc_`"""
        same: Tensor = self.trunc_()
        return same

    def conj_physical_(self: Any) -> Tensor:
        """Have each element be its conjugate."""
        return native.conj_physical_(self)

    def dim_order(self: Any, ambiguity_check: Any = False) -> tuple[int, ...]:
        """The dimensions by their steps in memory, the largest first."""
        steps = self.stride()
        return tuple(sorted(range(len(steps)), key=lambda dim: -steps[dim]))

    def unsafe_split_with_sizes(
        self: Any, split_sizes: Sequence[int], dim: int = 0
    ) -> tuple[Tensor, ...]:
        """`split_with_sizes`"""
        parts: tuple[Tensor, ...] = self.split_with_sizes(split_sizes, dim)
        return parts

    def unsafe_chunk(self: Any, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """`chunk`"""
        parts: tuple[Tensor, ...] = self.chunk(chunks, dim)
        return parts

    def unsafe_split(self: Any, split_size: int, dim: int = 0) -> tuple[Tensor, ...]:
        """`split`"""
        parts: tuple[Tensor, ...] = self.split(split_size, dim)
        return parts

    # Functions of other packages -----------------------------------------------------------------

    geqrf = householder.geqrf
    hardshrink = functional.hardshrink
    histc = searching.histc
    histogram = histograms.histogram
    istft = signal.istft
    lu = older.lu
    lu_solve = older.lu_solve
    ormqr = householder.ormqr
    orgqr = compat_functional.orgqr
    prelu = functional.prelu
    stft = signal.stft
    triangular_solve = older.triangular_solve

    # Of other kinds of tensors -------------------------------------------------------------------

    def dense_dim(self: Any) -> int:
        """The number of dimensions: all are dense."""
        n: int = self.ndim
        return n

    def sparse_dim(self: Any) -> int:
        """0"""
        return 0

    def to_dense(
        self: Any, dtype: DTypeLike | None = None, *, masked_grad: bool | None = None
    ) -> Tensor:
        """The tensor itself, in another dtype if so told. `masked_grad` is of sparse ones."""
        dense: Tensor = self if dtype is None else self.to(dtype)
        return dense

    def to_sparse(self: Any, sparse_dim: int | None = None) -> SparseTensor:
        """The elements that are not 0, and their places (`gradient.sparse`)."""
        if sparse_dim not in (None, self.ndim):
            wanted = f"sparse_dim {self.ndim}, that all are sparse"
            raise ArgumentError(sentence("to_sparse", wanted, sparse_dim))
        return sparse.of_dense(self)

    to_sparse_coo = to_sparse

    def to_sparse_csr(self: Any, dense_dim: int | None = None) -> SparseTensor:
        """As `to_sparse`, of a matrix, by its rows."""
        if dense_dim:
            wanted = "dense_dim 0, that all are sparse"
            raise ArgumentError(sentence("to_sparse_csr", wanted, dense_dim))
        return sparse.of_dense(self).to_sparse_csr()

    def is_distributed(self: Any) -> bool:
        """False"""
        return False


def _mapped(caller: str, x: Any, others: list[Any], function: Callable[..., Any]) -> Any:
    """x, after each element became what a function gives for it and those of the others."""
    given = [x, *others]
    for t in others:
        if not isinstance(t, Variable):
            raise TypeMismatch(sentence(caller, "a Tensor as other", type(t).__name__))
        if t.array.dtype != x.array.dtype:
            raise TypeMismatch(sentence(caller, f"others of {x.dtype}", tensor_of(caller, t).dtype))
    if not callable(function):
        raise TypeMismatch(sentence(caller, "a function", repr(function)))
    if any(t.node is not None for t in given):
        got, fix = "one that requires a gradient", f"detach().{caller}(...)"
        raise AutogradError(sentence(caller, "tensors that require no gradient", got, fix))
    shape = tuple(x.array.shape)
    try:
        rows = [t.expand(shape).reshape(-1).tolist() for t in given]
    except ShapeError as error:
        expected = f"others that broadcast to {shape}"
        raise ShapeError(sentence(caller, expected, str(tuple(others[0].shape)))) from error
    results = [function(*values) for values in zip(*rows, strict=True)]
    kind = x.dtype.numpy
    numbers = (bool, int, float, complex) if kind.kind == "c" else (bool, int, float)
    for value in results:
        if not isinstance(value, numbers):
            expected = f"a function that gives numbers of {x.dtype}"
            raise TypeMismatch(sentence(caller, expected, type(value).__name__))
    if kind.kind in "iu":
        whole = [int(v) if math.isfinite(v) else v for v in results]
        results = [fitting(caller, "result", v, x.dtype) for v in whole]
    found = np.array(results, np.complex128 if kind.kind == "c" else None).astype(kind)
    backend = x.backend
    return x.copy_(wrap(backend.asarray(found.reshape(shape)), backend))


for _name, _method in tuple(vars(RareMethods).items()):
    if (
        isinstance(_method, FunctionType) and _method.__module__ == __name__
    ):  # as `finish_methods` has it of the others
        _method.__qualname__ = f"Tensor.{_name}"
        _method.__module__ = "gradient"  # where pickle looks for it
        if "dim" in parameters(_method):
            setattr(RareMethods, _name, forwarded(_method))
