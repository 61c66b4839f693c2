"""One continuation as it grows: it takes tokens and returns text that can no longer change. It ends
before the first stop string, which may begin and end inside tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradient.errors import ArgumentError
from gradient.generation.decoder import Token
from gradient.generation.result import Generation

if TYPE_CHECKING:
    from gradient.text.stream import StreamDecoder

__all__ = ["StopStrings"]


@dataclass
class Row:
    """One prompt's continuation as it grows: its text so far, and whether it has ended."""

    budget: int  # tokens it may still have
    budget_reason: str  # why no more
    result: Generation
    stop: StopStrings
    decoder: StreamDecoder | None  # the tokenizer's, if there is one
    complete: Callable[[list[int]], bool] | None = None  # whether nothing may follow these tokens

    def add(self, token: Token, eos_ids: frozenset[int]) -> str:
        """Add a token; return the text that can no longer change."""
        result = self.result
        if token.token_id in eos_ids:
            return self.finish("stop")
        result.token_ids.append(token.token_id)
        if result.logprobs is not None and token.logprob is not None:
            result.logprobs.append(token.logprob)
        piece = self._emit(self.decoder.push(token.token_id) if self.decoder else "")
        if self.stop.found is not None:
            result.finish_reason, result.stop_string = "stop", self.stop.found
        elif self.complete is not None and self.complete(result.token_ids):
            piece += self.finish("stop")
        elif len(result.token_ids) == self.budget:
            piece += self.finish(self.budget_reason)
        return piece

    def finish(self, reason: str) -> str:
        """End the row; return the text that was held back."""
        piece = self._emit(self.decoder.flush() if self.decoder else "")
        if self.stop.found is not None:
            reason, self.result.stop_string = "stop", self.stop.found
        held = self.stop.flush()
        self.result.text += held
        self.result.finish_reason = reason
        return piece + held

    def _emit(self, text: str) -> str:
        piece = self.stop.push(text)
        self.result.text += piece
        return piece


class StopStrings:
    """Passes text through until a stop string appears; holds back text that may be its beginning.

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
