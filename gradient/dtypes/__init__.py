"""The element types of tensors, and how two of them meet.

>>> gradient.promote_types(gradient.int64, gradient.float16)
gradient.float16
"""

from gradient.dtypes.plain import (
    BY_NUMPY,
    DType,
    bfloat16,
    bool_,
    dtype_of,
    finfo,
    float16,
    float32,
    float64,
    get_default_dtype,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    set_default_dtype,
    uint8,
    uint16,
    uint32,
    uint64,
)
from gradient.dtypes.promotion import can_cast, promote_types, result_type

__all__ = [
    "BY_NUMPY",
    "DType",
    "bfloat16",
    "bool_",
    "can_cast",
    "dtype_of",
    "finfo",
    "float16",
    "float32",
    "float64",
    "get_default_dtype",
    "iinfo",
    "int8",
    "int16",
    "int32",
    "int64",
    "promote_types",
    "result_type",
    "set_default_dtype",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
]
