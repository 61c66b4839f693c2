"""In-place operations: methods of Tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self

from gradient.autograd.variable import Number, Variable, wrap
from gradient.backends.packed import is_packed
from gradient.dtypes import dtype_of
from gradient.errors import DTypeError, ShapeError, sentence
from gradient.ops import comparison, elementwise
from gradient.tensor.arguments import (
    DTypeLike,
    axis_of,
    fitting,
    flag_of,
    number_of,
    warn_of_discarded,
)
from gradient.tensor.arithmetic import Arithmetic
from gradient.tensor.indexing import Indexing
from gradient.tensor.overwrite import overwrite, overwrite_at
from gradient.tensor.packed import overwrite_parts, refuse
from gradient.tensor.shaping import Shaping
from gradient.tensor.special_functions import SpecialFunctions

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor

P = ParamSpec("P")
Method = Callable[Concatenate[Any, P], "Tensor"]
Operator = Callable[[Variable | Number, Variable | Number], "Tensor"]


def in_place(method: Method[P]) -> Method[P]:
    """The in-place form of a method: the same arguments, the result written over self."""
    name = method.__name__ + "_"

    def run(self: Any, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        return overwrite(self, method(self, *args, **kwargs), name)

    run.__name__ = name
    run.__doc__ = f"In-place form of `{method.__name__}`."
    vars(run)["__wrapped__"] = method  # for its signature
    return run


def augmented(op: Operator) -> Operator:
    """The augmented assignment of an operator's op."""
    name = op.__name__ + "_"

    def run(self: Any, other: Variable | Number) -> Tensor:
        return overwrite(self, op(self, other), name)

    return run


class InPlace(Arithmetic):
    """Methods that end in an underscore, and augmented assignment."""

    __slots__ = ()

    __iadd__ = augmented(elementwise.add)
    __isub__ = augmented(elementwise.sub)
    __imul__ = augmented(elementwise.mul)
    __itruediv__ = augmented(elementwise.div)
    __ipow__ = augmented(elementwise.pow)
    __imod__ = augmented(elementwise.remainder)
    __ifloordiv__ = augmented(elementwise.floor_divide)
    __iand__ = augmented(comparison.bitwise_and)
    __ior__ = augmented(comparison.bitwise_or)
    __ixor__ = augmented(comparison.bitwise_xor)

    abs_ = in_place(Arithmetic.abs)
    add_ = in_place(Arithmetic.add)
    addcdiv_ = in_place(Arithmetic.addcdiv)
    addcmul_ = in_place(Arithmetic.addcmul)
    bitwise_not_ = in_place(Arithmetic.bitwise_not)
    ceil_ = in_place(Arithmetic.ceil)
    clamp_ = in_place(Arithmetic.clamp)
    clip_ = clamp_
    clamp_max_ = in_place(Arithmetic.clamp_max)
    clamp_min_ = in_place(Arithmetic.clamp_min)
    cos_ = in_place(Arithmetic.cos)
    div_ = in_place(Arithmetic.div)
    erf_ = in_place(Arithmetic.erf)
    erfinv_ = in_place(Arithmetic.erfinv)
    exp_ = in_place(Arithmetic.exp)
    expm1_ = in_place(Arithmetic.expm1)
    floor_ = in_place(Arithmetic.floor)
    floor_divide_ = in_place(Arithmetic.floor_divide)
    fmod_ = in_place(Arithmetic.fmod)
    lerp_ = in_place(Arithmetic.lerp)
    log_ = in_place(Arithmetic.log)
    log1p_ = in_place(Arithmetic.log1p)
    masked_fill_ = in_place(Arithmetic.masked_fill)
    mul_ = in_place(Arithmetic.mul)
    nan_to_num_ = in_place(Arithmetic.nan_to_num)
    neg_ = in_place(Arithmetic.neg)
    pow_ = in_place(Arithmetic.pow)
    reciprocal_ = in_place(Arithmetic.reciprocal)
    relu_ = in_place(Arithmetic.relu)
    remainder_ = in_place(Arithmetic.remainder)
    round_ = in_place(Arithmetic.round)
    rsqrt_ = in_place(Arithmetic.rsqrt)
    sigmoid_ = in_place(Arithmetic.sigmoid)
    sign_ = in_place(Arithmetic.sign)
    sin_ = in_place(Arithmetic.sin)
    sqrt_ = in_place(Arithmetic.sqrt)
    square_ = in_place(Arithmetic.square)
    sub_ = in_place(Arithmetic.sub)
    tanh_ = in_place(Arithmetic.tanh)
    trunc_ = in_place(Arithmetic.trunc)
    digamma_ = in_place(SpecialFunctions.digamma)
    i0_ = in_place(SpecialFunctions.i0)
    igamma_ = in_place(SpecialFunctions.igamma)
    igammac_ = in_place(SpecialFunctions.igammac)
    lgamma_ = in_place(SpecialFunctions.lgamma)
    mvlgamma_ = in_place(SpecialFunctions.mvlgamma)
    polygamma_ = in_place(SpecialFunctions.polygamma)
    xlogy_ = in_place(SpecialFunctions.xlogy)
    index_add_ = in_place(Indexing.index_add)
    index_copy_ = in_place(Indexing.index_copy)
    index_fill_ = in_place(Indexing.index_fill)
    masked_scatter_ = in_place(Indexing.masked_scatter)
    scatter_ = in_place(Indexing.scatter)
    scatter_add_ = in_place(Indexing.scatter_add)
    tril_ = in_place(Shaping.tril)
    triu_ = in_place(Shaping.triu)

    def logical_not_(self) -> Self:
        """In-place form of `logical_not`, in this tensor's dtype."""
        return self.copy_(self.logical_not())

    def cumsum_(self, dim: int, *, dtype: DTypeLike | None = None) -> Tensor:
        """In-place form of `cumsum`."""
        own = self.dtype
        axis_of(dim, self.ndim)
        if dtype not in (None, own):
            dtype = dtype_of(dtype)  # a TypeError for what is none
            raise DTypeError(sentence("cumsum_", f"the tensor's own dtype {own}", dtype))
        return overwrite(self, self.cumsum(dim, dtype=own), "cumsum_")

    def copy_(self, other: Tensor | Number, non_blocking: bool = False) -> Self:
        """Copy the values of `other`, broadcast and cast to this tensor's dtype and device."""
        if non_blocking is not False:
            flag_of("copy_", "non_blocking", non_blocking)
        if not isinstance(other, Variable):
            number_of("copy_", "other", other, takes_complex=True)
            other = wrap(self.backend.asarray(other), self.backend)
        if is_packed(self.array):
            overwrite_parts(self, other)
            return self
        if other.backend is not self.backend:
            other = other.to(self.backend.device)
        if other.array.shape != self.array.shape:
            try:
                other = other.expand(self.array.shape)
            except ShapeError:
                expected = f"other to broadcast to {tuple(self.array.shape)}"
                raise ShapeError(sentence("copy_", expected, tuple(other.array.shape))) from None
        if other.array.dtype != self.array.dtype:
            warn_of_discarded(other.array.dtype, self.array.dtype)
            other = elementwise.astype(other, dtype=self.array.dtype)
        overwrite_at(self, (), other, "copy_")
        return self

    def fill_(self, value: Tensor | Number) -> Self:
        """Fill with a number (or a 0-d tensor)."""
        refuse("fill_", self)
        if isinstance(value, Variable):
            if value.array.shape:
                got = tuple(value.array.shape)
                raise ShapeError(sentence("fill_", "a number or a 0-d Tensor as value", got))
            return self.copy_(value)
        value = number_of("fill_", "value", value, takes_complex=True)
        value = fitting("fill_", "value", value, self.dtype)
        array = self.backend.full((), value, self.array.dtype)
        overwrite_at(self, (), wrap(array, self.backend), "fill_")
        return self

    def zero_(self) -> Self:
        """Fill with zeros."""
        return self.fill_(0)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Ask for a gradient in `grad` (or no longer)."""
        self.requires_grad = requires_grad
        return self
