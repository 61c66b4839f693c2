"""What a file is that has the wrong content under the right name: most often, a failed download."""

from __future__ import annotations

_BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; run: git lfs pull"),
    (b"<!doctype", "a web page; was a link to the file's page downloaded?"),
    (b"<html", "a web page; was a link to the file's page downloaded?"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89png", "a PNG picture"),
    (b"pk\x03\x04", "a zip file"),
    (b"\x1f\x8b", "packed by gzip; unpack it first"),
)


def lookalike(beginning: bytes) -> str | None:
    """What a file that begins with these bytes is, in words; None if that is not to be seen."""
    if not beginning:
        return "empty"
    beginning = beginning.lstrip().lower()
    return next((what for magic, what in _BEGINNINGS if beginning.startswith(magic)), None)
