"""How a key or value vector is stored: here as floats; `gradient.kv_cache.quantized` has integers.

A codec converts vectors (..., D) to *parts*, tensors (..., w) with the same leading dimensions, and
back. A layout stores parts without knowing their meaning, so every codec works with every layout.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import gradient
from gradient.tensor import Device, Tensor

#: The tensors that a codec makes from one: equal in all axes except the last.
Parts = tuple[Tensor, ...]


class Part(NamedTuple):
    """One of the tensors of a codec: its numbers per vector, and their dtype."""

    width: int
    dtype: gradient.DType


class Codec(Protocol):
    """A way to store vectors of numbers."""

    #: Its name for `codecs_of` and in saved caches.
    name: str

    def parts(self, head_size: int) -> list[Part]:
        """Return the parts of a vector of `head_size` numbers."""
        ...

    def encode(self, x: Tensor) -> Parts:
        """Return the parts of vectors (..., D)."""
        ...

    def decode(self, parts: Parts, head_size: int, dtype: gradient.DType) -> Tensor:
        """Return vectors (..., D) in `dtype`."""
        ...


class FloatCodec:
    """Floats of one dtype, the model's or a narrower one."""

    def __init__(self, dtype: gradient.DType) -> None:
        self.dtype = dtype
        self.name = dtype.name

    def parts(self, head_size: int) -> list[Part]:
        """Return one part, the vector itself."""
        return [Part(head_size, self.dtype)]

    def encode(self, x: Tensor) -> Parts:
        """Return the vectors in the codec's dtype."""
        return (x.to(self.dtype),)

    def decode(self, parts: Parts, head_size: int, dtype: gradient.DType) -> Tensor:
        """Return the vectors in `dtype`."""
        return parts[0].to(dtype)


def empty_parts(
    codec: Codec, lead: tuple[int, ...], head_size: int, device: Device | str | None
) -> Parts:
    """Return parts for vectors (*lead, D), filled with zeros."""
    # Zeros, not empty: attention multiplies columns that it masks by 0, and 0 * nan is nan.
    return tuple(
        gradient.zeros((*lead, width), dtype=dtype, device=device)
        for width, dtype in codec.parts(head_size)
    )


class Codecs(NamedTuple):
    """The codecs of keys and of values."""

    keys: Codec
    values: Codec

    @property
    def name(self) -> str:
        """Return the name for `codecs_of`: one for both, or "keys/values"."""
        keys, values = self.keys.name, self.values.name
        return keys if keys == values else f"{keys}/{values}"
