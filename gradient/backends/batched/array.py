"""The arrays of `vmap`: those of all samples, with the shape of one sample's.

The axis of the samples is the first one of `value`, and not in `shape`. An array that all samples
share has no such axis. Operators align the shapes of the samples, not those of the values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from gradient.backends.recording_backend import OPERATORS, REFLECTED
from gradient.errors import BackendError

if TYPE_CHECKING:
    from gradient.backends.batched.base import Batching


class BatchedArray:
    """An array of a `BatchedBackend`.

    be       the backend, which stands for one `vmap`
    value    an array of its `inner` backend
    batched  whether the first axis of `value` is that of the samples; otherwise all share it
    viewed   whether views of it were made, if it is shared: they would miss its copy for a write
    """

    __slots__ = ("batched", "be", "dtype", "shape", "value", "viewed")

    def __init__(self, be: Batching, value: Any, batched: bool) -> None:
        self.be, self.value, self.batched = be, value, batched
        self.shape: tuple[int, ...] = value.shape[1:] if batched else value.shape
        self.dtype = value.dtype
        self.viewed = False

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements of all samples."""
        found: int = self.value.size
        return found

    @property
    def strides(self) -> tuple[int, ...]:
        found: tuple[int, ...] = self.value.strides
        return found[1:] if self.batched else found

    @property
    def flags(self) -> Any:
        """Those of a sample; None if arrays of the inner backend have no strides."""
        found = getattr(self.value, "flags", None)
        if found is None or not self.batched or found.c_contiguous:
            return found
        return self.be.inner.getitem(self.value, (0, ...)).flags

    # Array libraries must not treat this as a number, a sequence or an object to store.

    __array_ufunc__ = None

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise BackendError(REFUSAL)

    __array__ = __bool__ = __iter__ = __len__ = __float__ = __int__ = __index__ = _refuse
    __hash__ = object.__hash__

    if TYPE_CHECKING:  # set below

        def __getattr__(self, name: str) -> Any: ...


REFUSAL = (
    "vmap: the function needs a value of each sample, but it runs once for all of them. It cannot "
    "use item(), numpy(), bool() or `if` and `while` on a batched tensor, nor select by a mask; "
    "use where() in their place, or call the function in a loop"
)


SHARED = (
    "vmap: a batched tensor cannot be written in place to a tensor that all samples share; make "
    "that one from a batched tensor, by new_zeros or zeros_like, or use an op that is not in place"
)


def lengthened(x: BatchedArray, ndim: int) -> Any:
    """The value of a batched array, with axes of size 1 so that its samples have `ndim`."""
    missing = ndim - len(x.shape)
    if missing <= 0:
        return x.value
    return x.be.inner.reshape(x.value, (x.value.shape[0], *(1,) * missing, *x.shape))


def _binary(function: Callable[[Any, Any], Any], reflected: bool) -> Any:
    def method(self: BatchedArray, other: Any) -> Any:
        be, value, batched = self.be, self.value, self.batched
        if type(other) is BatchedArray:
            if other.be is be:
                n, m, given = len(self.shape), len(other.shape), other.value
                if n < m:
                    value = lengthened(self, m) if batched else value
                elif m < n and other.batched:
                    given = lengthened(other, n)
                batched = batched or other.batched
                out = function(given, value) if reflected else function(value, given)
                return BatchedArray(be, out, batched)
            if other.be.depth > be.depth:
                return NotImplemented
        if batched and len(getattr(other, "shape", ())) > len(self.shape):
            value = lengthened(self, len(other.shape))
        out = function(other, value) if reflected else function(value, other)
        return BatchedArray(be, out, batched)

    return method


def _unary(function: Callable[[Any], Any]) -> Any:
    def method(self: BatchedArray) -> BatchedArray:
        return BatchedArray(self.be, function(self.value), self.batched)

    return method


for _name, _function in OPERATORS.items():
    _made = _unary(_function) if _name in ("neg", "invert") else _binary(_function, False)
    setattr(BatchedArray, f"__{_name}__", _made)
for _name in REFLECTED:
    setattr(BatchedArray, f"__r{_name}__", _binary(OPERATORS[_name], True))
