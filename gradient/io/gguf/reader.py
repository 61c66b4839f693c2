"""GGUF files, whole or split, as mappings from names to memory-mapped tensors."""

from __future__ import annotations

import os
import re
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from gradient.backends import get
from gradient.backends.packed import PackedArray
from gradient.dtypes import packed
from gradient.errors import FileFormatError, ModelNotFound
from gradient.io.arrays import tensor_of
from gradient.io.gguf.header import Header, TensorEntry, read_header
from gradient.io.gguf.types import NUMPY_TYPE_NAMES, PACKED_NAMES
from gradient.io.mapping import Mapped, map_file, release_pages
from gradient.io.regular_file import open_regular, size_of
from gradient.io.tensor_file import TensorFile
from gradient.tensor import Tensor

__all__ = ["GGUFFile"]

_SPLIT_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


class GGUFFile(TensorFile):
    """An open GGUF file: its metadata, and a mapping from names to tensors, made at access.

        file = GGUFFile("model-q4_k_m.gguf")
        file.metadata["general.architecture"]          # "llama"
        file["blk.0.attn_q.weight"].dtype              # gradient.q4_k

    Opening reads and validates only the header. Unpacked tensors (F32, F16, BF16, F64, I8 ... I64)
    are views of the mapped file; for packed ones (Q4_0, Q4_K, ...), the blocks are. Nothing is
    copied or unpacked. Writes to them stay in memory (copy on write). Shapes are PyTorch's:
    (out, in) for a matrix.

    For a model split into `name-00001-of-00003.gguf` and so on, any file opens all of them.

    Args:
        path: the file.
        mapped: the content (`io.mapping.map_file`) of a file that is already open.

    Attributes:
        path: the file's path, as given.
        metadata: Python values by key: int, float, bool, str, and lists of these.
        typed_metadata: the same with each value's stored type, as NumPy scalars and arrays (strings
            are str, and lists of them); `write` keeps these types.
        entries: `TensorEntry` of every tensor, in the file's order.
        version: 2 or 3, of the format.

    Raises:
        ModelNotFound: there is no such file, or a part of a split one is missing.
        FileFormatError: it is truncated or malformed; the message says where.
    """

    def __init__(self, path: str | os.PathLike[str], mapped: Mapped | None = None):
        self.path = os.fspath(path)
        self._parts = _open_parts(self.path, mapped)
        first = self._parts[0].header
        self.version = first.version
        self.typed_metadata = first.metadata
        self.metadata = {key: _to_python(value) for key, value in first.metadata.items()}
        self.entries: dict[str, TensorEntry] = {}
        self.names = self.entries
        self._home: dict[str, _Part] = {}
        for part in self._parts:
            for name, entry in part.header.entries.items():
                if name in self._home:
                    raise FileFormatError(
                        f"tensor {name!r} is in {self._home[name].path} and in {part.path}"
                    )
                self._home[name], self.entries[name] = part, entry

    def __getitem__(self, name: str) -> Tensor:
        kind = self.entries[name].type
        if kind is not None and kind.name in PACKED_NAMES:
            dtype = getattr(packed, kind.name.lower())
            blocks = PackedArray(dtype, self.entries[name].shape, (self.blocks(name),))
            return Tensor._wrap(blocks, get("cpu"))
        return tensor_of(self.array(name))

    def array(self, name: str) -> np.ndarray:
        """An unpacked tensor as a NumPy array (bfloat16 by ml_dtypes), without a copy."""
        entry, part = self.entries[name], self._home[name]
        dtype = entry.type.numpy if entry.type is not None else None
        if dtype is None:
            raise self._unread(name, "unpacked numbers", ", ".join(NUMPY_TYPE_NAMES.values()))
        order = part.header.byte_order
        array = part.bytes_of(entry).view(dtype.newbyteorder(order)).reshape(entry.shape)
        if order == ">" or not array.flags.aligned:  # kernels support neither
            array = array.astype(dtype.newbyteorder("="))
        return array

    def blocks(self, name: str) -> np.ndarray:
        """The blocks of a packed tensor: uint8 (..., K / block_size, block_bytes), no copy."""
        entry, part = self.entries[name], self._home[name]
        if entry.type is None or entry.type.numpy is not None:
            raise self._unread(name, "blocks", ", ".join(PACKED_NAMES))
        if part.header.byte_order == ">":
            raise FileFormatError(
                f"{part.path}: tensor {name!r} has {entry.type.name} blocks in big-endian order, "
                "which gradient does not read: convert the model on a little-endian machine"
            )
        *rows, columns = entry.shape
        shape = (*rows, columns // entry.type.block_size, entry.type.block_bytes)
        return part.bytes_of(entry).reshape(shape)

    @property
    def nbytes(self) -> int:
        return sum(entry.nbytes or 0 for entry in self.entries.values())

    def release(self, name: str) -> None:
        entry = self.entries[name]
        release_pages(self._home[name].map, entry.start, entry.start + (entry.nbytes or 0))

    def _unread(self, name: str, what: str, read: str) -> FileFormatError:
        entry = self.entries[name]
        stored = entry.type.name if entry.type else f"number {entry.type_number}, unknown here"
        return FileFormatError(
            f"{self._home[name].path}: tensor {name!r} has type {stored}, which gradient does not "
            f"read as {what}: {read} are; take another quantization of the model"
        )


class _Part:
    """One mapped file and its head."""

    def __init__(self, path: str, mapped: Mapped | None = None):
        self.path = path
        self.map = _mapped(path) if mapped is None else mapped
        if len(self.map) < 24:
            raise FileFormatError(
                f"{path} is not a valid GGUF file: it has {len(self.map)} bytes, too few for the "
                "24 that every one begins with"
            )
        self.header: Header = read_header(self.map, path)

    def bytes_of(self, entry: TensorEntry) -> np.ndarray:
        if not entry.nbytes:
            return np.empty(0, np.uint8)
        return np.frombuffer(self.map, np.uint8, entry.nbytes, entry.start)

    def split(self, key: str) -> int | None:
        value = self.header.metadata.get(f"split.{key}")
        return int(value) if isinstance(value, Integral) else None


def _mapped(path: str) -> Mapped:
    try:
        with open_regular(path) as file:
            return map_file(file) if size_of(file) else bytearray()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ModelNotFound(f"no GGUF file at {path}: {error.strerror}") from None


def _open_parts(path: str, mapped: Mapped | None) -> list[_Part]:
    """The file and, for a part of a split model, all others, in their order."""
    part = _Part(path, mapped)
    count = part.split("count")
    if count is None or count < 2:
        return [part]
    name = Path(path).name
    match = _SPLIT_NAME.fullmatch(name)
    if match is None or int(match[3]) != count:
        raise FileFormatError(
            f"{path} is one of {count} parts (split.count), and its name should end in "
            f"-00001-of-{count:05d}.gguf or the like, by which the others are found: rename it"
        )
    beside = Path(path).parent
    paths = [beside / f"{match[1]}-{number:05d}-of-{match[3]}.gguf" for number in _to(count)]
    absent = [p.name for p in paths if not p.is_file()]
    if absent:
        raise ModelNotFound(
            f"{path}: {len(absent)} of its {count} parts are missing beside it: "
            f"{', '.join(absent[:5])}{', ...' if len(absent) > 5 else ''}. Was the download "
            "interrupted?"
        )
    parts = [part if p.name == name else _Part(str(p)) for p in paths]
    for number, each in enumerate(parts):
        if (each.split("no"), each.split("count")) != (number, count):
            raise FileFormatError(
                f"{each.path} says it is part {each.split('no')} (counted from 0) of "
                f"{each.split('count')}, and its name says {number} of {count}"
            )
    total = parts[0].split("tensors.count")
    held = sum(len(each.header.entries) for each in parts)
    if total is not None and total != held:
        raise FileFormatError(f"{path}: {total} tensors are announced, its parts hold {held}")
    return parts


def _to(count: int) -> range:
    return range(1, count + 1)


def _to_python(value: Any) -> Any:
    """A metadata value as Python's int, float, bool, str or a list of these."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [_to_python(item) for item in value] if isinstance(value, list) else value
