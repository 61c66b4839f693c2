"""The dtypes with one number per element, stored like NumPy's (with ml_dtypes)."""

from __future__ import annotations

import importlib
import math
from typing import Any

import ml_dtypes
import numpy as np

from gradient.errors import TypeMismatch, sentence

__all__ = [
    "DType",
    "bfloat16",
    "complex128",
    "complex64",
    "finfo",
    "float16",
    "float32",
    "float64",
    "get_default_dtype",
    "iinfo",
    "int16",
    "int32",
    "int64",
    "int8",
    "set_default_dtype",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
]


class DType:
    """The type of a tensor's elements, such as `gradient.float32`.

    `numpy` is the `np.dtype` in which a backend's arrays store it. `kind` is one of
    "bool", "int", "float", "complex": the order of categories in type promotion.
    """

    __slots__ = ("bits", "kind", "name", "numpy")

    package = "gradient"
    """The package in `repr`: "torch" after `compat.torch.install()`."""

    name: str
    kind: str
    elementwise: bool = True
    """Whether each element is stored by itself, not in blocks: then any axis can be indexed."""

    def __init__(self, name: str, numpy: Any, kind: str):
        self.name = name
        self.numpy: np.dtype[Any] = np.dtype(numpy)
        self.kind = kind
        self.bits: int = 8 * self.numpy.itemsize

    @property
    def itemsize(self) -> int:
        """The number of bytes per element."""
        return self.numpy.itemsize

    def nbytes(self, shape: tuple[int, ...]) -> int:
        """Return the number of bytes of a tensor of this shape."""
        return math.prod(shape) * self.itemsize

    def rounded(self, number: float) -> float:
        """Round a number to this dtype."""
        return float(self.numpy.type(number))

    @property
    def is_floating_point(self) -> bool:
        """Whether its numbers are real floats, packed ones included."""
        return self.kind == "float"

    @property
    def is_complex(self) -> bool:
        """Whether it is complex64 or complex128."""
        return self.kind == "complex"

    @property
    def is_signed(self) -> bool:
        """Whether its numbers may be negative."""
        return self.kind in ("float", "complex") or self.name.startswith("int")

    def to_real(self) -> DType:
        """Return the dtype of the real and imaginary parts: float32 for complex64; a real dtype
        returns itself."""
        return _REAL.get(self, self)

    def to_complex(self) -> DType:
        """Return the complex dtype with parts of this dtype: complex128 for float64, complex64 for
        smaller floats and integers; a complex dtype returns itself."""
        if self.is_complex:
            return self
        return complex128 if self is float64 else complex64

    @property
    def is_packed(self) -> bool:
        """Whether elements are stored in blocks, as in `gradient.q8_0`
        (`gradient.dtypes.packed`)."""
        return False

    def __repr__(self) -> str:
        return f"{DType.package}.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return dtype_of, (self.name,)


complex128: DType = DType("complex128", np.complex128, "complex")
complex64: DType = DType("complex64", np.complex64, "complex")
float64: DType = DType("float64", np.float64, "float")
float32: DType = DType("float32", np.float32, "float")
float16: DType = DType("float16", np.float16, "float")
bfloat16: DType = DType("bfloat16", ml_dtypes.bfloat16, "float")
int64: DType = DType("int64", np.int64, "int")
int32: DType = DType("int32", np.int32, "int")
int16: DType = DType("int16", np.int16, "int")
int8: DType = DType("int8", np.int8, "int")
uint64: DType = DType("uint64", np.uint64, "int")
uint32: DType = DType("uint32", np.uint32, "int")
uint16: DType = DType("uint16", np.uint16, "int")
uint8: DType = DType("uint8", np.uint8, "int")
bool_: DType = DType("bool", np.bool_, "bool")

_REAL = {complex128: float64, complex64: float32}

ALL = (
    complex128, complex64,
    float64, float32, float16, bfloat16,
    int64, int32, int16, int8, uint64, uint32, uint16, uint8,
    bool_,
)  # fmt: skip
HALF_PRECISION = frozenset({float16, bfloat16, float16.numpy, bfloat16.numpy})
"""The 16-bit float dtypes, both as DType (of Tensors) and as np.dtype (of arrays)."""
BY_NUMPY: dict[Any, DType] = {dtype.numpy: dtype for dtype in ALL}
"""The DTypes by the dtype of a backend's array: an `np.dtype`, or the packed dtype itself."""
_ALIASES = {"float": float32, "double": float64, "half": float16, "int": int32, "long": int64,
            "short": int16, "cfloat": complex64, "cdouble": complex128}  # fmt: skip
_BY_NAME = {dtype.name: dtype for dtype in ALL} | _ALIASES
_BY_PYTHON = {float: float64, int: int64, bool: bool_, complex: complex128}


def register(dtype: DType) -> None:
    """Register a packed dtype or an 8-bit float for `dtype_of`, and as the dtype of arrays."""
    BY_NUMPY[dtype] = _BY_NAME[dtype.name] = dtype


def _load_packed() -> None:
    """Import the packed formats, which register themselves. Few programs use one."""
    importlib.import_module("gradient.dtypes.packed.formats")


_default = float32


def get_default_dtype() -> DType:
    """Return the dtype of tensors made from Python floats."""
    return _default


def default_complex_dtype() -> DType:
    """Return the dtype of tensors made from complex Python numbers: its parts have the default
    dtype."""
    return _default.to_complex()


def set_default_dtype(dtype: DType) -> None:
    """Set the dtype of tensors made from Python floats, a floating-point one."""
    global _default
    dtype = dtype_of(dtype)
    if dtype.is_packed or not dtype.is_floating_point:
        expected = "an unpacked floating-point dtype"
        raise TypeMismatch(sentence("set_default_dtype", expected, dtype))
    _default = dtype


def dtype_of(value: Any) -> DType:
    """Return the DType for a DType, a name ("float32"), a NumPy dtype or a Python type.

    `float` means float64 and `complex` complex128, for any default dtype.
    """
    if isinstance(value, DType):
        return value
    if isinstance(value, str):
        name = value.removeprefix(f"{DType.package}.").removeprefix("gradient.")
        if name not in _BY_NAME:
            _load_packed()
        if name in _BY_NAME:
            return _BY_NAME[name]
    if isinstance(value, type) and value in _BY_PYTHON:
        return _BY_PYTHON[value]
    try:
        return BY_NUMPY[np.dtype(value)]
    except (TypeError, ValueError, KeyError, DeprecationWarning):  # NumPy's errors for other values
        _load_packed()
        names = ", ".join(dtype.name for dtype in BY_NUMPY.values())
        raise TypeMismatch(f"dtype: expected one of {names}; got {value!r}") from None


class finfo:  # noqa: N801 (PyTorch's name)
    """Limits of a floating-point dtype: `eps`, `max`, `min`, `tiny`, `smallest_normal`, `bits`; for
    a complex dtype, those of its parts."""

    dtype: str
    bits: int
    eps: float
    resolution: float
    max: float
    min: float
    tiny: float
    smallest_normal: float

    def __init__(self, dtype: DType | None = None):
        dtype = dtype_of(dtype).to_real() if dtype is not None else _default
        if not dtype.is_floating_point:
            raise TypeMismatch(f"finfo: expected a floating-point dtype, got {dtype}")
        element = getattr(dtype, "element", None)  # of an 8-bit float
        limits = ml_dtypes.finfo(dtype.numpy if element is None else element)
        self.dtype, self.bits = dtype.name, dtype.bits
        self.eps = float(limits.eps)
        self.resolution = float(f"{float(limits.resolution):.0e}") if element is None else 1.0
        self.max, self.min = float(limits.max), float(limits.min)
        self.tiny = self.smallest_normal = float(limits.smallest_normal)

    def __repr__(self) -> str:
        return (f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, "
                f"eps={self.eps:g}, smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, "
                f"dtype={self.dtype})")  # fmt: skip


class iinfo:  # noqa: N801 (PyTorch's name)
    """Limits of an integer dtype: `max`, `min`, `bits`."""

    dtype: str
    bits: int
    max: int
    min: int

    def __init__(self, dtype: DType):
        dtype = dtype_of(dtype)
        if dtype.kind != "int":
            raise TypeMismatch(f"iinfo: expected an integer dtype, got {dtype}")
        limits = np.iinfo(dtype.numpy)
        self.dtype, self.bits = dtype.name, dtype.bits
        self.max, self.min = int(limits.max), int(limits.min)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"
