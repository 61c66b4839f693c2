"""The element types of tensors, and how two of them meet.

>>> gradient.promote_types(gradient.int64, gradient.float16)
gradient.float16
"""

from gradient.dtypes import packed
from gradient.dtypes.dtype import (
    BY_NUMPY,
    HALF_PRECISION,
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
from gradient.dtypes.names import floating_dtype
from gradient.dtypes.packed import *
from gradient.dtypes.packed import BlockDType, PackedDType
from gradient.dtypes.promotion import can_cast, promote_types, result_type

__all__ = [
    "BlockDType",
    "PackedDType",
    "BY_NUMPY",
    "HALF_PRECISION",
    "DType",
    "bfloat16",
    "bool_",
    "can_cast",
    "dtype_of",
    "finfo",
    "float16",
    "float32",
    "float64",
    "floating_dtype",
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
__all__ += packed.__all__
