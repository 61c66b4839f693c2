"""A language model together with its tokenizer: text in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from gradient import absent
from gradient.checkpoints.generation_config import write_generation_config
from gradient.checkpoints.loading import save_model
from gradient.errors import ArgumentError
from gradient.generation.conversation import (
    ConversationOptions,
    transcript,
    trimmed,
    with_system,
    with_texts,
)
from gradient.generation.generate import TextStream, generate, stream
from gradient.generation.options import Options, SamplingOptions, StreamOptions
from gradient.generation.prompt import Prompt, context_limit, encode_prompt
from gradient.generation.recommended import recommended
from gradient.generation.result import Generation
from gradient.models.causal_lm import CausalLM
from gradient.models.config import ModelConfig
from gradient.source_lines import warn_user
from gradient.text.chat_template import ChatTemplateError
from gradient.text.messages import Message, check_messages
from gradient.text.thinking import ends_in_open_thought, split_thinking

if TYPE_CHECKING:
    from gradient.text import Tokenizer

__all__ = ["LanguageModel"]


class ChatStreamOptions(ConversationOptions, StreamOptions, total=False):
    """The options of `chat` that streams its answer."""


class ChatOptions(ConversationOptions, Options, total=False):
    """The options of `chat`."""


MODULE = "the nn.Module is lm.model: use lm.model."


@absent.hints(
    **{
        name: MODULE + name
        for name in ("to", "eval", "train", "parameters", "named_parameters", "state_dict",
                     "load_state_dict", "forward", "half", "cuda", "device", "dtype")
    },
    from_pretrained="use gradient.hub.load(source)",
    save_pretrained="use lm.save(folder)",
    push_to_hub="lm.save writes a folder, which `hf upload` uploads",
    quantize='use gradient.hub.load(source, quantize="q8_0")',
)  # fmt: skip
class LanguageModel:
    """A language model with its tokenizer; `gradient.hub.load` makes one.

    Example:
        >>> lm = gradient.hub.load("tinyworld")
        >>> print(lm.generate("Once upon a time"))
        >>> for piece in lm.stream("Once upon a time"):
        ...     print(piece, end="")

    Attributes:
        model: a `CausalLM` module, from token ids (B, T) to logits (B, T, V).
        name: the name by which it was loaded.

    Without a tokenizer it takes and returns token ids only.
    """

    def __init__(self, model: CausalLM, tokenizer: Tokenizer | None = None, name: str = "") -> None:
        self.model = model
        self._tokenizer = tokenizer
        self.name = name

    @property
    def has_tokenizer(self) -> bool:
        """Return whether there is a tokenizer."""
        return self._tokenizer is not None

    @property
    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer, which converts between text and token ids.

        Raises:
            ArgumentError: the model has no tokenizer.
        """
        if self._tokenizer is None:
            raise ArgumentError(
                f"{self.name or type(self.model).__name__}: text needs a tokenizer, and this model "
                "came without: give one to `load` (on the command line by --tokenizer)"
            )
        return self._tokenizer

    @property
    def config(self) -> ModelConfig:
        """Return the model's configuration."""
        return self.model.config

    @property
    def recommended(self) -> SamplingOptions:
        """Return the sampling options in the model's generation_config.json, for `generate`.

        `generate` does not use them by itself: without options it decodes greedily for every
        model. To use them:

            lm.generate(prompt, **lm.recommended)
        """
        return recommended(self.model.generation_config)

    @overload  # a text is a sequence of texts, too: its letters
    def generate(  # type: ignore[overload-overlap]
        self, prompt: Prompt, **options: Unpack[StreamOptions]
    ) -> Generation: ...

    @overload
    def generate(
        self, prompt: Prompt | Sequence[Prompt], **options: Unpack[Options]
    ) -> list[Generation]: ...

    def generate(
        self, prompt: Prompt | Sequence[Prompt], **options: Unpack[Options]
    ) -> Generation | list[Generation]:
        """Continue a text (or token ids), or several at once.

        Args:
            options: see `gradient.generation.GenerationOptions`.

        Returns:
            A Generation, whose `str` is the new text; for a list of prompts, a list of them.

        Raises:
            ArgumentError, TypeMismatch, GenerationError: see `gradient.generation.generate`.
        """
        return generate(self.model, prompt, tokenizer=self._tokenizer, **options)

    def stream(self, prompt: Prompt, **options: Unpack[StreamOptions]) -> TextStream:
        """Continue a text; return an iterator over its pieces. See `GenerationOptions`.

        Raises:
            ArgumentError: there is no tokenizer; or as in `generate`.
        """
        return stream(self.model, prompt, tokenizer=self._tokenizer, **options)

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: Literal[True],
        **options: Unpack[ChatStreamOptions],
    ) -> TextStream: ...

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: Literal[False] = False,
        **options: Unpack[ChatStreamOptions],
    ) -> Generation: ...

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: Literal[False] = False,
        **options: Unpack[ChatOptions],
    ) -> list[Generation]: ...

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
        **options: Unpack[Options],
    ) -> Generation | list[Generation] | TextStream:
        """Answer the last of `messages`, [{"role": "user", "content": "..."}, ...].

        The model's chat template turns the messages into the prompt. A base model has no template;
        its prompt is a transcript ("User: ...", "Assistant:"), and generation stops where the user
        would speak next. The thinking of a reasoning model is the result's `thinking`, and not
        part of its `text`.

        Args:
            stream: return an iterator over the pieces of the answer. Thinking is included, with its
                tags (see `gradient.text.ThinkingStream`).
            system: a system message before the conversation. If the template does not support
                system messages, it is put before the user's first message.
            tools: functions or JSON schemas of functions that the model may call
                (`gradient.text.render_chat`).
            documents: texts to answer from, for models that support them.
            enable_thinking: switches thinking on or off in a model that supports both; None: the
                model's default.
            template_variables: further variables for the model's template.
            options: see `gradient.generation.GenerationOptions`.

        Returns:
            The answer; a list of answers if `num_return_sequences` is above 1; or an iterator.

        Raises:
            ArgumentError: wrong messages, options that cannot be combined, or a conversation that
                is longer than the context (see `trim_messages`).
            ChatTemplateError: the template refuses the conversation; the message says why.
        """
        prompt, opened = self._chat_prompt(
            messages,
            system=system,
            tools=tools,
            documents=documents,
            enable_thinking=enable_thinking,
            template_variables=template_variables,
        )
        if not self.has_chat_template:
            stop = options.get("stop") or []
            options["stop"] = [*([stop] if isinstance(stop, str) else stop), "\nUser:"]
        if stream:
            return self.stream(prompt, **options)  # type: ignore[misc]  # it refuses several texts
        found = self.generate(prompt, **options)
        if isinstance(found, list):
            return [_without_thinking(each, opened) for each in found]
        return _without_thinking(found, opened)

    def trim_messages(
        self,
        messages: Sequence[Message],
        *,
        max_new_tokens: int | None = 256,
        beyond_context: bool = False,
        **conversation: Unpack[ConversationOptions],
    ) -> list[Message]:
        """Return a conversation without its oldest turns, so that it fits the model's context.

            messages = lm.trim_messages(messages, max_new_tokens=200)
            answer = lm.chat(messages, max_new_tokens=200)

        It leaves room for `max_new_tokens`, but at most a quarter of the context. A turn is a
        user's message with the answers to it. Messages of the roles system and developer, messages
        with "keep": True, and the last turn are never dropped. If these alone are too long, `chat`
        raises an error.

        Args:
            conversation: further arguments of `chat`: system, tools, documents and so on.
        """
        check_messages(messages)
        limit = context_limit(self.model, beyond_context)
        if limit is None:
            return list(messages)
        answer = limit // 4 if max_new_tokens is None else min(max_new_tokens, limit // 4)

        def length(some: Sequence[Message]) -> int:
            return len(self._chat_prompt(some, **conversation)[0])

        return trimmed(messages, length, limit - answer)

    @property
    def has_chat_template(self) -> bool:
        """Return whether the model has a chat template; if not, it is a base model."""
        return self._tokenizer is not None and bool(self._tokenizer.chat_template)

    def _chat_prompt(
        self,
        messages: Sequence[Message],
        *,
        system: str | None = None,
        tools: Sequence[Any] | None = None,
        documents: Sequence[Message] | None = None,
        enable_thinking: bool | None = None,
        template_variables: Mapping[str, Any] | None = None,
    ) -> tuple[list[int], bool]:
        """Return the tokens of the prompt, and whether they end inside the thinking."""
        check_messages(messages)
        tokenizer = self.tokenizer
        messages = [{k: v for k, v in each.items() if k != "keep"} for each in with_texts(messages)]
        if not self.has_chat_template:
            if tools or documents:
                raise ArgumentError(
                    "chat: this model has no chat template, so it knows neither tools nor documents"
                )
            return encode_prompt(transcript(with_system(messages, system)), tokenizer), False
        variables = dict(template_variables or {})
        if enable_thinking is not None:
            variables["enable_thinking"] = enable_thinking
        text = self._chat_text(messages, system, tools=tools, documents=documents, **variables)
        for name, given in (("tools", tools), ("documents", documents)):
            others = {"tools": tools, "documents": documents, name: None} | variables
            if given and text == self._chat_text(messages, system, **others):
                warn_user(f"chat: the model's chat template does not show it the {name}")
        prompt = tokenizer.encode(text, add_special_tokens=False)
        if not prompt:
            raise ArgumentError("chat: the chat template shows nothing of this conversation")
        return prompt, ends_in_open_thought(text)

    def _chat_text(self, messages: Sequence[Message], system: str | None, **variables: Any) -> str:
        """Apply the chat template; put `system` into the first user message if the template refuses
        a system message."""
        template = self.tokenizer.apply_chat_template
        try:
            return template(with_system(messages, system), **variables)
        except ChatTemplateError as refusal:
            content = messages[0].get("content")
            if system is None or messages[0]["role"] != "user" or not isinstance(content, str):
                raise
            first = {**messages[0], "content": f"{system}\n\n{content}"}
            try:
                return template([first, *messages[1:]], **variables)
            except ChatTemplateError:
                raise refusal from None  # the system message was not the reason

    def save(self, folder: str | Path) -> None:
        """Save model and tokenizer to a folder, for `gradient.hub.load` and transformers."""
        save_model(self.model, folder)
        if self._tokenizer is not None:
            self._tokenizer.save(folder)
        write_generation_config(self.model.generation_config, Path(folder))

    def __repr__(self) -> str:
        return f"LanguageModel({self.name or type(self.model).__name__!r}, {self.model.summary()})"


def _without_thinking(generation: Generation, opened: bool) -> Generation:
    thought = split_thinking(generation.text, opened=opened)
    return replace(generation, text=thought.answer, thinking=thought.thinking)
