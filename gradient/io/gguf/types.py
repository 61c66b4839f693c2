"""The value types of GGUF's metadata and the element types of its tensors, as tables.

`dtypes.packed` describes the blocks of packed types (Q4_K ...).

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; the block sizes are those of
ggml's `ggml_type` (ggml/src/ggml-common.h).
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from gradient import dtypes
from gradient.dtypes import BlockDType

MAGIC = b"GGUF"
#: The default: tensors begin at multiples of this many bytes.
ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 20  # far beyond any disk's or page's
MAX_DIMS = 4  # ggml's GGML_MAX_DIMS
MAX_NAME_BYTES = 63  # ggml's GGML_MAX_NAME, less the zero at the end

STRING, ARRAY, BOOL = 8, 9, 7
#: Metadata types of a fixed size, by the type's number.
SCALARS: dict[int, np.dtype] = {
    0: np.dtype("u1"), 1: np.dtype("i1"), 2: np.dtype("u2"), 3: np.dtype("i2"),
    4: np.dtype("u4"), 5: np.dtype("i4"), 6: np.dtype("f4"), BOOL: np.dtype("?"),
    10: np.dtype("u8"), 11: np.dtype("i8"), 12: np.dtype("f8"),
}  # fmt: skip
SCALAR_TYPES = {dtype: number for number, dtype in SCALARS.items()}


@dataclass(frozen=True, slots=True)
class TensorType:
    """The storage of a tensor's elements."""

    #: ggml's name, such as "F16" or "Q4_K".
    name: str
    #: Elements in a block along the last axis, and its bytes; (1, itemsize) for unpacked numbers.
    block_size: int
    block_bytes: int
    #: NumPy's dtype of unpacked numbers.
    numpy: np.dtype | None = None


def _unquantized(name: str, dtype: DTypeLike) -> TensorType:
    numpy = np.dtype(dtype)
    return TensorType(name, 1, numpy.itemsize, numpy)


#: By the type's number in a file. Types that are neither unpacked nor among
#: gradient's packed dtypes have their sizes here, so that a file's layout can be checked.
TENSOR_TYPES: dict[int, TensorType] = {
    0: _unquantized("F32", "<f4"),
    1: _unquantized("F16", "<f2"),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    9: TensorType("Q8_1", 32, 40),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    15: TensorType("Q8_K", 256, 292),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18),
    21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136),
    24: _unquantized("I8", "i1"),
    25: _unquantized("I16", "<i2"),
    26: _unquantized("I32", "<i4"),
    27: _unquantized("I64", "<i8"),
    28: _unquantized("F64", "<f8"),
    29: TensorType("IQ1_M", 256, 56),
    30: _unquantized("BF16", ml_dtypes.bfloat16),
    34: TensorType("TQ1_0", 256, 54),
    35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17),
    40: TensorType("NVFP4", 64, 36),
    41: TensorType("Q1_0", 128, 18),
}
TYPE_NUMBERS = {kind.name: number for number, kind in TENSOR_TYPES.items()}
#: Names of the unpacked types, by NumPy dtype.
NUMPY_TYPE_NAMES = {
    kind.numpy.newbyteorder("="): kind.name
    for kind in TENSOR_TYPES.values()
    if kind.numpy is not None
}
#: Block types with a packed dtype in gradient: `gradient.q4_k` is Q4_K.
PACKED_NAMES = tuple(d.name.upper() for d in dtypes.PACKED if isinstance(d, BlockDType))
