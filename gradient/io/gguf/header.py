"""The header of a GGUF file: version, metadata, and the place of each tensor, all validated.

Counts, lengths and offsets in a file are untrusted: each is compared with the bytes left in the
file before anything is allocated or looped over. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from numbers import Integral
from typing import Any, Literal, NoReturn

import numpy as np

from gradient.errors import FileFormatError
from gradient.io.arrays import has_room
from gradient.io.gguf.types import (
    ALIGNMENT,
    ARRAY,
    BOOL,
    MAGIC,
    MAX_ALIGNMENT,
    MAX_DIMS,
    SCALARS,
    STRING,
    TENSOR_TYPES,
    TensorType,
)
from gradient.io.mapping import Mapped
from gradient.io.signatures import SIGNATURE_BYTES, instead_of_weights

__all__ = ["TensorEntry"]

#: The limit of the elements of all metadata arrays; the largest vocabularies have some 800,000
#: tokens, scores and merges. A Python object takes up to 32 times an element's bytes in the file.
MAX_ARRAY_ELEMENTS = 1 << 24
#: The limit of nested arrays, which no known file uses.
MAX_DEPTH = 4
_KEY_BYTES = 8 + 4 + 1  # the minimum of a key, its type and its value
_INFO_BYTES = 8 + 4 + 8 + 4 + 8  # the minimum of a tensor's description


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """The header's description of one tensor."""

    #: None for a type number unknown to ggml.
    type: TensorType | None
    #: The type's number in the file.
    type_number: int
    #: In PyTorch's order: rows before columns. (The file has the reverse order.)
    shape: tuple[int, ...]
    #: The offset of its bytes from the beginning of the file.
    start: int
    #: None if the type is unknown.
    nbytes: int | None


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one file."""

    version: int
    #: Little-endian or big-endian, as NumPy writes it.
    byte_order: Literal["<", ">"]
    alignment: int
    #: NumPy scalars and arrays, strings, and lists of strings: each value with its type.
    metadata: dict[str, Any]
    entries: dict[str, TensorEntry]


def read_header(data: Mapped, path: str) -> Header:
    """Read and validate a file's header.

    Raises:
        FileFormatError: it is truncated or malformed; the message has the byte offset.
    """
    return _Reader(data, path).header()


class _Reader:
    """A position in the file, and functions to read numbers there."""

    def __init__(self, data: Mapped, path: str):
        self.data, self.path, self.size = data, path, len(data)
        self.at = 0
        self.order: Literal["<", ">"] = "<"
        self.elements = 0  # of metadata arrays so far

    def wrong(self, what: str, at: int | None = None) -> NoReturn:
        where = self.at if at is None else at
        raise FileFormatError(f"{self.path} is not a valid GGUF file: at byte {where:,}, {what}")

    def header(self) -> Header:
        version = self._version()
        tensors = self._count("tensors", _INFO_BYTES)
        keys = self._count("metadata keys", _KEY_BYTES)
        metadata = self._metadata(keys)
        alignment = self._alignment(metadata)
        described = [self._tensor_info() for _ in range(tensors)]
        start = -(-self.at // alignment) * alignment
        entries: dict[str, TensorEntry] = {}
        for at, name, shape, number, offset in described:
            if name in entries:
                self.wrong(f"a second tensor is named {name!r}", at)
            entries[name] = self._entry(at, name, shape, number, offset, start, alignment)
        self._check_layout(entries)
        return Header(version, self.order, alignment, metadata, entries)

    # Numbers and strings ---------------------------------------------------------------------

    def need(self, count: int, what: str) -> None:
        if count > self.size - self.at:
            self.wrong(
                f"{what} needs {count:,} bytes and {self.size - self.at:,} are left: the file is "
                "truncated or damaged (an interrupted download or copy?)"
            )

    def number(self, kind: str, what: str) -> int:
        size = struct.calcsize(kind)
        self.need(size, what)
        (value,) = struct.unpack_from(self.order + kind, self.data, self.at)
        self.at += size
        return value

    def string(self, what: str) -> str:
        begin = self.at
        length = self.number("Q", f"the length of {what}")
        self.need(length, what)
        text = self.data[self.at : self.at + length]
        self.at += length
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as error:
            self.wrong(f"{what} is not UTF-8 (its byte {error.start})", begin)

    def strings(self, count: int, what: str) -> list[str]:
        """Many strings; like `string` in a loop, but optimised."""
        data, at, size, texts = self.data, self.at, self.size, []
        unpack = struct.Struct(self.order + "Q").unpack_from
        try:
            for _ in range(count):
                begin = at + 8
                at = begin + unpack(data, at)[0]
                if at > size:
                    self.at = begin - 8
                    self.wrong(f"a string of {what} ends {at - size:,} bytes past the file's end")
                texts.append(data[begin:at].decode("utf-8"))
        except struct.error:
            self.at = at
            self.need(8, f"the length of a string of {what}")
        except UnicodeDecodeError as error:
            self.wrong(f"a string of {what} is not UTF-8 (its byte {error.start})", begin - 8)
        self.at = at
        return texts

    # The parts of the header -----------------------------------------------------------------

    def _version(self) -> int:
        magic = self.data[:4]
        if magic != MAGIC:
            if other := instead_of_weights(bytes(self.data[:SIGNATURE_BYTES])):
                self.wrong(f"it is {other}")
            self.wrong(f"it begins with {magic!r}, not with {MAGIC!r}")
        self.at = 4
        version = self.number("I", "the version")
        if version & 0xFFFF == 0 and version:  # only the version shows the byte order
            self.order = ">"
            self.at = 4
            version = self.number("I", "the version")
        if version not in (2, 3):
            self.wrong(
                f"its version is {version}; versions 2 and 3 are read: convert the model again, "
                "with a current program",
                4,
            )
        return version

    def _count(self, what: str, least: int) -> int:
        count = self.number("Q", f"the number of {what}")
        if count > (self.size - self.at) // least:
            self.wrong(
                f"{count:,} {what} are announced, for which the file's {self.size:,} bytes have "
                "no room: it is truncated or damaged",
                self.at - 8,
            )
        return count

    def _metadata(self, count: int) -> dict[str, Any]:
        metadata: dict[str, Any] = {}
        for _ in range(count):
            begin = self.at
            key = self.string("a metadata key")
            if key in metadata:
                self.wrong(f"the metadata key {key!r} comes a second time", begin)
            kind = self.number("I", f"the type of {key!r}")
            metadata[key] = self._value(kind, key, depth=0)
        return metadata

    def _value(self, kind: int, key: str, depth: int) -> Any:
        if kind in SCALARS:
            return self._numbers(kind, 1, key)[0]
        if kind == STRING:
            return self.string(f"the text of {key!r}")
        if kind != ARRAY:
            self.wrong(f"{key!r} has the unknown value type {kind}", self.at - 4)
        if depth == MAX_DEPTH:
            self.wrong(f"{key!r} nests arrays more than {MAX_DEPTH} deep")
        begin = self.at
        inner = self.number("I", f"the element type of {key!r}")
        count = self.number("Q", f"the length of {key!r}")
        least = SCALARS[inner].itemsize if inner in SCALARS else 12 if inner == ARRAY else 8
        if count > (self.size - self.at) // least:
            self.wrong(
                f"{key!r} announces {count:,} elements, and {self.size - self.at:,} bytes are "
                "left: the file is truncated or damaged",
                begin,
            )
        self.elements += count
        if self.elements > MAX_ARRAY_ELEMENTS:
            self.wrong(f"with {key!r} metadata arrays pass {MAX_ARRAY_ELEMENTS:,} elements", begin)
        if inner in SCALARS:
            return self._numbers(inner, count, key)
        if inner == STRING:
            # Unlike a list, an empty array keeps its type.
            return self.strings(count, repr(key)) if count else np.empty(0, "U1")
        if inner != ARRAY:
            self.wrong(f"{key!r} has the unknown element type {inner}", begin)
        return [self._value(ARRAY, key, depth + 1) for _ in range(count)]

    def _numbers(self, kind: int, count: int, key: str) -> np.ndarray:
        dtype = SCALARS[kind].newbyteorder(self.order)
        begin, nbytes = self.at, count * dtype.itemsize
        self.need(nbytes, f"the value of {key!r}")
        if kind == BOOL:
            stored = np.frombuffer(self.data, np.uint8, count, begin)
            if (stored > 1).any():
                self.wrong(f"{key!r} holds a bool that is neither 0 nor 1")
        self.at += nbytes
        # A copy in the machine's byte order, so that the mapping is not kept alive.
        return np.frombuffer(self.data, dtype, count, begin).astype(dtype.newbyteorder("="))

    def _alignment(self, metadata: dict[str, Any]) -> int:
        value = metadata.get("general.alignment", np.uint32(ALIGNMENT))
        alignment = int(value) if isinstance(value, Integral) else 0
        if not 1 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
            self.wrong(f"general.alignment is {value!r:.40}; expected a power of two, such as 32")
        return alignment

    def _tensor_info(self) -> tuple[int, str, tuple[int, ...], int, int]:
        """The description's offset, then name, shape, type and offset of the tensor."""
        begin = self.at
        name = self.string("a tensor's name")
        dims = self.number("I", f"the dimensions of {name!r}")
        if not 1 <= dims <= MAX_DIMS:
            self.wrong(f"tensor {name!r} has {dims} dimensions; expected 1 to {MAX_DIMS}", begin)
        sizes = [self.number("Q", f"the shape of {name!r}") for _ in range(dims)]
        number = self.number("I", f"the type of {name!r}")
        offset = self.number("Q", f"the offset of {name!r}")
        return begin, name, tuple(reversed(sizes)), number, offset

    def _entry(
        self,
        at: int,
        name: str,
        shape: tuple[int, ...],
        number: int,
        offset: int,
        start: int,
        alignment: int,
    ) -> TensorEntry:
        if offset % alignment:
            self.wrong(
                f"tensor {name!r} begins at offset {offset:,}, no multiple of the alignment "
                f"{alignment}",
                at,
            )
        if not has_room(shape, 8):
            self.wrong(f"tensor {name!r} has shape {list(shape)}, larger than any memory", at)
        kind = TENSOR_TYPES.get(number)
        if kind is None:
            nbytes = None
        elif shape[-1] % kind.block_size:
            self.wrong(
                f"tensor {name!r} has rows of {shape[-1]:,} elements, no multiple of the "
                f"{kind.block_size} in a block of {kind.name}",
                at,
            )
        else:
            nbytes = prod(shape) // kind.block_size * kind.block_bytes
        end = start + offset + (nbytes or 0)
        if end > self.size:
            self.wrong(
                f"tensor {name!r} of shape {list(shape)} "
                f"({kind.name if kind else f'type {number}'}) ends {end - self.size:,} bytes "
                f"past the file's end (it has {self.size:,} bytes): it is truncated or damaged "
                "(an interrupted download or copy?)",
                at,
            )
        return TensorEntry(kind, number, shape, start + offset, nbytes)

    def _check_layout(self, entries: dict[str, TensorEntry]) -> None:
        """Check that no two tensors share bytes: a write to one must not change another."""
        end, before = 0, ""
        for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
            if entry.nbytes == 0:
                continue
            if entry.start < end:
                self.wrong(f"tensor {name!r} overlaps {before!r}", entry.start)
            end, before = entry.start + (entry.nbytes or 0), name
