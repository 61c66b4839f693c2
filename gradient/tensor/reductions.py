"""Reductions, running sums, softmax: methods of Tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from gradient.autograd.autocast import autocasts
from gradient.dtypes import DType, bool_, dtype_of, float32, uint8
from gradient.dtypes.promotion import norm_dtype
from gradient.errors import ArgumentError, DTypeError, IndexOutOfRange, TypeMismatch, sentence
from gradient.ops import comparison, complex_numbers, elementwise, fused, index, reduce
from gradient.tensor.arguments import axes_of, axis_of, flag_of, number_of, tensor_of
from gradient.tensor.arithmetic import Arithmetic, floating
from gradient.tensor.packed import refuse
from gradient.tensor.views import in_order, without_base

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradient.backends.required import Axis
    from gradient.tensor.arguments import DTypeLike
    from gradient.tensor.core import Tensor

Dim = int | Sequence[int] | None


Results = TypeVar("Results", bound=type)

return_types: dict[str, type] = {}
"""The types of several results, by their names in `gradient.return_types`."""


def return_type(name: str) -> Callable[[Results], Results]:
    """Decorate a named tuple as `gradient.return_types.NAME`, under which it is printed."""

    def named(cls: Results) -> Results:
        cls.__name__ = cls.__qualname__ = name
        cls.__module__ = "gradient.return_types"
        cls.__repr__ = _shown  # type: ignore[method-assign, assignment]
        return_types[name] = cls
        return cls

    return named


def _shown(self: Any) -> str:
    fields = [f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True)]
    return f"{DType.package}.return_types.{type(self).__name__}(\n" + ",\n".join(fields) + ")"


class ValuesAndIndices(NamedTuple):
    """The result of `max(dim)`, `sort`, `topk` and similar functions; each has a type of its own,
    by the function's name in `returned`."""

    values: Tensor
    indices: Tensor


returned: dict[str, type[ValuesAndIndices]] = {
    name: return_type(name)(type(name, (ValuesAndIndices,), {"__slots__": ()}))
    for name in ("cummax", "cummin", "kthvalue", "max", "median", "min", "mode", "nanmedian",
                 "sort", "topk")
}  # fmt: skip


@return_type("aminmax")
class _Extremes(NamedTuple):
    min: Tensor
    max: Tensor


class Reductions(Arithmetic):
    """Methods that reduce dimensions; `dim` is None (all), an int or several."""

    __slots__ = ()

    def sum(
        self, dim: Dim = None, keepdim: bool = False, *, dtype: DTypeLike | None = None
    ) -> Tensor:
        """The sum of the elements. `dim` is an int, several, or None for all dimensions; `keepdim`
        keeps them with size 1. Integers and bools give int64; `dtype` converts self first. The sum
        of no elements is 0."""
        if dim is None and keepdim is False and dtype is None:
            return reduce.sum(self)
        if keepdim is not False:
            flag_of("sum", "keepdim", keepdim)
        if dtype is None:
            return reduce.sum(self, axis=axes_of(dim, len(self.array.shape)), keepdims=keepdim)
        return self.to(dtype=dtype).sum(dim, keepdim).to(dtype=dtype)

    def mean(
        self, dim: Dim = None, keepdim: bool = False, *, dtype: DTypeLike | None = None
    ) -> Tensor:
        """The mean of the elements. `dim` is an int, several, or None for all dimensions; `keepdim`
        keeps them with size 1. `dtype` converts self first. The mean of no elements is NaN. Raises
        DTypeError for integers and bools."""
        if keepdim is not False:
            flag_of("mean", "keepdim", keepdim)
        x = self if dtype is None else self.to(dtype=dtype)
        if x.array.dtype.kind in "biu":
            raise DTypeError(
                f"mean: expected a floating-point dtype, got {x.dtype}; call .float() first"
            )
        if dim is None and keepdim is False:
            return reduce.mean(x)
        return reduce.mean(x, axis=axes_of(dim, len(self.array.shape)), keepdims=keepdim)

    def prod(
        self, dim: int | None = None, keepdim: bool = False, *, dtype: DTypeLike | None = None
    ) -> Tensor:
        """The product of the elements, of all or along the int `dim`; `keepdim` keeps it with size
        1. Integers and bools give int64; `dtype` converts self first. The product of no elements is
        1."""
        if dim is not None and not isinstance(dim, int):
            raise TypeMismatch(sentence("prod", "an int as dim", repr(dim)))
        if dtype is None:
            return reduce.prod(self, axis=self._axis("prod", dim, keepdim), keepdims=keepdim)
        return self.to(dtype=dtype).prod(dim, keepdim).to(dtype=dtype)

    def var(
        self,
        dim: Dim = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: int | None = None,
    ) -> Tensor:
        """sum((x - mean)^2) / (N - correction) over N elements; `correction` is 1 by default, 0 if
        `unbiased` is False. `dim` is an int, several, or None for all dimensions; `keepdim` keeps
        them with size 1. Raises DTypeError for integers and bools."""
        axis, off = self._variance("var", dim, keepdim, unbiased, correction)
        if self.array.dtype.kind == "c":
            return _variance_of_parts(self, axis, off, keepdim)
        return reduce.var(self, axis=axis, correction=off, keepdims=keepdim)

    def std(
        self,
        dim: Dim = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: int | None = None,
    ) -> Tensor:
        """sqrt(var): see `var`, whose arguments these are. The gradient is 0 where all elements are
        equal. Raises DTypeError for integers and bools."""
        axis, off = self._variance("std", dim, keepdim, unbiased, correction)
        if self.array.dtype.kind == "c":
            return _root(_variance_of_parts(self, axis, off, keepdim), elementwise.sqrt)
        return reduce.std(self, axis=axis, correction=off, keepdims=keepdim)

    def _variance(
        self, caller: str, dim: Dim, keepdim: bool, unbiased: bool, correction: Any
    ) -> tuple[Axis, float]:
        """Return the axis of a variance, and the correction to the degrees of freedom."""
        if isinstance(dim, bool):  # var(unbiased)
            unbiased, dim = dim, None
        unbiased = flag_of(caller, "unbiased", unbiased)
        floating(caller, self)
        off = int(unbiased) if correction is None else number_of(caller, "correction", correction)
        return self._axis(caller, dim, keepdim), off

    @autocasts("float32_on_gpu")
    def norm(
        self,
        p: float | str | None = "fro",
        dim: Dim = None,
        keepdim: bool = False,
        dtype: DTypeLike | None = None,
    ) -> Tensor:
        """sum(|x|^p)^(1/p); p inf and -inf are the largest and smallest |x|, "fro" is 2; "nuc" is
        the sum of the singular values of the matrices in two dimensions. `dim` is an int, several,
        or None for all dimensions; `keepdim` keeps them with size 1. Raises DTypeError for integers
        and bools, ArgumentError for another p."""
        if isinstance(p, str) and p not in ("fro", "nuc"):
            raise ArgumentError(sentence("norm", "p a number, inf, -inf, 'fro' or 'nuc'", repr(p)))
        if p == "nuc":
            return self._nuclear_norm(dim, keepdim, dtype)
        p = 2 if p is None or isinstance(p, str) else number_of("norm", "p", p)
        refuse("norm", self)
        wide = None if dtype is None else dtype_of(dtype)
        floating("norm", self)
        if wide is not None:
            wide = norm_dtype("norm", self.dtype, wide)
            return self.to(dtype=wide).norm(p, dim, keepdim)
        if self.array.dtype.kind == "c":
            return elementwise.abs(self).norm(p, dim, keepdim)
        if self.array.dtype.itemsize < 4:  # the powers need more than 16 bits
            return self.to(float32).norm(p, dim, keepdim).to(self.dtype)
        axis = self._axis("norm", dim, keepdim)
        if p == 2:
            squares = reduce.sum_of_squares(self, axis=axis, keepdims=keepdim)
            return _root(squares, elementwise.sqrt)
        size = elementwise.abs(self)
        if p < 0:
            self._filled("norm", dim, keepdim)
        if p in (math.inf, -math.inf):
            self._filled("norm", dim, keepdim)
            extreme = reduce.amax if p > 0 else reduce.amin
            return extreme(size, axis=axis, keepdims=keepdim, nan_ties=True)
        if p == 0:
            ones = elementwise.sign(size.masked_fill(comparison.isnan(self), 1.0))
            return reduce.sum(ones, axis=axis, keepdims=keepdim)
        if p == 1:
            return reduce.sum(size, axis=axis, keepdims=keepdim)
        powers = size**p
        if p < 1 and self.node is not None:  # the slope at 0 is infinite; use 0, as PyTorch does
            zero = comparison.eq(self, 0).array
            rest = comparison.where(1.0, size, condition=zero) ** p
            powers = comparison.where(0.0 if p > 0 else math.inf, rest, condition=zero)
        total = reduce.sum(powers, axis=axis, keepdims=keepdim)
        return _root(total, lambda x: x ** (1 / p), 0.0 if p > 0 else math.inf)

    def _nuclear_norm(self, dim: Dim, keepdim: bool, dtype: DTypeLike | None) -> Tensor:
        from gradient.ops import decompositions

        refuse("norm", self)
        floating("norm", self)
        wide = self.dtype if dtype is None else norm_dtype("norm", self.dtype, dtype_of(dtype))
        x: Any = self.to(dtype=wide)
        given = range(x.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
        dims = axes_of(tuple(given), x.ndim) or ()
        if len(dims) != 2:
            raise ArgumentError(sentence("norm", "two dimensions for p 'nuc'", dims))
        x = x.movedim(dims, (-2, -1))
        if x.is_complex():
            values = decompositions.svd(x)[..., x.shape[-2], :].real
        else:
            values = decompositions.svdvals(x)
        found = values.sum(-1)
        for d in sorted(dims) if keepdim else ():
            found = found.unsqueeze(d)
        return found

    def logsumexp(self, dim: Dim, keepdim: bool = False) -> Tensor:
        """log(sum(e^x)), without overflow. `dim` is an int or several; `keepdim` keeps them with
        size 1. Integers and bools are converted to the default float dtype. Raises TypeMismatch for
        dim None."""
        axis = self._axis("logsumexp", dim, keepdim)
        if dim is None:
            raise TypeMismatch(sentence("logsumexp", "an int or a tuple of ints as dim", "None"))
        return reduce.logsumexp(self, axis=axis, keepdims=keepdim)

    def softmax(self, dim: int, dtype: DTypeLike | None = None) -> Tensor:
        """e^x / sum(e^x) along `dim`, without overflow, in the shape of self; `dtype` converts self
        first. Raises DTypeError for integers, bools and complex numbers."""
        x = self if dtype is None else self.to(dtype=dtype)
        return softmax_along(fused.softmax, x, dim)

    def log_softmax(self, dim: int, dtype: DTypeLike | None = None) -> Tensor:
        """log(softmax(x)) along `dim`, computed as x - logsumexp(x), in the shape of self; `dtype`
        converts self first. Raises DTypeError for integers, bools and complex numbers."""
        x = self if dtype is None else self.to(dtype=dtype)
        return softmax_along(fused.log_softmax, x, dim)

    def amax(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """The maximum; NaN where an element is. `dim` is an int, several, or None for all
        dimensions; `keepdim` keeps them with size 1. Ties share the gradient equally. Raises
        IndexOutOfRange for no elements, DTypeError for complex numbers."""
        return reduce.amax(self, axis=self._filled("amax", dim, keepdim), keepdims=keepdim)

    def amin(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """The minimum; NaN where an element is. `dim` is an int, several, or None for all
        dimensions; `keepdim` keeps them with size 1. Ties share the gradient equally. Raises
        IndexOutOfRange for no elements, DTypeError for complex numbers."""
        return reduce.amin(self, axis=self._filled("amin", dim, keepdim), keepdims=keepdim)

    def _axis(self, caller: str, dim: Dim, keepdim: bool) -> Axis:
        """Convert `dim` to the axis of an op, and check `keepdim`."""
        if keepdim is not False:
            flag_of(caller, "keepdim", keepdim)
        return None if dim is None else axes_of(dim, len(self.array.shape))

    @overload
    def _filled(self, caller: str, dim: int | None, keepdim: bool = False) -> int | None: ...
    @overload
    def _filled(self, caller: str, dim: Dim, keepdim: bool = False) -> Axis: ...
    def _filled(self, caller: str, dim: Dim, keepdim: bool = False) -> Axis:
        """Like `_axis`, for a reduction that needs at least one element."""
        axis = self._axis(caller, dim, keepdim)
        shape = self.array.shape
        if 0 in shape and reduce.count(shape, axis) == 0:
            raise IndexOutOfRange(
                f"{caller}(): expected a reduction over at least one element, got shape "
                f"{tuple(self.array.shape)} with dim {dim}; give a dim whose size is not 0"
            )
        return axis

    @overload
    def max(self) -> Tensor: ...
    @overload
    def max(self, dim: int, keepdim: bool = False) -> ValuesAndIndices: ...
    @overload
    def max(self, dim: Tensor) -> Tensor: ...
    @overload
    def max(self, *, other: Tensor) -> Tensor: ...
    def max(
        self, dim: int | Tensor | None = None, keepdim: bool = False, *, other: Tensor | None = None
    ) -> Tensor | ValuesAndIndices:
        """The maximum of all elements; along an int `dim`, (values, indices), indices being int64
        and `keepdim` keeping the dimension with size 1; with a tensor, `maximum`. NaN where an
        element is. Raises IndexOutOfRange for no elements, DTypeError for complex numbers."""
        dim = dim if other is None else other
        if dim is not None and not isinstance(dim, int):
            return self._of_two("max", comparison.maximum, dim, keepdim)
        return self._extreme("max", reduce.max, reduce.argmax, dim, keepdim)

    @overload
    def min(self) -> Tensor: ...
    @overload
    def min(self, dim: int, keepdim: bool = False) -> ValuesAndIndices: ...
    @overload
    def min(self, dim: Tensor) -> Tensor: ...
    @overload
    def min(self, *, other: Tensor) -> Tensor: ...
    def min(
        self, dim: int | Tensor | None = None, keepdim: bool = False, *, other: Tensor | None = None
    ) -> Tensor | ValuesAndIndices:
        """The minimum of all elements; along an int `dim`, (values, indices), indices being int64
        and `keepdim` keeping the dimension with size 1; with a tensor, `minimum`. NaN where an
        element is. Raises IndexOutOfRange for no elements, DTypeError for complex numbers."""
        dim = dim if other is None else other
        if dim is not None and not isinstance(dim, int):
            return self._of_two("min", comparison.minimum, dim, keepdim)
        return self._extreme("min", reduce.min, reduce.argmin, dim, keepdim)

    def _of_two(self, caller: str, op: Any, other: Any, keepdim: bool) -> Tensor:
        flag_of(caller, "keepdim", keepdim)
        return op(tensor_of(caller, self), tensor_of(caller, other))

    def _extreme(
        self, caller: str, of_all: Any, choose: Any, dim: int | None, keepdim: bool
    ) -> Tensor | ValuesAndIndices:
        axis = self._filled(caller, dim, keepdim)
        if dim is None:
            return of_all(self)
        if axis is None:
            return returned[caller](self.clone(), choose(self))
        where = choose(self, axis=axis, keepdims=keepdim)
        return returned[caller](index.pick(self, index=where.array, axis=axis), where)

    def aminmax(self, *, dim: int | None = None, keepdim: bool = False) -> _Extremes:
        """(amin, amax) along the int `dim`, or of all elements; `keepdim` keeps it with size 1.
        Raises IndexOutOfRange for no elements, DTypeError for complex numbers."""
        return _Extremes(self.amin(dim, keepdim), self.amax(dim, keepdim))

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """The int64 index of the maximum along the int `dim`, of the first one at ties; of the
        flattened tensor if `dim` is None. `keepdim` keeps it with size 1. Raises IndexOutOfRange
        for no elements, DTypeError for complex numbers."""
        if dim is not None:
            axis_of(dim, self.ndim)  # refuses several
        return reduce.argmax(self, axis=self._filled("argmax", dim, keepdim), keepdims=keepdim)

    def argmin(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """The int64 index of the minimum along the int `dim`, of the first one at ties; of the
        flattened tensor if `dim` is None. `keepdim` keeps it with size 1. Raises IndexOutOfRange
        for no elements, DTypeError for complex numbers."""
        if dim is not None:
            axis_of(dim, self.ndim)
        return reduce.argmin(self, axis=self._filled("argmin", dim, keepdim), keepdims=keepdim)

    def all(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """Whether all elements are nonzero, as bools (uint8 gives uint8); True of no elements.
        `dim` is an int, several, or None for all dimensions; `keepdim` keeps them with size 1."""
        return self._tested("all", reduce.all, dim, keepdim)

    def any(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """Whether any element is nonzero, as bools (uint8 gives uint8); False of no elements. `dim`
        is an int, several, or None for all dimensions; `keepdim` keeps them with size 1."""
        return self._tested("any", reduce.any, dim, keepdim)

    def _tested(self, caller: str, test: Any, dim: Dim, keepdim: bool) -> Tensor:
        axis = self._axis(caller, dim, keepdim)
        if isinstance(dim, (list, tuple)) and not dim:  # no dimension: each element by itself
            found = comparison.ne(self, 0)
            return found.to(uint8) if self.dtype is uint8 else found
        return test(self, axis=axis, keepdims=keepdim)

    def count_nonzero(self, dim: Dim = None) -> Tensor:
        """The number of nonzero elements, as int64. `dim` is an int, several, or None for all
        dimensions."""
        return reduce.sum(self != 0, axis=axes_of(dim, self.ndim))

    def cumsum(self, dim: int, *, dtype: DTypeLike | None = None) -> Tensor:
        """The running sum y_i = x_1 + ... + x_i along `dim`, in the shape of self. Integers and
        bools give int64; `dtype` converts self first."""
        if dtype is not None:
            return self.to(dtype=numbers_of("cumsum", dtype)).cumsum(dim).to(dtype=dtype)
        return _along(reduce.cumsum, self, dim)

    def cumprod(self, dim: int, *, dtype: DTypeLike | None = None) -> Tensor:
        """The running product y_i = x_1 * ... * x_i along `dim`, in the shape of self. Integers and
        bools give int64; `dtype` converts self first."""
        if dtype is not None:
            return self.to(dtype=numbers_of("cumprod", dtype)).cumprod(dim).to(dtype=dtype)
        return _along(reduce.cumprod, self, dim)


def numbers_of(caller: str, dtype: DTypeLike) -> DType:
    """The dtype of a scan: any but bool."""
    if (chosen := dtype_of(dtype)) == bool_:
        raise DTypeError(sentence(caller, "a dtype of numbers", chosen))
    return chosen


def _variance_of_parts(x: Any, axis: Any, correction: Any, keepdim: bool) -> Tensor:
    """The variance of complex numbers: the sum of those of the real and imaginary parts."""
    parts = complex_numbers.view_as_real(x)
    real, imag = (
        reduce.var(part, axis=axis, correction=correction, keepdims=keepdim)
        for part in (index.getitem(parts, index=(..., i)) for i in (0, 1))
    )
    return real + imag


def softmax_along(op: Any, x: Any, dim: int) -> Tensor:
    """`softmax` or `log_softmax`, the op."""
    n = len(x.array.shape)
    try:
        return in_order(op(x, axis=axis_of(dim, n)) if n else _along(op, x, dim))
    except DTypeError:
        if x.dtype.kind not in ("int", "bool") or x.numel():
            raise
        axis_of(dim, x.ndim)
        return x.clone()  # as in PyTorch, integers are accepted if there are no elements


def _along(op: Any, x: Any, dim: int) -> Tensor:
    """Apply an op along one dimension; a 0-d tensor counts as 1-D."""
    n = len(x.array.shape)
    axis = axis_of(dim, n)
    return op(x, axis=axis) if n else without_base(op(x.reshape(1), axis=0).reshape(()))


def _root(x: Any, root: Any, at_zero: float = 0.0) -> Tensor:
    """root(x), with gradient 0 where x is 0: a norm has no derivative there (0 / 0 is NaN)."""
    if x.node is None:
        return root(x)
    zero = comparison.eq(x, 0).array
    there = root(comparison.where(1.0, x, condition=zero))
    return comparison.where(at_zero, there, condition=zero)
