"""The safetensors format: an 8-byte length, a JSON header, and the tensors' bytes end to end.

There are three reasons for our own reader: tensors are views of the mapped file (nothing is copied
before its use, for all dtypes), the error for a malformed file names the fault and the
tensor, and single tensors can be read. The writer streams: it never has a second copy of the
weights.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import prod
from typing import IO, Any

import ml_dtypes
import numpy as np

from gradient.dtypes import float8_e4m3fn, float8_e5m2
from gradient.errors import ArgumentError, FileFormatError, TypeMismatch
from gradient.io import packed
from gradient.io.arrays import has_room, stored_dtype, tensor_of, to_numpy
from gradient.io.atomic import atomic_write
from gradient.io.mapping import map_file, release_pages
from gradient.io.regular_file import Source, name_of, not_found, opened, size_of
from gradient.io.signatures import SIGNATURE_BYTES, instead_of_weights
from gradient.io.tensor_file import TensorFile
from gradient.tensor import Tensor
from gradient.tensor.device import DeviceLike

__all__ = ["SafetensorsFile", "load_file", "save_file"]

#: The format's own limit of the header, which keeps a wrong length from allocating all memory.
MAX_HEADER_BYTES = 100_000_000
#: NumPy's limit of the number of dimensions.
MAX_DIMS = 64

#: Every dtype of the format: bits per element. Those without a NumPy dtype below can be listed, not
#: read.
_BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
_NUMPY = {
    "BOOL": np.dtype(np.bool_), "U8": np.dtype("u1"), "I8": np.dtype("i1"),
    "I16": np.dtype("<i2"), "U16": np.dtype("<u2"), "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16), "I32": np.dtype("<i4"), "U32": np.dtype("<u4"),
    "F32": np.dtype("<f4"), "I64": np.dtype("<i8"), "U64": np.dtype("<u8"), "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"), "F8_E4M3": float8_e4m3fn.element, "F8_E5M2": float8_e5m2.element,
}  # fmt: skip
_NAMES = {dtype.newbyteorder("="): name for name, dtype in _NUMPY.items()}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """The header's description of one tensor."""

    #: The format's name of the dtype, such as "BF16".
    dtype: str
    shape: tuple[int, ...]
    #: The offsets of its bytes from the end of the header.
    start: int
    stop: int


class SafetensorsFile(TensorFile):
    """An open safetensors file: a mapping from names to tensors, each made at access.

    Opening reads and validates only the header. A tensor is a view of the mapped file: writable,
    but writes to it stay in memory (copy on write). The mapping lives as long as any view.

    A packed tensor is stored as its parts (`gradient.io.packed`): the mapping has the tensor,
    `entries` its parts.

    Attributes:
        path: the file's path.
        metadata: the header's `__metadata__`, a dict of strings.
        entries: `TensorEntry` of everything stored, in the file's order.
        packed: the description of each packed tensor, by name.
        whole: the packed tensor that a part belongs to, by the part's name.

    Raises:
        ModelNotFound: there is no such file.
        FileFormatError: the file is truncated or malformed; the message says where.
    """

    def __init__(self, path: Source):
        self.path = name_of(path)
        try:
            with opened(path) as file:
                self.metadata, self.entries, self._data_start = _read_header(file, self.path)
                self._map = map_file(file)
        except (FileNotFoundError, IsADirectoryError) as error:
            raise not_found(self.path, error) from None
        text = self.metadata.pop(packed.METADATA_KEY, None)
        self.packed = {} if text is None else packed.read_entries(text, self._stored, self._wrong)
        self.whole = {p: name for name, entry in self.packed.items() for p in entry.parts(name)}
        self.names = dict.fromkeys(self.whole.get(name, name) for name in self.entries)

    def _stored(self, name: str) -> tuple[tuple[int, ...], np.dtype | None] | None:
        entry = self.entries.get(name)
        return None if entry is None else (entry.shape, _NUMPY.get(entry.dtype))

    def _wrong(self, what: str) -> FileFormatError:
        return _malformed(self.path, what)

    def __getitem__(self, name: str) -> Tensor:
        if entry := self.packed.get(name):
            return entry.tensor([self.array(part) for part in entry.parts(name)])
        if name in self.whole:
            raise KeyError(name)
        return tensor_of(self.array(name))

    def array(self, name: str) -> np.ndarray:
        """The stored tensor `name`, which may be a part of a packed one, as a NumPy array
        (bfloat16 through ml_dtypes), without a copy."""
        entry = self.entries[name]
        dtype = _NUMPY.get(entry.dtype)
        if dtype is None:
            raise FileFormatError(
                f"{self.path}: tensor {name!r} has dtype {entry.dtype}, which gradient does not "
                f"read; it reads {', '.join(_NUMPY)}"
            )
        count = prod(entry.shape)
        if count == 0:
            return np.empty(entry.shape, dtype)
        array = np.frombuffer(self._map, dtype, count, self._data_start + entry.start)
        if not array.flags.aligned:  # allowed in the format, but kernels need aligned numbers
            array = array.copy()
        return array.reshape(entry.shape)

    @property
    def nbytes(self) -> int:
        return sum(entry.stop - entry.start for entry in self.entries.values())

    def release(self, name: str) -> None:
        packed = self.packed.get(name)
        for stored in packed.parts(name) if packed else (name,):
            entry = self.entries[stored]
            start, stop = self._data_start + entry.start, self._data_start + entry.stop
            release_pages(self._map, start, stop)


def load_file(path: Source, device: DeviceLike = "cpu") -> dict[str, Tensor]:
    """Return all tensors of a safetensors file, by name.

    On the CPU they are views of the mapped file, so loading takes no time and no memory until they
    are read; for another device each is copied.

    Raises:
        ModelNotFound: there is no such file.
        FileFormatError: the file is truncated or malformed.
    """
    file = SafetensorsFile(path)
    if str(device) == "cpu":
        return dict(file)
    return {name: tensor.to(device) for name, tensor in file.items()}


def save_file(
    tensors: Mapping[str, Tensor | np.ndarray],
    path: Source,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors to a safetensors file, atomically, without a second copy in memory.

    Tensors on another device and non-contiguous ones are copied one at a time. Tensors that share
    memory (tied weights) are written several times; `gradient.save` writes them once. Packed
    tensors are written without unpacking (`gradient.io.packed`).

    Args:
        tensors: by name; any device, dtype and layout.
        path: the file; or a stream, such as `io.BytesIO`.
        metadata: strings to store in the header, such as `{"format": "pt"}`.

    Raises:
        CheckpointError: the disk is full or failing; an older file at `path` is unchanged.
        TypeMismatch: a value is not a tensor, or its dtype is not one of the format's.
    """
    if not isinstance(path, str | os.PathLike) and not hasattr(path, "write"):
        got = type(path).__name__
        raise TypeMismatch(f"expected a path, or a stream to write bytes to, got {got}")
    tensors, metadata = packed.split_packed(tensors, metadata)
    header, order, data_bytes = _make_header(tensors, metadata)
    target: AbstractContextManager[IO[bytes]]
    if isinstance(path, str | os.PathLike):
        target = atomic_write(path, size=len(header) + data_bytes)
    else:
        target = nullcontext(path)
    with target as file:
        file.write(header)
        for name in order:
            _write_array(file, to_numpy(tensors[name]))


def _read_header(file: IO[bytes], path: str) -> tuple[dict[str, str], dict[str, TensorEntry], int]:
    """Metadata, entries and the position of the first tensor byte, all validated."""
    wrong = functools.partial(_malformed, path)
    file_bytes = size_of(file)
    prefix = file.read(8)
    if len(prefix) < 8:
        raise wrong(f"it has {file_bytes} bytes, too few for the 8 bytes of the header's length")
    header_bytes = int.from_bytes(prefix, "little")
    # A possible length is accepted first: that of a header of 640 bytes begins like a pickle.
    possible = 0 < header_bytes <= min(MAX_HEADER_BYTES, file_bytes - 8)
    if not possible and (other := instead_of_weights(prefix + file.read(SIGNATURE_BYTES))):
        raise wrong(f"it is {other}")
    if header_bytes > MAX_HEADER_BYTES:
        raise wrong(f"its header claims {header_bytes:,} bytes; the limit is {MAX_HEADER_BYTES:,}")
    if header_bytes > file_bytes - 8:
        raise wrong(
            f"its header claims {header_bytes:,} bytes and {file_bytes - 8:,} follow: "
            "the file is truncated, or of another format"
        )
    try:
        header = json.loads(file.read(header_bytes).decode("utf-8"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise wrong(f"its header is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise wrong("its header is nested too deeply") from None
    except ValueError as error:  # malformed JSON, duplicate keys, far too long numbers
        raise wrong(f"its header is not proper JSON: {error}") from None
    if not isinstance(header, dict):
        raise wrong(f"its header is a JSON {type(header).__name__}, not an object")

    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise wrong("its __metadata__ is not an object of strings")
    entries = {name: _read_entry(name, entry, wrong) for name, entry in header.items()}
    _check_layout(entries, file_bytes - 8 - header_bytes, wrong)
    return metadata, entries, 8 + header_bytes


def _malformed(path: str, what: str) -> FileFormatError:
    return FileFormatError(f"{path} is not a valid safetensors file: {what}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in result if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} appears twice")
    return result


def _read_entry(name: str, entry: Any, wrong: Callable[[str], FileFormatError]) -> TensorEntry:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise wrong(f"tensor {name!r} must have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise wrong(f"tensor {name!r} has the unknown dtype {_short(dtype)}")
    if not _all_counts(shape) or len(shape) > MAX_DIMS:
        raise wrong(
            f"tensor {name!r} has shape {_short(shape)}; expected a list of at most {MAX_DIMS} "
            "integers >= 0"
        )
    if not has_room(shape, 8):
        raise wrong(f"tensor {name!r} has shape {_short(shape)}, larger than any memory")
    if not _all_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise wrong(f"tensor {name!r} has data_offsets {_short(offsets)}; expected [begin, end]")
    bits = prod(shape) * _BITS[dtype]
    if bits != 8 * (offsets[1] - offsets[0]):
        raise wrong(
            f"tensor {name!r} of shape {_short(shape)} and dtype {dtype} needs {bits / 8:,g} "
            f"bytes, and its data_offsets {offsets} hold {offsets[1] - offsets[0]:,}"
        )
    return TensorEntry(dtype, tuple(shape), offsets[0], offsets[1])


def _check_layout(
    entries: dict[str, TensorEntry], data_bytes: int, wrong: Callable[[str], FileFormatError]
) -> None:
    """The tensors must fill the data: no overlap (aliasing), no gap (hidden data), no rest."""
    end, before = 0, "the header"
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start < end:
            raise wrong(f"tensor {name!r} overlaps {before!r} by {end - entry.start:,} bytes")
        if entry.start > end:
            raise wrong(f"{entry.start - end:,} unused bytes lie before tensor {name!r}")
        end, before = entry.stop, name
    if end > data_bytes:
        raise wrong(
            f"its tensors need {end:,} bytes and it holds {data_bytes:,}: the file is truncated "
            f"by {end - data_bytes:,} bytes (an interrupted download or copy?)"
        )
    if end < data_bytes:
        raise wrong(f"{data_bytes - end:,} bytes follow the last tensor")


def _all_counts(value: Any) -> bool:
    """Whether `value` is a list of integers >= 0 (JSON's true and false do not count)."""
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _make_header(
    tensors: Mapping[str, Tensor | np.ndarray], metadata: Mapping[str, str] | None
) -> tuple[bytes, list[str], int]:
    """The header after its length, the order in which to write the tensors, their total bytes."""
    specs: dict[str, tuple[str, tuple[int, ...], int]] = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str) or name == "__metadata__":
            raise ArgumentError(f"save_file: {name!r} cannot name a tensor; use another string")
        if not isinstance(tensor, Tensor | np.ndarray):
            raise TypeMismatch(
                f"save_file: expected a Tensor or array under {name!r}, got "
                f"{type(tensor).__name__} (gradient.save takes nested structures and scalars)"
            )
        dtype = stored_dtype(tensor)
        if dtype.newbyteorder("=") not in _NAMES:
            raise TypeMismatch(
                f"save_file: {name!r} has dtype {tensor.dtype}; the format takes "
                f"{', '.join(str(d) for d in _NAMES)}"
            )
        shape = tuple(int(size) for size in tensor.shape)
        specs[name] = (_NAMES[dtype.newbyteorder("=")], shape, dtype.itemsize)

    # Wide numbers first, so that every tensor is aligned to its own dtype.
    order = sorted(specs, key=lambda name: -specs[name][2])
    offsets, end = {}, 0
    for name in order:
        _, shape, itemsize = specs[name]
        start, end = end, end + prod(shape) * itemsize
        offsets[name] = [start, end]

    header: dict[str, Any] = {}
    if metadata:
        if not all(isinstance(k, str) and isinstance(v, str) for k, v in metadata.items()):
            raise TypeMismatch("save_file: metadata must be a dict of strings")
        header["__metadata__"] = dict(metadata)
    for name, (dtype_name, shape, _) in specs.items():
        header[name] = {"dtype": dtype_name, "shape": shape, "data_offsets": offsets[name]}
    try:
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ArgumentError(
            f"save_file: a name or metadata is not valid Unicode: {error}"
        ) from None
    text += b" " * (-(len(text) + 8) % 64)  # the data begins on a cache line
    if len(text) > MAX_HEADER_BYTES:
        raise ArgumentError(
            f"save_file: names and metadata take {len(text):,} bytes; the format allows "
            f"{MAX_HEADER_BYTES:,}"
        )
    return len(text).to_bytes(8, "little") + text, order, end


#: Non-contiguous arrays are made contiguous piece by piece, of about this many bytes.
_PIECE_BYTES = 16 << 20


def _write_array(file: IO[bytes], array: np.ndarray) -> None:
    """The array's elements in C order and little-endian."""
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    if array.flags.c_contiguous:
        file.write(array.reshape(-1).view(np.uint8).data)
    elif array.nbytes > _PIECE_BYTES and array.ndim > 1:
        rows = max(1, _PIECE_BYTES * array.shape[0] // array.nbytes)
        for start in range(0, array.shape[0], rows):
            # A single row may still be large: then its own rows are the pieces.
            _write_array(file, array[start] if rows == 1 else array[start : start + rows])
    else:
        _write_array(file, np.ascontiguousarray(array))
