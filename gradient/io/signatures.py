"""What a file is by its signature, its first bytes: a format of weights, or what took its place."""

from __future__ import annotations

#: Binary formats: how they begin, what they are called here, and what to say of such a file.
_BINARY = (
    (b"GGUF", "gguf", "a GGUF file"),
    (b"lmgg", "ggml", "in GGML's format of before 2023; download a GGUF of the model"),
    (b"tjgg", "ggjt", "in the GGJT format, which GGUF replaced in 2023; download a GGUF"),
    (b"PK\x03\x04", "zip", "a zip file, such as PyTorch's .pt"),
    (b"\x80\x02", "pickle", "a pickle, such as an old PyTorch .pt"),
    (b"\x1f\x8b", "gzip", "packed by gzip; unpack it first"),
    (b"\xff\xd8\xff", "jpeg", "a JPEG picture"),
    (b"\x89PNG", "png", "a PNG picture"),
)
#: Texts, in lower case, after any white space: most often they come of a failed download.
_TEXT = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; run: git lfs pull"),
    (b"<!doctype", "a web page; was a link to the file's page downloaded?"),
    (b"<html", "a web page; was a link to the file's page downloaded?"),
)
#: As many bytes as a signature has at most, with some white space.
SIGNATURE_BYTES = 64


def format_of(beginning: bytes) -> str | None:
    """The name of the binary format that begins with these bytes ("gguf", "zip"), if known."""
    # Safetensors begins with the length of a header, below 2^27, which is an object of JSON. The
    # length comes first here, as that of a header of 640 bytes begins like a pickle.
    if beginning[4:9] == b"\0\0\0\0{":
        return "safetensors"
    return next((name for magic, name, _ in _BINARY if beginning.startswith(magic)), None)


def describe(beginning: bytes) -> str | None:
    """What a file is that begins with these bytes, in words; None if that is not to be seen."""
    if not beginning:
        return "empty"
    text = beginning.lstrip().lower()
    found = [words for magic, _, words in _BINARY if beginning.startswith(magic)]
    found += [words for magic, words in _TEXT if text.startswith(magic)]
    return found[0] if found else None
