"""`PackedArray`: the array of a packed tensor, made of the parts that its dtype defines."""

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
    """Whether a weight, an array or a Tensor, is packed."""
    return isinstance(weight.dtype, PackedDType)


def parts_of(array: Any) -> tuple[Any, ...]:
    """The parts of a packed array; of another array, the array itself."""
    return array.parts if isinstance(array, PackedArray) else (array,)


def map_parts(function: Callable[[Any], Any], array: Any) -> Any:
    """Apply `function` to an array, or to each part of a packed array."""
    return array.map(function) if isinstance(array, PackedArray) else function(array)


_writes: dict[int, tuple[Any, int]] = {}
"""The owners of memory in which parts were overwritten, and how often, by their ids."""


def memory_of(array: Any) -> Any:
    """The owner of an array's memory; for a memory-mapped file, the mapping."""
    while True:
        view = isinstance(array, memoryview)  # between an array and the owner of its buffer
        owner = array.obj if view else getattr(array, "base", None)
        if owner is None:
            return array
        array = owner


_written = 0


def written() -> int:
    """The number of writes counted so far, in any memory."""
    return _written


def count_write(part: Any) -> None:
    """Count an in-place write to a part, so that arrays derived from it are recomputed."""
    global _written
    _written += 1
    owner = memory_of(part)
    key = id(owner)
    try:
        held: Any = weakref.ref(owner, lambda _: _writes.pop(key, None))
    except TypeError:
        held = owner  # it allows no weak references: keep it, so that its id is not reused
    _writes[key] = held, write_count((part,)) + 1


def write_count(parts: tuple[Any, ...]) -> int:
    """The number of writes counted in the memory of these parts."""
    if not _writes:
        return 0
    return sum(_writes.get(id(memory_of(part)), (None, 0))[1] for part in parts)


class Layout(Protocol):
    """A backend's own layout of the parts of packed arrays."""

    def parts_of(self, shape: tuple[int, ...]) -> tuple[Part, ...]: ...
    def stored(self, be: Any, parts: tuple[Any, ...]) -> tuple[Any, ...]: ...


def arranged_for(be: Any, array: Any) -> Any:
    """An array in the backend's preferred layout, which may differ for packed arrays."""
    arrange = getattr(be, "arranged", None)
    return arrange(array) if arrange is not None and isinstance(array, PackedArray) else array


class PackedArray:
    """A matrix (..., N, K) of a packed dtype: logical shape outside, blocks inside.

    It has the `shape` and `dtype` of an array, but no operators. Methods compute with its values
    (`backend.unpack`), or directly with its layout (`backend.quantized_matmul`). If elements share
    no blocks (8-bit floats), ops with `Op.moves` run on the codes.

    dtype     the `PackedDType`
    shape     the shape of the tensor, in weights
    parts     arrays of the backend, as listed by `dtype.parts_of(shape)`; each begins with the
              leading axes of `shape`
    float_dtype
              the `np.dtype` of rows looked up by an embedding: float32, or that of the model's
              other weights (`Module.to`)
    layout    the layout of the parts, if it is not the dtype's: a backend may arrange them for its
              kernels (`arranged`). `as_stored` restores the layout of the dtype
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
        """The number of bytes of the parts."""
        return self.dtype.nbytes(self.shape)

    # As in NumPy. Elements that share blocks have no views and no strides.

    @property
    def base(self) -> Any:
        """The owner of its memory, as NumPy's `base`: for 8-bit floats, the codes' `base`."""
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
        """Apply `function`, which must keep the values (a copy or transfer), to each part."""
        return PackedArray(
            self.dtype, self.shape, tuple(function(part) for part in self.parts),
            self.float_dtype, self.layout,
        )  # fmt: skip

    def as_stored(self, be: Any) -> PackedArray:
        """The array with the parts of its dtype, as in files and on other backends."""
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
        """Return make(self), a form for a backend's kernels. It is cached until the parts are
        written to."""
        count = write_count(self.parts)
        if self._prepared is None or self._prepared[0] != count:
            self._prepared = count, make(self)
        return self._prepared[1]

    def rows(self, be: Any, index: tuple[Any, ...]) -> PackedArray:
        """Rows, or experts, selected by an index of the leading axes, as for `be.getitem`."""
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
        """The index of the leading axes, with slices instead of an Ellipsis."""
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
        """Elementwise equality of 8-bit floats with another such array, or with a number."""
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
        """The absolute values of 8-bit floats, by clearing the sign bit."""
        return PackedArray(self.dtype, self.shape, (self._codes() & 0x7F,), self.float_dtype)

    def isfinite(self) -> Any:
        """Elementwise, for 8-bit floats: neither NaN nor infinite."""
        codes: Any = self._codes()
        dtype: Any = self.dtype
        return dtype.are_finite(codes)

    # Array libraries must not treat this as a number, a sequence or an object to store.

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
