"""A model and its tokenizer as one: text in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from gradient.errors import ArgumentError
from gradient.generation.generate import generate, stream
from gradient.generation.options import Options
from gradient.generation.prompt import Prompt
from gradient.generation.recommended import recommended
from gradient.generation.result import Generation
from gradient.models.causal_lm import CausalLM
from gradient.models.config import ModelConfig
from gradient.models.generation_config import write_generation_config
from gradient.models.loading import save_model
from gradient.text.chat_template import ChatTemplateError
from gradient.text.thinking import ends_in_open_thought, split_thinking

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
        tokenizer: text to token ids and back; None takes and gives token ids alone.
    """

    def __init__(self, model: CausalLM, tokenizer: Tokenizer | None = None, name: str = "") -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name

    @property
    def config(self) -> ModelConfig:
        """Return the model's configuration."""
        return self.model.config

    @property
    def recommended(self) -> Options:
        """Return the sampling options that the model's makers recommend, for `generate`.

        Without options `generate` takes the likeliest tokens, whatever the model; theirs are used
        by asking for them:

            lm.generate(prompt, **lm.recommended)
        """
        return recommended(self.model.generation_config)

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
        """Continue a text, yielding it as it appears; see `GenerationOptions`.

        Raises:
            ArgumentError: there is no tokenizer, so no text; or as of `generate`.
        """
        return stream(self.model, prompt, tokenizer=self.tokenizer, **options)

    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: bool = False,
        system: str | None = None,
        tools: Sequence[Any] | None = None,
        documents: Sequence[Message] | None = None,
        enable_thinking: bool | None = None,
        template_variables: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Generation | list[Generation] | Iterator[str]:
        """Answer the last of `messages`, [{"role": "user", "content": "..."}, ...].

        A model with a chat template sees the messages as its template lays them out. One without,
        which was never trained to converse, is shown a transcript ("User: ...", "Assistant:") to
        continue, and stops where it would speak for the user. What a reasoning model thinks before
        it answers is the result's `thinking`, not part of its `text`.

        Args:
            stream: yield the answer in pieces instead of returning it whole; thoughts come with
                their tags (see `gradient.text.ThinkingStream`).
            system: instructions that precede the conversation. For a model whose template knows no
                system messages they stand at the head of the user's first.
            tools: what the model may call: functions or JSON schemas (`gradient.text.render_chat`).
            documents: texts to answer from, for models that take them.
            enable_thinking: whether a model that can do both thinks; None leaves it to the model.
            template_variables: whatever else the model's template reads.
            options: see `gradient.generation.GenerationOptions`.

        Returns:
            The answer, a list of them if `num_return_sequences` asks for several, or the pieces of
            a stream.

        Raises:
            ArgumentError: messages that are none, or options that do not go together.
            ChatTemplateError: the template refuses the conversation; it says why.
        """
        check_messages(messages)
        opened = False
        if self.tokenizer is None:
            raise ArgumentError("chat: needs a tokenizer, and this model came without: give one")
        if self.tokenizer.chat_template:
            variables = dict(template_variables or {})
            if enable_thinking is not None:
                variables["enable_thinking"] = enable_thinking
            text = self._chat_text(messages, system, tools=tools, documents=documents, **variables)
            opened = ends_in_open_thought(text)
            prompt: Prompt = self.tokenizer.encode(text, add_special_tokens=False)
            if not prompt:
                raise ArgumentError("chat: the chat template shows nothing of this conversation")
        else:
            if tools or documents:
                raise ArgumentError(
                    "chat: this model has no chat template, so it knows neither tools nor documents"
                )
            prompt = transcript(_with_system(messages, system))
            stop = options.get("stop") or []
            options["stop"] = [*([stop] if isinstance(stop, str) else stop), "\nUser:"]
        if stream:
            return self.stream(prompt, **options)
        found = self.generate(prompt, **options)
        if isinstance(found, list):
            return [_without_thinking(each, opened) for each in found]
        return _without_thinking(found, opened)

    def _chat_text(self, messages: Sequence[Message], system: str | None, **variables: Any) -> str:
        assert self.tokenizer is not None
        template = self.tokenizer.apply_chat_template
        try:
            return template(_with_system(messages, system), **variables)
        except ChatTemplateError as refusal:
            content = messages[0].get("content")
            if system is None or messages[0]["role"] != "user" or not isinstance(content, str):
                raise
            first = {**messages[0], "content": f"{system}\n\n{content}"}
            try:
                return template([first, *messages[1:]], **variables)
            except ChatTemplateError:
                raise refusal from None  # so it was not the system message that it minds

    def save(self, folder: str | Path) -> None:
        """Write model and tokenizer into a folder for `gradient.hub.load` and transformers."""
        save_model(self.model, folder)
        if self.tokenizer is not None:
            self.tokenizer.save(folder)
        write_generation_config(self.model.generation_config, Path(folder))

    def __repr__(self) -> str:
        millions = self.model.num_parameters() / 1e6
        size = f"{millions:.1f} M parameters, {self.model.dtype.name} on {self.model.device}"
        return f"LanguageModel({self.name or type(self.model).__name__!r}, {size})"


def _without_thinking(generation: Generation, opened: bool) -> Generation:
    thought = split_thinking(generation.text, opened=opened)
    return replace(generation, text=thought.answer, thinking=thought.thinking)


def check_messages(messages: Sequence[Message]) -> None:
    """Raise unless `messages` is a list of dicts with a role and a content."""
    if isinstance(messages, str) or not isinstance(messages, Sequence) or not messages:
        raise ArgumentError(
            'messages: expected a list such as [{"role": "user", "content": "hi"}], got '
            f"{messages!r}"
        )
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ArgumentError(
                f'messages[{number}]: expected a dict with "role" and "content", got {message!r}'
            )


def _with_system(messages: Sequence[Message], system: str | None) -> list[Message]:
    if system is None:
        return list(messages)
    if messages[0]["role"] == "system":
        raise ArgumentError("chat: system= and a first message of role system; give one of them")
    return [{"role": "system", "content": system}, *messages]


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
