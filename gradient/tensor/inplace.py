"""In-place operations: methods of Tensor."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gradient.autograd.variable import Number, Variable
from gradient.autograd.variable import wrap as wrapped
from gradient.backends.packed import is_packed
from gradient.dtypes import DType, PackedDType, dtype_of, float64
from gradient.errors import AutogradError, BackendError, DTypeError, ShapeError, sentence
from gradient.ops import comparison, elementwise
from gradient.tensor.arguments import (
    DTypeLike,
    axis_of,
    fitting,
    flag_of,
    number_of,
    size_of,
    tensor_of,
    warn_of_discarded,
)
from gradient.tensor.arithmetic import Arithmetic
from gradient.tensor.float8 import maker_of
from gradient.tensor.gathering import Gathering
from gradient.tensor.indexing import LARGE, WIDE, Indexing
from gradient.tensor.overwrite import (
    Method,
    P,
    become_view,
    direct_operand,
    in_place_at,
    overwrite,
    overwrite_at,
    unwritten,
    write,
    written,
)
from gradient.tensor.products import Contractions, Products
from gradient.tensor.real_functions import NumberFunctions, RealFunctions
from gradient.tensor.shaping import Shaping
from gradient.tensor.special_functions import SpecialFunctions
from gradient.tensor.statistics import Statistics

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor

Operator = Callable[[Variable | Number, Variable | Number], "Tensor"]


def in_place(method: Method[P]) -> Method[P]:
    """Make the in-place form of a method: same arguments, and the result is written to self."""
    name = method.__name__ + "_"

    def run(self: Any, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        return overwrite(self, method(unwritten(self), *args, **kwargs), name)

    run.__name__ = name
    run.__doc__ = f"In-place form of `{method.__name__}`."
    vars(run)["__wrapped__"] = method  # for its signature
    return run


def in_place_comparison(method: Method[P]) -> Method[P]:
    """Like `in_place`, for a comparison: the bool result is cast to the tensor's dtype."""

    def run(self: Any, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        return self.copy_(method(self, *args, **kwargs))

    run.__name__ = method.__name__ + "_"
    run.__doc__ = f"In-place form of `{method.__name__}`, in this tensor's dtype."
    vars(run)["__wrapped__"] = method  # for its signature
    return run


def augmented(op: Operator) -> Operator:
    """Make the augmented assignment of an operator's op."""
    name = op.__name__ + "_"

    def run(self: Any, other: Variable | Number) -> Tensor:
        return overwrite(self, op(unwritten(self), other), name)

    return run


def augmented_by(assign: Callable[[Any, Any], Any], op: Operator) -> Operator:
    """Like `augmented`, for an operator whose augmented assignment arrays have as well, `assign`:
    for small float arrays outside the graph this takes half the time."""
    name = op.__name__ + "_"

    def run(self: Any, other: Variable | Number) -> Tensor:
        given = direct_operand(self, other)
        if given is None:
            return overwrite(self, op(unwritten(self), other), name)
        try:
            array = assign(self.array, given)
        except (TypeError, ValueError, OverflowError):
            # Nothing is written yet: the general form raises its own error.
            return overwrite(self, op(self, other), name)
        except (RuntimeWarning, FloatingPointError) as error:  # the array is written already
            written(self, name)
            raise BackendError(f"{name}: {error}") from error
        if array is self.array:
            return written(self, name)
        # The array cannot be changed in place, so `assign` made a new one.
        return overwrite(self, wrapped(array, self.backend), name)

    return run


def in_place_by(assign: Operator, method: Method[P]) -> Method[P]:
    """Like `in_place`, for a method that is an operator if it gets one argument: then `assign`, the
    augmented assignment, does the same in less time."""
    general = in_place(method)

    def run(self: Any, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        if len(args) == 1 and not kwargs:
            other: Any = args[0]
            return assign(self, other)
        return general(self, *args, **kwargs)

    run.__name__, run.__doc__ = general.__name__, general.__doc__
    vars(run)["__wrapped__"] = method  # for its signature
    return run


class InPlace(Arithmetic):
    """Methods that end in an underscore, and augmented assignment."""

    __slots__ = ()

    __iadd__ = augmented_by(operator.iadd, elementwise.add)
    __isub__ = augmented_by(operator.isub, elementwise.sub)
    __imul__ = augmented_by(operator.imul, elementwise.mul)
    __itruediv__ = augmented_by(operator.itruediv, elementwise.div)
    __ipow__ = augmented(elementwise.pow)
    __imod__ = augmented(elementwise.remainder)
    __ifloordiv__ = augmented(elementwise.floor_divide)
    __iand__ = augmented(comparison.bitwise_and)
    __ior__ = augmented(comparison.bitwise_or)
    __ixor__ = augmented(comparison.bitwise_xor)

    abs_ = absolute_ = in_place(Arithmetic.abs)
    acos_ = arccos_ = in_place(Arithmetic.acos)
    acosh_ = arccosh_ = in_place(Arithmetic.acosh)
    add_ = in_place_by(__iadd__, Arithmetic.add)
    addcdiv_ = in_place(Arithmetic.addcdiv)
    addcmul_ = in_place(Arithmetic.addcmul)
    asin_ = arcsin_ = in_place(Arithmetic.asin)
    asinh_ = arcsinh_ = in_place(Arithmetic.asinh)
    atan2_ = arctan2_ = in_place(Arithmetic.atan2)
    atan_ = arctan_ = in_place(Arithmetic.atan)
    atanh_ = arctanh_ = in_place(Arithmetic.atanh)
    bitwise_and_ = in_place(Arithmetic.bitwise_and)
    bitwise_not_ = in_place(Arithmetic.bitwise_not)
    bitwise_or_ = in_place(Arithmetic.bitwise_or)
    bitwise_xor_ = in_place(Arithmetic.bitwise_xor)
    ceil_ = in_place(Arithmetic.ceil)
    clamp_ = clip_ = in_place(Arithmetic.clamp)
    clamp_max_ = in_place(Arithmetic.clamp_max)
    clamp_min_ = in_place(Arithmetic.clamp_min)
    cos_ = in_place(Arithmetic.cos)
    cosh_ = in_place(Arithmetic.cosh)
    div_ = divide_ = true_divide_ = in_place_by(__itruediv__, Arithmetic.div)
    eq_ = in_place_comparison(Arithmetic.eq)
    erf_ = in_place(Arithmetic.erf)
    erfc_ = in_place(Arithmetic.erfc)
    erfinv_ = in_place(Arithmetic.erfinv)
    exp2_ = in_place(Arithmetic.exp2)
    exp_ = in_place(Arithmetic.exp)
    expm1_ = in_place(Arithmetic.expm1)
    floor_ = in_place(Arithmetic.floor)
    floor_divide_ = in_place(Arithmetic.floor_divide)
    fmod_ = in_place(Arithmetic.fmod)
    ge_ = greater_equal_ = in_place_comparison(Arithmetic.ge)
    gt_ = greater_ = in_place_comparison(Arithmetic.gt)
    le_ = less_equal_ = in_place_comparison(Arithmetic.le)
    lerp_ = in_place(Arithmetic.lerp)
    log10_ = in_place(Arithmetic.log10)
    log1p_ = in_place(Arithmetic.log1p)
    log2_ = in_place(Arithmetic.log2)
    log_ = in_place(Arithmetic.log)
    logical_and_ = in_place_comparison(Arithmetic.logical_and)
    logical_not_ = in_place_comparison(Arithmetic.logical_not)
    logical_or_ = in_place_comparison(Arithmetic.logical_or)
    logical_xor_ = in_place_comparison(Arithmetic.logical_xor)
    logit_ = in_place(Arithmetic.logit)
    lt_ = less_ = in_place_comparison(Arithmetic.lt)
    masked_fill_ = in_place(Arithmetic.masked_fill)
    mul_ = multiply_ = in_place_by(__imul__, Arithmetic.mul)
    nan_to_num_ = in_place(RealFunctions.nan_to_num)
    ne_ = not_equal_ = in_place_comparison(Arithmetic.ne)
    neg_ = negative_ = in_place(Arithmetic.neg)
    pow_ = in_place(Arithmetic.pow)
    reciprocal_ = in_place(Arithmetic.reciprocal)
    relu_ = in_place(Arithmetic.relu)
    remainder_ = in_place(Arithmetic.remainder)
    round_ = in_place(Arithmetic.round)
    rsqrt_ = in_place(Arithmetic.rsqrt)
    sigmoid_ = in_place(Arithmetic.sigmoid)
    sign_ = in_place(Arithmetic.sign)
    sin_ = in_place(Arithmetic.sin)
    sinh_ = in_place(Arithmetic.sinh)
    sqrt_ = in_place(Arithmetic.sqrt)
    square_ = in_place(Arithmetic.square)
    sub_ = subtract_ = in_place_by(__isub__, Arithmetic.sub)
    tan_ = in_place(Arithmetic.tan)
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
    index_add_ = in_place_at(Indexing.index_add, Indexing._index_add)
    index_copy_ = in_place_at(Indexing.index_copy, Indexing._index_copy)
    index_fill_ = in_place_at(Indexing.index_fill, Indexing._index_fill)
    masked_scatter_ = in_place_at(Indexing.masked_scatter, Indexing._masked_scatter)
    scatter_ = in_place_at(Gathering.scatter, Gathering._scatter)
    scatter_add_ = in_place_at(Gathering.scatter_add, Gathering._scatter_add)
    copysign_ = in_place(RealFunctions.copysign)
    deg2rad_ = in_place(RealFunctions.deg2rad)
    frac_ = in_place(RealFunctions.frac)
    hypot_ = in_place(RealFunctions.hypot)
    ldexp_ = in_place(RealFunctions.ldexp)
    nextafter_ = in_place(RealFunctions.nextafter)
    rad2deg_ = in_place(RealFunctions.rad2deg)
    sinc_ = in_place(RealFunctions.sinc)
    gcd_ = in_place(NumberFunctions.gcd)
    heaviside_ = in_place(NumberFunctions.heaviside)
    lcm_ = in_place(NumberFunctions.lcm)
    bitwise_left_shift_ = in_place(NumberFunctions.bitwise_left_shift)
    bitwise_right_shift_ = in_place(NumberFunctions.bitwise_right_shift)
    index_put_ = in_place_at(Gathering.index_put, Gathering._index_put)
    index_reduce_ = in_place_at(Gathering.index_reduce, Gathering._index_reduce)
    put_ = in_place_at(Gathering.put, Gathering._put)
    scatter_reduce_ = in_place_at(Gathering.scatter_reduce, Gathering._scatter_reduce)
    renorm_ = in_place(Statistics.renorm)
    addbmm_ = in_place(Contractions.addbmm)
    addmv_ = in_place(Contractions.addmv)
    addr_ = in_place(Contractions.addr)
    addmm_ = in_place(Products.addmm)
    baddbmm_ = in_place(Products.baddbmm)
    tril_ = in_place(Shaping.tril)
    triu_ = in_place(Shaping.triu)

    def sgn_(self: Any) -> Tensor:
        """In-place form of `sgn`."""
        x = (
            self.clone() if self.is_complex() else unwritten(self)
        )  # the gradient of a division saves the dividend
        return overwrite(self, x.sgn(), "sgn_")

    def cumprod_(self: Any, dim: int, *, dtype: DTypeLike | None = None) -> Tensor:
        """In-place form of `cumprod`."""
        own = self._scanned("cumprod_", dim, dtype)
        x = (
            unwritten(self) if self.ndim else self.clone()
        )  # for a 0-d tensor the gradient saves a view
        return overwrite(self, x.cumprod(dim, dtype=own), "cumprod_")

    def cumsum_(self, dim: int, *, dtype: DTypeLike | None = None) -> Tensor:
        """In-place form of `cumsum`."""
        own = self._scanned("cumsum_", dim, dtype)
        return overwrite(self, unwritten(self).cumsum(dim, dtype=own), "cumsum_")

    def _scanned(self, caller: str, dim: int, dtype: Any) -> DType:
        """Return the dtype of an in-place scan: the tensor's own."""
        own = self.dtype
        axis_of(dim, self.ndim)
        if dtype not in (None, own):
            dtype = dtype_of(dtype)  # raises TypeError for other values
            raise DTypeError(sentence(caller, f"the tensor's own dtype {own}", dtype))
        return own

    def copy_(self, other: Tensor | Number, non_blocking: bool = False) -> Self:
        """Copy the values of `other`, broadcast and cast to this tensor's dtype and device.

        A copy from a GPU to the CPU waits until it is done, one to a GPU does not; `non_blocking`
        has the same meaning as in `to`.
        """
        if non_blocking is not False:
            flag_of("copy_", "non_blocking", non_blocking)
        if not isinstance(other, Variable):
            number_of("copy_", "other", other, takes_complex=True)
            other = wrapped(self.backend.asarray(other), self.backend)
        if other.backend is not self.backend:
            there = self.backend.device
            other = other.to(there, non_blocking=non_blocking is True and there != "cpu")
        if other.array.shape != self.array.shape and self.dtype.elementwise:
            try:
                other = other.expand(self.array.shape)
            except ShapeError:
                expected = f"other to broadcast to {tuple(self.array.shape)}"
                raise ShapeError(sentence("copy_", expected, tuple(other.array.shape))) from None
        own = self.array.dtype
        if other.array.dtype is not own and other.array.dtype != own and not self.dtype.is_packed:
            if is_packed(other.array):
                other = other.to(dtype=self.dtype)
            else:
                warn_of_discarded(other.array.dtype, own)
                other = elementwise.astype(other, dtype=own)
        in_graph = other.node is not None or self.node is not None or self.view_info is not None
        if in_graph or isinstance(own, PackedDType):
            overwrite_at(self, (), other, "copy_")
        else:
            write(self, (), other.array, "copy_", 4)
        return self

    def fill_(self, value: Tensor | Number) -> Self:
        """Fill self with a number or a 0-d tensor."""
        if isinstance(value, Variable):
            if value.array.shape:
                got = tuple(value.array.shape)
                raise ShapeError(sentence("fill_", "a number or a 0-d Tensor as value", got))
            return self.copy_(value)
        dtype, number = self.array.dtype, value
        if (type(number) is int or type(number) is float) and (
            (number == 0 and dtype.char) or (dtype.char in WIDE and -LARGE < number < LARGE)
        ):  # every dtype except a packed one can represent 0
            array = self.backend.full((), number, dtype)
        else:
            value = number_of("fill_", "value", value, takes_complex=True)
            make = maker_of("fill_", self.array, self.backend)
            value = fitting("fill_", "value", value, self.dtype)
            array = make.full((), value, dtype)
        overwrite_at(self, (), array, "fill_")
        return self

    def float_power_(self: Any, exponent: Tensor | Number) -> Tensor:
        """In-place form of `float_power`, for float64 tensors only."""
        if self.dtype is not float64:
            raise DTypeError(sentence("float_power_", "a tensor in float64", self.dtype))
        return overwrite(self, unwritten(self).float_power(exponent), "float_power_")

    def fill_diagonal_(self, fill_value: Number, wrap: bool = False) -> Self:
        """Fill the main diagonal of a matrix, or of a tensor whose sizes are all equal. With
        `wrap`, repeat the diagonal in a tall matrix, after a gap of one row."""
        size = tuple(self.array.shape)
        if len(size) < 2 or (len(size) > 2 and len(set(size)) > 1):
            expected = "a matrix, or dimensions of one size"
            raise ShapeError(sentence("fill_diagonal_", expected, size))
        rows = np.arange(size[0] if wrap and len(size) == 2 else min(size))
        columns = rows % (size[1] + 1)
        rows, columns = (at[columns < size[1]] for at in (rows, columns))
        value = number_of("fill_diagonal_", "fill_value", fill_value, takes_complex=True)
        make = maker_of("fill_diagonal_", self.array, self.backend)
        value = fitting("fill_diagonal_", "fill_value", value, self.dtype)
        places = tuple(self.backend.asarray(at) for at in (rows, *[columns] * (len(size) - 1)))
        number = make.full((), value, self.array.dtype)
        overwrite_at(self, places, number, "fill_diagonal_")
        return self

    # Another shape of the same memory -------------------------------------------------------------

    def squeeze_(self, dim: int | Sequence[int] | None = None) -> Self:
        """Drop dimensions of size 1 in place."""
        return become_view(self, "squeeze_", lambda x: x.squeeze(dim))

    def swapaxes_(self, axis0: int, axis1: int) -> Self:
        """Swap two dimensions in place."""
        return become_view(self, "swapaxes_", lambda x: x.transpose(axis0, axis1))

    def swapdims_(self, dim0: int, dim1: int) -> Self:
        """Swap two dimensions in place."""
        return become_view(self, "swapdims_", lambda x: x.transpose(dim0, dim1))

    def as_strided_(
        self: Any, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
    ) -> Tensor:
        """In-place form of `as_strided`."""
        same: Tensor = become_view(
            self, "as_strided_", lambda x: x.as_strided(size, stride, storage_offset)
        )
        return same

    def t_(self) -> Self:
        """Transpose a matrix in place."""
        return become_view(self, "t_", lambda x: x.t())

    def transpose_(self, dim0: int, dim1: int) -> Self:
        """Swap two dimensions in place."""
        return become_view(self, "transpose_", lambda x: x.transpose(dim0, dim1))

    def unsqueeze_(self, dim: int) -> Self:
        """Insert a dimension of size 1 in place."""
        return become_view(self, "unsqueeze_", lambda x: x.unsqueeze(dim))

    def resize_(self: Any, *sizes: Any, size: Any = None, memory_format: object = None) -> Tensor:
        """Change the sizes in place. The elements keep their row-major order, and their memory if
        it is large enough; new elements are zeros. With the memory format `channels_last` the
        elements in memory become those of (N, H, W, C)."""
        shape, order = size_of(sizes, size), None
        if self.requires_grad:
            fix = "detach() it first"
            raise AutogradError(sentence("resize_", "a tensor without a gradient", "one", fix))
        if memory_format is not None:
            from gradient.tensor.layout import order_in

            order = order_in("resize_", memory_format, shape, preserves=False)
        flat, n = self.detach().reshape(-1), math.prod(shape)
        if n > flat.numel():
            longer = self.new_zeros(n)
            longer[: flat.numel()] = flat
            flat = longer
        if order is None:
            self.data = flat[:n].reshape(shape)
        else:
            shown = flat[:n].reshape([shape[d] for d in order])
            self.data = shown.permute([order.index(d) for d in range(len(order))])
        return self

    def resize_as_(self, the_template: Tensor, *, memory_format: object = None) -> Tensor:
        """Change the sizes to another tensor's in place, as `resize_` does; `preserve_format` is
        the template's format."""
        template = tensor_of("resize_as_", the_template)
        if memory_format is not None:
            from gradient.tensor.layout import preserve_format, suggested

            if memory_format is preserve_format:
                memory_format = suggested(template)
        return self.resize_(template.shape, memory_format=memory_format)

    def zero_(self) -> Self:
        """Fill self with zeros."""
        return self.fill_(0)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set `requires_grad`; return self."""
        self.requires_grad = requires_grad
        return self
