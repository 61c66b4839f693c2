"""PyTorch's .pt, .pth and .bin files (a zip of one pickle and the tensors' bytes), not unpickled.

The pickle is read as data (`pickle_program`). Of its calls, only those that make a tensor, a
parameter or a `torch.Size` are evaluated; others remain descriptions. Tensors are
views of the mapped file, as with safetensors.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import IO, Any

import ml_dtypes
import numpy as np

from gradient.errors import FileFormatError
from gradient.io.arrays import has_room, tensor_of
from gradient.io.mapping import map_file, release_pages
from gradient.io.pickle_program import Call, Persistent, Symbol, read_program
from gradient.io.regular_file import Source, name_of, not_found, opened, size_of
from gradient.io.signatures import SIGNATURE_BYTES, format_of, instead_of_weights
from gradient.io.tensor_file import TensorFile
from gradient.tensor import Tensor

__all__ = ["TorchFile"]

#: The limit of the pickle's size. A large optimiser state's has some MB.
MAX_PICKLE_BYTES = 32 << 20
MAX_DEPTH = 64
MAX_NAME_CHARACTERS = 500
#: Several tensors may be views of the same bytes, like tied weights; but a small file must not
#: contain a model that fills the memory when it is converted.
MAX_SHARING = 16

_DTYPES = {
    "float64": np.dtype("<f8"), "float32": np.dtype("<f4"), "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16), "int64": np.dtype("<i8"), "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"), "int8": np.dtype("i1"), "uint64": np.dtype("<u8"),
    "uint32": np.dtype("<u4"), "uint16": np.dtype("<u2"), "uint8": np.dtype("u1"),
    "bool": np.dtype(np.bool_),
}  # fmt: skip
_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}  # fmt: skip
_REBUILD = {
    Symbol("torch._utils", "_rebuild_tensor_v2"),
    Symbol("torch._utils", "_rebuild_tensor_v3"),
}
_PARAMETERS = {
    Symbol("torch._utils", "_rebuild_parameter"),
    Symbol("torch._utils", "_rebuild_parameter_with_state"),
}
_MAKES = "_rebuild_"  # the prefix of functions that make tensors, also of other kinds
_SUBCLASS = Symbol("torch._tensor", "_rebuild_from_type_v2")
_SIZE = Symbol("torch", "Size")
_ORDERED_DICT = Symbol("collections", "OrderedDict")
_SAVE_WEIGHTS = "save its weights: torch.save(module.state_dict(), path)"
#: Keys of the weights in files of training scripts with other state.
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "weights", "params")


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A tensor's place in the file: its storage, and a strided view of that."""

    storage: str
    dtype: np.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]  # in elements
    offset: int  # in elements
    location: str = "cpu"  # the device that the tensor was saved from


class TorchFile(TensorFile):
    """An open PyTorch file: a mapping from names to its weights, each made at access.

    Names of nested dicts are joined by dots. If the file has the weights beside other state,
    under one of the usual names ("state_dict", "model_state_dict", ...), the mapping has these.

    Attributes:
        path: the file's path.
        content: what was saved, as dicts, lists and numbers; a `TensorEntry` for each tensor.
        entries: `TensorEntry` by name.

    Raises:
        ModelNotFound: there is no such file.
        FileFormatError: it is truncated, malformed, in PyTorch's format before 1.6, or has no
            tensors, or some of an unsupported kind (sparse, quantised, complex).
    """

    def __init__(self, path: Source, key: str | None = None):
        """Args:
        path: a path, or a stream of bytes.
        key: the dict with the weights, such as "model_ema"; dots select nested ones.
        """
        self.path = name_of(path)
        try:
            with opened(path) as file:
                self._records = _read_directory(file, self.path)
                self._map = map_file(file)
        except (FileNotFoundError, IsADirectoryError) as error:
            raise not_found(self.path, error) from None
        start, stop = self._record("data.pkl", MAX_PICKLE_BYTES)
        if self._text("byteorder") not in ("", "little"):
            raise self._wrong("it was written on a big-endian machine, which is not supported")
        program = read_program(bytes(self._map[start:stop]), f"{self.path}: data.pkl")
        # A value may be used twice, but a few bytes must not expand to millions of values.
        self._values_left = 100_000 + 2 * (stop - start)
        self.content = self._to_values(program, "", 0)
        self.entries = self._select(key)
        self.names = self.entries

    def __getitem__(self, name: str) -> Tensor:
        return self.tensor(self.entries[name])

    def tensor(self, entry: TensorEntry) -> Tensor:
        """Return the tensor of an entry: a view of the mapped file."""
        if prod(entry.shape) == 0:
            return tensor_of(np.empty(entry.shape, entry.dtype))
        start, stop = self._record(f"data/{entry.storage}")
        size = entry.dtype.itemsize
        whole = np.frombuffer(self._map, entry.dtype, (stop - start) // size, start)
        if not whole.flags.aligned:
            whole = whole.copy()
        # An axis of one element may have any stride in the file.
        steps = zip(entry.shape, entry.stride, strict=True)
        strides = tuple(step * size if n > 1 else size for n, step in steps)
        view = np.lib.stride_tricks.as_strided(whole[entry.offset :], entry.shape, strides)
        if entry.dtype == np.bool_ and view.view(np.uint8).max() > 1:
            raise self._wrong(f"a tensor of {entry.shape} booleans holds other values than 0 and 1")
        return tensor_of(view)

    def structure(self, devices: Mapping[Any, Any] | None = None) -> Any:
        """Return the saved object: nested dicts, lists, tensors, numbers, texts.

        Objects of other classes are not made; their descriptions are returned.
        `devices` says where tensors that were saved from a device go; others are on the CPU.
        """
        return self._with_tensors(self.content, devices or {})

    def _with_tensors(self, value: Any, devices: Mapping[Any, Any]) -> Any:
        if isinstance(value, TensorEntry):
            tensor = self.tensor(value)
            device = devices.get(value.location)
            return tensor if device is None else tensor.to(device)
        if isinstance(value, dict):
            return {key: self._with_tensors(item, devices) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self._with_tensors(item, devices) for item in value)
        return value

    @property
    def nbytes(self) -> int:
        return sum(prod(entry.shape) * entry.dtype.itemsize for entry in self.entries.values())

    def release(self, name: str) -> None:
        start, stop = self._record(f"data/{self.entries[name].storage}")
        release_pages(self._map, start, stop)

    # The zip's records -------------------------------------------------------------------------

    def _wrong(self, what: str) -> FileFormatError:
        return FileFormatError(f"{self.path} is not a PyTorch file that gradient reads: {what}")

    def _record(self, name: str, limit: int | None = None) -> tuple[int, int]:
        """The offsets of a record's first and last byte in the file."""
        if name not in self._records:
            raise self._wrong(f"it has no record {name!r}")
        start, stop = self._records[name]
        if limit is not None and stop - start > limit:
            raise self._wrong(f"{name} has {stop - start:,} bytes; the limit is {limit:,}")
        return start, stop

    def _text(self, name: str) -> str:
        if name not in self._records:
            return ""
        start, stop = self._record(name, 4096)
        return self._map[start:stop].decode("ascii", "replace").strip()

    # From the pickle's data to plain values and tensor entries ------------------------------------

    def _to_values(self, value: Any, path: str, depth: int) -> Any:
        self._values_left -= 1
        if self._values_left < 0 or depth > MAX_DEPTH:
            raise self._wrong("its pickle is nested without end, or has too many values")
        if isinstance(value, Call):
            return self._call_result(value, path, depth)
        if isinstance(value, dict):
            return {k: self._to_values(v, _joined(path, k), depth + 1) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            items = [self._to_values(v, _joined(path, n), depth + 1) for n, v in enumerate(value)]
            return items if isinstance(value, list) else tuple(items)
        return value

    def _call_result(self, call: Call, path: str, depth: int) -> Any:
        """The value of a call: a tensor's entry, a size, a dict; else the call itself."""
        function, args = call.function, call.args
        if not isinstance(function, Symbol) or not isinstance(args, tuple):
            return call
        if function in _REBUILD:
            return self._entry(args, path, typed=function.name.endswith("v2"))
        if function in _PARAMETERS and args:
            return self._to_values(args[0], path, depth + 1)
        if function == _SUBCLASS and len(args) >= 3:
            return self._to_values(Call(args[0], args[2]), path, depth + 1)
        if function == _SIZE and len(args) == 1:
            return self._to_values(args[0], path, depth + 1)
        if function == _ORDERED_DICT and len(args) == 1 and isinstance(args[0], list):
            pairs = [pair for pair in args[0] if isinstance(pair, (list, tuple)) and len(pair) == 2]
            named = {key: item for key, item in pairs if isinstance(key, str)}
            return self._to_values(named, path, depth + 1)
        return call

    def _entry(self, args: tuple[Any, ...], path: str, typed: bool) -> TensorEntry:
        """Make a tensor's entry; validate its storage, shape and strides against the file."""

        def wrong(what: str) -> FileFormatError:
            return self._wrong(f"tensor {path!r} {what}")

        parts = args[0].id if args and isinstance(args[0], Persistent) else None
        if not isinstance(parts, tuple) or len(parts) != 5 or parts[0] != "storage":
            raise wrong("has no storage that can be read")
        _, kind, key, location, _ = parts
        if not typed and len(args) > 6:
            kind = args[6]
        if not isinstance(kind, Symbol) or not isinstance(key, str):
            raise wrong("has no storage that can be read")
        name = _STORAGES.get(kind.name) if typed else kind.name
        if name not in _DTYPES:
            raise wrong(f"has elements of {str(kind):.100}, which gradient does not read")
        if typed and len(args) > 6 and args[6]:
            raise wrong("is the conjugate or the negative of what is stored; save a copy, clone()")
        if len(args) < 4 or not (_counts((args[1],)) and _counts(args[2]) and _counts(args[3])):
            raise wrong("has no proper offset, shape and strides")
        dtype, (offset, shape, stride) = _DTYPES[name], args[1:4]
        if len(shape) != len(stride) or len(shape) > 32:
            raise wrong(f"has {len(shape)} dimensions and {len(stride)} strides")
        start, stop = self._record(f"data/{key}")
        held = (stop - start) // dtype.itemsize
        count = prod(shape)
        steps = zip(shape, stride, strict=True)
        last = offset + sum((n - 1) * step for n, step in steps if n > 1)
        if count and (last >= held or count > held):
            shared = any(n > 1 and not step for n, step in zip(shape, stride, strict=True))
            raise wrong(
                f"of shape {shape} does not fit its storage of {held:,} elements: "
                + (
                    "it is expanded; save a copy, clone()"
                    if shared and last < held
                    else "the file is truncated or damaged"
                )
            )
        if not has_room(shape, dtype.itemsize):
            raise wrong(f"of shape {shape} is larger than any memory")
        return TensorEntry(key, dtype, shape, stride, offset, str(location))

    def _select(self, key: str | None) -> dict[str, TensorEntry]:
        chosen = self.content
        for part in key.split(".") if key else ():
            if not isinstance(chosen, dict) or part not in chosen:
                held = ", ".join(map(str, chosen)) if isinstance(chosen, dict) else "no dict there"
                raise self._wrong(f"it has no {key!r} ({held})")
            chosen = chosen[part]
        if isinstance(chosen, dict) and not any(
            isinstance(value, TensorEntry) for value in chosen.values()
        ):
            for name in WRAPPERS:
                if isinstance(chosen.get(name), dict) and any(_tensors(chosen[name], "")):
                    chosen = chosen[name]
                    break
        found = dict(_tensors(chosen, ""))
        if unread := [name for name, value in found.items() if isinstance(value, Call)]:
            kinds = sorted({found[name].function.name.removeprefix(_MAKES) for name in unread})
            raise self._wrong(
                f"it has tensors of kinds that gradient does not read ({', '.join(kinds):.200}): "
                f"{', '.join(unread[:5])}{', ...' if len(unread) > 5 else ''}; save dense ones, "
                "that are not quantised"
            )
        if long := next((name for name in found if len(name) > MAX_NAME_CHARACTERS), None):
            raise self._wrong(
                f"a name has more than {MAX_NAME_CHARACTERS} characters: {long:.50}..."
            )
        if not found:
            raise self._wrong(f"there are no tensors in it{_instead(chosen)}")
        whole = sum(prod(entry.shape) * entry.dtype.itemsize for entry in found.values())
        if whole > MAX_SHARING * len(self._map):
            raise self._wrong(
                f"its tensors have {whole:,} bytes and the file {len(self._map):,}: too many of "
                "them are the same; save a copy of each, clone()"
            )
        return found


def _joined(path: str, key: Any) -> str:
    """The name for `key` in `path`, cut if it is too long."""
    name = key if isinstance(key, str) else repr(key)
    return (f"{path}.{name}" if path else name)[: MAX_NAME_CHARACTERS + 1]


def _tensors(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every tensor in nested dicts, lists and tuples, by its dotted path."""
    items: Any = ()
    if isinstance(value, TensorEntry) or _is_tensor(value):
        yield path or "tensor", value
    elif isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    for key, item in items:
        yield from _tensors(item, _joined(path, key))


def _is_tensor(value: Any) -> bool:
    """Whether a call would make a tensor of an unsupported kind."""
    function = value.function if isinstance(value, Call) else None
    return (
        isinstance(function, Symbol)
        and function.module == "torch._utils"
        and function.name.startswith(_MAKES)
    )


def _instead(value: Any) -> str:
    """A note for an error if a file contains a whole module instead of weights; else ""."""
    values = value.values() if isinstance(value, dict) else (value,)
    for held in values:
        if isinstance(held, Call) and isinstance(held.state, dict) and "_modules" in held.state:
            return (
                f", but a whole module, {str(held.function):.100}, which takes its own code to "
                f"build; {_SAVE_WEIGHTS}"
            )
    return ""


def _counts(value: Any) -> bool:
    """Whether a value is a tuple of integers from 0 up, below 2**62."""
    return isinstance(value, tuple) and all(
        type(number) is int and 0 <= number < 1 << 62 for number in value
    )


def _read_directory(file: IO[bytes], path: str) -> dict[str, tuple[int, int]]:
    """The range of each record's bytes, by its name without the archive's folder."""
    size = size_of(file)
    beginning = file.read(SIGNATURE_BYTES)
    if format_of(beginning) != "zip":
        what = "in safetensors' format; gradient.load reads it"
        if format_of(beginning) != "safetensors":
            what = instead_of_weights(beginning) or "no zip file, and damaged or of another format"
        raise FileFormatError(f"{path} is not a PyTorch file that gradient reads: it is {what}")
    records: dict[str, tuple[int, int]] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if any("/code/" in name for name in names):
                raise ValueError("it is a TorchScript program; " + _SAVE_WEIGHTS)
            if not any(name.endswith("/data.pkl") for name in names):
                listed = ", ".join(map(repr, names[:3])) or "nothing"
                raise ValueError(f"it is a zip file without PyTorch's data.pkl; it holds {listed}")
            for info in archive.infolist():
                if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                    raise ValueError(f"{info.filename!r} is compressed or encrypted")
                file.seek(info.header_offset)
                header = file.read(30)
                if len(header) < 30 or header[:4] != b"PK\x03\x04":
                    raise ValueError(f"{info.filename!r} is not where the directory says")
                name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
                start = info.header_offset + 30 + name_bytes + extra_bytes
                stop = start + info.file_size
                if stop > size:
                    raise ValueError(f"{info.filename!r} ends beyond the file: it is truncated")
                name = info.filename.partition("/")[2]
                if name in records:
                    raise ValueError(f"there are two records {name!r:.100}")
                records[name] = (start, stop)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
        raise FileFormatError(
            f"{path} is not a PyTorch file that gradient reads, or damaged: {error}"
        ) from None
    return records
