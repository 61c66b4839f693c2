"""Conversations as prompts, and shortening them to the context length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from gradient.errors import ArgumentError
from gradient.text.messages import Message


class ConversationOptions(TypedDict, total=False):
    """The arguments of a chat template besides the messages; see `LanguageModel.chat`."""

    system: str | None
    tools: Sequence[Any] | None
    documents: Sequence[Message] | None
    enable_thinking: bool | None
    template_variables: Mapping[str, Any] | None


def with_texts(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with lists of parts, `[{"type": "text", "text": "hi"}]`, as texts.

    Templates of language models show a text; of a list, many show Python's notation. Several parts
    are joined by line breaks, as other servers do (vLLM, llama.cpp).

    Raises:
        ArgumentError: a part that is no text, such as an image.
    """
    return [
        {**message, "content": _joined(message["content"], number)}
        if isinstance(message.get("content"), list)
        else message
        for number, message in enumerate(messages)
    ]


def _joined(parts: Sequence[Any], number: int) -> str:
    texts = []
    for at, part in enumerate(parts):
        text = part.get("text") if isinstance(part, Mapping) else part
        if not isinstance(text, str):
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise ArgumentError(
                f"messages[{number}]: language models read texts only; expected parts such as "
                f'{{"type": "text", "text": "hi"}}, got a part {at} of type {kind!r}'
            )
        texts.append(text)
    return "\n".join(texts)


def with_system(messages: Sequence[Message], system: str | None) -> list[Message]:
    """Return the messages with a system message of instructions in front, if there are any."""
    if system is None:
        return list(messages)
    if messages[0]["role"] == "system":
        raise ArgumentError("chat: system= and a first message of role system; give one of them")
    return [{"role": "system", "content": system}, *messages]


def transcript(messages: Sequence[Message]) -> str:
    """Return a conversation as plain text that ends where the assistant speaks."""
    turns = [
        f"{message['role'].capitalize()}: {message.get('content') or ''}" for message in messages
    ]
    return "\n".join([*turns, "Assistant:"])


def trimmed(
    messages: Sequence[Message], length: Callable[[Sequence[Message]], int], room: int
) -> list[Message]:
    """Return the conversation without its oldest turns, so that it fits.

    A turn is a user's message with the answer and the tool calls that follow it, so the rest still
    begins with a user's message. Messages of the roles system and developer, messages with a true
    "keep", and the last turn are never dropped.

    Args:
        length: a function that returns the number of tokens in a conversation's prompt.
        room: the maximum of this number.
    """
    messages = list(messages)
    while length(messages) > room:
        turn = _oldest_turn(messages)
        if not turn:
            break
        messages = [message for at, message in enumerate(messages) if at not in turn]
    return messages


def _oldest_turn(messages: Sequence[Message]) -> set[int]:
    """Return the indices of the messages of the oldest turn that may be dropped; empty if there
    is none."""
    starts = [at for at, message in enumerate(messages) if message["role"] == "user"]
    if not starts:
        return set()
    first = next((a for a, m in enumerate(messages) if m["role"] not in _INSTRUCTIONS), 0)
    turns = [range(first, starts[0])]  # what an assistant says before any user
    turns += [range(*ends) for ends in zip(starts, starts[1:], strict=False)]
    for turn in turns:
        kept = any(messages[at].get("keep") for at in turn)
        found = {at for at in turn if messages[at]["role"] not in _INSTRUCTIONS}
        if found and not kept:
            return found
    return set()


_INSTRUCTIONS = ("system", "developer")
