"""The result of a generation: text, tokens, finish reason, timings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

__all__ = ["Generation", "Timings", "TokenLogprob"]


class TokenLogprob(NamedTuple):
    """A token's log-probability (natural, from unprocessed logits) and the most probable tokens
    in its place."""

    token_id: int
    logprob: float
    top: dict[int, float]  # token id -> log-probability, the likeliest first


@dataclass
class Timings:
    """How long the parts of a generation took. Rows of one batch share the clock."""

    prompt_tokens: int = 0
    cached_tokens: int = 0  # of these, the ones that a prompt cache held
    generated_tokens: int = 0
    prompt_seconds: float = 0.0  # until the first token was there
    decode_seconds: float = 0.0  # from the first token to the last
    drafted_tokens: int = 0  # proposed in speculative decoding
    accepted_tokens: int = 0  # the drafted tokens that the model accepted
    replayed_steps: int = 0  # passes of the model that were replayed from a recording
    not_replayed: str | None = None  # why others were not replayed, if that was wanted

    def __str__(self) -> str:
        """Return one line, as `--verbose` shows it."""
        cached = f" ({self.cached_tokens} cached)" if self.cached_tokens else ""
        parts = [
            f"prompt {self.prompt_tokens} tokens{cached} in {self.prompt_seconds:.2f} s",
            f"{self.generated_tokens} generated",
        ]
        if self.tokens_per_second:
            parts.append(f"{self.tokens_per_second:.1f} tokens/s")
        if self.drafted_tokens:
            parts.append(f"{self.accepted_tokens} of {self.drafted_tokens} drafted accepted")
        if self.replayed_steps:
            parts.append(f"{self.replayed_steps} steps replayed")
        if self.not_replayed:
            parts.append(f"by modules: {self.not_replayed}")
        return ", ".join(parts)

    @property
    def tokens_per_second(self) -> float:
        """Return the decoding rate, without the prompt's share; 0 for fewer than two tokens."""
        steps = self.generated_tokens - 1
        return steps / self.decode_seconds if steps > 0 and self.decode_seconds > 0 else 0.0


@dataclass
class Generation:
    """The text that a model generated. `str(generation)` is the text.

    Attributes:
        text: the text, without the prompt and without the stop string that ended it.
        token_ids: the generated tokens, with those of a stop string, without an end-of-text token.
        finish_reason: "stop" (end-of-text token or stop string), "length" (max_new_tokens), or
            "context" (the model's context is full).
        stop_string: the stop string that ended the text; None if none did.
        seed: the seed with which tokens were drawn, given or not: the same seed gives the same
            text. None if no token is drawn (temperature 0).
        logprobs: one entry per token, if requested.
        score: the score of a text found by beam search: the sum of its processed log-probabilities,
            divided by its length (an end-of-text token included) ** `length_penalty`.
        timings: how long the parts of the generation took.
        thinking: the text of a reasoning model in `<think>` ... `</think>`, which `chat` removes
            from `text` (`LanguageModel.chat`); "" if there is none.
    """

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str = ""
    stop_string: str | None = None
    seed: int | None = None
    logprobs: list[TokenLogprob] | None = None
    score: float | None = None
    timings: Timings = field(default_factory=Timings, compare=False)
    thinking: str = ""

    def __str__(self) -> str:
        return self.text

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        values = asdict(self)
        values["timings"]["tokens_per_second"] = self.timings.tokens_per_second
        if self.logprobs is not None:
            values["logprobs"] = [each._asdict() for each in self.logprobs]
        return values
