"""What a packed tensor holds in place of a backend's array: the parts that its dtype lays out."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np

from gradient.dtypes import PackedDType, float32
from gradient.errors import DTypeError, IndexOutOfRange, ShapeError, sentence

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from gradient.dtypes.packed.base import Part


def is_packed(weight: Any) -> TypeIs[PackedArray]:
    """Whether a weight is packed: an array, or a Tensor around one."""
    return isinstance(weight.dtype, PackedDType)


def parts_of(array: Any) -> tuple[Any, ...]:
    """The arrays that hold an array's memory: the parts of a packed one, else itself alone."""
    return array.parts if isinstance(array, PackedArray) else (array,)


def map_parts(function: Callable[[Any], Any], array: Any) -> Any:
    """`function` of an array; of a packed one, a packed array of `function` of each part."""
    return array.map(function) if isinstance(array, PackedArray) else function(array)


_writes: dict[int, tuple[Any, int]] = {}
"""The owners of memory in which parts were overwritten, and how often, by their ids."""


def memory_of(array: Any) -> Any:
    """The owner of an array's memory: of one on a mapped file, the mapping."""
    while True:
        view = isinstance(array, memoryview)  # between an array and what lent it its buffer
        owner = array.obj if view else getattr(array, "base", None)
        if owner is None:
            return array
        array = owner


_written = 0


def written() -> int:
    """How many writes were counted, in any memory."""
    return _written


def count_write(part: Any) -> None:
    """Count an in-place write to a part, so that arrays derived from it are made again."""
    global _written
    _written += 1
    owner = memory_of(part)
    key = id(owner)
    try:
        held: Any = weakref.ref(owner, lambda _: _writes.pop(key, None))
    except TypeError:
        held = owner  # no weak references to it: keep it, so that its id stays its own
    _writes[key] = held, write_count((part,)) + 1


def write_count(parts: tuple[Any, ...]) -> int:
    """The number of writes counted in the memory of these parts."""
    if not _writes:
        return 0
    return sum(_writes.get(id(memory_of(part)), (None, 0))[1] for part in parts)


class Layout(Protocol):
    """How a backend keeps the parts of packed arrays of some dtype."""

    def parts_of(self, shape: tuple[int, ...]) -> tuple[Part, ...]: ...
    def stored(self, be: Any, parts: tuple[Any, ...]) -> tuple[Any, ...]: ...


def arranged_for(be: Any, array: Any) -> Any:
    """An array of a backend as that keeps it: a packed one perhaps in another layout."""
    arrange = getattr(be, "arranged", None)
    return arrange(array) if arrange is not None and isinstance(array, PackedArray) else array


class PackedArray:
    """A matrix (..., N, K) of a packed dtype: logical shape outside, blocks inside.

    It has the `shape` and `dtype` of an array and none of its operators: what computes with it asks
    for its values (`backend.unpack`) or knows its layout (`backend.quantized_matmul`). Where
    elements share no blocks (8-bit floats), `Op.moves` says which ops run on the codes.

    dtype     the `PackedDType`
    shape     of the tensor, in weights
    parts     arrays of the backend, as `dtype.parts_of(shape)` lists them; each begins with the
              leading axes of `shape`
    float_dtype
              of the rows that an embedding gives, an `np.dtype`: float32, or what the model's other
              weights have (`Module.to`)
    layout    what the parts are, if not what the dtype says: a backend may keep them as its kernels
              read them (`arranged`). `as_stored` gives those of the dtype
    """

    __slots__ = ("__weakref__", "_prepared", "dtype", "float_dtype", "layout", "parts", "shape")

    def __init__(
        self,
        dtype: PackedDType,
        shape: tuple[int, ...],
        parts: tuple[Any, ...],
        float_dtype: np.dtype = float32.numpy,
        layout: Layout | None = None,
    ):
        self.dtype, self.shape, self.parts = dtype, tuple(shape), tuple(parts)
        self.float_dtype, self.layout = float_dtype, layout
        self._prepared: tuple[int, Any] | None = None
        expected = (layout or dtype).parts_of(self.shape)
        given = [(tuple(part.shape), part.dtype) for part in self.parts]
        if given != list(expected):
            raise ShapeError(
                f"{dtype.name}: for shape {self.shape} expected parts "
                f"{_listed(dtype, expected)}; got {_listed(dtype, given)}"
            )

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the parts."""
        return self.dtype.nbytes(self.shape)

    # As NumPy's arrays have them. Elements that share blocks are in no view, and have no strides.

    @property
    def base(self) -> Any:
        """Whose memory it shows: of 8-bit floats, the owner of the codes."""
        if not self.dtype.elementwise:
            return None
        (codes,) = self.parts
        owner = getattr(codes, "base", None)
        return codes if owner is None else owner

    @property
    def flags(self) -> Any:
        return self.parts[0].flags if self.dtype.elementwise else None

    @property
    def strides(self) -> tuple[int, ...]:
        return self._codes().strides

    def _codes(self) -> Any:
        return self.parts[0] if self.dtype.elementwise else self._refuse()

    def map(self, function: Callable[[Any], Any]) -> PackedArray:
        """The same values in other arrays: `function` of each part."""
        return PackedArray(
            self.dtype, self.shape, tuple(function(part) for part in self.parts),
            self.float_dtype, self.layout,
        )  # fmt: skip

    def as_stored(self, be: Any) -> PackedArray:
        """With the parts that the dtype lists, as files and other backends have them."""
        if self.layout is None:
            return self
        parts = self.layout.stored(be, self.parts)
        return PackedArray(self.dtype, self.shape, parts, self.float_dtype)

    def with_float_dtype(self, float_dtype: np.dtype) -> PackedArray:
        """The same parts, with another float dtype for looked-up rows."""
        other = PackedArray(self.dtype, self.shape, self.parts, float_dtype, self.layout)
        other._prepared = self._prepared
        return other

    def prepared(self, make: Callable[[PackedArray], Any]) -> Any:
        """make(self): what a backend's kernels want in place of the parts. It is made once, and
        again after a write to their memory."""
        count = write_count(self.parts)
        if self._prepared is None or self._prepared[0] != count:
            self._prepared = count, make(self)
        return self._prepared[1]

    def rows(self, be: Any, index: tuple[Any, ...]) -> PackedArray:
        """Rows, or experts, chosen by an index of the leading axes as `be.getitem` takes it."""
        index = self._leading(index)
        leading = len(self.shape) - 1
        own = [len(part.shape) - leading for part in self.parts]  # axes of a row's part
        picked = [
            be.asarray(be.getitem(part, (*index, *(slice(None),) * n)))
            for part, n in zip(self.parts, own, strict=True)
        ]
        first = tuple(picked[0].shape)
        shape = (*first[: len(first) - own[0]], self.shape[-1])
        return PackedArray(self.dtype, shape, tuple(picked), self.float_dtype, self.layout)

    def _leading(self, index: tuple[Any, ...]) -> tuple[Any, ...]:
        """An index of the leading axes alone, with slices in place of an Ellipsis."""
        at = next((i for i, item in enumerate(index) if item is Ellipsis), None)
        if at is not None:
            left = self.ndim - sum(map(_axes, index))
            index = (*index[:at], *(slice(None),) * left, *index[at + 1 :])
        if sum(map(_axes, index)) < self.ndim:
            return index
        if sum(map(_axes, index)) == self.ndim and _is_whole(index[-1], self.shape[-1]):
            return index[:-1]
        raise IndexOutOfRange(
            f"a packed tensor of shape {self.shape} can be indexed along all dimensions but the "
            "last, whose elements share blocks; dequantize() it first"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedArray, (self.dtype, self.shape, self.parts, self.float_dtype, self.layout)

    def __repr__(self) -> str:
        return f"PackedArray({self.dtype!r}, {self.shape})"

    def __eq__(self, other: Any) -> Any:
        """Of 8-bit floats: where they equal those of another such array, or a number."""
        codes: Any = self._codes()
        dtype: Any = self.dtype
        if isinstance(other, PackedArray) and other.dtype is self.dtype:
            try:
                return dtype.are_equal(codes, other.parts[0])
            except ValueError:
                got = f"{self.shape} and {other.shape}"
                raise ShapeError(sentence("eq", "shapes that broadcast", got)) from None
        if not isinstance(other, (bool, int, float)):
            self._refuse()
        return dtype.are_equal(codes, dtype.code_of(other))

    def __ne__(self, other: Any) -> Any:
        return ~(self == other)

    def __abs__(self) -> PackedArray:
        """Of 8-bit floats: without the bit of the sign."""
        return PackedArray(self.dtype, self.shape, (self._codes() & 0x7F,), self.float_dtype)

    def isfinite(self) -> Any:
        """Of 8-bit floats: where they are neither NaN nor infinite."""
        codes: Any = self._codes()
        dtype: Any = self.dtype
        return dtype.are_finite(codes)

    # An array library must not take this for a number, a sequence or an object to store.

    __array_ufunc__ = None

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise DTypeError(f"not defined for {self.dtype!r}; dequantize() it first")

    __array__ = __bool__ = __iter__ = __len__ = _refuse
    __hash__ = object.__hash__


def _axes(item: Any) -> int:
    """The number of axes that an item of an index consumes."""
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    return len(item.shape) if getattr(getattr(item, "dtype", None), "kind", "") == "b" else 1


def _is_whole(item: Any, length: int) -> bool:
    """Whether an item of an index takes all elements of an axis, in order."""
    return isinstance(item, slice) and range(length)[item] == range(length)


def _listed(dtype: PackedDType, parts: Any) -> str:
    names = (*dtype.part_names, *("one more" for _ in parts))
    return ", ".join(f"{n} {shape} {kind}" for n, (shape, kind) in zip(names, parts, strict=False))
