"""What a backend must supply: each method raises until a subclass has its own.

An *array* is any object with `shape` and `dtype` (an `np.dtype`, or a `DType` where arrays are
Tensors) and Python's arithmetic, comparison and bitwise operators, broadcasting as NumPy does. That
is all that definitions over these methods may ask of one (`ArrayOperators`): so they run on NumPy's
and CuPy's arrays, on Tensors, and on handles to memory elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from gradient.errors import BackendError

if TYPE_CHECKING:
    import numpy as np

    from gradient.backends.operators import ArrayOperators

Array = TypeVar("Array", bound="ArrayOperators")
"""A backend's type of array: `Backend[np.ndarray]` is one over NumPy's."""
Shape = tuple[int, ...]
Axis = int | tuple[int, ...] | None
"""Which axes a reduction goes over: None for all."""
Index = Any
"""What stands in x[...]: ints, slices, None, Ellipsis and arrays, or a tuple of them."""


class RequiredMethods(Generic[Array]):
    """The methods that have no default."""

    name = "base"
    device = "base"

    def _required(be, method: str) -> NoReturn:
        raise BackendError(f"backend {be.name!r} does not supply the required method {method!r}")

    # Creation and transfer -----------------------------------------------------------------------

    def asarray(be, value: Any, dtype: np.dtype | None = None) -> Array:
        """An array from a NumPy array or (nested) Python numbers; no copy where none is needed."""
        be._required("asarray")

    def full(be, shape: Shape, value: Any, dtype: np.dtype) -> Array:
        be._required("full")

    def arange(be, start: Any, stop: Any, step: Any, dtype: np.dtype) -> Array:
        be._required("arange")

    def to_numpy(be, x: Array) -> np.ndarray:
        """The array on the host; may share memory; waits for the device."""
        be._required("to_numpy")

    def astype(be, x: Array, dtype: np.dtype) -> Array:
        """`x` itself where it already has that dtype."""
        be._required("astype")

    def bitcast(be, x: Array, dtype: np.dtype) -> Array:
        """The bytes of x's last axis read as `dtype`, little-endian: (..., 2 n) uint8 is (..., n)
        float16. `x` is an array of bytes, or of as wide numbers; a view where that is simple."""
        be._required("bitcast")

    def copy(be, x: Array) -> Array:
        """A fresh contiguous array."""
        be._required("copy")

    def synchronize(be) -> None:
        """Wait until all queued work is done."""

    # Elementwise ---------------------------------------------------------------------------------

    def exp(be, x: Array) -> Array:
        be._required("exp")

    def log(be, x: Array) -> Array:
        be._required("log")

    def sqrt(be, x: Array) -> Array:
        be._required("sqrt")

    def sin(be, x: Array) -> Array:
        be._required("sin")

    def cos(be, x: Array) -> Array:
        be._required("cos")

    def arctan2(be, y: Array, x: Array) -> Array:
        be._required("arctan2")

    def tanh(be, x: Array) -> Array:
        be._required("tanh")

    def floor(be, x: Array) -> Array:
        be._required("floor")

    def abs(be, x: Array) -> Array:
        be._required("abs")

    def maximum(be, a: Array, b: Array) -> Array:
        """Elementwise maximum; NaN wins."""
        be._required("maximum")

    def minimum(be, a: Array, b: Array) -> Array:
        """Elementwise minimum; NaN wins."""
        be._required("minimum")

    def where(be, condition: Array, a: Array, b: Array) -> Array:
        be._required("where")

    # Reductions: axis is None (all), an int or a tuple of ints ----------------------------------

    def sum(be, x: Array, axis: Any = None, keepdims: bool = False) -> Array:
        """Sum; 16-bit floats accumulate in float32; bools and small ints in int64."""
        be._required("sum")

    def prod(be, x: Array, axis: Any = None, keepdims: bool = False) -> Array:
        be._required("prod")

    def max(be, x: Array, axis: Any = None, keepdims: bool = False) -> Array:
        be._required("max")

    def min(be, x: Array, axis: Any = None, keepdims: bool = False) -> Array:
        be._required("min")

    def argmax(be, x: Array, axis: int | None = None, keepdims: bool = False) -> Array:
        """int64 index of the first maximum (of the flattened array where axis is None)."""
        be._required("argmax")

    def cumsum(be, x: Array, axis: int) -> Array:
        be._required("cumsum")

    def argsort(be, x: Array, axis: int) -> Array:
        """int64 indices that sort ascending, stable, NaN last."""
        be._required("argsort")

    # Linear algebra ------------------------------------------------------------------------------

    def matmul(be, a: Array, b: Array) -> Array:
        """(..., M, K) @ (..., K, N) -> (..., M, N), batch dimensions broadcast; 16-bit floats
        accumulate in float32 and are rounded once."""
        be._required("matmul")

    # Shape ---------------------------------------------------------------------------------------

    def reshape(be, x: Array, shape: Shape) -> Array:
        """A view where the memory allows it; one entry may be -1."""
        be._required("reshape")

    def permute(be, x: Array, axes: Shape) -> Array:
        be._required("permute")

    def broadcast_to(be, x: Array, shape: Shape) -> Array:
        be._required("broadcast_to")

    def concatenate(be, arrays: list[Array], axis: int) -> Array:
        be._required("concatenate")

    # Indexing: `index` is a tuple of ints, slices (any step), None, Ellipsis and integer or bool
    # arrays of this backend, with NumPy's meaning ------------------------------------------------

    def getitem(be, x: Array, index: Index) -> Array:
        be._required("getitem")

    def assign(be, x: Array, index: Index, value: Any) -> Array:
        """`x[index] = value` in place (`Ellipsis`: all of it), cast to x's dtype; returns `x`."""
        be._required("assign")

    def index_add(be, x: Array, index: Index, value: Array) -> Array:
        """`x[index] += value` in place, where repeated indices accumulate; returns `x`."""
        be._required("index_add")

    def take_along(be, x: Array, index: Array, axis: int) -> Array:
        """PyTorch's gather: out[i][j][k] = x[index[i][j][k]][j][k] for axis 0."""
        be._required("take_along")

    def put_along(be, x: Array, index: Array, value: Array, axis: int, add: bool) -> Array:
        """PyTorch's scatter (`add=False`) and scatter_add, in place; returns `x`."""
        be._required("put_along")

    # Memory --------------------------------------------------------------------------------------

    def storage(be, x: Array) -> Any:
        """The object that owns x's memory: the same one for all views of it."""
        return x

    def is_view(be, x: Array) -> bool:
        """Whether `x` lies in memory that another array owns."""
        return False

    def is_view_of(be, x: Array, base: Array) -> bool:
        """Whether writing to `x` writes to `base`, given that `x` was taken of it."""
        return be.storage(x) is be.storage(base)

    def writable(be, x: Array) -> Array:
        """`x` itself, or its copy where the library gave a 0-d array that cannot be written."""
        return x

    def has_zero(be, x: Array) -> bool:
        """Whether an array of integers holds a 0; False where one would have to wait to know."""
        return False

    def detach(be, x: Array) -> Array:
        """`x` as a constant. Arrays are constants already; where they are Tensors, it cuts."""
        return x
