"""The codecs of keys and values by name: floating dtypes, "int8", "int4", or two of them."""

from __future__ import annotations

from typing import Any

import gradient
from gradient.dtypes.names import FLOATING
from gradient.errors import ArgumentError
from gradient.kv_cache.codec import Codec, Codecs, FloatCodec
from gradient.kv_cache.quantized import Int4Codec, Int8Codec

__all__ = ["CACHE_DTYPES", "is_cache_dtype"]

#: Dtypes of stored keys and values; floating dtypes also have short names ("f16").
CACHE_DTYPES = ("float32", "bfloat16", "float16", "float64", "int8", "int4")


def codecs_of(dtype: gradient.DType | str) -> Codecs:
    """Return the codecs for a dtype, its name, or two names as in "int8/int4".

    Raises:
        ArgumentError: keys or values cannot be stored in it.
    """
    names = dtype.split("/") if isinstance(dtype, str) else [dtype]
    if len(names) > 2:
        raise ArgumentError(f"cache: expected one dtype, or that of keys/values, got {dtype!r}")
    return Codecs(codec_of(names[0]), codec_of(names[-1]))


def is_cache_dtype(name: Any) -> bool:
    """Return whether `codecs_of` takes this name."""
    return (
        isinstance(name, str)
        and 1 <= len(name.split("/")) <= 2
        and all(part in CACHE_DTYPES or part in FLOATING for part in name.split("/"))
    )


def codec_of(dtype: gradient.DType | str) -> Codec:
    """Return the codec for a dtype, or for its name.

    Raises:
        ArgumentError: keys and values cannot be stored in it.
    """
    name = dtype if isinstance(dtype, str) else dtype.name
    if name in FLOATING:
        return FloatCodec(FLOATING[name])
    if name not in CACHE_DTYPES:
        raise ArgumentError(
            f"cache: keys and values are stored as one of {', '.join(CACHE_DTYPES)}, got {name!r}"
        )
    return Int8Codec() if name == "int8" else Int4Codec()
