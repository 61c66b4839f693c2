"""The methods that a backend must define: each raises an error until a subclass defines it.

An *array* is any object with `shape`, `dtype` (an `np.dtype`; for Tensors, a `DType`) and Python's
arithmetic, comparison and bitwise operators, with NumPy's broadcasting. Composed definitions use
only these (`ArrayOperators`) and backend methods. So they run on arrays of NumPy and CuPy, on
Tensors, and on handles of memory elsewhere.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Generic, NoReturn

from gradient.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from typing_extensions import TypeVar

    from gradient.backends.operators import ArrayOperators

    Array = TypeVar("Array", bound=ArrayOperators, default=Any)
else:
    from typing import TypeVar

    Array = TypeVar("Array")
"""A backend's type of array: `Backend[np.ndarray]` is one over NumPy's, `Backend` of any."""

__all__ = ["Array"]

Shape = tuple[int, ...]
Axis = int | tuple[int, ...] | None
"""Which axes a reduction goes over: None for all."""
Index = Any
"""What stands in x[...]: ints, slices, None, Ellipsis and arrays, or a tuple of them."""


class RequiredMethods(Generic[Array]):
    """The methods that have no default."""

    name = "base"
    device = "base"

    def _required(self, method: str) -> NoReturn:
        raise BackendError(f"backend {self.name!r} does not supply the required method {method!r}")

    # Creation and transfer -----------------------------------------------------------------------

    def asarray(self, value: Any, dtype: np.dtype | None = None) -> Array:
        """An array from a NumPy array or (nested) Python numbers, without a copy if possible."""
        self._required("asarray")

    def full(self, shape: Shape, value: Any, dtype: np.dtype) -> Array:
        self._required("full")

    def arange(self, start: Any, stop: Any, step: Any, dtype: np.dtype) -> Array:
        self._required("arange")

    def to_numpy(self, x: Array) -> np.ndarray:
        """The array on the host. It may share memory; the call waits for the device."""
        self._required("to_numpy")

    def astype(self, x: Array, dtype: np.dtype) -> Array:
        """Cast x to `dtype`; return x itself if it already has that dtype."""
        self._required("astype")

    def bitcast(self, x: Array, dtype: np.dtype) -> Array:
        """The bytes of x's last axis read as `dtype`, little-endian: (..., 2 n) uint8 becomes
        (..., n) float16. x has bytes, or numbers as wide as `dtype`. The result may be a view."""
        self._required("bitcast")

    def copy(self, x: Array) -> Array:
        """A new contiguous array."""
        self._required("copy")

    def synchronize(self) -> None:
        """Wait until all queued work is done."""

    def recomputing(self) -> AbstractContextManager[None]:
        """A context whose calls repeat earlier ones to save memory: a plan makes them again."""
        return nullcontext()

    # Elementwise ---------------------------------------------------------------------------------

    def exp(self, x: Array) -> Array:
        self._required("exp")

    def log(self, x: Array) -> Array:
        self._required("log")

    def sqrt(self, x: Array) -> Array:
        self._required("sqrt")

    def sin(self, x: Array) -> Array:
        self._required("sin")

    def cos(self, x: Array) -> Array:
        self._required("cos")

    def arctan2(self, y: Array, x: Array) -> Array:
        self._required("arctan2")

    def tanh(self, x: Array) -> Array:
        self._required("tanh")

    def floor(self, x: Array) -> Array:
        self._required("floor")

    def abs(self, x: Array) -> Array:
        self._required("abs")

    def maximum(self, a: Array, b: Array) -> Array:
        """Elementwise maximum; NaN if either is NaN."""
        self._required("maximum")

    def minimum(self, a: Array, b: Array) -> Array:
        """Elementwise minimum; NaN if either is NaN."""
        self._required("minimum")

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        self._required("where")

    # Reductions: axis is None (all), an int or a tuple of ints ----------------------------------

    def sum(self, x: Array, axis: Any = None, keepdims: bool = False) -> Array:
        """Sum; 16-bit floats accumulate in float32; bools and small ints in int64."""
        self._required("sum")

    def prod(self, x: Array, axis: Any = None, keepdims: bool = False) -> Array:
        self._required("prod")

    def max(self, x: Array, axis: Any = None, keepdims: bool = False) -> Array:
        self._required("max")

    def min(self, x: Array, axis: Any = None, keepdims: bool = False) -> Array:
        self._required("min")

    def argmax(self, x: Array, axis: int | None = None, keepdims: bool = False) -> Array:
        """int64 index of the first maximum (in the flattened array if axis is None)."""
        self._required("argmax")

    def cumsum(self, x: Array, axis: int) -> Array:
        self._required("cumsum")

    def argsort(self, x: Array, axis: int) -> Array:
        """int64 indices that sort ascending, stable, NaN last."""
        self._required("argsort")

    # Linear algebra ------------------------------------------------------------------------------

    def matmul(self, a: Array, b: Array) -> Array:
        """(..., M, K) @ (..., K, N) -> (..., M, N), batch dimensions broadcast; 16-bit floats
        accumulate in float32 and are rounded once."""
        self._required("matmul")

    # Shape ---------------------------------------------------------------------------------------

    def reshape(self, x: Array, shape: Shape) -> Array:
        """A view if the strides allow it, else a copy; one entry of `shape` may be -1."""
        self._required("reshape")

    def permute(self, x: Array, axes: Shape) -> Array:
        self._required("permute")

    def broadcast_to(self, x: Array, shape: Shape) -> Array:
        self._required("broadcast_to")

    def concatenate(self, arrays: list[Array], axis: int) -> Array:
        self._required("concatenate")

    # Indexing: `index` is a tuple of ints, slices (any step), None, Ellipsis and integer or bool
    # arrays of this backend, with NumPy's meaning ------------------------------------------------

    def getitem(self, x: Array, index: Index) -> Array:
        self._required("getitem")

    def assign(self, x: Array, index: Index, value: Any) -> Array:
        """`x[index] = value` in place (`Ellipsis`: all of it), cast to x's dtype; returns `x`."""
        self._required("assign")

    def index_add(self, x: Array, index: Index, value: Array) -> Array:
        """`x[index] += value` in place; repeated indices accumulate. Returns `x`."""
        self._required("index_add")

    def take_along(self, x: Array, index: Array, axis: int) -> Array:
        """PyTorch's gather: out[i][j][k] = x[index[i][j][k]][j][k] for axis 0."""
        self._required("take_along")

    def put_along(self, x: Array, index: Array, value: Array, axis: int, add: bool) -> Array:
        """PyTorch's scatter (`add=False`) and scatter_add, in place; returns `x`."""
        self._required("put_along")

    # Memory --------------------------------------------------------------------------------------

    def storage(self, x: Array) -> Any:
        """The object that owns x's memory: the same one for all views of it."""
        return x

    def is_view(self, x: Array) -> bool:
        """Whether `x` shares memory that another array owns."""
        return False

    def is_view_of(self, x: Array, base: Array) -> bool:
        """Whether x, which was indexed or reshaped from `base`, shares its memory."""
        return self.storage(x) is self.storage(base)

    def offset_in(self, x: Array, base: Array) -> int:
        """The offset, in elements, from the first element of `base` to that of its view x."""
        raise BackendError(f"backend {self.name!r} does not tell where views lie in memory")

    def assign_shared(self, x: Array, index: Index, value: Any, shown_by: list[Array]) -> bool:
        """`assign` for x that is read-only because it shows elements several times; but x[index]
        shows each once, or all become one number. Returns whether it was done.

        shown_by: x and the arrays that it is a view of. If none shows an element twice, the owner
        made x read-only, and nothing is written.
        """
        return False

    def writable(self, x: Array) -> Array:
        """`x` itself, or a copy if the library returned a read-only 0-d result."""
        return x

    has_values = True
    """Whether arrays have values: those of the device "meta" have only a shape and a dtype."""

    reads_wait = False
    """Whether reading a value waits for all the work that was queued before it."""

    def read_later(self, x: Array) -> Callable[..., np.ndarray]:
        """Queue a copy to the host; return a function that waits for it, but not for work queued
        later, and returns the values. Given `check=False` it raises no error of work that was
        queued before: the next read of a value does."""
        return lambda check=True: self.to_numpy(x)

    def queue(self) -> Any:
        """Return what orders the work that is queued now: work of equal queues is done in the order
        in which it was queued."""
        return None

    def has_zero(self, x: Array) -> bool:
        """Whether an integer array contains 0; False if the call would wait for the device."""
        return False

    def detach(self, x: Array) -> Array:
        """`x` as a constant: itself, or for Tensors, `x.detach()`."""
        return x
