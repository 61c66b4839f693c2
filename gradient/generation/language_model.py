"""A model and its tokenizer as one: text in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from gradient.errors import ArgumentError
from gradient.generation.generate import generate, stream
from gradient.generation.options import Options
from gradient.generation.prompt import Prompt
from gradient.generation.result import Generation
from gradient.models.causal_lm import CausalLM
from gradient.models.config import ModelConfig
from gradient.models.loading import save_model

if TYPE_CHECKING:
    from gradient.text import Tokenizer

Message = dict[str, Any]


class LanguageModel:
    """A language model that takes and gives text; `gradient.hub.load` makes one.

    Example:
        >>> lm = gradient.hub.load("pycoder")
        >>> print(lm.generate("def add(a, b):", max_new_tokens=20))
        >>> for piece in lm.stream("import "):
        ...     print(piece, end="")

    Attributes:
        model: the network, a `CausalLM` module: token ids (B, T) to logits (B, T, V).
        tokenizer: text to token ids and back.
    """

    def __init__(self, model: CausalLM, tokenizer: Tokenizer, name: str = "") -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name

    @property
    def config(self) -> ModelConfig:
        """Return the model's configuration."""
        return self.model.config

    def generate(
        self, prompt: Prompt | Sequence[Prompt], **options: Unpack[Options]
    ) -> Generation | list[Generation]:
        """Continue a text (or token ids), or several at once.

        Args:
            options: see `gradient.generation.GenerationOptions`.

        Returns:
            A Generation, whose `str` is the new text; one per prompt if a list of prompts was
            given.
        """
        return generate(self.model, prompt, tokenizer=self.tokenizer, **options)

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> Iterator[str]:
        """Continue a text, yielding it as it appears; see `GenerationOptions`."""
        return stream(self.model, prompt, tokenizer=self.tokenizer, **options)

    def chat(
        self, messages: Sequence[Message], *, stream: bool = False, **options: Unpack[Options]
    ) -> Generation | Iterator[str]:
        """Answer the last of `messages`, [{"role": "user", "content": "..."}, ...].

        A model with a chat template sees the messages as its template lays them out. One without,
        which was never trained to converse, is shown a transcript ("User: ...", "Assistant:") to
        continue, and stops where it would speak for the user.

        Args:
            stream: yield the answer in pieces instead of returning it whole.
            options: see `gradient.generation.GenerationOptions`.
        """
        check_messages(messages)
        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(messages)
            prompt: Prompt = self.tokenizer.encode(text, add_special_tokens=False)
        else:
            prompt = transcript(messages)
            stop = options.get("stop") or []
            options["stop"] = [*([stop] if isinstance(stop, str) else stop), "\nUser:"]
        if stream:
            return self.stream(prompt, **options)
        return cast(Generation, self.generate(prompt, **options))

    def save(self, folder: str | Path) -> None:
        """Write model and tokenizer into a folder for `gradient.hub.load` and transformers."""
        save_model(self.model, folder)
        self.tokenizer.save(folder)

    def __repr__(self) -> str:
        millions = self.model.num_parameters() / 1e6
        size = f"{millions:.1f} M parameters, {self.model.dtype.name} on {self.model.device}"
        return f"LanguageModel({self.name or type(self.model).__name__!r}, {size})"


def check_messages(messages: Sequence[Message]) -> None:
    """Raise unless `messages` is a list of dicts with a role and a content."""
    if isinstance(messages, (str, dict)) or not messages:
        raise ArgumentError(
            'messages: expected a list such as [{"role": "user", "content": "hi"}], got '
            f"{messages!r}"
        )
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ArgumentError(
                f'messages[{number}]: expected a dict with "role" and "content", got {message!r}'
            )


def transcript(messages: Sequence[Message]) -> str:
    """Return a conversation as plain text that ends where the assistant speaks.

    Raises:
        ArgumentError: the content of a message is no text (a list of parts, say).
    """
    for number, message in enumerate(messages):
        content = message.get("content")
        if content is not None and not isinstance(content, str):
            raise ArgumentError(
                f"messages[{number}]: without a chat template the content must be a text, got "
                f"{content!r:.80}"
            )
    turns = [
        f"{message['role'].capitalize()}: {message.get('content') or ''}" for message in messages
    ]
    return "\n".join([*turns, "Assistant:"])
