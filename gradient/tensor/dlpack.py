"""DLPack capsules of bfloat16, which NumPy cannot export or import.

NumPy can exchange 16-bit integers. So a capsule is exported or imported as these, and the type code
in it is changed (dlpack.h, `DLDataTypeCode`). Memory is shared in both directions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.dtypes import bfloat16

if TYPE_CHECKING:
    from gradient.backends.operators import ArrayOperators

UINT, BFLOAT = 1, 4
"""Values of `DLDataTypeCode`."""
BITS = np.dtype(np.uint16)


class DLTensor(ctypes.Structure):
    """The first fields of dlpack.h's `DLTensor`, up to the data type."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
    )


OFFSETS = {b"dltensor": 0, b"dltensor_versioned": 32}
"""The offset of the `DLTensor` in the struct of a capsule of this name: the versioned struct begins
with the version, a context, a deleter and flags."""

_name = ctypes.pythonapi.PyCapsule_GetName
_name.argtypes, _name.restype = (ctypes.py_object,), ctypes.c_char_p
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.argtypes, _pointer.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_void_p


def relabel(capsule: Any, from_code: int, to_code: int) -> bool:
    """Change the type code of a capsule of 16-bit numbers; return whether it had `from_code`."""
    name = _name(capsule)
    tensor = DLTensor.from_address(_pointer(capsule, name) + OFFSETS[name])
    if (tensor.code, tensor.bits, tensor.lanes) != (from_code, 16, 1):
        return False
    tensor.code = to_code
    return True


def capsule_of(array: Any, options: dict[str, Any]) -> object:
    """Export an array as a DLPack capsule, with the options of `__dlpack__`."""
    if array.dtype != bfloat16.numpy:
        return array.__dlpack__(**options)
    capsule = array.view(BITS).__dlpack__(**options)
    relabel(capsule, UINT, BFLOAT)
    return capsule


def array_of(source: Any, from_dlpack: Callable[[Any], Any]) -> ArrayOperators:
    """Import another library's array with the array library's `from_dlpack`."""
    told = _Told(source)
    array = from_dlpack(told)
    return array.view(bfloat16.numpy) if told.is_bfloat16 else array


class _Told:
    """Another library's array, which exports its bfloat16 numbers as 16-bit integers."""

    is_bfloat16 = False

    def __init__(self, source: Any) -> None:
        self._source = source

    def __dlpack__(self, **options: Any) -> object:
        capsule = self._source.__dlpack__(**options)
        self.is_bfloat16 = relabel(capsule, BFLOAT, UINT)
        return capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self._source.__dlpack_device__()
        return device
