"""The backend of a device that is implemented by another process.

Required methods are sent as messages. In the handshake, the plugin lists its further ops;
`overrides` has the methods for them. All other methods are composed here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradient.backends.base import Backend
from gradient.backends.memory_order import row_major
from gradient.backends.packed import PackedArray, is_packed
from gradient.backends.process import handle, shapes
from gradient.backends.process.client import Client
from gradient.backends.process.handle import Handle, cast, op, put, rewrite
from gradient.backends.process.protocol import NAMES, PluginUnsupported
from gradient.backends.process.run_numbers import value_of
from gradient.backends.recording_backend import OPERATORS
from gradient.backends.required import Axis, Index, Shape
from gradient.dtypes import int64

INT64 = int64.numpy
REQUIRED_OPS = frozenset(OPERATORS) | {
    *("full", "arange", "copy", "astype", "bitcast", "exp", "log", "sqrt", "sin", "cos", "tanh"),
    *("floor", "abs", "arctan2", "maximum", "minimum", "where", "sum", "prod", "max", "min"),
    *("argmax", "cumsum", "argsort", "matmul", "reshape", "permute", "broadcast_to"),
    *("concatenate", "getitem", "assign", "index_add", "in_range", "take_along", "put_along"),
}
"""The ops that every plugin has; all others can be composed of them."""


def _function(name: str) -> Any:
    """Make a method for an op of one array."""

    def method(self: ProcessBackend, x: Handle) -> Handle:
        dtype = shapes.function_dtype(name, x.dtype)
        return op(self.client, name, x.shape, dtype, (cast(x, dtype),))

    return method


def _pair(name: str) -> Any:
    """Make a method for an op of two arrays of one dtype, or of an array and a number."""

    def method(self: ProcessBackend, a: Any, b: Any) -> Handle:
        dtype = shapes.common_dtype(_kind(a), _kind(b))
        a, b = (cast(self._array(x, dtype), dtype) for x in (a, b))
        return op(self.client, name, shapes.broadcast(a.shape, b.shape), dtype, (a, b))

    return method


class ProcessBackend(Backend[Any]):
    """The backend of a plugin. `opening.opened` adds overrides for the plugin's ops."""

    name = "process"

    def __init__(self, device: str, command: Sequence[str], client: Client):
        self.device, self.command, self.client = device, tuple(command), client

    @property
    def timeout(self) -> float:
        """The longest time to wait for an answer of the plugin, in seconds."""
        return self.client.connection.timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self.client.connection.timeout = seconds

    def restart(self) -> None:
        """Stop the plugin and start a new one. All tensors on the device are lost."""
        self.client.close()
        self.client = Client(self.command, self.device, self.timeout)

    def close(self) -> None:
        """Stop the plugin. (It also stops when this process ends.)"""
        self.client.close()

    def statistics(self) -> dict[str, int]:
        """The plugin's counters: its `arrays`, their `bytes`, and the `messages` received."""
        found: dict[str, int] = self.client.request("stat")
        return found

    def limit_memory(self, nbytes: int | None) -> None:
        """Limit the total bytes of the plugin's arrays; None: no limit."""
        self.client.request("limit", nbytes)

    # Creation and transfer -----------------------------------------------------------------------

    def asarray(self, value: Any, dtype: np.dtype | None = None) -> Handle:
        if type(value) is Handle:
            return value if dtype is None else self.astype(value, dtype)
        array = np.asarray(value, dtype)
        self._check(array.dtype)
        return put(self.client, array)

    def _check(self, dtype: np.dtype) -> None:
        if NAMES.get(dtype) not in self.client.dtypes:
            raise PluginUnsupported(
                f"device {self.device!r} has no {dtype}; it has "
                f"{', '.join(sorted(self.client.dtypes))}"
            )

    def _array(self, x: Any, dtype: np.dtype | None = None) -> Handle:
        """An operand as a handle; it may be a Python number."""
        return x if type(x) is Handle else self.asarray(x, dtype)

    def full(self, shape: Shape, value: Any, dtype: np.dtype) -> Handle:
        if isinstance(value, np.generic):
            value = value.item()
        size = shape if isinstance(shape, tuple) else (shape,)
        self._check(dtype)
        return op(self.client, "full", tuple(map(int, size)), dtype, ([value],))

    def arange(self, start: Any, stop: Any, step: Any, dtype: np.dtype) -> Handle:
        self._check(dtype)
        first, last, by = map(value_of, (start, stop, step))
        whole = all(isinstance(x, int) for x in (first, last, by))
        n = len(range(first, last, by)) if whole else np.arange(first, last, by).size
        return op(self.client, "arange", (n,), dtype, ([start], [step]))

    def to_numpy(self, x: Any) -> np.ndarray:
        if type(x) is not Handle:
            return np.asarray(x)
        return x.client.get(x.id, x.shape, x.dtype)

    def astype(self, x: Handle, dtype: np.dtype) -> Handle:
        if x.dtype == dtype:
            return x
        self._check(dtype)
        return cast(x, dtype)

    def bitcast(self, x: Handle, dtype: np.dtype) -> Handle:
        self._check(dtype)
        shape, width = x.shape, x.dtype.itemsize
        if dtype.itemsize != width:
            shape = (*shape[:-1], shape[-1] * width // dtype.itemsize)
        if dtype.itemsize == width or x.steps is None:
            return x.view(shape, x.steps, "bitcast", {}, dtype)
        return op(self.client, "bitcast", shape, dtype, (x,))

    def copy(self, x: Any) -> Handle:
        x = self._array(x)
        return op(self.client, "copy", x.shape, x.dtype, (x,))

    def synchronize(self) -> None:
        self.client.synchronize()

    # Elementwise ---------------------------------------------------------------------------------

    exp = _function("exp")
    log = _function("log")
    sqrt = _function("sqrt")
    sin = _function("sin")
    cos = _function("cos")
    tanh = _function("tanh")
    floor = _function("floor")
    abs = _function("abs")
    arctan2 = _pair("arctan2")
    maximum = _pair("maximum")
    minimum = _pair("minimum")

    def where(self, condition: Handle, a: Any, b: Any) -> Handle:
        dtype = shapes.common_dtype(_kind(a), _kind(b))
        a, b = (cast(self._array(x, dtype), dtype) for x in (a, b))
        condition = self._array(condition)
        if condition.dtype != np.bool_:
            condition = handle.binary("ne", condition, 0)
        shape = shapes.broadcast(condition.shape, a.shape, b.shape)
        return op(self.client, "where", shape, dtype, (condition, a, b))

    # Reductions ----------------------------------------------------------------------------------

    def sum(self, x: Handle, axis: Axis = None, keepdims: bool = False) -> Handle:
        return self._reduction("sum", x, axis, keepdims, _sum_dtype(x))

    def prod(self, x: Handle, axis: Axis = None, keepdims: bool = False) -> Handle:
        return self._reduction("prod", x, axis, keepdims, _sum_dtype(x))

    def max(self, x: Handle, axis: Axis = None, keepdims: bool = False) -> Handle:
        return self._extreme("max", x, axis, keepdims)

    def min(self, x: Handle, axis: Axis = None, keepdims: bool = False) -> Handle:
        return self._extreme("min", x, axis, keepdims)

    def _extreme(self, name: str, x: Handle, axis: Axis, keepdims: bool) -> Handle:
        over = shapes.axes(axis, len(x.shape))
        if any(x.shape[i] == 0 for i in over) and 0 not in shapes.reduced(x.shape, over, False):
            raise ValueError(f"{name}: nothing to choose from in an array of shape {x.shape}")
        return self._reduction(name, x, axis, keepdims, x.dtype)

    def _reduction(
        self, name: str, x: Handle, axis: Axis, keepdims: bool, dtype: np.dtype
    ) -> Handle:
        over = shapes.axes(axis, len(x.shape))
        shape = shapes.reduced(x.shape, over, keepdims)
        return op(self.client, name, shape, dtype, (x,), {"axes": over, "keepdims": keepdims})

    def argmax(self, x: Handle, axis: int | None = None, keepdims: bool = False) -> Handle:
        over = shapes.axes(axis, len(x.shape))
        if any(x.shape[i] == 0 for i in over) and 0 not in shapes.reduced(x.shape, over, False):
            raise ValueError("attempt to get argmax of an empty sequence")
        shape = shapes.reduced(x.shape, over, keepdims)
        if axis is None:
            x, over = self.reshape(x, (-1,)), (0,)
        flat = shapes.reduced(x.shape, over, False)
        return self.reshape(op(self.client, "argmax", flat, INT64, (x,), {"axis": over[0]}), shape)

    def cumsum(self, x: Handle, axis: int) -> Handle:
        (over,) = shapes.axes(axis, len(x.shape))
        return op(self.client, "cumsum", x.shape, _sum_dtype(x), (x,), {"axis": over})

    def argsort(self, x: Handle, axis: int) -> Handle:
        (over,) = shapes.axes(axis, len(x.shape))
        return op(self.client, "argsort", x.shape, INT64, (x,), {"axis": over})

    def matmul(self, a: Handle, b: Handle) -> Handle:
        out: Handle = handle.binary("matmul", a, b)
        return out

    # Shape ---------------------------------------------------------------------------------------

    def reshape(self, x: Handle, shape: Shape) -> Handle:
        new = shapes.reshape(x.shape, shape)
        if x.steps is None:
            return x.view(new, None, "reshape", {})
        steps = shapes.reshaped_strides(x.shape, x.steps, new)
        if steps is None:
            return op(self.client, "reshape", new, x.dtype, (x,), {})
        return x.view(new, steps, "reshape", {})

    def permute(self, x: Handle, axes: Shape) -> Handle:
        n = len(x.shape)
        order = tuple(int(a) % n for a in axes)
        if sorted(order) != list(range(n)) or any(not -n <= a < n for a in axes):
            raise ValueError(f"axes {tuple(axes)} don't match array of shape {x.shape}")
        steps = x.steps or row_major(x.shape)
        return x.view(
            tuple(x.shape[i] for i in order), tuple(steps[i] for i in order), "permute",
            {"axes": order},
        )  # fmt: skip

    def broadcast_to(self, x: Handle, shape: Shape) -> Handle:
        size = tuple(shape)
        if shapes.broadcast(x.shape, size) != size:
            raise ValueError(f"cannot broadcast an array of shape {x.shape} to {size}")
        lead = len(size) - len(x.shape)
        own = x.steps or row_major(x.shape)
        steps = (0,) * lead + tuple(
            0 if old == 1 and new != 1 else step
            for old, new, step in zip(x.shape, size[lead:], own, strict=True)
        )
        return x.view(size, steps, "broadcast_to", {})

    def concatenate(self, arrays: list[Handle], axis: int) -> Handle:
        first = arrays[0]
        (over,) = shapes.axes(axis, len(first.shape))
        for x in arrays[1:]:
            if len(x.shape) != len(first.shape) or any(
                i != over and m != n
                for i, (m, n) in enumerate(zip(x.shape, first.shape, strict=True))
            ):
                raise ValueError(
                    "all the input array dimensions except for the concatenation axis must match "
                    f"exactly, got {', '.join(str(x.shape) for x in arrays)}"
                )
        dtype = shapes.common_dtype(*(x.dtype for x in arrays))
        total = sum(x.shape[over] for x in arrays)
        shape = (*first.shape[:over], total, *first.shape[over + 1 :])
        given = [cast(x, dtype) for x in arrays]
        return op(self.client, "concatenate", shape, dtype, given, {"axis": over})

    # Indexing ------------------------------------------------------------------------------------

    def getitem(self, x: Handle, index: Index) -> Handle:
        items = self._index(index, x.shape)
        if not any(type(item) is Handle for item in items):
            own = x.steps or row_major(x.shape)
            shape, steps, settled = shapes.basic(items, x.shape, own)
            return x.view(shape, steps, "getitem", {"index": settled})
        shape, settled, arrays = shapes.advanced(items, x.shape)
        return op(self.client, "getitem", shape, x.dtype, (x, *arrays), {"index": settled})

    # The composed definitions of these use index arrays, whose result is not a view.

    def diagonal(self, x: Handle, offset: int) -> Handle:
        out = super().diagonal(x, offset)
        out.readonly = True
        return out

    def sliding_window(self, x: Handle, axis: int, size: int, step: int) -> Handle:
        out = super().sliding_window(x, axis, size, step)
        self.storage(out).readonly = True
        return out

    def as_strided(
        self, x: Handle, size: tuple[int, ...], stride: tuple[int, ...], offset: int
    ) -> Handle:
        out = super().as_strided(x, size, stride, offset)
        self.storage(out).readonly = True
        return out

    def assign(self, x: Handle, index: Index, value: Any) -> Handle:
        shape, settled, arrays = self._place(x, index)
        if type(value) is not Handle and isinstance(value, handle.NUMBERS):
            given: Any = [value]
        else:
            given = cast(self._array(value, None), x.dtype)
            self._fits(given, shape)
        rewrite(x, "assign", (given, *arrays), {"index": settled})
        return x

    def assign_shared(self, x: Handle, index: Index, value: Any, shown_by: list[Handle]) -> bool:
        """Write to the owner at the flat indices of x[index], which the plugin computes."""
        owner, shown = self.storage(x), self.getitem(x, index)
        views = list(shown.views())
        one = math.prod(getattr(value, "shape", ())) == 1
        if owner.readonly or self.storage(shown) is not owner or (shown.repeats and not one):
            return False
        if any(view.how[0] == "bitcast" for view in views):
            return False
        places = self.reshape(self.arange(0, math.prod(owner.shape), 1, INT64), owner.shape)
        for view in reversed(views):
            name, options = view.how
            places = op(self.client, name, view.shape, INT64, (places,), options)
        if isinstance(value, Handle):
            value = self.reshape(value, ()) if one else self.broadcast_to(value, shown.shape)
            value = value if one else self.reshape(value, (-1,))
        self.assign(self.reshape(owner, (-1,)), (self.reshape(places, (-1,)),), value)
        return True

    def index_add(self, x: Handle, index: Index, value: Any) -> Handle:
        shape, settled, arrays = self._place(x, index)
        given = cast(self._array(value), x.dtype)
        self._fits(given, shape)
        rewrite(x, "index_add", (given, *arrays), {"index": settled})
        return x

    def _place(self, x: Handle, index: Index) -> tuple[Shape, list[Any], list[Any]]:
        items = self._index(index, x.shape)
        if any(type(item) is Handle for item in items):
            return shapes.advanced(items, x.shape)
        shape, _, settled = shapes.basic(items, x.shape, (0,) * len(x.shape))
        return shape, settled, []

    def _fits(self, value: Handle, shape: Shape) -> None:
        size = value.shape
        while len(size) > len(shape) and size[0] == 1:  # as in NumPy
            size = size[1:]
        if len(size) > len(shape) or shapes.broadcast(size, shape) != shape:
            raise ValueError(
                f"could not broadcast input array from shape {value.shape} into shape {shape}"
            )

    def _index(self, index: Index, shape: Shape) -> tuple[Any, ...]:
        """The items of an index, one for each old or new axis. A mask becomes the indices where it
        is True, which waits for its values."""
        items = []
        for item in index if isinstance(index, tuple) else (index,):
            if isinstance(item, np.generic):
                item = item.item()
            elif isinstance(item, (np.ndarray, list)):
                item = self.asarray(np.asarray(item))
            if type(item) is Handle and item.dtype == np.bool_:
                items += [self.asarray(where) for where in self.to_numpy(item).nonzero()]
            else:
                items.append(item)
        return shapes.whole_index(tuple(items), shape)

    def check_indices(self, index: Handle, axis: int, size: int) -> None:
        self.checked_indices(index, axis, size)  # an error is raised at the next read

    def checked_indices(self, index: Handle, axis: int, size: int) -> Handle:
        """The index; if an element is not from 0 to `size` - 1, an array that failed."""
        options = {"axis": axis, "size": size}
        return op(self.client, "in_range", index.shape, index.dtype, (index,), options)

    def embedding(self, weight: Handle | PackedArray, indices: Handle) -> Handle:
        rows = self.checked_indices(indices, 0, weight.shape[0])
        if is_packed(weight):
            return self.quantized_embedding(weight, rows)
        return self.getitem(weight, (rows,))

    def take_along(self, x: Handle, index: Handle, axis: int) -> Handle:
        (over,) = shapes.axes(axis, len(x.shape))
        return op(self.client, "take_along", index.shape, x.dtype, (x, index), {"axis": over})

    def put_along(self, x: Handle, index: Handle, value: Handle, axis: int, add: bool) -> Handle:
        (over,) = shapes.axes(axis, len(x.shape))
        value = self.getitem(value, tuple(slice(0, n) for n in index.shape))
        given = (index, cast(value, x.dtype))
        rewrite(x, "put_along", given, {"axis": over, "add": add})
        return x

    # Memory --------------------------------------------------------------------------------------

    def storage(self, x: Handle) -> Handle:
        return x if x.base is None else x.base

    def is_view(self, x: Handle) -> bool:
        return x.base is not None

    def is_view_of(self, x: Handle, base: Handle) -> bool:
        return (x if x.base is None else x.base) is (base if base.base is None else base.base)


def _kind(x: Any) -> Any:
    """The dtype of an array, or the type of a number."""
    return x.dtype if hasattr(x, "dtype") else type(x)


def _sum_dtype(x: Handle) -> np.dtype:
    return INT64 if x.dtype.kind in "biu" else x.dtype
