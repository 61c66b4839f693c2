"""SentencePiece's table of character replacements, such as NFKC with its own changes ("nmt_nfkc").

The table is a trie of UTF-8 strings, stored as Darts-clone's double array, and the replacements
that its leaves point to. At each place of a text the longest string of the trie is replaced; if
there is none, one character is kept. The step `Precompiled` of the `tokenizers` package replaces by
grapheme instead, and so misses some combinations of marks; this one is exact.
"""

from __future__ import annotations

import re
import struct
from typing import Any

import numpy as np

from gradient.errors import FileFormatError
from gradient.text.build import import_tokenizers

#: The bit fields of one unit: its label, whether it has a value, and the place of its children.
_IS_VALUE = 1 << 31
_HAS_LEAF = 1 << 8
_LABEL = _IS_VALUE | 0xFF
#: The maximum bytes of a replaced string. SentencePiece's own tables have up to 12; a damaged
#: trie may contain cycles.
_LONGEST = 256


def _offset(unit: int) -> int:
    return (unit >> 10) << ((unit & 1 << 9) >> 6)


class Charsmap:
    """A table of replacements, validated: no step through its trie leaves it.

    Args:
        data: the trie's size in bytes, its units (one uint32 each), then the replacements, each
            terminated by a zero byte.

    Raises:
        FileFormatError: it is cut short or damaged.
    """

    def __init__(self, data: bytes):
        if len(data) < 4:
            raise FileFormatError("charsmap: it ends within its head")
        (size,) = struct.unpack_from("<I", data)
        if size % 4 or not size or size > len(data) - 4:
            raise FileFormatError(
                f"charsmap: a trie of {size:,} bytes does not fit in {len(data):,}"
            )
        units = np.frombuffer(data, "<u4", size // 4, offset=4)
        texts = np.frombuffer(data, np.uint8, offset=4 + size)
        _check(units.astype(np.int64), texts)
        self._units: list[int] = units.tolist()
        self._texts = texts.tobytes()
        # Most text is ASCII that does not change, and is skipped quickly.
        unmapped = bytes(byte for byte in range(0x20, 0x7F) if not self._begins_ascii(byte))
        run = b"[" + re.escape(unmapped) + rb"]+(?![\x80-\xff])" if unmapped else rb"(?!)"
        self._unmapped_ascii = re.compile(run)

    def normalize(self, text: str) -> str:
        """`text` with the longest possible replacement at each place."""
        raw, at, parts = text.encode("utf-8"), 0, []
        while at < len(raw):
            run = self._unmapped_ascii.match(raw, at)
            if run:
                parts.append(run.group())
                at = run.end()
                continue
            size, value = self._longest(raw, at)
            if size:
                parts.append(self._texts[value : self._texts.index(0, value)])
            else:
                lead = raw[at]
                size = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
                parts.append(raw[at : at + size])
            at += size
        return b"".join(parts).decode("utf-8", "replace")

    def _begins_ascii(self, byte: int) -> bool:
        """Whether a string of the trie is this byte, or begins with it and another ASCII byte."""
        node = _offset(self._units[0]) ^ byte
        unit = self._units[node]
        if unit & _LABEL != byte:
            return False
        base = node ^ _offset(unit)
        return bool(unit & _HAS_LEAF) or any(
            self._units[base ^ other] & _LABEL == other for other in range(1, 0x80)
        )

    def _longest(self, raw: bytes, at: int) -> tuple[int, int]:
        """The size of the longest string of the trie at `at`, and the place of its replacement."""
        units, found = self._units, (0, 0)
        node = _offset(units[0])
        for size in range(1, min(len(raw) - at, _LONGEST) + 1):
            byte = raw[at + size - 1]
            node ^= byte
            unit = units[node]
            if byte == 0 or unit & _LABEL != byte:
                break
            node ^= _offset(unit)
            if unit & _HAS_LEAF:
                found = size, units[node] & ~_IS_VALUE
        return found


def _check(units: np.ndarray, texts: np.ndarray) -> None:
    inner = np.flatnonzero(units & _IS_VALUE == 0)
    offsets = (units[inner] >> 10) << ((units[inner] & 1 << 9) >> 6)
    children = inner ^ offsets
    if units[0] & _IS_VALUE or (children | 0xFF).max(initial=0) >= len(units):
        raise FileFormatError("charsmap: its trie has a branch that leads out of it")
    values = units[children[units[inner] & _HAS_LEAF != 0]] & ~_IS_VALUE
    inside = values.max(initial=0) < len(texts)
    if not inside or (texts[values] & 0xC0 == 0x80).any() or (len(texts) and texts[-1] != 0):
        raise FileFormatError("charsmap: its trie names replacements that are not there")


def check_charsmap(data: bytes) -> None:
    """Raise FileFormatError unless `data` is empty or a valid table."""
    if data:
        Charsmap(data)


class CharsmapStep:
    """The table as a step of a `tokenizers` normaliser, by `Normalizer.custom`.

    Such a step cannot be saved; a tokenizer.json has `Precompiled` instead.
    """

    def __init__(self, data: bytes):
        self._charsmap = Charsmap(data)

    def normalize(self, text: Any) -> None:
        """Change a `NormalizedString`."""
        before = text.normalized
        after = self._charsmap.normalize(before)
        if after != before:
            text.replace(import_tokenizers().Regex(r"(?m)\A.+\z"), after)
