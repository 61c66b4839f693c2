"""The end of a text at a stop string, which may begin and end inside tokens."""

from __future__ import annotations

from collections.abc import Sequence

from gradient.errors import ArgumentError

__all__ = ["StopStrings"]


class StopStrings:
    r"""Passes text through until a stop string appears; holds back text that may be its beginning.

    Example:
        >>> stop = StopStrings(["\n\n"])
        >>> stop.push("one\n"), stop.push("two"), stop.push("\n\nthree")
        ('one', '\ntwo', '')
        >>> stop.found
        '\n\n'
    """

    def __init__(self, strings: str | Sequence[str] | None = None) -> None:
        self.strings = [strings] if isinstance(strings, str) else list(strings or [])
        if not all(isinstance(string, str) and string for string in self.strings):
            raise ArgumentError(f"stop: expected non-empty strings, got {self.strings!r}")
        #: The stop string that ended the text; None before.
        self.found: str | None = None
        self._held = ""

    def push(self, piece: str) -> str:
        """Return the text that, after `piece`, cannot be part of a stop string."""
        if not self.strings:
            return piece
        if self.found is not None:
            return ""
        text = self._held + piece
        # Of several, the one that is complete first counts (of those, the longest): so the outcome
        # is the same however the text is cut into pieces.
        starts = {string: text.find(string) for string in self.strings}
        ends = [(at + len(string), at, string) for string, at in starts.items() if at >= 0]
        if ends:
            _, start, self.found = min(ends)
            self._held = ""
            return text[:start]
        held = max((_overlap(text, string) for string in self.strings), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """Return the text that was held back, at the end of the text."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, string: str) -> int:
    """Return the length of the longest suffix of `text` that is a proper prefix of `string`."""
    for length in range(min(len(text), len(string) - 1), 0, -1):
        if text.endswith(string[:length]):
            return length
    return 0
