"""Check and convert arguments: dimensions, shapes, indices, numbers."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeVar, overload

import numpy as np

from gradient.autograd.explain import error_for_any_caller
from gradient.autograd.variable import Variable, wrap
from gradient.dtypes import DType, finfo, float8_e4m3fn, iinfo, int32, int64
from gradient.errors import (
    ArgumentError,
    DeviceError,
    DTypeError,
    IndexOutOfRange,
    NumberOverflow,
    ShapeError,
    TypeMismatch,
    out_of_bounds,
    sentence,
)
from gradient.source_lines import warn_user

if TYPE_CHECKING:
    from gradient.backends import Backend
    from gradient.backends.operators import ArrayOperators
    from gradient.tensor.core import Tensor

N = TypeVar("N", bound=complex)

LARGEST = 2**63 - 1
"""The largest size, and the largest int64."""

INDICES = int64.numpy, int32.numpy
"""The dtypes of indices."""

DTypeLike = DType | np.dtype | type | str
"""An argument that names a dtype: `gradient.float32`, a NumPy dtype, `float`, or a string."""


def strict_index(value: Any) -> int:
    """Like `operator.index`, but refuse bools, as PyTorch does."""
    if isinstance(value, bool) or (isinstance(value, Variable) and value.array.dtype.kind == "b"):
        raise TypeError("a bool is no int")
    return operator.index(value)


element, join, repeat = tuple.__getitem__, tuple.__add__, tuple.__mul__
new_size = tuple.__new__
"""`new_size(Size, shape)` makes a Size without checks, from a tuple of ints."""


class Size(tuple[int, ...]):
    """The shape of a tensor: a tuple of ints."""

    __slots__ = ()

    def __new__(cls, sizes: Any = ()) -> Size:
        try:
            return new_size(cls, map(operator.index, sizes))
        except TypeError:
            raise TypeMismatch(sentence("Size", "an iterable of ints", repr(sizes))) from None

    @overload
    def __getitem__(self, key: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> Size: ...
    def __getitem__(self, key: Any, /) -> int | Size:
        found = element(self, key)
        return new_size(Size, found) if type(key) is slice else found

    def __add__(self, other: Any, /) -> Size:
        return Size(join(self, other)) if isinstance(other, tuple) else NotImplemented

    def __radd__(self, other: Any, /) -> Size:
        return Size(join(other, self)) if isinstance(other, tuple) else NotImplemented

    def __mul__(self, times: SupportsIndex, /) -> Size:
        if isinstance(times, np.ndarray):  # multiplies each size
            return NotImplemented
        return new_size(Size, repeat(self, times))

    __rmul__ = __mul__

    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self)

    def __repr__(self) -> str:
        return f"{DType.package}.Size({list(self)})"

    __str__ = __repr__


known_sizes: dict[tuple[int, ...], Size] = {}
"""Sizes by their tuples: to look one up takes half as long as to make one."""


def known_size(shape: tuple[int, ...]) -> Size:
    """Return the Size of an array's shape, and keep it in `known_sizes`, up to 4,096 of them."""
    if len(known_sizes) >= 4096:
        known_sizes.clear()
    size = known_sizes[shape] = new_size(Size, shape)
    return size


def axis_of(dim: int, ndim: int) -> int:
    """Convert a dimension, which may be negative, to an axis from 0; a 0-d tensor counts as 1-D."""
    if type(dim) is int and -ndim <= dim < ndim:
        return dim % ndim
    if type(dim) is not int:
        try:
            dim = strict_index(dim)
        except TypeError:
            raise TypeMismatch(f"dim: expected an int, got {dim!r}") from None
    n = ndim or 1
    if not -n <= dim < n:
        raise IndexOutOfRange(sentence("dim", f"a dimension from {-n} to {n - 1}", dim))
    return dim % n


@overload
def axes_of(dim: Sequence[int], ndim: int) -> tuple[int, ...] | None: ...
@overload
def axes_of(dim: int | Sequence[int] | None, ndim: int) -> int | tuple[int, ...] | None: ...
def axes_of(dim: Any, ndim: int) -> int | tuple[int, ...] | None:
    """Convert a `dim` argument to the `axis` of a reduction: None, an int or a tuple, none
    negative.

    An empty tuple means all dimensions, as in PyTorch.
    """
    if type(dim) is int and -ndim <= dim < ndim:
        return dim % ndim
    if dim is None:
        return None
    if isinstance(dim, (int, Integral)):
        axis = axis_of(dim if isinstance(dim, int) else int(dim), ndim)
        return axis if ndim else None
    if not isinstance(dim, (tuple, list)):
        raise TypeMismatch(f"dim: expected an int or a tuple of ints, got {dim!r}")
    axes = tuple(axis_of(d, ndim) for d in dim)
    if len(set(axes)) != len(axes):
        raise ShapeError(f"dim {axes[0]} appears multiple times in the list of dims {tuple(dim)}")
    return axes if axes and ndim else None


def shape_of(size: Sequence[Any]) -> tuple[int, ...]:
    """Return the shape given as `f(2, 3)`, `f((2, 3))` or `f([2, 3])`; `f(())` is 0-d."""
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = size[0]
    elif not size:
        raise TypeMismatch(sentence("size", "ints, or () for a 0-d tensor", "none"))
    for n in size:
        if type(n) is not int:
            break
    else:
        return tuple(size)
    try:
        return tuple(map(strict_index, size))
    except TypeError:
        raise TypeMismatch(f"size: expected ints, got {tuple(size)!r}") from None


def size_of(size: Sequence[Any], named: Any = None) -> tuple[int, ...]:
    """Like `shape_of`, for a new tensor: no size may be negative. `named` is the shape given as the
    keyword `size`."""
    if named is None and size:
        sizes = size[0] if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
        for n in sizes:
            if type(n) is not int or n < 0:
                break
        else:
            return sizes if type(sizes) is tuple else tuple(sizes)
    if named is not None:
        if size:
            raise TypeMismatch(sentence("size", "sizes or size=, not both", f"{size} and {named}"))
        size = (named,)
        if not isinstance(named, (tuple, list)):
            raise TypeMismatch(sentence("size", "a tuple of ints", repr(named)))
    shape = shape_of(size)
    if shape and min(shape) < 0:
        raise ShapeError(sentence("size", "sizes of at least 0", shape))
    return shape


def shape_argument(caller: str, name: str, size: Any) -> tuple[int, ...]:
    """Check a shape that is one argument: a tuple, not an int."""
    shape = tuple_argument(caller, name, size)
    if shape and min(shape) < 0:
        raise ShapeError(sentence("size", "sizes of at least 0", shape))
    return shape


def size_argument(caller: str, name: str, value: Any) -> int:
    """Check an int that is the size of a dimension: at least 0."""
    size = int_of(caller, name, value)
    if size < 0:
        raise ArgumentError(sentence(caller, f"{name} of at least 0", size))
    if size > LARGEST:
        raise ArgumentError(sentence(caller, f"{name} below 2**63", size))
    return size


def tuple_argument(caller: str, name: str, value: Any, given: Any = ()) -> tuple[int, ...]:
    """Check an argument that must be a tuple of ints; ints passed one by one, `given`, are an
    error."""
    if given:
        raise TypeMismatch(sentence(caller, f"{name} once", f"{given} and {shown(value)}"))
    if not isinstance(value, (tuple, list)):
        raise TypeMismatch(sentence(caller, f"a tuple of ints as {name}", shown(value)))
    return shape_of((value,))


def tensor_of(caller: str, value: Any, name: str = "") -> Tensor:
    """Return the argument `value` if it is a tensor; raise TypeMismatch if not."""
    if not isinstance(value, Variable):
        expected = "a Tensor" + (f" as {name}" if name else "")
        raise TypeMismatch(sentence(caller, expected, type(value).__name__))
    tensor: Any = value  # Tensor is the only Variable, but this module is below it
    return tensor


@overload
def constant(
    caller: str, name: str, value: None, like: Variable, of: str = "the input"
) -> None: ...
@overload
def constant(
    caller: str, name: str, value: Variable, like: Variable, of: str = "the input"
) -> ArrayOperators: ...
@overload
def constant(
    caller: str, name: str, value: Variable | None, like: Variable, of: str = "the input"
) -> ArrayOperators | None: ...
def constant(
    caller: str, name: str, value: Any, like: Variable, of: str = "the input"
) -> ArrayOperators | None:
    """Return the array of a tensor that is an option of an op, without a gradient. It must be on
    the device of `like`, called `of` in the error message. None stays None."""
    if value is None:
        return None
    if tensor_of(caller, value, name).backend is not like.backend and (
        value.backend.device != like.backend.device  # else one of them is seen by `vmap`
    ):
        devices = f"{name} is on {value.device}, {of} on {like.backend.device}"
        raise DeviceError(f"{caller}: {devices}; move one with .to()")
    return value.array


def all_samples(tensor: Tensor) -> Tensor:
    """Return the tensor, or that of all samples in `vmap`, to check what values it has."""
    while not tensor.backend.reads_values:
        backend: Any = tensor.backend
        tensor = wrap(backend.split(tensor.array)[0], backend.inner)
    return tensor


def anywhere(tensor: Tensor) -> bool:
    """Whether a tensor of bools is True anywhere, in `vmap` for any sample. On the device "meta",
    which has no values, it is nowhere."""
    known = all_samples(tensor)
    return known.backend.has_values and bool(known.any())


def vector_of(tensor: Any) -> Tensor:
    """Return the tensor, or a 0-d one as a vector of one element, as PyTorch does here."""
    vector: Tensor = tensor if tensor.array.shape else tensor.reshape(1)
    return vector


def is_empty(index: Any) -> bool:
    """Whether an index of gather or scatter has no elements: as in PyTorch it may then have any
    dtype and any number of dimensions."""
    return isinstance(index, Variable) and 0 in index.array.shape


def is_index(index: Any) -> bool:
    """Whether an index is a tensor of int64 or int32."""
    return isinstance(index, Variable) and index.array.dtype in INDICES


def in_range(caller: str, backend: Backend, index: Any, axis: int, size: int) -> ArrayOperators:
    try:
        # A batched index (`vmap`) knows its backend; the indexed tensor may be one of all samples.
        return getattr(index, "be", backend).checked_indices(index, axis, size)
    except IndexError as error:
        raise error_for_any_caller(IndexOutOfRange, caller, str(error)) from None


def check_index(caller: str, index: Tensor, like: Variable) -> None:
    """Refuse an index of another dtype, or on another device than `like`."""
    if not is_index(index):
        tensor_of(caller, index)
        kind = IndexOutOfRange if caller == "index_fill" else DTypeError  # PyTorch's, for each
        raise kind(sentence(caller, "an index of int64 or int32", index.dtype))
    if index.backend is not like.backend:
        constant(caller, "index", index, like)  # raises the error


def beyond(caller: str, index: Tensor, dim: int, size: Sequence[int]) -> str:
    """Name the first index that is out of range, for an error message."""
    values = index.reshape(-1).tolist()
    wrong = next((i for i in values if not -size[dim] <= i < size[dim]), values[0])
    return f"{caller}: {out_of_bounds(wrong, dim, size[dim])}"


def int_of(caller: str, name: str, value: Any) -> int:
    """Return `value` as an int; it is an int or an integer tensor of one element."""
    if type(value) is int:
        return value
    try:
        return strict_index(value)
    except TypeError:
        raise TypeMismatch(sentence(caller, f"an int as {name}", repr(value))) from None


def int_or_scalar(caller: str, name: str, value: Any) -> int:
    """Return `value` as an int; it is an int or a 0-d tensor of ints."""
    if isinstance(value, Variable) and (value.array.shape or value.array.dtype.kind not in "iu"):
        raise DTypeError(
            sentence(caller, f"an int or a 0-d Tensor of ints as {name}", shown(value))
        )
    return int_of(caller, name, value)


def ints_of(caller: str, name: str, value: Any) -> list[int]:
    """Return an int, or a sequence of ints, as a list."""
    try:
        if isinstance(value, Variable):
            raise TypeError
        return [strict_index(v) for v in ([value] if isinstance(value, (int, Integral)) else value)]
    except TypeError:
        expected = f"an int or a sequence of ints as {name}"
        raise TypeMismatch(sentence(caller, expected, repr(value))) from None


@overload
def number_of(
    caller: str, name: str, value: Any, takes_complex: Literal[False] = False
) -> float: ...
@overload
def number_of(caller: str, name: str, value: Any, takes_complex: bool) -> complex: ...
def number_of(caller: str, name: str, value: Any, takes_complex: bool = False) -> complex:
    """Return a number, or a 0-d tensor that requires no gradient, as a Python number."""
    if type(value) is float or type(value) is int:
        return value
    if isinstance(value, Variable) and not value.array.shape:
        if value.node is not None:
            expected, got = f"a number as {name}", "a tensor that requires a gradient"
            raise TypeMismatch(sentence(caller, expected, got, "use its .item()"))
        value = tensor_of(caller, value).item()
    elif isinstance(value, (np.generic, np.ndarray)) and not value.shape:
        value = value.item()  # a NumPy scalar would take part in type promotion
    if not isinstance(value, (bool, int, float, complex)):
        raise TypeMismatch(sentence(caller, f"a number as {name}", shown(value)))
    if isinstance(value, complex) and not takes_complex:
        raise TypeMismatch(sentence(caller, f"a real number as {name}", shown(value)))
    return value


def warn_of_discarded(given: Any, wanted: Any) -> None:
    """Warn, like PyTorch, if a cast from complex to real numbers drops the imaginary part."""
    if given.kind == "c" and wanted.kind not in "cb":
        warn_user("Casting complex values to real discards the imaginary part")


def fitting(caller: str, name: str, value: N, dtype: DType, infinite: bool = False) -> N:
    """Convert the number `value` for a dtype, and raise on overflow. As in PyTorch, negative ints
    wrap in uint8, complex numbers without an imaginary part become real, and all numbers can become
    bools. `infinite`: a number too large for a float dtype below 32 bits becomes infinite.

    Raises:
        NumberOverflow: an int of more than 64 bits, for any dtype.
        ArgumentError: a number that the dtype cannot hold.
    """
    kind = dtype.kind
    number: Any = value
    if type(number) is int and not -LARGEST <= number <= LARGEST:
        if not -LARGEST - 1 <= number < (LARGEST if infinite else 2 * LARGEST + 1) + 1:
            raise NumberOverflow(sentence(caller, f"as {name} a number of 64 bits", number))
        if kind == "float":
            number = float(number)
    if kind not in ("complex", "bool") and isinstance(number, complex) and not number.imag:
        number = number.real
    takes_parts = kind == "complex" and isinstance(number, complex)
    parts = (number.real, number.imag) if takes_parts else (number,)
    if dtype is float8_e4m3fn and not infinite and parts[0] in (math.inf, -math.inf):
        raise ArgumentError(sentence(caller, f"as {name} a number that {dtype} can hold", number))
    if kind == "bool":
        number = bool(number)
    elif infinite and kind == "float" and dtype.itemsize < 4 and not isinstance(number, complex):
        if dtype is not float8_e4m3fn and abs(number) >= _rounded_up(dtype):
            number = math.copysign(math.inf, number)
    else:
        low, high = limits(dtype)
        if low == 0 and isinstance(number, int):
            low = -high
        for part in parts:
            if isinstance(part, complex) or not (
                low <= part <= high or (kind != "int" and not math.isfinite(part))
            ):
                expected = f"as {name} a number that {dtype} can hold"
                raise ArgumentError(sentence(caller, expected, number))
        if low == -high and kind == "int":
            number %= high + 1
    return number


@functools.cache
def _rounded_up(dtype: DType) -> float:
    """Return the smallest number that a floating-point dtype rounds to inf."""
    info = finfo(dtype)
    return float(info.max * (2 - info.eps / 2) / (2 - info.eps))


@functools.cache
def limits(dtype: DType) -> tuple[float, float]:
    """Return the smallest and the largest finite number of a dtype."""
    info: Any = iinfo(dtype) if dtype.kind == "int" else finfo(dtype)
    return info.min, info.max


def outside(values: Any, low: float, high: float) -> str:
    """Return the first value of a NumPy array outside [low, high], as text for an error message."""
    return f"{float(values[~((values >= low) & (values <= high))][0]):g}"


def flag_of(caller: str, name: str, value: Any) -> bool:
    """Return `value` if it is True or False. An int or a tensor is refused: it was probably meant
    for another argument."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeMismatch(sentence(caller, f"True or False as {name}", shown(value)))
    return bool(value)


def shown(value: Any) -> str:
    """Describe an argument for an error message: a tensor by its shape and dtype."""
    if isinstance(value, Variable):
        return f"a Tensor of shape {tuple(value.array.shape)}"
    return repr(value)
