"""Writing GGUF version 3: first the header, then the tensors one by one, never two in memory."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from numbers import Integral
from typing import Any

import numpy as np

from gradient.dtypes import DType
from gradient.errors import ArgumentError, ShapeError, TypeMismatch
from gradient.io.arrays import to_numpy
from gradient.io.atomic import atomic_write
from gradient.io.gguf.types import (
    ALIGNMENT,
    ARRAY,
    MAGIC,
    MAX_ALIGNMENT,
    MAX_DIMS,
    MAX_NAME_BYTES,
    NUMPY_TYPE_NAMES,
    PACKED_NAMES,
    SCALAR_TYPES,
    STRING,
    TENSOR_TYPES,
    TYPE_NUMBERS,
)
from gradient.tensor import Tensor

__all__ = ["LazyTensor", "ggml_type", "write"]

_VERSION = 3
_PIECE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """A tensor that is made just before it is written, and dropped after it."""

    shape: tuple[int, ...]
    dtype: DType
    make: Callable[[], Tensor]


def write(
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any],
    tensors: Mapping[str, Tensor | LazyTensor],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write a GGUF file (version 3, little-endian), atomically and one tensor at a time.

        write("model.gguf", {"general.architecture": "llama"}, {"output_norm.weight": norm})

    Args:
        metadata: by key. Python's bool, str and float become BOOL, STRING and FLOAT32; an int
            becomes UINT32, or INT32, INT64, UINT64 if it is negative or large; a list an ARRAY of
            a type for all its elements. NumPy scalars and arrays keep their own types.
        tensors: by name, with 1 to 4 dimensions; float and signed integer dtypes, and the packed
            dtypes of GGUF, whose blocks are written unchanged. A `LazyTensor` is made just before
            it is written.
        progress: called with (bytes written, total bytes) as the tensors are written.

    Returns:
        The size of the file in bytes.

    Raises:
        ArgumentError, ShapeError, TypeMismatch: a value that GGUF cannot store.
        CheckpointError: the disk is full or failing; an older file at `path` is unchanged.
    """
    align = _alignment(metadata)
    sizes = {name: _check(name, tensor) for name, tensor in tensors.items()}
    ends, offset = {}, 0
    head = [MAGIC, struct.pack("<IQQ", _VERSION, len(tensors), len(metadata))]
    head += [_string(key, "a metadata key") + _value(key, value) for key, value in metadata.items()]
    for name, tensor in tensors.items():
        head.append(_info(name, tensor, offset))
        ends[name] = offset + sizes[name]
        offset = -(-ends[name] // align) * align
    text = b"".join(head)
    text += b"\0" * (-len(text) % align)
    with atomic_write(path, size=len(text) + offset) as file:
        file.write(text)
        done = 0
        for name, tensor in tensors.items():
            for piece in _pieces(name, tensor):
                file.write(piece)
                done += len(piece)
                if progress is not None:
                    progress(done, offset)
            if done != ends[name]:
                raise ShapeError(
                    f"write: tensor {name!r} was announced with "
                    f"{sizes[name]:,} bytes and came with {sizes[name] + done - ends[name]:,}"
                )
            padding = -done % align
            file.write(b"\0" * padding)
            done += padding
    return len(text) + offset


def _check(name: str, tensor: Tensor | LazyTensor) -> int:
    """Return the bytes of a tensor; raise if GGUF cannot store it."""
    if not isinstance(tensor, Tensor | LazyTensor):
        raise TypeMismatch(f"write: expected a Tensor as {name!r}, got {type(tensor).__name__}")
    if len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        raise ArgumentError(
            f"write: {name!r:.100} is too long for a tensor's name; ggml takes {MAX_NAME_BYTES} "
            "bytes"
        )
    shape = tuple(tensor.shape)
    if not 1 <= len(shape) <= MAX_DIMS:
        raise ShapeError(
            f"write: tensor {name!r} has shape {list(shape)}; GGUF takes 1 to {MAX_DIMS} dimensions"
        )
    kind = TENSOR_TYPES[ggml_type(tensor.dtype, name)]
    if shape[-1] % kind.block_size:
        raise ShapeError(
            f"write: tensor {name!r} has rows of {shape[-1]} elements; {kind.name} takes multiples "
            f"of {kind.block_size}"
        )
    return prod(shape) // kind.block_size * kind.block_bytes


def ggml_type(dtype: DType, name: str = "") -> int:
    """Return GGUF's number of a dtype.

    Raises:
        TypeMismatch: it has none; the message lists the supported ones.
    """
    kind = dtype.name.upper()
    if kind not in PACKED_NAMES:
        kind = "" if dtype.is_packed else NUMPY_TYPE_NAMES.get(dtype.numpy, "")
    if not kind:
        known = [*(str(d) for d in NUMPY_TYPE_NAMES), *(packed.lower() for packed in PACKED_NAMES)]
        raise TypeMismatch(
            f"write: tensor {name!r} has dtype {dtype.name}, which GGUF has no type for; convert "
            f"it to one of {', '.join(known)}"
        )
    return TYPE_NUMBERS[kind]


def _info(name: str, tensor: Tensor | LazyTensor, offset: int) -> bytes:
    sizes = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *reversed(tensor.shape))
    number = ggml_type(tensor.dtype, name)
    return _string(name, "a tensor's name") + sizes + struct.pack("<IQ", number, offset)


def _pieces(name: str, tensor: Tensor | LazyTensor) -> Iterator[memoryview]:
    """A tensor's bytes in C order and little-endian, some megabytes at a time."""
    made = tensor.make() if isinstance(tensor, LazyTensor) else tensor
    if tuple(made.shape) != tuple(tensor.shape) or made.dtype != tensor.dtype:
        raise ShapeError(
            f"write: tensor {name!r} was announced as {tensor.dtype} {list(tensor.shape)} and came "
            f"as {made.dtype} {list(made.shape)}"
        )
    if made.dtype.is_packed:
        (blocks,) = made.array.as_stored(made.backend).parts
        array = np.asarray(made.backend.to_numpy(blocks))
    else:
        array = to_numpy(made)
    yield from _pieces_of(array)


def _pieces_of(array: np.ndarray) -> Iterator[memoryview]:
    if array.nbytes > _PIECE_BYTES and array.ndim > 1 and len(array) > 1:
        rows = max(1, _PIECE_BYTES * len(array) // array.nbytes)
        for start in range(0, len(array), rows):
            yield from _pieces_of(array[start : start + rows])
        return
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    view = little.reshape(-1).view(np.uint8).data
    for start in range(0, len(view), _PIECE_BYTES):
        yield view[start : start + _PIECE_BYTES]


def _alignment(metadata: Mapping[str, Any]) -> int:
    align = metadata.get("general.alignment", ALIGNMENT)
    whole = int(align) if isinstance(align, Integral) else 0
    if not 1 <= whole <= MAX_ALIGNMENT or whole & (whole - 1):
        raise ArgumentError(
            f"write: general.alignment must be a power of two up to {MAX_ALIGNMENT:,}, got "
            f"{align!r:.40}"
        )
    return whole


# Metadata ----------------------------------------------------------------------------------------


def _string(text: str, what: str) -> bytes:
    if not isinstance(text, str):
        raise TypeMismatch(f"write: expected a str as {what}, got {text!r:.80}")
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ArgumentError(f"write: {what}, {text!r:.80}, is not valid Unicode: {error}") from None
    return struct.pack("<Q", len(data)) + data


def _value(key: str, value: Any) -> bytes:
    """The type of a metadata value, then the value."""
    if isinstance(value, list | tuple | np.ndarray):
        return struct.pack("<I", ARRAY) + _array(key, value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value, f"the value of {key!r}")
    dtype = _scalar_dtype(key, [value])
    return struct.pack("<I", SCALAR_TYPES[dtype]) + _little(np.array(value, dtype))


def _array(key: str, values: list[Any] | tuple[Any, ...] | np.ndarray) -> bytes:
    """The elements' type, their number, the elements."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        dtype = values.dtype.newbyteorder("=")
        if values.ndim != 1 or dtype not in SCALAR_TYPES:
            raise TypeMismatch(
                f"write: {key!r} is a {values.ndim}-dimensional array of {values.dtype}; GGUF "
                f"takes one dimension of {', '.join(map(str, SCALAR_TYPES))}"
            )
        return struct.pack("<IQ", SCALAR_TYPES[dtype], len(values)) + _little(values)
    if len(values) == 0:
        if not isinstance(values, np.ndarray):
            raise ArgumentError(
                f"write: {key!r} is an empty list, of which the type is unknown; give an empty "
                "NumPy array of it (np.empty(0, str) for strings)"
            )
        return struct.pack("<IQ", STRING, 0)
    head, what = struct.pack("<Q", len(values)), f"an element of {key!r}"
    if isinstance(values[0], str):
        return struct.pack("<I", STRING) + head + b"".join(_string(text, what) for text in values)
    if isinstance(values[0], list | tuple | np.ndarray):
        if not all(isinstance(inner, list | tuple | np.ndarray) for inner in values):
            raise TypeMismatch(f"write: {key!r} holds arrays beside values that are none")
        return struct.pack("<I", ARRAY) + head + b"".join(_array(key, inner) for inner in values)
    dtype = _scalar_dtype(key, values)
    return struct.pack("<I", SCALAR_TYPES[dtype]) + head + _little(np.array(values, dtype))


def _scalar_dtype(key: str, values: Any) -> np.dtype:
    """A dtype for all of these numbers; NumPy scalars keep their own dtype."""
    kinds = {type(value) for value in values}
    own = {value.dtype for value in values if isinstance(value, np.generic)}
    if len(kinds) == len(own) == 1 and own <= SCALAR_TYPES.keys():
        return own.pop()
    if kinds == {bool}:
        return np.dtype("?")
    if kinds <= {int, float} and float in kinds:
        return np.dtype("f4")
    if kinds == {int}:
        low, high = min(values), max(values)
        for name in ("u4", "i4", "i8", "u8"):
            limits = np.iinfo(name)
            if limits.min <= low and high <= limits.max:
                return np.dtype(name)
        raise ArgumentError(f"write: {key!r} has {high if low >= 0 else low}, beyond 64 bits")
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise TypeMismatch(
        f"write: {key!r} has a value of type {names}; expected bool, int, float, str or a list of "
        "one of these"
    )


def _little(values: np.ndarray) -> bytes:
    return values.astype(values.dtype.newbyteorder("<")).tobytes()
