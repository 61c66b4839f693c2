"""What a backend must supply: each method raises until a subclass has its own.

An *array* is any object with `shape` and `dtype` (an `np.dtype`, or a `DType` where arrays are
Tensors) and Python's arithmetic, comparison and bitwise operators, broadcasting as NumPy does. That
is all that definitions over these methods may ask of one (`ArrayOperators`): so they run on NumPy's
and CuPy's arrays, on Tensors, and on handles to memory elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn

from gradient.errors import BackendError

if TYPE_CHECKING:
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
        """An array from a NumPy array or (nested) Python numbers; no copy where none is needed."""
        self._required("asarray")

    def full(self, shape: Shape, value: Any, dtype: np.dtype) -> Array:
        self._required("full")

    def arange(self, start: Any, stop: Any, step: Any, dtype: np.dtype) -> Array:
        self._required("arange")

    def to_numpy(self, x: Array) -> np.ndarray:
        """The array on the host; may share memory; waits for the device."""
        self._required("to_numpy")

    def astype(self, x: Array, dtype: np.dtype) -> Array:
        """`x` itself where it already has that dtype."""
        self._required("astype")

    def bitcast(self, x: Array, dtype: np.dtype) -> Array:
        """The bytes of x's last axis read as `dtype`, little-endian: (..., 2 n) uint8 is (..., n)
        float16. `x` is an array of bytes, or of as wide numbers; a view where that is simple."""
        self._required("bitcast")

    def copy(self, x: Array) -> Array:
        """A fresh contiguous array."""
        self._required("copy")

    def synchronize(self) -> None:
        """Wait until all queued work is done."""

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
        """Elementwise maximum; NaN wins."""
        self._required("maximum")

    def minimum(self, a: Array, b: Array) -> Array:
        """Elementwise minimum; NaN wins."""
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
        """int64 index of the first maximum (of the flattened array where axis is None)."""
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
        """A view where the memory allows it; one entry may be -1."""
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
        """`x[index] += value` in place, where repeated indices accumulate; returns `x`."""
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
        """Whether writing to `x` writes to `base`, given that `x` was taken of it."""
        return self.storage(x) is self.storage(base)

    def offset_in(self, x: Array, base: Array) -> int:
        """The offset of the first element of x from the first of `base`, of which x is a view,
        in elements."""
        raise BackendError(f"backend {self.name!r} does not tell where views lie in memory")

    def assign_shared(self, x: Array, index: Index, value: Any, shown_by: list[Array]) -> bool:
        """`assign`, where x is read-only because it shows elements several times, but x[index]
        shows none twice, or gets one number alone. Whether it was done.

        shown_by: x, and what it is a view of; where none of them shows an element twice, x is
        read-only because its owner wants it so, and is left alone.
        """
        return False

    def writable(self, x: Array) -> Array:
        """`x` itself, or its copy where the library gave a 0-d array that cannot be written."""
        return x

    reads_wait = False
    """Whether reading a value waits for all the work that was queued before it."""

    def has_zero(self, x: Array) -> bool:
        """Whether an array of integers holds a 0; False where one would have to wait to know."""
        return False

    def detach(self, x: Array) -> Array:
        """`x` as a constant. Arrays are constants already; where they are Tensors, it cuts."""
        return x
