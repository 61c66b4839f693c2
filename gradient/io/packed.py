"""Packed tensors in a safetensors file: their parts as plain tensors, and an entry in the header.

The format has one number per element, so a packed tensor `w` is stored as its parts, such as
`w.blocks`, and the header's metadata describes the whole under `gradient.packed`:

    {"w": {"dtype": "q4_k", "shape": [4096, 11008]}}

Other readers see arrays of bytes (and of scales, if a format stores those separately).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.packed import PackedArray
from gradient.dtypes import PackedDType, dtype_of
from gradient.errors import ArgumentError, FileFormatError, TypeMismatch
from gradient.tensor import Tensor

#: The key of the header's metadata for the entries of packed tensors.
METADATA_KEY = "gradient.packed"
#: The limit of dimensions of a weight.
MAX_DIMS = 8


class PackedEntry(NamedTuple):
    """A file's description of one packed tensor."""

    dtype: PackedDType
    shape: tuple[int, ...]

    def parts(self, name: str) -> list[str]:
        """The names of the stored parts of `name`."""
        return [f"{name}.{part}" for part in self.dtype.part_names]

    def tensor(self, parts: list[np.ndarray]) -> Tensor:
        from gradient.backends import get

        return Tensor._wrap(PackedArray(self.dtype, self.shape, tuple(parts)), get("cpu"))


def split_packed(
    tensors: Mapping[str, Tensor | np.ndarray], metadata: Mapping[str, str] | None
) -> tuple[dict[str, Tensor | np.ndarray], dict[str, str]]:
    """The tensors with packed ones split into their parts, and the metadata with their entries.

    Raises:
        ArgumentError: a part's name is another tensor's.
    """
    flat: dict[str, Tensor | np.ndarray] = {}
    entries: dict[str, Any] = {}
    taken = []
    for name, tensor in tensors.items():
        pieces: dict[str, Tensor | np.ndarray] = {name: tensor}
        if isinstance(tensor, Tensor) and not tensor.dtype.elementwise:
            array = tensor.array.as_stored(tensor.backend)
            entry = PackedEntry(array.dtype, array.shape)
            entries[name] = {"dtype": entry.dtype.name, "shape": [int(n) for n in entry.shape]}
            parts = [Tensor._wrap(part, tensor.backend) for part in array.parts]
            pieces = dict(zip(entry.parts(name), parts, strict=True))
        taken += [piece for piece in pieces if piece in flat]
        flat |= pieces
    if taken:
        raise ArgumentError(
            f"save_file: {', '.join(map(repr, taken))} names a tensor and a part of a packed one; "
            "rename the tensor"
        )
    kept = {key: value for key, value in (metadata or {}).items() if key != METADATA_KEY}
    return flat, kept | ({METADATA_KEY: json.dumps(entries)} if entries else {})


def read_entries(
    text: str,
    stored: Callable[[str], tuple[tuple[int, ...], np.dtype | None] | None],
    wrong: Callable[[str], FileFormatError],
) -> dict[str, PackedEntry]:
    """A header's entries, checked: every part is there, with the shape and dtype that it needs.

    Args:
        stored: the shape and dtype of what is stored under a name, None if nothing is.
        wrong: makes the error for what is wrong.
    """
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise wrong(f"its {METADATA_KEY} is not proper JSON: {error}") from None
    if not isinstance(entries, dict):
        raise wrong(f"its {METADATA_KEY} is a JSON {type(entries).__name__}, not an object")
    return {name: _read_entry(name, entry, stored, wrong) for name, entry in entries.items()}


def _read_entry(
    name: str,
    entry: Any,
    stored: Callable[[str], tuple[tuple[int, ...], np.dtype | None] | None],
    wrong: Callable[[str], FileFormatError],
) -> PackedEntry:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape"}:
        raise wrong(f"its {METADATA_KEY} must say exactly dtype and shape of {name!r}")
    try:
        dtype = dtype_of(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    except TypeMismatch:
        dtype = None
    if not isinstance(dtype, PackedDType) or dtype.elementwise:
        raise wrong(
            f"packed tensor {name!r} has the unknown dtype {str(entry['dtype'])[:40]!r}; was it "
            "written by a newer gradient?"
        )
    shape = entry["shape"]
    fits = isinstance(shape, list) and 0 < len(shape) <= MAX_DIMS
    if not fits or not all(type(n) is int and n >= 0 for n in shape) or not dtype.fits(shape):
        raise wrong(f"packed tensor {name!r} of dtype {dtype.name} has shape {str(shape)[:80]}")
    found = PackedEntry(dtype, tuple(shape))
    if stored(name) is not None:
        raise wrong(f"{name!r} is both a tensor and a packed one")
    for part, expected in zip(found.parts(name), dtype.parts_of(found.shape), strict=True):
        if (given := stored(part)) != expected:
            has = "is missing" if given is None else f"is {given[1]} {given[0]}"
            raise wrong(
                f"packed tensor {name!r}: its part {part!r} {has}; {dtype.name} of shape "
                f"{found.shape} needs {expected[1]} {expected[0]}"
            )
    return found
