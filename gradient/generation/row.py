"""One continuation as it grows: it takes tokens and returns text that can no longer change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradient.generation.decoder import Token
from gradient.generation.result import Generation
from gradient.generation.stop_strings import StopStrings

if TYPE_CHECKING:
    from gradient.text.stream import StreamDecoder


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
