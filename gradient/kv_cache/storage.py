"""How a key or value vector is stored: as floats of some dtype (or, elsewhere, in fewer bits).

A storage turns vectors (..., D) into *parts*, tensors (..., w) with the same leading axes, and
back. A layout keeps parts without knowing what they mean; so each storage works in each layout.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import gradient
from gradient.dtypes.names import FLOATING
from gradient.errors import ArgumentError
from gradient.tensor import Tensor

#: The tensors that a storage makes of one: alike in all axes but the last.
Parts = tuple[Tensor, ...]


class Part(NamedTuple):
    """One of the tensors that a storage makes: numbers a vector, and their dtype."""

    width: int
    dtype: gradient.DType


class Storage(Protocol):
    """A way to store vectors of numbers."""

    #: What `storages_of` calls it, and a saved cache.
    name: str

    def parts(self, head_size: int) -> list[Part]:
        """Return what is kept of a vector of `head_size` numbers."""
        ...

    def encode(self, x: Tensor) -> Parts:
        """Return the parts of vectors (..., D)."""
        ...

    def decode(self, parts: Parts, head_size: int, dtype: gradient.DType) -> Tensor:
        """Return vectors (..., D) in `dtype`."""
        ...


class FloatStorage:
    """Floats of one dtype, the model's or a narrower one."""

    def __init__(self, dtype: gradient.DType) -> None:
        self.dtype = dtype
        self.name = dtype.name

    def parts(self, head_size: int) -> list[Part]:
        """Return one part, the vector itself."""
        return [Part(head_size, self.dtype)]

    def encode(self, x: Tensor) -> Parts:
        """Return the vectors in the storage's dtype."""
        return (x.to(self.dtype),)

    def decode(self, parts: Parts, head_size: int, dtype: gradient.DType) -> Tensor:
        """Return the vectors in `dtype`."""
        return parts[0].to(dtype)


def empty_parts(storage: Storage, lead: tuple[int, ...], head_size: int, device: Any) -> Parts:
    """Return parts for vectors (*lead, D) that hold nothing yet."""
    # Zeros, not empty: attention multiplies columns that it masks by 0, and 0 * nan is nan.
    return tuple(
        gradient.zeros((*lead, width), dtype=dtype, device=device)
        for width, dtype in storage.parts(head_size)
    )


#: Names of what keys and values can be stored in; floating dtypes have short names, too ("f16").
STORED = ("float32", "bfloat16", "float16", "float64", "int8", "int4")


class Storages(NamedTuple):
    """How keys are stored, and how values are."""

    keys: Storage
    values: Storage

    @property
    def name(self) -> str:
        """Return the name that `storages_of` reads: one for both, or "keys/values"."""
        keys, values = self.keys.name, self.values.name
        return keys if keys == values else f"{keys}/{values}"


def storages_of(dtype: gradient.DType | str) -> Storages:
    """Return the storages for a dtype, its name, or two names as in "int8/int4".

    Raises:
        ArgumentError: keys or values are not stored in it.
    """
    names = dtype.split("/") if isinstance(dtype, str) else [dtype]
    if len(names) > 2:
        raise ArgumentError(f"cache: expected one dtype, or that of keys/values, got {dtype!r}")
    return Storages(storage_of(names[0]), storage_of(names[-1]))


def is_stored(name: Any) -> bool:
    """Return whether `storages_of` takes this name."""
    return (
        isinstance(name, str)
        and 1 <= len(name.split("/")) <= 2
        and all(part in STORED or part in FLOATING for part in name.split("/"))
    )


def storage_of(dtype: gradient.DType | str) -> Storage:
    """Return the storage for a dtype, or for its name.

    Raises:
        ArgumentError: keys and values are not stored in it.
    """
    from gradient.kv_cache.quantized import (  # which are made of what is above
        Int4Storage,
        Int8Storage,
    )

    name = dtype if isinstance(dtype, str) else dtype.name
    if name in FLOATING:
        return FloatStorage(FLOATING[name])
    if name not in STORED:
        raise ArgumentError(
            f"cache: keys and values are stored as one of {', '.join(STORED)}, got {name!r}"
        )
    return Int8Storage() if name == "int8" else Int4Storage()
