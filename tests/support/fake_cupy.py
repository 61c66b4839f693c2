"""CuPy's arrays and functions over NumPy's, by CuPy's rules: for tests where no GPU is.

An array here is no `numpy.ndarray`, and what CuPy 14 refuses is refused: NumPy's arrays among the
operands, an array given to NumPy, functions that CuPy does not have. What CuPy computes in
another type than NumPy (bfloat16 in `where`, `max`, `min`) comes out in that type. Where CuPy's
threads leave open which of several values results (numbers written to one place, NaN in `argmax`),
it is not the one that NumPy gives. What makes a host wait for its GPU is added to `waits`, what
goes to the device to `uploads`.
"""

from __future__ import annotations

import ctypes
import operator
import threading
from typing import Any

import ml_dtypes
import numpy as np

from gradient.backends.packed import memory_of
from gradient.dtypes.promotion import WideNumber

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT32 = np.dtype(np.float32)
FLOATS = {BFLOAT16, FLOAT32, np.dtype(np.float16), np.dtype(np.float64)}
ATOMIC = {np.dtype(t) for t in ("i4", "i8", "u4", "u8", "f4", "f8")}
AT = {"add": {*ATOMIC, np.dtype("f2")}}
"""The types that `cupy.add.at` takes."""
WITHOUT_IDENTITY = frozenset({"max", "min", "argmax", "argmin"})
"""What CuPy refuses of any array that holds nothing."""
WIDENED = frozenset({"where", "max", "min"})
"""Functions of real numbers that CuPy has for no bfloat16: it computes them in float32."""
WITHOUT_HALF = frozenset({"fftn", "ifftn", "rfft", "irfft", "argsort", "cumsum", "cumprod"})
"""What the backend must not call with 16-bit floats: CuPy refuses them, or adds in 16 bits."""

waits: list[str] = []
"""What made the host wait since the list was cleared, in order."""

uploads: list[tuple[int, str]] = []
"""What came from the host since the list was cleared: bytes, and "pinned" if the device reads them
while the host goes on, else "staged"."""


class Capture(threading.local):
    """While a thread captures work for a graph, `work` is what a launch of it does, in order."""

    work: list[Any] | None = None


capture = Capture()


class Current(threading.local):
    """The device that is current in a thread: the first until another is chosen."""

    device = 0


current = Current()


def is_pinned(x: Any) -> bool:
    return isinstance(memory_of(x), PinnedMemoryPointer)


def queue(work: Any) -> None:
    """Do it; while a graph is captured, keep it for the launches instead."""
    if capture.work is None:
        work()
    else:
        capture.work.append(work)


class Computing:
    """A kernel of CuPy's in captured work."""

    def __init__(self, host: np.ndarray, make: Any):
        self._host, self._make = host, make

    def __call__(self) -> None:
        np.copyto(self._host, self._make())


class Allocating(Computing):
    """What stands there for new memory, which on a GPU is no work."""


def fresh(make: Any, work: type[Computing] = Computing) -> np.ndarray:
    """The array that `make` makes; while a graph is captured, memory for it: what it holds comes at
    each launch."""
    host = np.asarray(make())
    if capture.work is not None:
        host = np.array(host, order="K")
        capture.work.append(work(host, make))
        # Nothing that is meant: NaN, and integers that, as an index, are in range.
        host.fill({"i": -1, "b": True, "u": 0x55}.get(host.dtype.kind, np.nan))
    return host


class PinnedMemoryPointer(bytearray):
    """Page-locked memory of the host."""


def unwritten(shape: Any, dtype: Any) -> np.ndarray:
    """An array whose numbers are NaN or -1: what reads them before they are written gives these."""
    host = np.empty(shape, dtype)
    host.reshape(-1).view(np.uint8)[...] = 0xFF
    return host


class Memory:
    """Where an array lies, as `ndarray.data` says it."""

    def __init__(self, host: np.ndarray):
        self.ptr = host.__array_interface__["data"][0]
        self.mem = host

    def memset_async(self, value: int, size: int) -> None:
        queue(lambda: ctypes.memset(self.ptr, value, size))


class Flags:
    """All that CuPy says of an array's memory: none is read-only."""

    def __init__(self, host: np.ndarray):
        self.c_contiguous, self.f_contiguous = host.flags.c_contiguous, host.flags.f_contiguous
        self.owndata = host.flags.owndata


class ndarray:  # noqa: N801 (CuPy's name)
    """An array of the fake device. `_host` holds what it holds."""

    __slots__ = ("__weakref__", "_host", "base", "number")
    __hash__ = None  # type: ignore[assignment]
    __array_priority__ = 100

    def __init__(self, host: Any, base: Any = None):
        if not isinstance(host, np.ndarray):  # CuPy's parameters: a shape, and a dtype
            shape, dtype, base = host, base, None
            host = fresh(lambda: unwritten(shape, dtype), Allocating)
        self._host, self.base = host, base
        self.number = current.device if base is None else base.number
        """Of the device on which it lies."""

    def here(self) -> ndarray:
        """The array, which lies on the current device: others must not be worked on."""
        if self.number != current.device:
            raise RuntimeError(
                f"an array of device {self.number} while {current.device} is current"
            )
        return self

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: Flags(self._host))
    _c_contiguous = property(lambda self: self._host.flags.c_contiguous)
    data = property(lambda self: Memory(self._host))
    T = property(lambda self: _made(self._host.T, self))

    @property
    def real(self) -> ndarray:
        return _made(self._host.real, self)

    @real.setter
    def real(self, value: Any) -> None:
        given = _given(value)
        queue(lambda: setattr(self.here()._host, "real", given))

    @property
    def imag(self) -> ndarray:
        return _made(self._host.imag, self)

    @imag.setter
    def imag(self, value: Any) -> None:
        given = _given(value)
        queue(lambda: setattr(self.here()._host, "imag", given))

    # What needs no copy to the host.

    def astype(self, dtype: Any, order: Any = "K", casting: str = "unsafe", subok: Any = None,
               copy: bool = True) -> ndarray:  # fmt: skip
        if not copy and self.dtype == dtype:
            return self
        self.here()
        return _made(fresh(lambda: _cast(self._host, np.dtype(dtype), order)))

    def view(self, dtype: Any) -> ndarray:
        return _made(self._host.view(dtype), self)

    def reshape(self, *shape: Any) -> ndarray:
        out = self._host.reshape(*shape)
        if not np.may_share_memory(out, self._host) and self.here() is self:
            out = fresh(lambda: self._host.reshape(*shape))
        return _made(out, self)

    def transpose(self, *axes: Any) -> ndarray:
        return _made(self._host.transpose(*axes), self)

    def copy(self, order: Any = "C") -> ndarray:
        self.here()
        return _made(fresh(lambda: self._host.copy(order)))

    def __getitem__(self, index: Any) -> ndarray:
        found, out = _index(index), self._host[_index(index)]
        if not np.may_share_memory(out, self._host) and self.here() is self:
            out = fresh(lambda: self._host[found])
        return _made(out, self)

    def __setitem__(self, index: Any, value: Any) -> None:
        found, given = _index(index), _given(value)
        host = self.here()._host
        if not _picks(index):
            _must_not_overlap(host[found], given)
            queue(lambda: operator.setitem(host, found, given))
            return
        if capture.work is not None and not isinstance(value, ndarray):
            raise RuntimeError("a graph would copy from where the host's values are no more")
        _must_not_overlap(host, given)
        queue(lambda: _write_in_no_order(host, found, given))

    def __len__(self) -> int:
        return len(self._host)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or not hasattr(module, ufunc.__name__):
            return NotImplemented
        return getattr(module, ufunc.__name__)(*inputs, **options)

    def __dlpack__(self, **options: Any) -> Any:
        if self.dtype == BFLOAT16:
            raise TypeError("CuPy gives no bfloat16")
        return self._host.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    # What waits.

    def get(self) -> np.ndarray:
        return _read("get", self)

    def item(self) -> Any:
        return _read("item", self).item()

    def tolist(self) -> Any:
        return _read("tolist", self).tolist()

    def __bool__(self) -> bool:
        return bool(_read("bool", self))

    def __int__(self) -> int:
        return int(_read("int", self))

    def __float__(self) -> float:
        return float(_read("float", self))

    def __index__(self) -> int:
        return operator.index(_read("index", self).item())

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")


def _operators() -> None:
    """Python's operators, by the functions that CuPy has for them."""
    for name, function in {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide,
        "floordiv": np.floor_divide, "mod": np.remainder, "pow": np.power,
        "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
        "lshift": np.left_shift, "rshift": np.right_shift, "matmul": np.matmul,
        "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
        "eq": np.equal, "ne": np.not_equal,
    }.items():  # fmt: skip

        def forward(self: ndarray, other: Any, function: Any = function) -> ndarray:
            return _call(function, self, other)

        def backward(self: ndarray, other: Any, function: Any = function) -> ndarray:
            return _call(function, other, self)

        def in_place(self: ndarray, other: Any, function: Any = function) -> ndarray:
            given = _given(other)
            self.here()
            _must_not_overlap(self._host, given)
            queue(lambda: function(self._host, given, out=self._host, casting="same_kind"))
            return self

        setattr(ndarray, f"__{name}__", forward)
        if name not in ("lt", "le", "gt", "ge", "eq", "ne"):
            setattr(ndarray, f"__r{name}__", backward)
            setattr(ndarray, f"__i{name}__", in_place)
    for name, function in {"neg": np.negative, "invert": np.invert, "abs": np.absolute}.items():

        def unary(self: ndarray, function: Any = function) -> ndarray:
            return _call(function, self)

        setattr(ndarray, f"__{name}__", unary)


_operators()


def _read(how: str, x: ndarray) -> np.ndarray:
    if capture.work is not None:
        raise RuntimeError("cudaErrorStreamCaptureUnsupported: not permitted while capturing")
    waits.append(how)
    return np.array(x.here()._host)


def _given(value: Any) -> Any:
    """An operand as NumPy's; NumPy's own arrays are refused, as CuPy refuses them."""
    if isinstance(value, ndarray):
        return value.here()._host
    if isinstance(value, WideNumber) and hasattr(value, "__cupy_get_ndarray__"):
        return np.full((), value, FLOAT32)
    if isinstance(value, np.ndarray) or (
        isinstance(value, float) and type(value) not in (float, np.float64)
    ):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (list, tuple)):
        return type(value)(map(_given, value))
    return value


def _index(index: Any) -> Any:
    """What stands in x[...]. An array of bools has to be counted before the result has a shape."""
    parts = index if isinstance(index, tuple) else (index,)
    found = []
    for part in parts:
        if isinstance(part, ndarray):
            if part.dtype == bool:
                _read("mask", part)
            part = part.here()._host
        found.append(part)
    return tuple(found) if isinstance(index, tuple) else found[0]


def _cast(x: np.ndarray, dtype: np.dtype, order: Any = "K") -> np.ndarray:
    """As a GPU does it: a float below 0 is 0 as an unsigned integer."""
    if dtype.kind == "u" and x.dtype in FLOATS:
        x = np.maximum(x, 0)
    return x.astype(dtype, order)


def _picks(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, (ndarray, list)) for part in parts)


def _write_in_no_order(host: np.ndarray, index: Any, value: Any) -> None:
    """host[index] = value; of what goes to one place, the first stays."""
    places = np.arange(host.size).reshape(host.shape)[index]
    host.flat[places.flat[::-1]] = np.broadcast_to(value, places.shape).flat[::-1]


def _must_not_overlap(place: Any, given: Any) -> None:
    """CuPy reads while it writes, so that what overlaps holds now the old and now the new."""
    if not isinstance(given, np.ndarray) or not isinstance(place, np.ndarray):
        return
    same = place.ctypes.data == given.ctypes.data and place.strides == given.strides
    if not (same and place.shape == given.shape) and np.shares_memory(place, given):
        raise AssertionError("what is read is written at the same time")


def _made(out: Any, source: ndarray | None = None) -> Any:
    """A result of NumPy's as an array; `base` owns the memory that it shares with `source`."""
    if isinstance(out, (tuple, list)):
        return type(out)(_made(each, source) for each in out)
    if not isinstance(out, (np.ndarray, np.generic)):
        return out
    host = np.asarray(out)
    kind = ndarray if source is None else type(source)
    if source is not None and np.may_share_memory(host, source._host):
        return kind(host, source if source.base is None else source.base)
    return kind(host)


def _call(function: Any, *args: Any, **options: Any) -> Any:
    name = function.__name__.rpartition(".")[2]
    name = {"amax": "max", "amin": "min"}.get(name, name)
    arrays = [a for a in args if isinstance(a, ndarray)]
    if name == "argsort":  # by Thrust, which ends with a synchronise
        _read(name, arrays[0])
    if name in WITHOUT_HALF and options.get("dtype", args[2] if len(args) > 2 else None) is None:
        for a in arrays:
            if a.dtype == BFLOAT16 or a.dtype == np.float16:
                raise TypeError(f"{name}: {a.dtype} is not supported")
    if name in WITHOUT_IDENTITY and any(0 in a.shape for a in arrays):
        raise ValueError(f"zero-size array to reduction operation cupy_{name}, without identity")
    if name in ("fftn", "ifftn") and len(args[2]) > 1 and 0 in args[0].shape:
        raise ValueError("Invalid number of FFT data points (0) specified.")
    if any(a.dtype in FLOATS for a in arrays):
        function = {"floor_divide": _floor_divide, "remainder": _remainder}.get(name, function)
    if name in ("argmax", "argmin"):
        function = _any_nan(function)
    if name == "matmul" and any(a.dtype == BFLOAT16 and a.ndim > 2 for a in arrays):
        raise TypeError("matmul: bfloat16 of more than two dimensions is not supported")
    hosts = [_given(a) for a in args]
    if name in WIDENED:
        hosts = [h.astype(FLOAT32) if getattr(h, "dtype", None) == BFLOAT16 else h for h in hosts]
    named = {key: _given(value) for key, value in options.items()}
    out = function(*hosts, **named)
    if isinstance(out, (np.ndarray, np.generic)) and not any(
        np.may_share_memory(np.asarray(out), a._host) for a in arrays
    ):
        out = fresh(lambda: function(*hosts, **named))
    source = next((a for a in arrays if np.may_share_memory(np.asarray(out), a._host)), None) \
        if isinstance(out, np.ndarray) else None  # fmt: skip
    made = _made(out, source)
    if isinstance(function, np.ufunc) and isinstance(made, ndarray):
        made.__class__ = next((type(a) for a in arrays if type(a) is not ndarray), ndarray)
    return made


def _floor_divide(a: Any, b: Any) -> Any:
    return np.floor(a / b)


def _remainder(a: Any, b: Any) -> Any:
    return a - np.floor(a / b) * b


def _any_nan(function: Any) -> Any:
    """`argmax` or `argmin` that gives the last NaN."""

    def call(x: np.ndarray, axis: int | None = None, keepdims: bool = False) -> Any:
        out = function(x, axis, keepdims=keepdims)
        is_nan = (x != x).reshape(-1) if axis is None else np.moveaxis(x != x, axis, -1)
        n = is_nan.shape[-1] if is_nan.ndim else 1
        last = n - 1 - np.argmax(is_nan[..., ::-1], -1)
        return np.where(is_nan.any(-1).reshape(out.shape), last.reshape(out.shape), out)

    return call


class Function:
    """A function of CuPy's by NumPy's of the same name."""

    def __init__(self, function: Any):
        self._function = function

    def __call__(self, *args: Any, **options: Any) -> Any:
        return _call(self._function, *args, **options)

    def at(self, x: ndarray, index: Any, value: Any) -> None:
        if x.dtype not in AT.get(self._function.__name__, ()):
            raise TypeError(f"cupy.{self._function.__name__}.at does not support {x.dtype}")
        found, given = _index(index), _given(value)
        x.here()
        queue(lambda: self._function.at(x._host, found, np.asarray(given).astype(x.dtype)))


class Submodule:
    def __init__(self, of: Any, *names: str):
        for name in names:
            setattr(self, name, Function(getattr(of, name)))


class Module:
    """What stands for `import cupy`: the functions that CuPy has and the backend may call."""

    ndarray = ndarray
    fft = Submodule(np.fft, "fftn", "ifftn", "rfft", "irfft")

    class lib:  # noqa: N801
        stride_tricks = Submodule(np.lib.stride_tricks, "as_strided")

    def __init__(self) -> None:
        for name in NAMES:
            if not hasattr(Module, name):
                setattr(self, name, Function(getattr(np, name)))

    def asarray(self, value: Any, dtype: Any = None) -> ndarray:
        return value if isinstance(value, ndarray) and dtype in (None, value.dtype) else (
            self.array(value, dtype)
        )  # fmt: skip

    def array(self, value: Any, dtype: Any = None, order: Any = "K") -> ndarray:
        given = value.here()._host if isinstance(value, ndarray) else value
        if not isinstance(value, ndarray):
            if capture.work is not None:
                raise RuntimeError("a graph would copy from where the host's values are no more")
            size = getattr(value, "nbytes", 8)
            uploads.append((size, "pinned" if is_pinned(value) else "staged"))
        return ndarray(fresh(lambda: np.array(given, dtype, order=order)))

    def from_dlpack(self, x: Any) -> ndarray:
        return ndarray(np.from_dlpack(x))

    def asnumpy(self, x: ndarray) -> np.ndarray:
        return _read("asnumpy", x)

    def ascontiguousarray(self, x: ndarray) -> ndarray:
        return (
            x
            if x.flags.c_contiguous and x.ndim
            else ndarray(fresh(lambda: np.ascontiguousarray(x.here()._host)))
        )

    def as_strided(self, x: ndarray, *args: Any) -> ndarray:
        """Of which no array is the base, as of CuPy's."""
        out = ndarray(np.lib.stride_tricks.as_strided(x._host, *args))
        out.number = x.number
        return out

    def broadcast_to(self, x: ndarray, shape: Any) -> ndarray:
        """Which can be written, as CuPy's can."""
        strides = np.broadcast_to(x._host, shape).strides
        return _made(np.lib.stride_tricks.as_strided(x._host, shape, strides), x)

    def diagonal(self, x: ndarray, *axes: int) -> ndarray:
        out = np.diagonal(x._host, *axes)
        out.flags.writeable = True
        return _made(out, x)


NAMES = (
    *("empty", "full", "zeros", "arange", "exp", "log", "sqrt"),
    *("sin", "cos", "tan", "tanh", "arctan2", "expm1", "log1p"),
    *("arcsin", "arccos", "arctan", "sinh", "cosh", "arcsinh", "arccosh"),
    *("arctanh", "log2", "log10", "exp2", "isnan", "isfinite", "sign"),
    *("fmod", "floor", "ceil", "trunc", "rint", "abs", "absolute"),
    *("maximum", "minimum", "where", "conjugate", "sum", "prod", "max"),
    *("min", "argmax", "argmin", "cumsum", "cumprod", "argsort", "matmul"),
    *("broadcast_to", "diagonal", "concatenate", "add", "subtract", "multiply", "true_divide"),
    *("divide", "floor_divide", "remainder", "power", "negative", "less", "less_equal"),
    *("greater", "greater_equal", "equal", "not_equal", "bitwise_and", "bitwise_or", "bitwise_xor"),
    *("invert", "left_shift", "right_shift"),
)
module = Module()
