"""Floating dtypes by the names that users type: `float16`, `f16`, `half`."""

from __future__ import annotations

from typing import Any

from gradient.dtypes.dtype import DType, bfloat16, float16, float32, float64
from gradient.errors import ArgumentError

#: The floating dtypes by their names, and by short names of llama.cpp's and NumPy's tools.
FLOATING = {
    "float32": float32,
    "float16": float16,
    "bfloat16": bfloat16,
    "float64": float64,
    "f32": float32,
    "f16": float16,
    "bf16": bfloat16,
    "f64": float64,
    "fp32": float32,
    "fp16": float16,
    "fp64": float64,
    "float": float32,
    "half": float16,
    "double": float64,
}


def floating_dtype(value: DType | str | Any, name: str = "dtype") -> DType:
    """Return the floating dtype, not a packed one, for a DType or a long or short name.

    Args:
        value: `gradient.float16`, "float16", "f16", "gradient.float16", "F16" ...
        name: the option's name, for the error message.

    Raises:
        ArgumentError: `value` is not such a dtype.
    """
    if isinstance(value, str):
        short = value.lower().removeprefix(f"{DType.package}.").removeprefix("gradient.")
        found = FLOATING.get(short)
        if found is not None:
            return found
    elif isinstance(value, DType) and value.is_floating_point and not value.is_packed:
        return value
    raise ArgumentError(
        f"{name}: expected float32 (f32), float16 (f16), bfloat16 (bf16) or float64 (f64), got "
        f"{value!r}"
    )
