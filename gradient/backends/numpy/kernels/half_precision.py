"""Arrays of floats as kernels see them: 16 bits where they lie, float32 where they are computed.

numba knows neither bfloat16 nor arithmetic with float16. A kernel gets such an array as its bits
(`stored`): uint16 stands for bfloat16, int16 for float16. It reads elements by `get` and writes
them by `put`, which work on float32 and float64 arrays too, so that one kernel serves all four.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from gradient.backends.numpy.kernels.compilation import STRICT
from gradient.backends.numpy.kernels.emitting import emitted
from gradient.backends.numpy.kernels.llvm_types import F16, F32, I16, I32
from gradient.dtypes import bfloat16, float16

BITS: dict[np.dtype, Any] = {bfloat16.numpy: np.uint16, float16.numpy: np.int16}


def stored(x: np.ndarray) -> np.ndarray:
    """The array as a kernel gets it, of the same memory."""
    return x if x.itemsize != 2 else x.view(BITS[x.dtype])


# In kernels ---------------------------------------------------------------------------------------


def get(x: np.ndarray, i: int) -> float:
    """Element i of a flat array, as the number that is computed with."""
    raise NotImplementedError("kernels only")


def put(x: np.ndarray, i: int, value: float) -> None:
    """Set element i of a flat array, rounded to what the array holds."""
    raise NotImplementedError("kernels only")


def real(x: np.ndarray, value: float) -> float:
    """A number in the type that the array's elements are computed in."""
    raise NotImplementedError("kernels only")


def as_bfloat16(value: float) -> float:
    """A float32 number rounded to bfloat16."""
    raise NotImplementedError("kernels only")


def as_float16(value: float) -> float:
    """A float32 number rounded to float16."""
    raise NotImplementedError("kernels only")


@overload(as_bfloat16, jit_options=STRICT)
def _as_bfloat16(value):
    return lambda value: _from_bfloat16(_to_bfloat16(value))


@overload(as_float16, jit_options=STRICT)
def _as_float16(value):
    return lambda value: _from_float16(_to_float16(value))


@overload(get, jit_options=STRICT)
def _get(x, i):
    if x.dtype == types.uint16:
        return lambda x, i: _from_bfloat16(x[i])
    if x.dtype == types.int16:
        return lambda x, i: _from_float16(x[i])
    return lambda x, i: x[i]


@overload(put, jit_options=STRICT)
def _put(x, i, value):
    if x.dtype == types.uint16:

        def put_bfloat16(x, i, value):
            x[i] = _to_bfloat16(value)

        return put_bfloat16
    if x.dtype == types.int16:

        def put_float16(x, i, value):
            x[i] = _to_float16(value)

        return put_float16

    def put_itself(x, i, value):
        x[i] = value

    return put_itself


@overload(real, jit_options=STRICT)
def _real(x, value):
    if x.dtype == types.float64:
        return lambda x, value: np.float64(value)
    return lambda x, value: np.float32(value)


@emitted(types.float32, types.uint16)
def _from_bfloat16(builder, bits):
    return builder.bitcast(builder.shl(builder.zext(bits, I32), I32(16)), F32)


@emitted(types.uint16, types.float32)
def _to_bfloat16(builder, number):
    """To the nearest, of two as near to the even one; NaN stays NaN."""
    bits = builder.bitcast(number, I32)
    high = builder.lshr(bits, I32(16))
    half = builder.add(builder.and_(high, I32(1)), I32(0x7FFF))
    nearest = builder.lshr(builder.add(bits, half), I32(16))
    is_nan = builder.fcmp_unordered("uno", number, number)
    return builder.trunc(builder.select(is_nan, builder.or_(high, I32(0x40)), nearest), I16)


@emitted(types.float32, types.int16)
def _from_float16(builder, bits):
    return builder.fpext(builder.bitcast(bits, F16), F32)


@emitted(types.int16, types.float32)
def _to_float16(builder, number):
    return builder.bitcast(builder.fptrunc(number, F16), I16)
