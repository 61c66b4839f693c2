"""Methods of Tensor that few programs call: `gradient.absent.Method` finds them here when one is
named, and nothing of it is loaded before. Some stand for functions of other packages."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.autograd.forwarding import forwarded, parameters
from gradient.autograd.modes import mode
from gradient.autograd.variable import Variable, wrap
from gradient.errors import (
    ArgumentError,
    AutogradError,
    DTypeError,
    ShapeError,
    TypeMismatch,
    sentence,
)
from gradient.tensor.arguments import fitting, int_of, tensor_of

if TYPE_CHECKING:
    from gradient.tensor.arguments import DTypeLike
    from gradient.tensor.core import Tensor
    from gradient.tensor.device import DeviceLike


def _function(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


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
        source: Tensor | None = None,
        storage_offset: int = 0,
        size: Sequence[int] | None = None,
        stride: Sequence[int] | None = None,
    ) -> Tensor:
        """Show the memory of `source`; with a size, that part of it. Without a source, nothing.

        Raises:
            DTypeError: the source has another dtype.
            AutogradError: the tensor requires a gradient, and operations are recorded.
        """
        if mode.grad and self.requires_grad:
            got = "one that requires a gradient"
            raise AutogradError(sentence("set_", "a tensor outside of the graph", got))
        if source is None:
            shown = self.detach().new_empty(0)
        else:
            shown = tensor_of("set_", source).detach()
            if shown.dtype is not self.dtype:
                raise DTypeError(sentence("set_", f"a source of {self.dtype}", shown.dtype))
            if size is not None:
                steps = _row_major(size) if stride is None else stride
                shown = shown.as_strided(size, steps, storage_offset)
        self.data = shown
        same: Tensor = self
        return same

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
        made: Tensor = _function("gradient.compat.creation", "empty_strided")(
            size, stride, dtype=self.dtype if dtype is None else dtype,
            device=self.device if device is None else device, requires_grad=requires_grad,
        )  # fmt: skip
        return made

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
        rows: Tensor = _function("gradient.tensor.joining", "cat")([found, rest])
        return rows

    def fix_(self: Any) -> Tensor:
        """`trunc_`"""
        same: Tensor = self.trunc_()
        return same

    def unsafe_chunk(self: Any, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """`chunk`"""
        parts: tuple[Tensor, ...] = self.chunk(chunks, dim)
        return parts

    def unsafe_split(self: Any, split_size: int, dim: int = 0) -> tuple[Tensor, ...]:
        """`split`"""
        parts: tuple[Tensor, ...] = self.split(split_size, dim)
        return parts

    # Functions of other packages -----------------------------------------------------------------

    def histc(self: Any, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
        """How many elements fall into each of `bins` equal intervals: `gradient.histc`."""
        counts: Tensor = _function("gradient.tensor.searching", "histc")(self, bins, min, max)
        return counts

    def histogram(
        self: Any,
        bins: int | Tensor = 100,
        *,
        range: tuple[float, float] | None = None,
        weight: Tensor | None = None,
        density: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """(hist, bin_edges): `gradient.histogram`."""
        pair: tuple[Tensor, Tensor] = _function("gradient.compat.histograms", "histogram")(
            self, bins, range=range, weight=weight, density=density
        )
        return pair

    def stft(
        self: Any,
        n_fft: int,
        hop_length: int | None = None,
        win_length: int | None = None,
        window: Tensor | None = None,
        center: bool = True,
        pad_mode: str = "reflect",
        normalized: bool = False,
        onesided: bool | None = None,
        return_complex: bool | None = None,
        align_to_window: bool | None = None,
    ) -> Tensor:
        """The Fourier transforms of the pieces of a signal: `gradient.stft`."""
        terms: Tensor = _function("gradient.signal", "stft")(
            self, n_fft, hop_length, win_length, window, center, pad_mode, normalized, onesided,
            return_complex, align_to_window,
        )  # fmt: skip
        return terms

    def istft(
        self: Any,
        n_fft: int,
        hop_length: int | None = None,
        win_length: int | None = None,
        window: Tensor | None = None,
        center: bool = True,
        normalized: bool = False,
        onesided: bool | None = None,
        length: int | None = None,
        return_complex: bool = False,
    ) -> Tensor:
        """The signal of such transforms: `gradient.istft`."""
        signal: Tensor = _function("gradient.signal", "istft")(
            self, n_fft, hop_length, win_length, window, center, normalized, onesided, length,
            return_complex,
        )  # fmt: skip
        return signal

    def hardshrink(self: Any, lambd: float = 0.5) -> Tensor:
        """`nn.functional.hardshrink`"""
        shrunk: Tensor = _function("gradient.functional", "hardshrink")(self, lambd)
        return shrunk

    def prelu(self: Any, weight: Tensor) -> Tensor:
        """`nn.functional.prelu`"""
        sloped: Tensor = _function("gradient.functional", "prelu")(self, weight)
        return sloped

    def geqrf(self: Any) -> tuple[Tensor, Tensor]:
        """(a, tau): `gradient.geqrf`"""
        pair: tuple[Tensor, Tensor] = _function("gradient.linalg.householder", "geqrf")(self)
        return pair

    def orgqr(self: Any, input2: Tensor) -> Tensor:
        """`linalg.householder_product`"""
        product: Tensor = _function("gradient.compat.functional", "orgqr")(self, input2)
        return product

    def ormqr(
        self: Any, input2: Tensor, input3: Tensor, left: bool = True, transpose: bool = False
    ) -> Tensor:
        """`gradient.ormqr`"""
        product: Tensor = _function("gradient.linalg.householder", "ormqr")(
            self, input2, input3, left, transpose
        )
        return product

    def lu(self: Any, pivot: bool = True, get_infos: bool = False) -> tuple[Tensor, ...]:
        """`gradient.lu`"""
        parts: tuple[Tensor, ...] = _function("gradient.linalg.older", "lu")(self, pivot, get_infos)
        return parts

    def lu_solve(self: Any, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
        """`gradient.lu_solve`"""
        solved: Tensor = _function("gradient.linalg.older", "lu_solve")(self, LU_data, LU_pivots)
        return solved

    def triangular_solve(
        self: Any,
        A: Tensor,
        upper: bool = True,
        transpose: bool = False,
        unitriangular: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """`gradient.triangular_solve`"""
        solve = _function("gradient.linalg.older", "triangular_solve")
        pair: tuple[Tensor, Tensor] = solve(self, A, upper, transpose, unitriangular)
        return pair

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

    def is_distributed(self: Any) -> bool:
        """False"""
        return False


def _row_major(size: Sequence[int]) -> list[int]:
    steps = [1]
    for n in list(size)[:0:-1]:
        steps.insert(0, steps[0] * max(n, 1))
    return steps if len(size) else []


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
    if isinstance(_method, FunctionType):  # as `finish_methods` has it of the others
        _method.__qualname__ = f"Tensor.{_name}"
        if "dim" in parameters(_method):
            setattr(RareMethods, _name, forwarded(_method))
