"""Recognises a file by its signature, its first bytes: weights of some format, or another kind."""

from __future__ import annotations

import re

#: The bytes needed; a text may begin with white space, a zip with a long name.
SIGNATURE_BYTES = 512

_PAGE = "a web page; was a link to the file's page downloaded?"
#: First bytes; the format's name here, if it is used; and the description for errors: the kind of
#: file, and what opens it. The first match counts.
_BINARY: list[tuple[bytes, str | None, str]] = [
    (
        rb"GGUF",
        "gguf",
        "a GGUF file; gradient.hub.load runs it as a model, gradient.io.GGUFFile reads its tensors",
    ),
    (rb"lmgg", "ggml", "in GGML's format of before 2023; download a GGUF of the model"),
    (rb"tjgg", "ggjt", "in the GGJT format, which GGUF replaced in 2023; download a GGUF"),
    # A zip begins with its first member: at byte 26, the lengths of its name and extra field.
    (
        rb"PK\x03\x04.{26}[^\0]{0,400}?\.npy",
        "npz",
        "a NumPy archive (.npz); numpy.load opens it, gradient.from_numpy takes its arrays",
    ),
    (rb"PK\x03\x04", "zip", "a zip file, such as PyTorch's .pt, which gradient.load reads"),
    (
        rb"\x93NUMPY",
        "npy",
        "a NumPy array (.npy); numpy.load opens it, gradient.from_numpy takes it",
    ),
    (
        rb"\x89HDF\r\n\x1a\n",
        "hdf5",
        "an HDF5 file (.h5), as Keras writes them; h5py.File opens it, gradient.from_numpy takes "
        "its arrays",
    ),
    # A pickle has no zero next: that would be a number, such as the width of llama2.c's models.
    (
        rb"\x80[\x02-\x05][^\0]",
        "pickle",
        "a pickle, such as an old PyTorch .pt, and is not run here; load it with what wrote it and "
        "save its tensors again, with torch.save of PyTorch 1.6 or later",
    ),
    (rb"\x1f\x8b", "gzip", "packed by gzip; unpack it first (gunzip)"),
    (rb"\x28\xb5\x2f\xfd", "zstd", "packed by zstd; unpack it first (unzstd)"),
    (rb"\xfd7zXZ", "xz", "packed by xz; unpack it first (unxz)"),
    (rb"BZh[1-9]", "bzip2", "packed by bzip2; unpack it first (bunzip2)"),
    (rb"7z\xbc\xaf\x27\x1c", "7z", "a 7-Zip archive; unpack it first (7z x)"),
    (rb".{257}ustar", "tar", "a tar archive; unpack it first (tar xf)"),
    (rb"PAR1", "parquet", "a Parquet file, a table; pandas.read_parquet opens it"),
    (rb"%PDF", "pdf", "a PDF"),
    (rb"\xff\xd8\xff", "jpeg", "a JPEG picture"),
    (rb"\x89PNG", "png", "a PNG picture"),
    # Usually results of a failed download.
    (
        rb"\s*(?i:version https://git-lfs)",
        None,
        "a Git LFS pointer, not the file itself; run: git lfs pull",
    ),
    (rb"\s*(?i:<!doctype|<html)", None, _PAGE),
    (rb"\s*<\?xml", None, "a text in XML; was a server's error message downloaded?"),
]
_SIGNATURES = [(re.compile(start, re.DOTALL), name, words) for start, name, words in _BINARY]
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")


def format_of(beginning: bytes) -> str | None:
    """The name of the binary format with these first bytes ("gguf", "zip"), if known."""
    # Safetensors begins with the length of the header, below 2^27, then the header, JSON. The
    # length is tested first, as that of a header of 640 bytes begins like a pickle.
    if beginning[4:9] == b"\0\0\0\0{":
        return "safetensors"
    return next((name for start, name, _ in _SIGNATURES if start.match(beginning)), None)


def describe(beginning: bytes) -> str | None:
    """Describe a file by its first bytes, in words; None if they are unknown."""
    if not beginning:
        return "empty"
    return next((words for start, _, words in _SIGNATURES if start.match(beginning)), None)


def instead_of_weights(beginning: bytes) -> str | None:
    """Describe a file that has no weights: by `describe`, or as a text file, or zeros."""
    if found := describe(beginning):
        return found
    if not beginning.strip(b"\0"):
        return "all zeros where it begins, as a broken download leaves a file; download it again"
    try:
        text = beginning.decode("utf-8")
    except UnicodeDecodeError as error:  # a character may be cut off at the end
        if error.start < len(beginning) - 3 or error.reason != "unexpected end of data":
            return None
        text = beginning[: error.start].decode("utf-8")
    if _CONTROL.search(beginning):
        return None
    kind = "a JSON file" if text.lstrip()[:1] in ("{", "[") else "a text file"
    return f"{kind} ({text.strip()[:20]!r} ...), not weights"
